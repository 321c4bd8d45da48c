"""Copy-paste: components of rare classes from other training images, pasted onto a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from segdecay.data.dataset import IGNORE, Dataset, class_pixels

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

MOST_INSTANCES = 256  # kept per class; if there are more, those of randomly chosen images
MOST_IMAGES = 512  # searched per class
MOST_SHARE = 0.25  # largest area of an instance's box, as a share of the image
MOST_PASTES = 3  # per image
JITTER = 0.25  # largest shift from an instance's original relative position, as a share of the side
NEIGHBOURS = np.ones((3, 3), dtype=np.int64)  # pixels that touch at a corner are connected
DRAWS_A_PASTE = 6  # class, instance, two flips, row, column


@dataclass(frozen=True)
class Instance:
    """One component of a class: its image, its box, and a pixel of it in the box."""

    image: int
    label: int
    top: int
    left: int
    height: int
    width: int
    seed: tuple[int, int]


Instances = dict[int, tuple[Instance, ...]]  # by class


def rare_classes(pixels: I64) -> tuple[int, ...]:  # (C,) of the training masks
    """Classes with fewer pixels than the median of the classes present; never the largest.

    >>> rare_classes(np.array([900, 50, 30, 0, 20]))
    (2, 4)
    """
    there = pixels[pixels > 0]
    if len(there) < 2:
        return ()
    return tuple(int(label) for label in np.flatnonzero((pixels > 0) & (pixels < np.median(there))))


def find_instances(
    dataset: Dataset, indices: Sequence[int], labels: Sequence[int], *, least_px: int, random: np.random.Generator
) -> Instances:
    """Components of these classes with at least `least_px` pixels, by class; images are searched in random order."""
    chosen = tuple(indices)
    held = class_pixels(dataset, chosen) >= least_px
    found: Instances = {}
    for label in labels:
        own: list[Instance] = []
        for index in random.permutation(np.asarray(chosen, dtype=np.int64)[held[:, label]])[:MOST_IMAGES]:
            own += _components(dataset, int(index), label, least_px)
            if len(own) >= MOST_INSTANCES:
                break
        if own:
            found[label] = tuple(own[:MOST_INSTANCES])
    return found


def _components(dataset: Dataset, index: int, label: int, least_px: int) -> list[Instance]:
    is_label = dataset.mask(index) == label
    numbered, _ = ndimage.label(is_label, structure=NEIGHBOURS)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        part = numbered[box] == number
        if part.sum() < least_px or part.size > MOST_SHARE * is_label.size:
            continue
        row, column = (int(value[0]) for value in np.nonzero(part))
        top, left = int(box[0].start), int(box[1].start)
        found.append(Instance(index, label, top, left, part.shape[0], part.shape[1], (row, column)))
    return found


def cut_out(dataset: Dataset, one: Instance) -> tuple[U8, Bools]:
    """The pixels (h, w, B) in the box of an instance, and its mask in the box (h, w)."""
    box = slice(one.top, one.top + one.height), slice(one.left, one.left + one.width)
    numbered, _ = ndimage.label(dataset.mask(one.image)[box] == one.label, structure=NEIGHBOURS)
    return dataset.image(one.image)[box], numbered == numbered[one.seed]


def paste_(
    images: Tensor,  # (N, B, H, W) uint8, changed in place
    masks: Tensor,  # (N, H, W) int64, changed in place
    indices: Sequence[int],  # (N,) of the images in the data set
    dataset: Dataset,
    instances: Instances,
    *,
    share: float,
    flip: str,
    generator: torch.Generator,
) -> None:
    """Paste one to MOST_PASTES instances onto about `share` of the images.

    A class is drawn with equal probability, then an instance of it that fits and is from another image. It is mirrored
    as `flip` ("none", "horizontal", "both") allows and pasted at its original relative position, shifted by up to
    JITTER of a side and kept inside. Ignored pixels are not changed.
    """
    draw = torch.rand(len(images), 2 + MOST_PASTES * DRAWS_A_PASTE, generator=generator, dtype=torch.float64).numpy()
    labels = sorted(instances)
    size = masks.shape[-2], masks.shape[-1]
    chosen = np.flatnonzero(draw[:, 0] < share).tolist() if labels else []
    for number in chosen:
        for paste in range(1 + int(draw[number, 1] * MOST_PASTES)):
            own = draw[number, 2 + paste * DRAWS_A_PASTE :][:DRAWS_A_PASTE]
            fitting = [
                one
                for one in instances[labels[int(own[0] * len(labels))]]
                if one.image != indices[number] and one.height <= size[0] and one.width <= size[1]
            ]
            if fitting:
                one = fitting[int(own[1] * len(fitting))]
                _paste_one(images[number].numpy(), masks[number].numpy(), dataset, one, flip, own[2:])


def _paste_one(
    image: U8,  # (B, H, W)
    mask: I64,  # (H, W)
    dataset: Dataset,
    one: Instance,
    flip: str,
    draw: npt.NDArray[np.float64],  # two flips, row, column in 0-1
) -> None:
    pixels, part = cut_out(dataset, one)
    if flip in {"horizontal", "both"} and draw[0] < 0.5:
        pixels, part = pixels[:, ::-1], part[:, ::-1]
    if flip == "both" and draw[1] < 0.5:
        pixels, part = pixels[::-1], part[::-1]
    item = dataset.items[one.image]
    top = _start(one.top + one.height / 2, item.height, one.height, mask.shape[0], draw[2])
    left = _start(one.left + one.width / 2, item.width, one.width, mask.shape[1], draw[3])
    box = slice(top, top + one.height), slice(left, left + one.width)
    taken = part & (mask[box] != IGNORE)
    mask[box][taken] = one.label
    image[:, box[0], box[1]][:, taken] = pixels[taken].T


def _start(centre: float, source_side: int, length: int, side: int, draw: float) -> int:
    """The first pixel of a pasted piece: its relative centre shifted by up to JITTER of the side, kept inside."""
    moved = (centre / source_side + JITTER * (2 * draw - 1)) * side - length / 2
    return int(np.clip(round(moved), 0, side - length))
