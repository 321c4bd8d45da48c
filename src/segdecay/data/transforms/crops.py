"""Assemble batches: whole images of one size, or windows (crops) of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.config.schema import AugmentConfig
from segdecay.data.dataset import IGNORE, Dataset
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]

LARGEST_WHOLE_PX = 512  # a side above this is cropped under "auto"
SMALL_SHARE = 0.1  # under "auto" at most this share of the images is smaller than the window and padded


def crop_size(dataset: Dataset, indices: Sequence[int], config: AugmentConfig) -> tuple[int, int] | None:
    """The window (height, width) in pixels for training, or None for whole images, all of one size.

    "auto" takes whole images if all have one size up to 512 px; otherwise a window that nine in ten images fill, with
    sides of at most 512 px.

    Raises:
        DataError: crop is null although image sizes differ.
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
        f"Images of {len(sizes)} sizes (height x width: {shown}{', …' if len(sizes) > 3 else ''}) do not fit whole "
        "into one batch. Set augment.crop: auto, or data.size to resize them."
    )


def take_batch(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    crop: tuple[int, int] | None,
    generator: torch.Generator | None,
    places: npt.NDArray[np.float64] | None = None,  # (N, 2) in 0-1; NaN: drawn
) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) uint8 and masks (N, H, W) int64, copied.

    crop: the size of the window in pixels; None takes whole images. Its place is drawn from the generator; without one
    it is the middle. A smaller image is padded by repeating its right and lower edge, and its mask with IGNORE.
    places: the places of windows that are already drawn; the generator draws as many numbers in any case.

    Raises:
        DataError: whole images of different sizes.
    """
    if crop is None:
        one_size(dataset, indices)
        pairs = [(dataset.image(index), dataset.mask(index)) for index in indices]
    else:
        drawn = window_places(len(indices), generator=generator, places=places)
        pairs = [
            _window_of(dataset, index, crop, (float(place[0]), float(place[1])))
            for index, place in zip(indices, drawn, strict=True)
        ]
    images = np.stack([image for image, _ in pairs]).transpose(0, 3, 1, 2)
    masks = np.stack([mask for _, mask in pairs]).astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(masks)


def one_size(dataset: Dataset, indices: Sequence[int]) -> tuple[int, int]:
    """The height and width of whole images that form one batch.

    Raises:
        DataError: they differ.
    """
    sizes = {(dataset.items[index].height, dataset.items[index].width) for index in indices}
    if len(sizes) > 1:
        raise DataError(_sizes_text(sizes))
    return next(iter(sizes))


def window_places(
    count: int, *, generator: torch.Generator | None, places: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Places of windows in 0-1, (count, 2): given ones, else drawn, or the middle without a generator."""
    middle = torch.full((count, 2), 0.5, dtype=torch.float64)
    where = middle if generator is None else torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return where.numpy() if places is None else np.where(np.isfinite(places), places, where.numpy())


def window_start(place: float, side: int, size: int) -> int:
    """The first pixel of a window of `size` at a place in 0-1 of a side; 0 where the side is smaller.

    >>> [window_start(place, 10, 4) for place in (0.0, 0.5, 0.99)], window_start(0.5, 3, 4)
    ([0, 3, 6], 0)
    """
    free = max(0, side - size)
    return min(free, int(place * (free + 1)))


def _window_of(dataset: Dataset, index: int, size: tuple[int, int], place: tuple[float, float]) -> tuple[U8, U8]:
    """A window of an image and its mask; a label of the whole image is not changed."""
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
    """The image and the mask in a window, padded at the right and lower edge if they are smaller.

    >>> image, mask = np.arange(4, dtype=np.uint8).reshape(2, 2, 1), np.zeros((2, 2), dtype=np.uint8)
    >>> window(image, mask, (1, 3), (0.9, 0.0))[0][..., 0].tolist(), window(image, mask, (1, 3), (0.9, 0.0))[1].tolist()
    ([[2, 3, 3]], [[0, 0, 255]])
    """
    start, stop, lack = [0, 0], [0, 0], [0, 0]
    for axis in (0, 1):
        start[axis] = window_start(place[axis], mask.shape[axis], size[axis])
        stop[axis] = min(mask.shape[axis], start[axis] + size[axis])
        lack[axis] = size[axis] - (stop[axis] - start[axis])
    rows, columns = slice(start[0], stop[0]), slice(start[1], stop[1])
    image, mask = image[rows, columns], mask[rows, columns]
    if any(lack):
        edges = ((0, lack[0]), (0, lack[1]))
        image = np.pad(image, (*edges, (0, 0)), mode="edge")
        mask = np.pad(mask, edges, constant_values=IGNORE)
    return image, mask


I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

TILE_PX = 256  # side of the tiles in which pixels of a class are counted; to draw a pixel, one tile is read
DRAWS = 6  # random numbers per image, always drawn


@dataclass(frozen=True)
class LabelPlaces:
    """The tiles that hold pixels of one class."""

    label: int
    images: I64  # (I,) that hold it
    starts: I64  # (I + 1,) where the tiles of each image begin
    tiles: I64  # (K, 3): top, left, pixels

    def pixel(self, dataset: Dataset, draws: F64) -> tuple[int, int, int]:
        """Image, row and column of a pixel, drawn uniformly over images, then over their pixels. draws: two in 0-1."""
        at = int(draws[0] * len(self.images))
        image = int(self.images[at])
        tiles = self.tiles[self.starts[at] : self.starts[at + 1]]
        ends = np.cumsum(tiles[:, 2])
        rank = int(draws[1] * ends[-1])
        tile = int(np.searchsorted(ends, rank, side="right"))
        top, left, pixels = (int(value) for value in tiles[tile])
        part = dataset.mask(image)[top : top + TILE_PX, left : left + TILE_PX]
        row, column = np.nonzero(part == self.label)
        place = rank - (int(ends[tile]) - pixels)
        return image, top + int(row[place]), left + int(column[place])


ClassPlaces = tuple[LabelPlaces, ...]  # of the classes that occur


def find_places(dataset: Dataset, indices: Sequence[int]) -> ClassPlaces:
    """Count the pixels of every class in one pass over the masks; needs a few numbers per class and tile with it."""
    classes = len(dataset.classes)
    found: list[list[tuple[int, int, int, int]]] = [[] for _ in range(classes)]
    for index in sorted(indices):
        mask = dataset.mask(index)
        for top in range(0, mask.shape[0], TILE_PX):
            for left in range(0, mask.shape[1], TILE_PX):
                part = mask[top : top + TILE_PX, left : left + TILE_PX]
                counts = np.bincount(part.ravel(), minlength=IGNORE + 1)[:classes]
                for label in np.flatnonzero(counts).tolist():
                    found[label].append((index, top, left, int(counts[label])))
    places = []
    for label, rows in enumerate(found):
        if rows:
            table = np.array(rows, dtype=np.int64)
            images, starts = np.unique(table[:, 0], return_index=True)
            ends = np.append(starts, len(table)).astype(np.int64)
            places.append(LabelPlaces(label, images, ends, table[:, 1:]))
    return tuple(places)


def draw_by_class(
    dataset: Dataset,
    indices: Sequence[int],
    places: ClassPlaces,
    *,
    share: float,
    crop: tuple[int, int] | None,
    generator: torch.Generator,
) -> tuple[list[int], F64]:
    """A batch of which about `share` is drawn by class: image indices, and places (N, 2) of windows in 0-1, else NaN.

    Drawn uniformly: a class that occurs, an image with it, a pixel of the class in the image, and a window inside the
    image that holds the pixel. Away from borders the pixel is thus uniformly distributed in its window. `window` takes
    the places.
    """
    draw = torch.rand(len(indices), DRAWS, generator=generator, dtype=torch.float64).numpy()
    taken, where = [int(index) for index in indices], np.full((len(indices), 2), np.nan)
    for number in np.flatnonzero(draw[:, 0] < share):
        image, *pixel = places[int(draw[number, 1] * len(places))].pixel(dataset, draw[number, 2:4])
        taken[number] = image
        if crop is not None:
            sides = dataset.items[image].height, dataset.items[image].width
            where[number] = [
                window_place(pixel[axis], sides[axis], crop[axis], draw[number, 4 + axis]) for axis in (0, 1)
            ]
    return taken, where


def window_place(pixel: int, side: int, size: int, draw: float) -> float:
    """A place in 0-1 whose window of `size` holds `pixel`, uniform over all such windows within `side`.

    >>> [window_place(5, 10, 4, draw) * 7 for draw in (0.0, 0.99)]  # starts 2 and 5 of 0 to 6, each in its middle
    [2.5, 5.5]
    """
    free = max(0, side - size)
    first, last = max(0, pixel - size + 1), min(pixel, free)
    return (first + int(draw * (last - first + 1)) + 0.5) / (free + 1)


def does_nothing(dataset: Dataset, indices: Sequence[int], places: ClassPlaces, crop: tuple[int, int] | None) -> bool:
    """Whether every window shows a whole image, and every image holds every class."""
    sizes = {(dataset.items[index].height, dataset.items[index].width) for index in indices}
    is_whole = crop is None or all(height <= crop[0] and width <= crop[1] for height, width in sizes)
    return is_whole and all(len(one.images) == len(set(indices)) for one in places)
