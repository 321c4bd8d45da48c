"""Two recipes on the same test images: accuracies, recall of every class, and paired intervals of what differs.

Pure numpy on confusion matrices of single images; knows nothing of files or training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from segdecay.records import Interval
from segdecay.selection.criteria import Criterion
from segdecay.selection.evidence import Counts, surface_of
from segdecay.selection.intervals import difference_estimates, own_estimates
from segdecay.training.counts import I64

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
    """The share of images that are right, with its interval over images.

    >>> eight_of_ten = np.array([[[1, 0], [0, 0]]] * 8 + [[[0, 1], [0, 0]]] * 2)
    >>> accuracy_of(eight_of_ten).mean
    0.8
    """
    return _own(matrices, ACCURACY)


def class_results(matrices: I64, names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    """Recall of every class; None where the test part lacks it."""
    found = []
    for index, name in enumerate(names):
        images = int(matrices[:, index].sum())
        own = _own(matrices, _recall(index, name)) if images else Interval(None, None, None)
        found.append(ClassResult(name, images, own.mean, own.interval))
    return tuple(found)


def difference_of(one: I64, other: I64, index: int | None = None) -> Interval:
    """Accuracy (or the recall of a class) of `one` minus that of `other`, paired over the same images.

    The luck of the two trainings is not in the interval.

    >>> right, wrong = [[1, 0], [0, 0]], [[0, 1], [0, 0]]
    >>> difference_of(np.array([right] * 10), np.array([right] * 5 + [wrong] * 5)).mean
    0.5
    """
    criterion = ACCURACY if index is None else _recall(index, "")
    cells: list[dict[int, Any]] = [{0: [Counts.of(other)]}, {0: [Counts.of(one)]}]
    surface, _ = surface_of(cells, ["other", "one"], criterion=criterion, resamples=RESAMPLES, seed=SEED)
    return _finite(difference_estimates(surface, 0).interval(1, 1 - CONFIDENCE))


def _recall(index: int, name: str) -> Criterion:
    return Criterion("classes", (index,), (name,), of_recall=True)


def _own(matrices: I64, criterion: Criterion) -> Interval:
    cells: list[dict[int, Any]] = [{0: [Counts.of(matrices)]}]
    surface, _ = surface_of(cells, ["one"], criterion=criterion, resamples=RESAMPLES, seed=SEED)
    found = _finite(own_estimates(surface).interval(0, 1 - CONFIDENCE))
    if found.interval is None:
        return found
    low, high = found.interval
    return Interval(found.mean, found.standard_error, (max(0.0, low), min(1.0, high)))


def _finite(found: Interval) -> Interval:
    """Plain numbers, None where there are none."""
    if found.mean is None or not np.isfinite(found.mean):
        return Interval(None, None, None)
    return found
