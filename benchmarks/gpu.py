"""What a GPU does with segdecay: same results, every regularizer, determinism, speed, memory. For one card, 8 minutes.

    python benchmarks/gpu.py --out gpu.json                  # on the first CUDA device
    python benchmarks/gpu.py --device cpu --quick --out cpu.json    # the same code on a CPU, under a minute

Every part is measured alone: where one fails, its error is the result and the others go on. The table is printed and
written as JSON after each part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from feeding import NETS, epochs_of, noise_data, open_trial_on, step_config, stepper
from torch import Tensor, nn

from segdecay import decay
from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import Dataset, load_dataset
from segdecay.execution import LocalExecutor, spread_over, work_on
from segdecay.inference.bundle import Bundle
from segdecay.inference.model import Model
from segdecay.inference.predictor import Predictor
from segdecay.models.unet import UNet
from segdecay.runs.records import TrialRecord
from segdecay.training.determinism import layers_without
from segdecay.training.loop import run_trial
from segdecay.training.losses import pixel_cross_entropy
from segdecay.training.precision import prepare_torch, with_precision
from segdecay.training.setup import TrialTask
from segdecay.utils.files import write_json

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet",
    "Segformer",
)  # fmt: skip
REGULARIZERS: dict[str, dict[str, Any]] = {
    "decoupled": {}, "corrected": {}, "cautious": {}, "l2": {}, "l2_sp": {}, "l1": {}, "group_lasso": {},
    "max_norm": {}, "cpr": {"kappa": "factor"},
}  # fmt: skip
STEPS = 20
LAMBDA = 0.5  # with the rate of 0.01 large enough for weights in bfloat16


@dataclass(frozen=True)
class Place:
    """Where and how long to measure."""

    device: str
    is_quick: bool
    folder: Path

    @property
    def is_gpu(self) -> bool:
        """Whether the device computes while the host goes on."""
        return self.device != "cpu"

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.is_gpu:
            getattr(torch, self.device.partition(":")[0]).synchronize()

    def seconds(self, job: Callable[[], object], count: int) -> float:
        """The mean time of a job, of `count` in a row after three more."""
        for _ in range(3):
            job()
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            job()
        self.wait()
        return (time.perf_counter() - start) / count


def _digits(place: Place, **training: Any) -> tuple[RunConfig, Dataset]:
    values = {"data": {"path": "digits"}, "training": {"epochs": 1 if place.is_quick else 10, **training}}
    config = parse_config(values)
    return config, load_dataset(config.data)[0]


def _task(config: RunConfig, dataset: Dataset, folder: Path, device: str, value: float = 2.0) -> TrialTask:
    images = dataset.part("train", "val")
    cut = len(images) * 2 // 3
    return TrialTask(
        folder, dataset.root, config, "2", value, 0, 0, images[:cut], images[cut:], device, keep_model=True
    )


def _losses(task: TrialTask) -> list[float]:
    return [json.loads(line)["loss"] for line in (task.folder / "curve.jsonl").read_text().splitlines()]


def same_trial(place: Place) -> dict[str, Any]:
    """A trial of digits on the CPU and on the device, by precision: losses and scores."""
    found: dict[str, Any] = {}
    reference: tuple[list[float], TrialRecord] | None = None
    asked = [("cpu", "32-true"), (place.device, "32-true"), (place.device, "auto")]
    for number, (device, precision) in enumerate(asked):
        config, dataset = _digits(place, precision=precision)
        task = _task(with_precision(config, device), dataset, place.folder / f"same{number}", device)
        record = run_trial(task)
        losses = _losses(task)
        reference = reference or (losses, record)
        first = abs(losses[0] / reference[0][0] - 1)
        found[f"{device}, {task.config.training.precision}"] = {
            "seconds": record.seconds,
            "validation mIoU": None if record.validation is None else record.validation.miou,
            "first epoch's loss differs by": first,
            "last epoch's loss differs by": abs(losses[-1] / reference[0][-1] - 1),
        }
    return found


def _decayed(name: str, place: Place, *, dtype: torch.dtype, device: str, fused: bool, scaled: bool) -> list[Tensor]:
    """The weights of a small net after steps with the same gradients."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)).to(device, dtype)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0, fused=fused, foreach=not fused)
    strength = decay.Strength.from_lambda(LAMBDA, learning_rates=[1e-2] * STEPS)
    decay.attach(optimizer, net, name, strength=strength, options=REGULARIZERS[name] or None)
    scaler = torch.amp.GradScaler(place.device.partition(":")[0], init_scale=8.0) if scaled else None
    draw = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        for weight in net.parameters():
            weight.grad = torch.randn(weight.shape, generator=draw).to(device, dtype) * (8.0 if scaled else 1.0)
        if scaler is None:
            optimizer.step()
            continue
        scaler.scale(torch.zeros((), device=device))  # the scale exists from the first loss on
        scaler.step(optimizer)
        scaler.update()
    return [weight.detach().double().cpu() for weight in net.parameters()]


def regularizers(place: Place) -> dict[str, Any]:
    """The largest difference of a weight from that of the CPU in double precision, after STEPS steps."""
    found: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = {
        "fused": {"fused": True}, "foreach": {}, "GradScaler": {"scaled": True}, "bf16": {"dtype": torch.bfloat16},
    }  # fmt: skip
    for name in REGULARIZERS:
        plain: dict[str, Any] = {"dtype": torch.float32, "fused": False, "scaled": False}
        exact = _decayed(name, place, **{**plain, "dtype": torch.float64}, device="cpu")
        row: dict[str, Any] = {}
        for title, changes in variants.items():
            try:
                here = _decayed(name, place, **{**plain, **changes}, device=place.device)
                row[title] = max(float((one - other).abs().max()) for one, other in zip(here, exact, strict=True))
            except Exception as error:  # noqa: BLE001 - the reason is the result
                row[title] = _reason(error)
        found[name] = row
    return found


def determinism(place: Place) -> dict[str, Any]:
    """One step of every architecture with deterministic auto and true; layers without a deterministic kernel."""
    found: dict[str, Any] = {}
    for name in ARCHITECTURES[:2] if place.is_quick else ARCHITECTURES:
        encoder = "mit_b0" if name == "Segformer" else "resnet18"
        row: dict[str, Any] = {}
        net = smp.create_model(name, encoder_name=encoder, encoder_weights=None, classes=4).to(place.device).train()
        images = torch.randn(2, 3, 64, 64, device=place.device)
        masks = torch.randint(0, 4, (2, 64, 64), device=place.device)
        for wanted in ("auto", True):
            prepare_torch(parse_config({"data": {"path": "x"}, "training": {"deterministic": wanted}}), place.device)
            try:
                pixel_cross_entropy(net(images), masks).backward()  # type: ignore[no-untyped-call]
                row[str(wanted)] = "trains"
            except RuntimeError as error:
                row[str(wanted)] = _reason(error)
        row["layers"] = [str(layer) for layer in layers_without(net, images)]
        found[name] = row
    return found


def _bare_step(net: nn.Module, batch: tuple[Tensor, Tensor], precision: str) -> Callable[[], None]:
    """The step that people write: forward, loss, backward, clipping, AdamW; on tensors that are ready."""
    net = net.to(memory_format=torch.channels_last).to(batch[0].device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    kind = batch[0].device.type
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32

    def step() -> None:
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            logits = net(batch[0])
        loss = nn.functional.cross_entropy(logits.float(), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _busy(place: Place, job: Callable[[], object], count: int) -> float | None:
    """The share of the time in which a CUDA device computes."""
    if not place.device.startswith("cuda"):
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        seconds = place.seconds(job, count) * (count + 3)
    spans = sorted((one.time_range.start, one.time_range.end) for one in seen.events() or [] if one.device_type.value)
    busy, until = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6 / seconds


def steps(place: Place) -> dict[str, Any]:
    """Our step with its batches, against a bare torch loop on ready tensors (goal: at most 1.05)."""
    found: dict[str, Any] = {}
    sizes = {"unet-tiny": ("unet-tiny", 48)} if place.is_quick else {**NETS, "smp:Unet at 512": ("smp:Unet", 512)}
    for title, (model, side) in sizes.items():
        data = noise_data(place.folder / f"data{side}{model[:3]}", side)
        config = with_precision(step_config(data, model), place.device)
        dataset, _ = load_dataset(config.data, cache=place.folder / "cache")
        trial = open_trial_on(config, dataset, place.folder / f"steps{side}{model[:3]}", place.device, ahead=2)
        batches = epochs_of(trial.feed, trial.task)
        ready = next(batches)
        count = 5 if place.is_quick else 60
        ours = stepper(trial, batches.__next__, read_every=32)
        bare = _bare_step(_copy_of(config, dataset), ready, config.training.precision)
        rounds = [(place.seconds(bare, count), place.seconds(ours, count)) for _ in range(1 if place.is_quick else 5)]
        found[title] = {
            "bare, ms": 1000 * statistics.median(one for one, _ in rounds),
            "ours with its batches, ms": 1000 * statistics.median(one for _, one in rounds),
            "ratio": statistics.median(mine / plain for plain, mine in rounds),
            "card computes": _busy(place, ours, count),
            "precision": config.training.precision,
            "data on the card": trial.feed.stored is not None,
        }
        batches.close()
    return found


def _copy_of(config: RunConfig, dataset: Dataset) -> nn.Module:
    from segdecay.models.zoo import build_model

    return build_model(config.model, in_channels=dataset.bands, classes=len(dataset.classes))


def as_people_write_it(place: Place) -> dict[str, Any]:
    """Lightning, a DataLoader with workers and albumentations, where both are installed."""
    import lightning

    albumentations: Any = import_module("albumentations")
    side = 48 if place.is_quick else 256
    images = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    change = albumentations.Compose(
        [albumentations.HorizontalFlip(), albumentations.Affine(rotate=10), albumentations.RandomBrightnessContrast()]
    )

    class Photos(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            made = change(image=images[index], mask=images[index, ..., 0] // 64)
            return torch.from_numpy(made["image"]).permute(2, 0, 1).float() / 255, torch.from_numpy(made["mask"]).long()

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = smp.Unet("resnet18", encoder_weights=None, classes=4)

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

    loader = torch.utils.data.DataLoader(Photos(), 8, shuffle=True, num_workers=4, persistent_workers=True)
    count = 2 if place.is_quick else 20
    kind = place.device.partition(":")[0]
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        accelerator=kind, devices=1, precision="bf16-mixed" if place.is_gpu else "32-true", max_epochs=count, **options
    )
    start = time.perf_counter()
    trainer.fit(Net(), loader)
    place.wait()
    return {"steps": 4 * count, "ms a step": 1000 * (time.perf_counter() - start) / (4 * count)}


def together(place: Place) -> dict[str, Any]:
    """Trials at a time on one device: seconds a trial, and whether all give the same bits."""
    found: dict[str, Any] = {}
    weights: set[bytes] = set()
    config, dataset = _digits(place)
    config = with_precision(config, place.device)
    for count in (1, 2) if place.is_quick else (1, 2, 4, 8):
        tasks = [_task(config, dataset, place.folder / f"together{count}-{n}", place.device) for n in range(count)]
        start = time.perf_counter()
        LocalExecutor(count, [place.device]).run(tasks, lambda _event: None)
        seconds = time.perf_counter() - start
        weights |= {(task.folder / "model.safetensors").read_bytes() for task in tasks}
        found[f"{count} at a time"] = {"seconds": seconds, "seconds a trial": seconds / count}
    return found | {"different results": len(weights)}


def several_cards(place: Place) -> dict[str, Any]:
    """One training over two cards, against one."""
    if torch.cuda.device_count() < 2 and place.is_gpu:
        return {"not measured": "one card"}
    config, dataset = _digits(place)
    config = with_precision(config, place.device)
    found: dict[str, Any] = {}
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if place.is_gpu else ["cpu", "cpu"]
    for count in (1, 2):
        task = _task(config, dataset, place.folder / f"cards{count}", devices[0])
        task = replace(task, spread=spread_over(devices, count))
        start = time.perf_counter()
        outcome = work_on(task, lambda: False, lambda _epoch, _epochs: None)
        row = {"outcome": outcome.kind, "reason": outcome.reason, "seconds": time.perf_counter() - start}
        found[f"{count} devices"] = row if outcome.kind != "finished" else {**row, "losses": _losses(task)}
    return found


def memory(place: Place) -> dict[str, Any]:
    """Peak memory of a step of smp:Unet with a ResNet-18, by precision and size."""
    if not place.device.startswith("cuda"):
        return {"not measured": "no CUDA device"}
    found: dict[str, Any] = {}
    for precision, side in itertools.product(("32-true", "bf16-mixed"), (256, 512, 1024)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        net = smp.Unet("resnet18", encoder_weights=None, classes=4)
        batch = torch.randn(8, 3, side, side).to(place.device), torch.zeros(8, side, side).long().to(place.device)
        step = _bare_step(net, batch, precision)
        step()
        step()
        found[f"8 x {side} x {side}, {precision}"] = {"GiB": torch.cuda.max_memory_allocated() / 2**30}
        del net, batch, step
    return found


def prediction(place: Place) -> dict[str, Any]:
    """A mask of a large image, in windows."""
    side = 256 if place.is_quick else 8192
    net = UNet(3, 4, width=32, depth=4).to(place.device).eval()
    colours = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    bundle = Bundle(net, ("a", "b", "c", "d"), colours, 3, (128.0,) * 3, (64.0,) * 3, None, {})
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    start = time.perf_counter()
    mask = Model(Predictor((bundle,))).predict(image)
    return {"pixels": int(mask.size), "seconds": time.perf_counter() - start}


PARTS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "the same trial": same_trial,
    "regularizers": regularizers,
    "determinism": determinism,
    "steps": steps,
    "as people write it": as_people_write_it,
    "trials together": together,
    "several cards": several_cards,
    "memory": memory,
    "prediction": prediction,
}


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _lines(values: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {f'{value:.4g}' if isinstance(value, float) else value}"


def _versions(place: Place) -> dict[str, Any]:
    found = {"torch": torch.__version__, "device": place.device, "quick": place.is_quick}
    if place.device.startswith("cuda"):
        card = torch.cuda.get_device_properties(place.device)
        found |= {"card": card.name, "GiB": card.total_memory / 2**30, "CUDA": str(torch.version.cuda)}
    return found


def main() -> None:
    """Measure every part, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", nargs="*", choices=sorted(PARTS), default=[])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(asked.device, asked.quick, Path(folder))
        found: dict[str, Any] = {"environment": _versions(place)}
        for name, part in PARTS.items():
            if asked.only and name not in asked.only:
                continue
            start = time.perf_counter()
            try:
                found[name] = part(place)
            except ImportError as error:
                found[name] = {"not measured": str(error)}
            except Exception as error:  # noqa: BLE001 - one part must not cost the others
                traceback.print_exc()
                found[name] = {"failed": _reason(error)}
            found[name]["took, s"] = time.perf_counter() - start
            write_json(asked.out, found)
            print(name, *_lines(found[name]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
