"""Confusion matrices of single images, and scores of their sums.

Rows are the truth, columns the prediction; ignored pixels are not counted.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.config.schema import Task
from segdecay.errors import DataError, RunError, gather
from segdecay.metrics.boundary import BoundaryCounts
from segdecay.metrics.counts import F64, I64, counted, intersection_union, iou, least_present, mean_present, weighted_by
from segdecay.runs.records import Scores
from segdecay.utils.files import write_bytes

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
    "user_confusions",
    "write_confusions",
]


def image_confusions(
    prediction: Tensor,  # (N, H, W) integer, class indices
    truth: Tensor,  # (N, H, W) integer, class indices or IGNORE
    classes: int,
) -> Tensor:  # (N, C, C) int64
    """One confusion matrix per image. Ignored pixels are counted in an extra row, which is faster than removing them.

    >>> image_confusions(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    size, kept = (classes + 1) * classes, classes * classes
    if truth.device.type == "cpu":  # numpy counts four times as fast as torch, image by image
        counts = np.empty((len(truth), kept), np.int64)
        for row, one, other in zip(counts, prediction.numpy(), truth.numpy(), strict=True):
            row[:] = np.bincount(_cells(one, other, classes), minlength=size)[:kept]
        return torch.from_numpy(counts.reshape(-1, classes, classes))
    return _counted_on_device(prediction, truth, classes)


def _counted_on_device(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """As `image_confusions`, without waiting for a number."""
    size = (classes + 1) * classes
    image = torch.arange(len(truth), device=truth.device).view(-1, 1, 1) * size
    cell = (image + truth.long().clamp(max=classes) * classes + prediction).flatten()
    found = torch.zeros(len(truth) * size, dtype=torch.int64, device=truth.device)
    found.scatter_add_(0, cell, torch.ones_like(cell))
    return found.view(-1, classes + 1, classes)[:, :classes].contiguous()


def user_confusions(
    predicted: Any,  # (N, C, H, W) scores or (N, H, W) class indices
    masks: Any,  # (N, H, W) integer; values from C on are ignored
    classes: int,
) -> I64:  # (N, C, C)
    """One matrix an image from what a user's code has: tensors on any device, arrays or lists.

    Raises:
        DataError: shapes or types that do not fit, or predictions that are no class; all faults are listed.
    """
    found = predicted.detach().cpu() if isinstance(predicted, Tensor) else torch.as_tensor(np.asarray(predicted))
    truth = masks.detach().cpu() if isinstance(masks, Tensor) else torch.as_tensor(np.asarray(masks))
    faults = []
    if found.ndim == 4 and found.shape[1] != classes:
        faults.append(f"scores are {tuple(found.shape)}; (N, {classes}, H, W) is needed for {classes} classes.")
    elif found.ndim == 4:
        found = found.argmax(dim=1)
    elif found.is_floating_point() or found.ndim != 3:
        faults.append(
            f"predictions are {found.dtype} {tuple(found.shape)}; scores (N, C, H, W), or class indices (N, H, W)."
        )
    if truth.ndim == 4 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.is_floating_point() or truth.ndim != 3:
        faults.append(f"masks are {truth.dtype} {tuple(truth.shape)}; integers (N, H, W) are needed.")
    elif not faults and found.shape != truth.shape:
        faults.append(
            f"predictions are {tuple(found.shape)}, masks {tuple(truth.shape)}; both must be of the same images."
        )
    if not faults and truth.numel() and int(truth.min()) < 0:
        faults.append(f"masks hold {int(truth.min())}; ignored pixels are 255, or any value from {classes} on.")
    if not faults and found.numel() and not 0 <= int(found.min()) <= int(found.max()) < classes:
        faults.append(f"predictions hold {int(found.min())} to {int(found.max())}; classes are 0 to {classes - 1}.")
    gather(DataError, faults)
    return np.asarray(image_confusions(found.long(), truth.long(), classes).numpy())


def _cells(
    prediction: npt.NDArray[np.integer[Any]], truth: npt.NDArray[np.integer[Any]], classes: int
) -> npt.NDArray[np.intp]:
    """The index of every pixel in the flattened matrix of one image."""
    cell: npt.NDArray[np.intp] = np.minimum(truth.ravel(), classes, dtype=np.intp)
    cell *= classes
    cell += prediction.ravel()
    return cell


def scores_of(
    matrices: npt.NDArray[np.int64],  # (N, C, C) of every image, or (C, C) of a whole set
    loss: float = math.nan,
    boundary: BoundaryCounts | None = None,
    excluded: Sequence[int] = (),  # classes left out of means; their pixels are still in the matrices
) -> Scores:
    """Scores of a set of images: of the summed matrices, and means of scores of single images.

    A class that is absent from truth and prediction is NaN and left out of means; a class that is only predicted has
    IoU 0. Formulas: docs/scores.md.

    >>> scores_of(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).iou
    (0.75, 0.8, nan)
    """
    total = matrices if matrices.ndim == 2 else matrices.sum(axis=0)
    hit, union = intersection_union(total)
    per_class, true = iou(hit, union), total.sum(axis=-1)
    images = matrices if matrices.ndim == 3 else np.zeros((0, *total.shape), np.int64)
    of_images, held = iou(*intersection_union(images)), images.sum(axis=-1)
    by_image = counted(of_images, excluded)
    edges = np.full(len(total), np.nan) if boundary is None else boundary.class_iou()
    return Scores(
        miou=_float(mean_present(counted(per_class, excluded))),
        iou=_floats(per_class),
        dice=_floats(iou(2 * hit, hit + union)),
        worst=_float(least_present(counted(per_class, excluded))),
        support=tuple(int(count) for count in true),
        loss=loss,
        weighted=_float(weighted_by(counted(per_class, excluded), true)),
        precision=_floats(iou(hit, total.sum(axis=-2))),
        recall=_floats(iou(hit, true)),
        boundary_miou=_float(mean_present(counted(edges, excluded))),
        boundary_iou=_floats(edges),
        image_miou=_float(mean_present(mean_present(by_image))),
        image_worst=_float(mean_present(least_present(by_image))),
        image_weighted=_float(mean_present(weighted_by(by_image, held))),
        image_iou=_floats(mean_present(np.where(held > 0, of_images, np.nan), axis=0)),
        excluded=tuple(excluded),
    )


def _float(value: F64) -> float:
    """The value as float; NaN is always the same object, so that records with equal scores compare equal."""
    return float(value) if np.isfinite(value) else math.nan


def _floats(values: F64) -> tuple[float, ...]:
    return tuple(_float(value) for value in values)


def curve_scores(scores: Scores, part: str, task: Task) -> dict[str, float]:
    """The scores of a part, "train" or "validation", as fields of one line of a learning curve."""
    found = {f"{part}_miou": scores.miou}
    if task == "classification":
        found[f"{part}_balanced_accuracy"] = scores.balanced_accuracy
    return found if part == "train" else found | {f"{part}_loss": scores.loss}


def write_confusions(path: Path, matrices: I64) -> None:
    """Write (N, C, C) matrices as a sparse, compressed .npz without pickle."""
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
    """The matrices of `write_confusions`.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            n, classes, _ = (int(side) for side in kept["shape"])
            flat = np.zeros((n, classes * classes), dtype=np.int64)
            flat[kept["image"], kept["cell"]] = kept["count"]
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        message = f"{path} is damaged: {error}. Remove its folder; the same command trains that trial again."
        raise RunError(message) from error
    return flat.reshape(n, classes, classes)
