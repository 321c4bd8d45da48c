"""Class-aware crops: images and windows drawn around a pixel of a class, at a random place inside the window.

Knows decoded masks and random numbers; nothing of models or of what a batch is used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segdecay.data.dataset import IGNORE, Dataset

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

TILE_PX = 256  # side of the squares whose pixels of a class are counted: an exact draw reads one of them
DRAWS = 6  # random numbers an image, always drawn


@dataclass(frozen=True)
class LabelPlaces:
    """The tiles that hold pixels of one class."""

    label: int
    images: I64  # (I,) that hold it
    starts: I64  # (I + 1,) where the tiles of each image begin
    tiles: I64  # (K, 3): top, left, pixels

    def pixel(self, dataset: Dataset, draws: F64) -> tuple[int, int, int]:
        """Image, row and column of a pixel: images alike, then their pixels alike; two numbers in 0-1."""
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


ClassPlaces = tuple[LabelPlaces, ...]  # of the classes that are there


def find_places(dataset: Dataset, indices: Sequence[int]) -> ClassPlaces:
    """Count once, in one pass over the masks; room for a few numbers a class and tile of 256 px that meet."""
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

    Classes that are there alike, then images that hold the class alike, then its pixels in the image alike.
    A place is what `sampling.window` takes. Of the windows inside the image that hold the drawn pixel each is as likely
    as the other, so away from the borders the pixel is everywhere in its window alike.
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
    """A place in 0-1 whose window of `size` holds `pixel`, each such window within `side` as likely as the other.

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
