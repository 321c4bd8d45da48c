"""Counts and means from confusion matrices: true positives, unions, IoU. Without torch, so that the report can use it.

Rows are the truth, columns the prediction.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.errors import RunError

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


def intersection_union(matrices: npt.NDArray[np.int64]) -> tuple[I64, I64]:
    """True positives and unions of every class: (..., C, C) to two of (..., C)."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = matrices.sum(axis=-1) + matrices.sum(axis=-2) - hit
    return np.asarray(hit), np.asarray(union)


def iou(hit: I64, union: I64) -> F64:
    """Intersection over union; NaN where a class is neither in the truth nor predicted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(union > 0, hit / union, np.nan), dtype=np.float64)


def counted(
    values: F64,  # (..., C)
    excluded: Sequence[int],
) -> F64:  # (..., C)
    """The scores of classes, with NaN for the classes in `excluded`; means leave NaN out.

    >>> counted(np.array([0.9, 0.5]), (0,)).tolist()
    [nan, 0.5]
    """
    found = np.array(values, dtype=np.float64)
    found[..., list(excluded)] = np.nan
    return found


def weighted_by(
    values: F64,  # (..., C), NaN where a class is absent
    true: npt.NDArray[np.int64],  # (..., C)
) -> F64:  # (...)
    """Mean weighted by true pixels; NaN where there are none.

    >>> float(weighted_by(np.array([0.9, 0.5, np.nan]), np.array([30, 10, 0])))
    0.8
    """
    weights = np.where(np.isfinite(values), true, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.nan_to_num(values) * weights).sum(axis=-1) / weights.sum(axis=-1))


def least_present(values: F64) -> F64:
    """(...,) smallest of the classes (..., C) that are not NaN; NaN when all are."""
    least = np.where(np.isfinite(values), values, np.inf).min(axis=-1, initial=np.inf)
    return np.asarray(np.where(np.isfinite(least), least, np.nan))


def mean_present(values: F64, axis: int = -1) -> F64:
    """Mean over the classes that are not NaN; NaN when all are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an all-NaN slice is NaN, as documented
        return np.asarray(np.nanmean(values, axis=axis))


@dataclass(frozen=True)
class KeptCounts:
    """Counts of a file of matrices: hit, union and true (N, C) of every image, and the summed matrix total (C, C)."""

    hit: I64
    union: I64
    true: I64
    total: I64


def read_counts(path: Path) -> KeptCounts:
    """Counts of the matrices of `metrics.write_confusions`, with memory for N·C numbers, not N·C².

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            n, classes, _ = (int(side) for side in kept["shape"])
            image, cell, count = (kept[name].astype(np.int64) for name in ("image", "cell", "count"))
        if not (image.shape == cell.shape == count.shape) or image.ndim != 1:
            raise ValueError("image, cell and count differ in length")
        row, column = np.divmod(cell, classes)

        def add(places: tuple[I64, I64], counts: I64, shape: tuple[int, int]) -> I64:
            summed = np.zeros(shape, np.int64)
            np.add.at(summed, places, counts)
            return summed

        true, claimed = add((image, row), count, (n, classes)), add((image, column), count, (n, classes))
        own = row == column
        hit = add((image[own], row[own]), count[own], (n, classes))
        total = add((row, column), count, (classes, classes))
    except (OSError, EOFError, ValueError, KeyError, IndexError, ZeroDivisionError, zipfile.BadZipFile) as error:
        message = f"{path} is missing or damaged: {error}. Remove its folder and run the command of this run again."
        raise RunError(message) from error
    return KeptCounts(hit, true + claimed - hit, true, total)
