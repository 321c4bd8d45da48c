"""Runs the worked example: three parts, each with a short explanation. The same call resumes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset
from segdecay.data.formats.cifar10 import find_cifar
from segdecay.errors import DataError, DiskFullError
from segdecay.example.article import Article, correct_images, run_article
from segdecay.execution.options import Execution
from segdecay.inference.bundle import load_bundle
from segdecay.report import build_report
from segdecay.runs.example import Example, ExampleRow
from segdecay.runs.read import read_record
from segdecay.runs.verdict import Interval
from segdecay.training.setup import count_steps
from segdecay.training.validate import score_images
from segdecay.utils.files import write_json
from segdecay.workflows.request import build_config
from segdecay.workflows.steps import Watcher, say_all
from segdecay.workflows.train import train
from segdecay.workflows.tune import Tuned, tune

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
LAMBDA, LEARNING_RATE, BATCH, PAD_PX = 5e-4, 1e-3, 128, 4
GRID = [0.0, 5e-5, 5e-4, 5e-3]  # the well-known value in the middle; a best at the strong edge extends it
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Told:
    """The result of `tell_example`: both recipes, and the search over λ with the page."""

    example: Example
    searched: Tuned


def recipe_config(folder: Path, *, epochs: int, seed: int, search: dict[str, Any] | None = None) -> RunConfig:
    """Adam, λ as L2 on weights only, flips and padded crops of training images only; with `search`, λ is to be chosen.

    The recipe states L2: minimise L + λ·½Σθ², which is λθ in the gradient, here through Adam. As decoupled decay, as in
    AdamW, the same number would be a total decay D = Σ η·λ of about 1e-4 in 200 steps, which has almost no effect.
    """
    values = {
        "data": {"path": f"cifar10:{folder}"},
        "model": {"name": "small-cnn"},
        "loss": {"class_weights": "none"},
        "optimizer": {"name": "adam", "lr": LEARNING_RATE},
        "schedule": {"name": "constant", "warmup": 0.0},
        "augment": {"flip": "horizontal", "pad": PAD_PX},
        "training": {"epochs": epochs, "batch_size": BATCH, "clip_norm": None},
        "seed": seed,
        "decay": {"regularizer": "l2"} | ({"lambda": LAMBDA} if search is None else {}),
    }
    return build_config(None, values | ({} if search is None else {"search": search}), None, {})


def tell_example(
    data: Path, out: Path, execution: Execution, watcher: Watcher, *, epochs: int, seed: int, folds: int | None = None
) -> Told:
    """Run the unfinished parts and compare; the comparison is shown on the page of the search.

    Raises:
        SegdecayError: an error that the user can correct; finished parts are kept.
    """
    if find_cifar(data) is None:
        raise DataError(
            f"{data} holds no CIFAR-10. Download it from {SOURCE}, unpack the binary version and give the folder with "
            "--data, or use --download."
        )
    recipe = recipe_config(data, epochs=epochs, seed=seed)
    dataset, _ = load_dataset(recipe.data, cache=execution.cache, cache_limit=execution.cache_limit)
    if not dataset.part("test"):
        raise DataError(f"{data} has no test_batch: both recipes are compared on it. Add the file.")
    steps = count_steps(recipe, len(dataset.part("train")))
    say_all(_FIRST.format(epochs=epochs, steps=steps, total=LEARNING_RATE * LAMBDA * steps).splitlines(), watcher)
    right = _test(train(recipe, out / "recipe", execution, watcher).run, dataset)
    say_all(_SECOND.splitlines(), watcher)
    article = _article(recipe, dataset, out / "article.json")
    say_all([f"   {one.level}: {one.code}: {one.message}" for one in article.findings], watcher)
    say_all(_THIRD.splitlines(), watcher)
    search = {"grid": GRID, "folds": folds}
    searched = tune(recipe_config(data, epochs=epochs, seed=seed, search=search), out / "search", execution, watcher)
    example = compare(dataset, right, article)
    write_json(searched.run / "example.json", example)
    build_report(searched.run)
    return Told(example, searched)


_FIRST = f"""
1. The recipe done right: a small network, {{epochs}} epochs, batches of {BATCH}, Adam {LEARNING_RATE:g},
   λ = {LAMBDA:g} as L2 on weights alone, added to the gradient as λθ; biases do not decay. Flips and crops from a
   border of {PAD_PX} pixels change training images only. In AdamW the same number would be D = Σηλ = {{total:.2g}}
   over {{steps}} steps: almost no effect. Through Adam's gradient it has an effect, which D does not predict."""
_SECOND = f"""
2. The same network as articles write it: Adam(weight_decay={LAMBDA:g}), in the loss {LAMBDA:g} times the norms
   (not squared) of all parameters, biases included; test images pass through the augmentation of training.
   Findings of the audit on this code:"""
_THIRD = """
3. λ by cross-validation: the first recipe with λ to be chosen. Every λ is trained on the same folds and compared
   with no decay; the test part is not used before the verdict."""


def _test(run: Path, dataset: Dataset) -> tuple[bool, ...]:
    """Whether the model of a run is correct on each test image."""
    bundle = load_bundle(run)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (bundle.mean, bundle.deviation))
    part = dataset.part("test")
    scored = score_images(bundle.model, dataset, part, mean=mean, deviation=deviation, weight=None, batch_size=BATCH)
    return correct_images(scored.confusions)


def _article(config: RunConfig, dataset: Dataset, path: Path) -> Article:
    """The second part, trained unless its record is there."""
    if not path.exists():
        write_json(path, run_article(config, dataset))
    return read_record(path, Article)


def compare(dataset: Dataset, right: Sequence[bool], article: Article) -> Example:
    """Both recipes on the clean test images, all together and class by class; and what augmented ones would report."""
    labels = np.array([dataset.mask(index)[0, 0] for index in dataset.part("test")])
    one, other, augmented = (np.asarray(each, dtype=np.float64) for each in (right, article.clean, article.augmented))
    among = [("all", np.ones(len(labels), dtype=bool))]
    among += [(name, labels == index) for index, name in enumerate(dataset.classes)]
    rows = tuple(
        ExampleRow(
            name, int(some.sum()), _mean(one[some]), _mean(other[some]), paired_difference(one[some], other[some])
        )
        for name, some in among
    )
    return Example(rows, float(augmented.mean()), paired_difference(augmented, other), article.lines, article.findings)


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    return float(values.mean()) if len(values) else None


def paired_difference(
    one: np.ndarray[Any, np.dtype[np.float64]], other: np.ndarray[Any, np.dtype[np.float64]]
) -> Interval:
    """The mean of one minus other over the same images, with Student's interval; not the variation between trainings.

    >>> paired_difference(np.array([1.0, 1, 1, 1]), np.array([1.0, 0, 1, 0])).mean
    0.5
    """
    each = one - other
    if len(each) < 2:
        return Interval(_mean(each), None, None)
    mean, error = float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)) * error
    return Interval(mean, error, (mean - reach, mean + reach))


def fetch_cifar(folder: Path) -> Path:
    """The folder of CIFAR-10, downloaded by torchvision (170 MB, checked by its MD5 sums) if missing.

    Raises:
        DataError: no network, another file than the known one, or a folder that cannot be written.
        DiskFullError: the disk is full.
    """
    if find_cifar(folder) is not None:
        return folder
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(str(folder), download=True)
        (folder / CIFAR10.filename).unlink(missing_ok=True)
    except (OSError, RuntimeError, EOFError) as error:
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(folder)) from error
        raise DataError(
            f"CIFAR-10 cannot be downloaded from {CIFAR10.url}: {error}. Download it from {SOURCE} (the binary or "
            "the Python version), unpack it, and give --data FOLDER."
        ) from error
    return folder
