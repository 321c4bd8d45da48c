"""What the pixels of a training part hold: how many of each class, and their mean and deviation.

Knows decoded data; nothing of models or configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segdecay.data.dataset import IGNORE, Dataset, class_pixels

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Pixels:
    """Valid pixels of each class in the training masks, and per band mean and deviation of the training images."""

    counts: npt.NDArray[np.int64]  # (C,)
    counts_where_present: npt.NDArray[np.int64]  # (C,) pixels, ignored ones too, of the images that hold the class
    mean: tuple[float, ...]  # (B,) of uint8 values
    deviation: tuple[float, ...]  # (B,) at least 1


def pixel_statistics(dataset: Dataset, indices: Sequence[int]) -> Pixels:
    """One pass over the training images and masks, in exact integer sums."""
    classes = len(dataset.classes)
    counts, present = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    histogram = np.zeros((dataset.bands, 256), dtype=np.int64)
    for index in indices:
        mask = dataset.mask(index)
        own = np.bincount(mask.ravel(), minlength=IGNORE + 1)[:classes]
        counts += own
        present += np.where(own > 0, mask.size, 0)
        image = dataset.image(index)
        for band in range(dataset.bands):
            histogram[band] += np.bincount(image[..., band].ravel(), minlength=256)
    values = np.arange(256)
    total = histogram.sum(axis=1)
    mean = (histogram @ values) / total
    variance = (histogram @ values**2) / total - mean**2
    deviation = np.sqrt(np.maximum(variance, 1.0))
    return Pixels(counts, present, tuple(float(m) for m in mean), tuple(float(d) for d in deviation))


def count_examples(dataset: Dataset, indices: Sequence[int], kind: str) -> npt.NDArray[np.int64]:
    """(C,): the images that hold each class (`images`), or its connected components, by 8 neighbours (`components`)."""
    pixels = class_pixels(dataset, tuple(indices))
    if kind == "images":
        return np.asarray((pixels > 0).sum(axis=0), dtype=np.int64)
    counts = np.zeros(len(dataset.classes), dtype=np.int64)
    for index, row in zip(indices, pixels, strict=True):
        mask = dataset.mask(index)
        for label in np.flatnonzero(row):
            counts[label] += ndimage.label(mask == label, structure=EIGHT_NEIGHBOURS)[1]
    return counts
