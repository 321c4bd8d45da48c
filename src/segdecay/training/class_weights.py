"""Class weights of a configuration, and their faults before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from segdecay.config.schema import LossConfig
from segdecay.data.dataset import IGNORE, Dataset, class_pixels
from segdecay.decay.snippets import MEAN_LOSS
from segdecay.errors import unknown
from segdecay.training.losses.combine import build_loss
from segdecay.training.losses.cross_entropy import CrossEntropy
from segdecay.training.losses.weights import class_weights, effective_number_weights

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Pixels:
    """Valid pixels of each class in the training masks, and mean and deviation of each band of the training images."""

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


COUNTED = ("median", "inverse_sqrt", "effective_number")  # infinite for a class without pixels
KINDS = ("none", *COUNTED)
LARGEST = float(torch.finfo(torch.float32).max)


def check_weight_names(config: LossConfig) -> list[str]:
    """Faults of `loss.class_weights` and related keys that can be found without data."""
    kind, faults = config.class_weights, []
    if isinstance(kind, str) and kind not in KINDS:
        faults.append(f"loss.class_weights: {unknown('kind', kind, KINDS)} Or give one number per class.")
    if kind != "effective_number":
        changed = {key: getattr(config, key) for key in ("class_weights_count", "class_weights_beta")}
        faults += [
            f"loss.{key}={value} is only for loss.class_weights=effective_number; saw {kind}. Leave one of the two out."
            for key, value in changed.items()
            if value != LossConfig.model_fields[key].default
        ]
    return faults


def check_weight_list(config: LossConfig, classes: Sequence[str]) -> list[str]:
    """Faults of weights given as numbers, for these classes."""
    values = config.class_weights
    if isinstance(values, str):
        return []
    faults = []
    if len(values) != len(classes):
        numbers = f"{len(values)} number{'s' if len(values) != 1 else ''}"
        faults.append(
            f"loss.class_weights lists {numbers}; these data have {len(classes)} classes. Give one for each, in this "
            f"order: {', '.join(classes)}."
        )
    names = [*classes, *(f"number {i + 1}" for i in range(len(classes), len(values)))]
    wrong = [f"{name} {value:g}" for name, value in zip(names, values, strict=False) if not 0 <= value <= LARGEST]
    if wrong:
        faults.append(f"loss.class_weights must be finite numbers of 0 or more; saw {', '.join(wrong)}.")
    if values and not any(values):
        faults.append("loss.class_weights is 0 for every class, so nothing would be learned. Give one above 0.")
    return faults


def check_learnable(config: LossConfig, dataset: Dataset, trainings: Sequence[Sequence[int]]) -> list[str]:
    """Faults for classes without a training pixel in some of these trainings, which are given by their images."""
    pool = sorted({index for indices in trainings for index in indices})
    pixels = dict(zip(pool, class_pixels(dataset, tuple(pool)), strict=True))
    zero = np.zeros(len(dataset.classes), dtype=np.int64)
    found = np.array([sum((pixels[index] for index in indices), zero) for indices in trainings])
    faults = []
    for label, name in enumerate(dataset.classes):
        lacking = [str(k) for k, row in enumerate(found) if not row[label]]
        if not lacking:
            continue
        some = "" if len(lacking) == len(trainings) else f" of fold{'s' if len(lacking) > 1 else ''} "
        faults.append(
            f'class "{name}" is in no training mask{some}{", ".join(lacking) if some else ""}: '
            f"{_consequence(config, label)} "
            "Add images of it, remove it from dataset.yaml, or give --allow-missing (search.allow_missing=true)."
        )
    return faults


def _consequence(config: LossConfig, label: int) -> str:
    kind = config.class_weights
    if kind in COUNTED:
        return f"it cannot be learned, and its weight (loss.class_weights={kind}) would be infinite; 1 is used."
    if isinstance(kind, str):
        return "it cannot be learned."
    given = f" of {kind[label]:g}" if label < len(kind) else ""
    return f"it cannot be learned, and its weight{given} has no effect."


def build_class_weights(
    config: LossConfig, dataset: Dataset, indices: Sequence[int], pixels: Pixels
) -> Tensor | None:  # (C,) float32
    """The weights for a training on these images, whose statistics are `pixels`; None without class weights.

    A class without a pixel gets 1, which has no effect; `check_learnable` reports it.
    """
    kind = config.class_weights
    if not isinstance(kind, str):
        return torch.tensor(kind, dtype=torch.float32)
    if kind == "effective_number":
        return effective_number_weights(
            count_examples(dataset, indices, config.class_weights_count), config.class_weights_beta
        )
    return class_weights(kind, pixels.counts, pixels.counts_where_present)


def loss_in_words(config: LossConfig) -> str:
    """The loss of a run with its options, weights and adjustment, as text.

    >>> loss_in_words(LossConfig(name="cross_entropy+dice", class_weights=(1.0, 2.0)))
    'cross-entropy + Dice, class weights as given'
    >>> loss_in_words(LossConfig(name="focal", options={"gamma": 3.0}, logit_adjustment=1.0))
    'focal loss (gamma 3), class weights inverse_sqrt, logit adjustment 1'
    """
    kind, options = config.class_weights, ", ".join(f"{key} {value:g}" for key, value in config.options.items())
    counted = f" by {config.class_weights_count}" if kind == "effective_number" else ""
    weights = "as given" if not isinstance(kind, str) else f"{kind}{counted}"
    adjustment = f", logit adjustment {config.logit_adjustment:g}" if config.logit_adjustment else ""
    return f"{build_loss(config).words}{f' ({options})' if options else ''}, class weights {weights}{adjustment}"


def loss_to_paste(config: LossConfig) -> str:
    """The loss of a run, to follow "a loss that is".

    >>> loss_to_paste(LossConfig()), loss_to_paste(LossConfig(name="dice"))
    ('a mean over the valid pixels', 'Dice over the valid pixels')
    """
    is_plain = config.name == CrossEntropy.name and config.factors is None
    return MEAN_LOSS if is_plain else f"{build_loss(config).words} over the valid pixels"
