"""Convert polygons and run lengths to masks.

A polygon covers the pixels whose centre lies inside it, by the even-odd rule; pixel (row r, column c) has its centre at
(c + ½, r + ½), as in COCO. Run lengths are those of COCO: down the columns, beginning with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MOST_RUNS = 1 << 24  # of one annotation
MOST_BITS = 60  # of one number of a compressed run length


def fill_polygon(points: F64, size: tuple[int, int]) -> Bits:
    """The pixels inside a polygon: (H, W).

    points: (N, 2) as x, y in pixels; the last one is joined to the first. size: height, width.

    >>> fill_polygon(np.array([[0, 0], [2, 0], [2, 1], [0, 1]], dtype=float), (2, 3)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    height, width = size
    toggles = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        top, bottom = min(y0, y1), max(y0, y1)
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in (top, bottom))
        rows = np.arange(first, last)
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
        toggles[rows, columns] += 1  # an edge crosses a row at most once
    return np.asarray(np.cumsum(toggles[:, :width], axis=1) % 2 == 1)


def fill_runs(counts: Sequence[int] | I64, size: tuple[int, int]) -> Bits:
    """The mask (H, W) of run lengths.

    >>> fill_runs([1, 2, 1], (2, 2)).astype(int).tolist()
    [[0, 1], [1, 0]]

    Raises:
        ValueError: lengths that are negative or do not add up to the size.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    height, width = size
    if lengths.ndim != 1 or (lengths < 0).any() or (lengths > height * width).any():
        raise ValueError("run lengths must be whole numbers from 0 to the pixels of the image")
    total = int(lengths.sum())
    if total != height * width:
        raise ValueError(f"run lengths add up to {total}, the image has {height * width} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def parse_runs(text: str) -> I64:
    """The run lengths of COCO's compressed text: each letter, counted from "0", holds 5 bits, and a 6th bit if more
    letters follow; from the fourth number on, each is the difference from the number two before it.

    >>> parse_runs("121").tolist()
    [1, 2, 1]

    Raises:
        ValueError: a letter that encodes no number, a number cut short or too long, or more than 2²⁴ runs.
    """
    counts, value, shift = list[int](), 0, 0
    if len(text) > MOST_RUNS:
        raise ValueError("the run lengths are too long")
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f"the run lengths hold {letter!r}, which stands for no number")
        value |= (code & 31) << shift
        shift += 5
        if shift > MOST_BITS:
            raise ValueError("the run lengths hold a number that is too large")
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the run lengths are cut short")
    return np.array(counts, dtype=np.int64)
