"""Items to batches: whole images of one size, or windows of one size. Knows the decoded data set and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.config import AugmentConfig
from segdecay.data.dataset import IGNORE, Dataset
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]

LARGEST_WHOLE_PX = 512  # a side above this is cropped under "auto"
SMALL_SHARE = 0.1  # under "auto" at most this share of the images is smaller than the window, and padded


def crop_size(dataset: Dataset, indices: Sequence[int], config: AugmentConfig) -> tuple[int, int] | None:
    """The window (height, width) in pixels that training takes, or None for whole images, all of one size.

    "auto" takes whole images where all have one size up to 512 px; otherwise a window that nine in ten images fill,
    at most 512 px a side.

    Raises:
        DataError: crop is null though sizes differ.
    """
    heights = [dataset.items[index].height for index in indices]
    widths = [dataset.items[index].width for index in indices]
    sizes = set(zip(heights, widths, strict=True))
    if config.crop is None:
        if len(sizes) > 1:
            raise DataError(_sizes_text(sizes))
        return None
    if config.crop != "auto":
        return None if sizes == {config.crop} else config.crop
    if len(sizes) == 1 and max(*heights, *widths) <= LARGEST_WHOLE_PX:
        return None
    height, width = (int(np.quantile(sides, SMALL_SHARE, method="lower")) for sides in (heights, widths))
    return min(height, LARGEST_WHOLE_PX), min(width, LARGEST_WHOLE_PX)


def _sizes_text(sizes: set[tuple[int, int]]) -> str:
    shown = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:3])
    return (
        f"Images of {len(sizes)} sizes (height x width: {shown}{', …' if len(sizes) > 3 else ''}) cannot be put whole "
        "into one batch. Set augment.crop: auto, or data.size to resize them."
    )


def take_batch(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    crop: tuple[int, int] | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) uint8 and masks (N, H, W) int64, copied.

    crop: a window in pixels, at a place drawn from the generator (in the middle without one); what an image lacks is
    repeated from its right and lower edge, and IGNORE in its mask. None takes whole images.

    Raises:
        DataError: whole images of different sizes.
    """
    if crop is None:
        sizes = {(dataset.items[index].height, dataset.items[index].width) for index in indices}
        if len(sizes) > 1:
            raise DataError(_sizes_text(sizes))
        pairs = [(dataset.image(index), dataset.mask(index)) for index in indices]
    else:
        middle = torch.full((len(indices), 2), 0.5, dtype=torch.float64)
        places = middle if generator is None else torch.rand(len(indices), 2, generator=generator, dtype=torch.float64)
        pairs = [
            _window_of(dataset, index, crop, (float(place[0]), float(place[1])))
            for index, place in zip(indices, places, strict=True)
        ]
    images = np.stack([image for image, _ in pairs]).transpose(0, 3, 1, 2)
    masks = np.stack([mask for _, mask in pairs]).astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(masks)


def _window_of(dataset: Dataset, index: int, size: tuple[int, int], place: tuple[float, float]) -> tuple[U8, U8]:
    """A window of an image and its mask; a label of the whole image stays what it is."""
    image, mask = dataset.image(index), dataset.mask(index)
    if dataset.task == "classification":
        return window(image, image[..., 0], size, place)[0], mask
    return window(image, mask, size, place)


def window(
    image: U8,  # (H, W, B)
    mask: U8,  # (H, W)
    size: tuple[int, int],
    place: tuple[float, float],  # in 0-1: 0 is the upper left, just below 1 the lower right
) -> tuple[U8, U8]:
    """The part of both that a window shows, padded at the right and lower edge where they are smaller.

    >>> image, mask = np.arange(4, dtype=np.uint8).reshape(2, 2, 1), np.zeros((2, 2), dtype=np.uint8)
    >>> window(image, mask, (1, 3), (0.9, 0.0))[0][..., 0].tolist(), window(image, mask, (1, 3), (0.9, 0.0))[1].tolist()
    ([[2, 3, 3]], [[0, 0, 255]])
    """
    start, stop, lack = [0, 0], [0, 0], [0, 0]
    for axis in (0, 1):
        free = max(0, mask.shape[axis] - size[axis])
        start[axis] = min(free, int(place[axis] * (free + 1)))
        stop[axis] = min(mask.shape[axis], start[axis] + size[axis])
        lack[axis] = size[axis] - (stop[axis] - start[axis])
    rows, columns = slice(start[0], stop[0]), slice(start[1], stop[1])
    image, mask = image[rows, columns], mask[rows, columns]
    if any(lack):
        edges = ((0, lack[0]), (0, lack[1]))
        image = np.pad(image, (*edges, (0, 0)), mode="edge")
        mask = np.pad(mask, edges, constant_values=IGNORE)
    return image, mask
