"""Runs the worked example: three parts, each with a short explanation, and the page. The same call resumes it."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import Dataset, load_dataset
from segdecay.data.formats.cifar10 import find_cifar
from segdecay.errors import DataError, DiskFullError, RunError
from segdecay.example.article import article_lines, run_article
from segdecay.execution.options import Execution
from segdecay.inference.bundle import load_bundle
from segdecay.metrics.bootstrap import Counts, surface_of
from segdecay.metrics.confusion import I64, read_confusions, write_confusions
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.intervals import difference_estimates, own_estimates
from segdecay.report import build_report
from segdecay.runs.folder import open_run
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import Interval
from segdecay.training.setup import count_steps
from segdecay.training.validate import score_images
from segdecay.utils.files import read_json, write_json
from segdecay.workflows.steps import Watcher, say_all
from segdecay.workflows.train import train
from segdecay.workflows.tune import Tuned, tune

ACCURACY = Criterion("accuracy", of_recall=True)
CONFIDENCE, RESAMPLES, SEED = 0.95, 2000, 0


@dataclass(frozen=True)
class ClassResult:
    """Recall of one class on the test images."""

    name: str
    images: int
    recall: float | None
    interval: tuple[float, float] | None


def accuracy_of(matrices: I64) -> Interval:  # (N, C, C)
    """The share of correct images, with its interval over images.

    >>> eight_of_ten = np.array([[[1, 0], [0, 0]]] * 8 + [[[0, 1], [0, 0]]] * 2)
    >>> accuracy_of(eight_of_ten).mean
    0.8
    """
    return _own(matrices, ACCURACY)


def class_results(matrices: I64, names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    """Recall of every class; None for a class without test images."""
    found = []
    for index, name in enumerate(names):
        images = int(matrices[:, index].sum())
        own = _own(matrices, _recall(index, name)) if images else Interval(None, None, None)
        found.append(ClassResult(name, images, own.mean, own.interval))
    return tuple(found)


def difference_of(one: I64, other: I64, index: int | None = None) -> Interval:
    """Accuracy (or the recall of a class) of `one` minus that of `other`, paired over the same images.

    The interval does not include the variation between trainings.

    >>> right, wrong = [[1, 0], [0, 0]], [[0, 1], [0, 0]]
    >>> difference_of(np.array([right] * 10), np.array([right] * 5 + [wrong] * 5)).mean
    0.5
    """
    criterion = ACCURACY if index is None else _recall(index, "")
    trials: list[dict[int, Any]] = [{0: [Counts.of(other)]}, {0: [Counts.of(one)]}]
    surface, _ = surface_of(trials, ["other", "one"], criterion=criterion, resamples=RESAMPLES, seed=SEED)
    return _finite(difference_estimates(surface, 0).interval(1, 1 - CONFIDENCE))


def _recall(index: int, name: str) -> Criterion:
    return Criterion("classes", (index,), (name,), of_recall=True)


def _own(matrices: I64, criterion: Criterion) -> Interval:
    trials: list[dict[int, Any]] = [{0: [Counts.of(matrices)]}]
    surface, _ = surface_of(trials, ["one"], criterion=criterion, resamples=RESAMPLES, seed=SEED)
    found = _finite(own_estimates(surface).interval(0, 1 - CONFIDENCE))
    if found.interval is None:
        return found
    low, high = found.interval
    return Interval(found.mean, found.standard_error, (max(0.0, low), min(1.0, high)))


def _finite(found: Interval) -> Interval:
    """An interval with None for values that are not finite."""
    if found.mean is None or not np.isfinite(found.mean):
        return Interval(None, None, None)
    return found


SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def fetch_cifar(folder: Path) -> Path:
    """The folder of CIFAR-10, downloaded (170 MB) if missing.

    Raises:
        DataError: no network, another file than the known one, or a folder that cannot be written.
        DiskFullError: the disk is full.
    """
    if find_cifar(folder) is not None:
        return folder
    from torchvision.datasets import CIFAR10, utils

    beside = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        utils.download_and_extract_archive(CIFAR10.url, str(beside), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
        (beside / CIFAR10.filename).unlink(missing_ok=True)
        beside.rename(folder)
    except (OSError, RuntimeError, EOFError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(folder)) from error
        raise DataError(
            f"CIFAR-10 cannot be downloaded from {CIFAR10.url}: {error}. Download it from {SOURCE} (the binary or "
            "the Python version), unpack it, and give --data FOLDER."
        ) from error
    if find_cifar(folder) is None:
        raise DataError(f"The download in {folder} is not CIFAR-10. Remove the folder and try again.")
    return folder


LAMBDA, LEARNING_RATE = 5e-4, 1e-3
EPOCHS, BATCH, PAD_PX = 10, 128, 4
GRID = (0.0, 5e-5, 5e-4, 5e-3)  # the well-known value in the middle; a best at the strong edge extends it
MECHANISM = "L2 on weights alone, added to the gradient as λθ (regularizer l2)"


def recipe_config(folder: Path, *, epochs: int, seed: int) -> RunConfig:
    """One training: Adam, λ as L2 on weights only, flips and padded crops of training images only.

    The recipe states L2: minimise L + λ·½Σθ², which is λθ in the gradient, here through Adam. As decoupled decay, as in
    AdamW, the same number would be a total decay D = Σ η·λ of about 1e-4 in 200 steps, which has almost no effect.
    """
    return parse_config({**_common(folder, epochs, seed), "decay": {"regularizer": "l2", "lambda": LAMBDA}})


def search_config(folder: Path, *, epochs: int, seed: int, folds: int | None) -> RunConfig:
    """The same recipe with λ chosen by cross-validation."""
    search = {"grid": list(GRID), "folds": folds}
    return parse_config({**_common(folder, epochs, seed), "decay": {"regularizer": "l2"}, "search": search})


def total_decay_if_decoupled(steps: int) -> float:
    """D = Σ η·λ of the recipe's numbers in AdamW.

    >>> round(total_decay_if_decoupled(200), 6)
    0.0001
    """
    return LEARNING_RATE * LAMBDA * steps


def _common(folder: Path, epochs: int, seed: int) -> dict[str, object]:
    return {
        "data": {"path": f"cifar10:{folder}"},
        "model": {"name": "small-cnn"},
        "loss": {"class_weights": "none"},
        "optimizer": {"name": "adam", "lr": LEARNING_RATE},
        "schedule": {"name": "constant", "warmup": 0.0},
        "augment": {"flip": "horizontal", "pad": PAD_PX},
        "training": {"epochs": epochs, "batch_size": BATCH, "clip_norm": None},
        "seed": seed,
    }


VERB = "example"


@dataclass(frozen=True)
class Asked:
    """The options of the example. data: the folder of CIFAR-10."""

    data: Path
    epochs: int
    seed: int
    folds: int | None = None


@dataclass(frozen=True)
class Told:
    """The result of `tell_example`; `facts` is the content of example.json."""

    folder: Path
    facts: dict[str, Any]
    searched: Tuned
    report: Path


def tell_example(asked: Asked, out: Path, execution: Execution, watcher: Watcher) -> Told:
    """Run the unfinished parts, compare, and write the page.

    Raises:
        SegdecayError: an error that the user can correct; finished parts are kept.
    """
    if find_cifar(asked.data) is None:
        raise DataError(_no_cifar(asked.data))
    recipe = recipe_config(asked.data, epochs=asked.epochs, seed=asked.seed)
    dataset, _ = load_dataset(recipe.data, cache=execution.cache, cache_limit=execution.cache_limit)
    if not dataset.part("test"):
        raise DataError(f"{asked.data} has no test_batch: both recipes are compared on it. Add the file.")
    with open_run(out, recipe, VERB):
        say_all(_opening(dataset, asked), watcher)
        right, record = _tell_recipe(recipe, dataset, out / "recipe", execution, watcher)
        clean, augmented, article = _tell_article(recipe, dataset, out / "article", watcher)
        say_all(_third(), watcher)
        config = search_config(asked.data, epochs=asked.epochs, seed=asked.seed, folds=asked.folds)
        searched = tune(config, out / "search", execution, watcher)
        facts = {
            "kind": VERB,
            "name": "cifar10",
            "command": execution.command,
            "asked": {"epochs": asked.epochs, "seed": asked.seed, "batch_size": BATCH, "learning_rate": LEARNING_RATE},
            "data": _data_facts(dataset, asked),
            "confidence": CONFIDENCE,
            "recipe": _recipe_facts(recipe, dataset, record, right),
            "article": article | _article_facts(dataset, clean, augmented),
            "difference": asdict(difference_of(right, clean)),
            "classes": [
                {"name": name, **asdict(difference_of(right, clean, index))}
                for index, name in enumerate(dataset.classes)
                if right[:, index].any()
            ],
            "search": _search_facts(searched),
        }
        write_json(out / "example.json", facts)
        return Told(out, facts, searched, build_report(out))


def _no_cifar(folder: Path) -> str:
    return (
        f"{folder} holds no CIFAR-10. Download it from {SOURCE}, unpack the binary version and give the folder with "
        "--data, or use --download."
    )


def _opening(dataset: Dataset, asked: Asked) -> list[str]:
    train_images, test_images, classes = len(dataset.part("train")), len(dataset.part("test")), len(dataset.classes)
    return [
        f"CIFAR-10: {train_images} training and {test_images} test images of 32x32 pixels, {classes} classes.",
        f"A small network: convolutions of 16 and 32 channels, linear layers of 128 and {classes}.",
        f"{asked.epochs} epochs, batches of {BATCH}, Adam {LEARNING_RATE:g}.",
    ]


def _tell_recipe(
    config: RunConfig, dataset: Dataset, folder: Path, execution: Execution, watcher: Watcher
) -> tuple[I64, TrialRecord]:
    """Part 1: the matrices of the test images, and the record of the training."""
    steps = count_steps(config, len(dataset.part("train")))
    say_all(
        [
            "",
            f"1. The recipe done right: λ = {LAMBDA:g} as {MECHANISM}; biases do not decay.",
            f"   Flips and crops from a border of {PAD_PX} pixels change training images only, not test images.",
            f"   In AdamW the same number would be D = Σηλ = {total_decay_if_decoupled(steps):.2g} over {steps} steps:",
            "   almost no effect. Through Adam's gradient it has an effect, which D does not predict.",
        ],
        watcher,
    )
    trained = train(config, folder, execution, watcher)
    bundle = load_bundle(trained.run)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (bundle.mean, bundle.deviation))
    scored = score_images(
        bundle.model,
        dataset,
        dataset.part("test"),
        mean=mean,
        deviation=deviation,
        weight=None,
        batch_size=BATCH,
    )
    return scored.confusions, trained.record


def _tell_article(
    config: RunConfig, dataset: Dataset, folder: Path, watcher: Watcher
) -> tuple[I64, I64, dict[str, Any]]:
    """Part 2: matrices of clean and of augmented test images, and what is known beside them."""
    say_all(
        [
            "",
            f"2. The same network as articles write it: Adam(weight_decay={LAMBDA:g}), in the loss {LAMBDA:g} times",
            "   the norms (not squared) of all parameters, biases included; test images pass through the augmentation",
            "   of training. Findings of the audit on this code:",
        ],
        watcher,
    )
    card = folder / "article.json"
    if not card.exists():
        folder.mkdir(exist_ok=True)
        start = time.monotonic()
        found = run_article(config, dataset)
        write_confusions(folder / "clean.npz", found.clean)
        write_confusions(folder / "augmented.npz", found.augmented)
        written = {
            "lines": article_lines(),
            "audit": found.audit,
            "losses": found.losses,
            "train_accuracy": _share(found.train),
            "seconds": round(time.monotonic() - start, 2),
        }
        write_json(card, written)
    try:
        facts: dict[str, Any] = read_json(card)
        clean, augmented = read_confusions(folder / "clean.npz"), read_confusions(folder / "augmented.npz")
        findings = facts["audit"]["findings"]
        say_all([f"   {one['level']}: {one['code']}: {one['message']}" for one in findings], watcher)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{card} is damaged: {error}. Remove {folder} and run the same command again.") from error
    facts.pop("schema_version", None)
    return clean, augmented, facts


def _third() -> list[str]:
    return [
        "",
        "3. λ by cross-validation: the first recipe with λ to be chosen. Every λ is trained on the same folds and",
        "   compared with no decay; the test part is not used before the verdict.",
    ]


def _share(matrices: I64) -> float:
    return float(matrices.diagonal(axis1=1, axis2=2).sum() / max(1, matrices.sum()))


def _data_facts(dataset: Dataset, asked: Asked) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "path": str(asked.data),
        "fingerprint": dataset.fingerprint,
        "train": len(dataset.part("train")),
        "test": len(dataset.part("test")),
        "classes": dataset.classes,
        "palette": dataset.palette,
    }


def _recipe_facts(config: RunConfig, dataset: Dataset, record: TrialRecord, right: I64) -> dict[str, Any]:
    steps = count_steps(config, len(dataset.part("train")))
    train_scores = record.train
    recall = () if train_scores is None else zip(train_scores.recall, train_scores.support, strict=True)
    known = [(value, count) for value, count in recall if count]
    return {
        "mechanism": MECHANISM,
        "lambda": LAMBDA,
        "steps": steps,
        "total_decay_if_decoupled": total_decay_if_decoupled(steps),
        "accuracy": asdict(accuracy_of(right)),
        "train_accuracy": sum(v * n for v, n in known) / sum(n for _, n in known) if known else None,
        "classes": [asdict(row) for row in class_results(right, dataset.classes)],
        "seconds": round(record.seconds, 2),
    }


def _article_facts(dataset: Dataset, clean: I64, augmented: I64) -> dict[str, Any]:
    return {
        "accuracy": asdict(accuracy_of(clean)),
        "reported": asdict(accuracy_of(augmented)),
        "reported_minus_clean": asdict(difference_of(augmented, clean)),
        "classes": [asdict(row) for row in class_results(clean, dataset.classes)],
    }


def _search_facts(searched: Tuned) -> dict[str, Any]:
    verdict = searched.verdict
    return {
        "run": searched.run.name,
        "kind": verdict.kind,
        "sentence": verdict.sentence,
        "strength": verdict.strength,
        "criterion": verdict.criterion,
        "test": verdict.test,
        "cost": verdict.cost,
    }
