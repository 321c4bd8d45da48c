"""Confusion matrices of single images, and the scores that follow from sums of them.

Rows are the truth, columns the prediction; ignored pixels are in no cell. Knows index masks only.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.config import Task
from segdecay.data.dataset import IGNORE
from segdecay.errors import RunError
from segdecay.records import Scores, write_bytes
from segdecay.training.counts import F64, I64, intersection_union, iou, mean_present

__all__ = [
    "F64",
    "I64",
    "curve_scores",
    "image_confusions",
    "intersection_union",
    "iou",
    "mean_present",
    "read_confusions",
    "scores_of",
    "write_confusions",
]


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
        recall=tuple(float(value) for value in iou(hit, matrix.sum(axis=-1))),
    )


def curve_scores(scores: Scores, part: str, task: Task) -> dict[str, float]:
    """What a line of a curve says of a scored part: "train" or "validation"."""
    found = {f"{part}_miou": scores.miou}
    if task == "classification":
        found[f"{part}_balanced_accuracy"] = scores.balanced_accuracy
    return found if part == "train" else found | {f"{part}_loss": scores.loss}


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
