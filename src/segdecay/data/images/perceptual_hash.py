"""Find equal and similar images: a hash of the pixels, and the brightness gradients of a thumbnail.

A pattern holds the gradients of a 16 x 16 thumbnail along rows and columns, scaled to length 1: it hardly changes with
brightness, contrast, size or compression. The cosine of two patterns measures how similar two images look.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

GRID = 16  # rows and columns of a thumbnail
SAMPLES = 8  # pixels along each side of a thumbnail's cell that are averaged; a large image is read in strides
SMALLEST_SIDE = 2 * GRID  # below it different images look alike
FLAT = 1.0  # root mean square of the gradients in grey levels; below it an image has no pattern
ALIKE = 0.92  # cosine from which two images look the same
BLOCK = 512
POWER_STEPS = 8  # of the power iteration; a full decomposition took longer than reading the images


@dataclass(frozen=True)
class Content:
    """What an image holds. digest: of pixels and shape; pattern: (480,) of length 1, None if it has no gradients."""

    digest: str
    pattern: F32 | None
    is_flat: bool  # one colour: equality with other such images means nothing


def content_of(image: U8) -> Content:
    """The hash and the pattern of an image (H, W, B).

    >>> content_of(np.zeros((40, 40, 3), dtype=np.uint8)).is_flat
    True
    """
    first, width = image[0, 0].tobytes(), image.shape[1]
    is_flat = all(rows.tobytes() == first * width for rows in image)  # row by row: most end at the first
    pattern = None if is_flat else _pattern(image)
    return Content(_digest(image, pattern), pattern, is_flat)


def _digest(image: U8, pattern: F32 | None) -> str:
    """A hash of pixels and shape: beside a pattern a checksum of the pixels suffices, in half the time."""
    pixels = np.ascontiguousarray(image).data
    digest = hashlib.sha256(repr(image.shape).encode())
    if pattern is None:
        digest.update(pixels)
    else:
        digest.update(pattern.tobytes())
        digest.update(zlib.crc32(pixels).to_bytes(4, "big"))
    return digest.hexdigest()


def _pattern(image: U8) -> F32 | None:
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        return None
    step = max(1, min(height, width) // (GRID * SAMPLES))
    few = image[::step, ::step]
    bands = np.moveaxis(_cell_sums(few.reshape(len(few), -1)).reshape(GRID, *few.shape[1:]), 2, 0)
    cells = _cell_sums(np.ascontiguousarray(sum(bands[1:], bands[0]).T))
    columns, rows = (np.diff(_edges(-(-side // step))) for side in (width, height))
    thumbnail = cells.T / (rows[:, None] * columns * image.shape[2])
    slopes = np.concatenate([np.diff(thumbnail, axis=axis).ravel() for axis in (0, 1)])
    length = float(np.linalg.norm(slopes))
    if length < FLAT * np.sqrt(slopes.size):
        return None
    return np.asarray(slopes / length, dtype=np.float32)


def _cell_sums(values: U8 | U32) -> U32:
    """Sums of GRID runs of rows, of about equal length: (GRID, N) from (H, N). Four times as fast as reduceat."""
    if len(values) % GRID == 0:
        equal: U32 = values.reshape(GRID, -1, values.shape[1]).sum(axis=1, dtype=np.uint32)
        return equal
    return np.stack([np.add.reduce(values[a:b], axis=0, dtype=np.uint32) for a, b in pairwise(_edges(len(values)))])


@lru_cache(maxsize=64)
def _edges(side: int) -> tuple[int, ...]:
    """Where the thumbnail's cells begin along a side, and its end: GRID + 1 of them."""
    return (*(side * cell // GRID for cell in range(GRID)), side)


@dataclass(frozen=True)
class Alike:
    """Images that look alike. first: the most similar pairs (N, 2), at most `shown`; pairs, images: their numbers."""

    first: tuple[tuple[int, int], ...]
    pairs: int
    images: int
    compared: int  # pairs that could have been alike


def alike_pairs(
    patterns: F32,  # (N, D), each of length 1
    kind: I64,  # (N,): pairs of the same kind are not reported
    *,
    least: float = ALIKE,
    shown: int = 5,
) -> Alike:
    """Pairs of images of different kinds whose patterns have a cosine of `least` or more, in the order given.

    Images are sorted along the direction in which they differ most; neighbours along it are compared, block by block.

    >>> patterns = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    >>> alike_pairs(patterns, np.array([0, 1, 2])).first
    ((0, 2),)
    """
    n = len(patterns)
    if n < 2:
        return Alike((), 0, 0, 0)
    place = patterns @ _main_direction(patterns)
    order = np.argsort(place, kind="stable")
    place, patterns, kind = place[order], patterns[order], kind[order]
    reach = float(np.sqrt(2 * (1 - least))) + 1e-5  # unit vectors of this cosine are no farther apart
    involved = np.zeros(n, dtype=bool)
    found, first = 0, list[tuple[int, int]]()
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        end = int(np.searchsorted(place, place[stop - 1] + reach, side="right"))
        near = patterns[start:stop] @ patterns[start:end].T >= least
        near &= kind[start:stop, None] != kind[None, start:end]
        near &= np.arange(start, stop)[:, None] < np.arange(start, end)[None, :]
        found += int(near.sum())
        involved[order[start:stop][near.any(axis=1)]] = True
        involved[order[start:end][near.any(axis=0)]] = True
        rows, columns = np.nonzero(near)
        both = np.sort(np.stack([order[start + rows], order[start + columns]], axis=1), axis=1)
        best = np.lexsort((both[:, 1], both[:, 0]))[:shown]
        first = sorted([*first, *((int(a), int(b)) for a, b in both[best])])[:shown]
    same = np.unique(kind, return_counts=True)[1].astype(np.int64)
    compared = n * (n - 1) // 2 - int((same * (same - 1) // 2).sum())
    return Alike(tuple(first), found, int(involved.sum()), compared)


def _main_direction(patterns: F32) -> F32:
    """A unit vector (D,) near the direction in which patterns differ most; zeros if all are compared in one block.

    Any other direction finds the same pairs, only more slowly.
    """
    if len(patterns) <= BLOCK:
        return np.zeros(patterns.shape[1], dtype=np.float32)
    few = patterns[:: max(1, len(patterns) // 1000)]
    few = few - few.mean(axis=0)
    direction = few[np.argmax((few**2).sum(axis=1))]
    for _ in range(POWER_STEPS):
        direction = (few @ direction) @ few
        direction = direction / max(float(np.linalg.norm(direction)), 1e-12)
    return np.asarray(direction, dtype=np.float32)
