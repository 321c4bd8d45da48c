"""Boundary IoU, from counts of the pixels of both masks that lie near the border of their class."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.dataset import IGNORE
from segdecay.errors import RunError
from segdecay.metrics.counts import F64, I64, iou
from segdecay.utils.files import write_bytes

Mask = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

DIAGONAL_SHARE = 0.02  # of the image's diagonal: the paper's width for ordinary images
FILE = "boundary.npz"


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels of every image and class in both bands of this class (hit), and in either (union): (N, C) each."""

    hit: I64
    union: I64

    def class_iou(self) -> F64:
        """(C,) boundary IoU of all images together; NaN for a class that is neither in the truth nor predicted."""
        return iou(self.hit.sum(axis=0), self.union.sum(axis=0))

    @classmethod
    def joined(cls, parts: Sequence[BoundaryCounts], classes: int) -> BoundaryCounts:
        """The images of all parts, one after the other."""
        none = np.zeros((0, classes), np.int64)
        return cls(*(np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in ("hit", "union")))


def band_px(height: int, width: int) -> int:
    """The width of the band inside a class, in pixels: 2 % of the diagonal, at least 1.

    >>> band_px(360, 480), band_px(8, 8)
    (12, 1)
    """
    return max(1, round(DIAGONAL_SHARE * math.hypot(height, width)))


def boundary_band(
    mask: Mask,  # (H, W) class indices, IGNORE among them
    width_px: int,
) -> Bools:  # (H, W)
    """Pixels with another value, or the outside of the image, at most `width_px` rows and columns away.

    That is every class minus its erosion by a square of 2·width_px + 1, for all classes at once.

    >>> boundary_band(np.array([[0, 0, 0, 1, 1]] * 5), 1)[2].tolist()
    [True, False, True, True, True]
    """
    near = np.zeros(mask.shape, dtype=np.bool_)
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1))),
        ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),
    ):
        differs = mask[one] != mask[other]
        near[one] |= differs
        near[other] |= differs
    near[0] = near[-1] = True
    near[:, 0] = near[:, -1] = True
    return _widened(_widened(near, width_px - 1).T, width_px - 1).T


def _widened(near: Bools, by: int) -> Bools:
    """True also up to `by` rows above and below, in doubling strides."""
    stride = 1
    while by > 0:
        reach = min(stride, by, max(1, len(near) - 1))
        wider = near.copy()
        wider[reach:] |= near[:-reach]
        wider[:-reach] |= near[reach:]
        near, by, stride = wider, by - reach, 2 * stride
    return near


def image_boundaries(
    prediction: npt.NDArray[np.integer[Any]],  # (N, H, W) class indices
    truth: npt.NDArray[np.integer[Any]],  # (N, H, W) class indices or IGNORE
    classes: int,
) -> BoundaryCounts:
    """Counts of the bands of every image and class.

    Ignored pixels belong to no class, in truth and prediction: a class ends where they begin, and they are in no band.

    >>> truth = np.array([[[0] * 5 + [1] * 5] * 10])
    >>> image_boundaries(truth, truth, 2).class_iou().tolist()
    [1.0, 1.0]

    Source: Cheng, Girshick, Dollár, Berg, Kirillov, *Boundary IoU*, CVPR 2021, equation 3, and how its authors' code
    makes a band (2 % of the diagonal, rounded; outside of the image is background). Differs in: counts are summed over
    images before the division; ignored pixels, which the paper does not have.
    """
    parts = [_one(claimed, true, classes) for claimed, true in zip(prediction, truth, strict=True)]
    return BoundaryCounts(
        *(np.array([part[at] for part in parts], dtype=np.int64).reshape(len(parts), classes) for at in (0, 1))
    )


def _one(prediction: Mask, truth: Mask, classes: int) -> tuple[I64, I64]:
    """Hit and union (C,) of one image."""
    true = truth.astype(np.uint8)
    claimed = np.where(true == IGNORE, IGNORE, prediction).astype(np.uint8)
    width_px = band_px(*true.shape)
    in_truth, in_claim = (boundary_band(mask, width_px) for mask in (true, claimed))

    def count(values: npt.NDArray[np.uint8]) -> I64:  # IGNORE is above every class
        return np.bincount(values, minlength=classes)[:classes].astype(np.int64)

    hit = count(true[in_truth & in_claim & (true == claimed)])
    return hit, count(true[in_truth]) + count(claimed[in_claim]) - hit


def write_boundaries(path: Path, counts: BoundaryCounts) -> None:
    """Write the counts as a compressed .npz without pickle."""
    content = io.BytesIO()
    np.savez_compressed(content, hit=counts.hit, union=counts.union)
    write_bytes(path, content.getvalue())


def read_boundaries(path: Path) -> BoundaryCounts | None:
    """The counts of `write_boundaries`; None without a file, as in runs of older versions.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = BoundaryCounts(kept["hit"].astype(np.int64), kept["union"].astype(np.int64))
        if found.hit.shape != found.union.shape or found.hit.ndim != 2:
            raise ValueError("hit and union differ in shape")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        message = f"{path} is damaged: {error}. Remove its folder; the same command trains that trial again."
        raise RunError(message) from error
    return found
