"""Confusion matrices of single images, and the scores that follow from sums of them.

Rows are the truth, columns the prediction; ignored pixels are in no cell. Knows index masks only.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.errors import RunError
from segdecay.records import Scores, write_bytes

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


def image_confusions(
    prediction: Tensor,  # (N, H, W) int64, class indices
    truth: Tensor,  # (N, H, W) int64, class indices or IGNORE
    classes: int,
) -> Tensor:  # (N, C, C) int64
    """One confusion matrix an image.

    >>> image_confusions(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    n = len(truth)
    image = torch.arange(n, device=truth.device).view(n, 1, 1)
    cell = (image * classes + truth) * classes + prediction
    counts = torch.bincount(cell[truth != IGNORE], minlength=n * classes * classes)
    return counts.view(n, classes, classes)


def intersection_union(matrices: npt.NDArray[np.int64]) -> tuple[I64, I64]:
    """True positives and unions of every class: (..., C, C) to two of (..., C)."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = matrices.sum(axis=-1) + matrices.sum(axis=-2) - hit
    return np.asarray(hit), np.asarray(union)


def iou(hit: I64, union: I64) -> F64:
    """Intersection over union; NaN where a class is neither in the truth nor predicted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(union > 0, hit / union, np.nan), dtype=np.float64)


def mean_present(values: F64, axis: int = -1) -> F64:
    """Mean over the classes that are not NaN; NaN when all are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an all-NaN slice is NaN, which is what we say
        return np.asarray(np.nanmean(values, axis=axis))


def scores_of(matrix: npt.NDArray[np.int64], loss: float = math.nan) -> Scores:
    """Scores of one confusion matrix (C, C), summed over all images first.

    A class that is absent from truth and prediction is NaN and outside the mean; predicted only, it counts 0.

    >>> scores_of(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).iou
    (0.75, 0.8, nan)
    """
    hit, union = intersection_union(matrix)
    per_class = iou(hit, union)
    return Scores(
        miou=float(mean_present(per_class)),
        iou=tuple(float(value) for value in per_class),
        dice=tuple(float(value) for value in iou(2 * hit, hit + union)),
        worst=float(np.nanmin(per_class)) if np.isfinite(per_class).any() else math.nan,
        support=tuple(int(count) for count in matrix.sum(axis=-1)),
        loss=loss,
    )


def write_confusions(path: Path, matrices: I64) -> None:
    """Keep (N, C, C) matrices as a sparse, compressed .npz without pickle."""
    image, row, column = np.nonzero(matrices)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        shape=np.asarray(matrices.shape, dtype=np.int64),
        image=image.astype(np.int32),
        cell=(row * matrices.shape[-1] + column).astype(np.int32),
        count=matrices[image, row, column].astype(np.int64),
    )
    write_bytes(path, content.getvalue())


def read_confusions(path: Path) -> I64:
    """The matrices that `write_confusions` kept.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            n, classes, _ = (int(side) for side in kept["shape"])
            flat = np.zeros((n, classes * classes), dtype=np.int64)
            flat[kept["image"], kept["cell"]] = kept["count"]
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        message = f"{path} is damaged: {error}. Remove its folder; the same command trains that cell again."
        raise RunError(message) from error
    return flat.reshape(n, classes, classes)
