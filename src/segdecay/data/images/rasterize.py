"""Convert polygons and run lengths to masks.

Polygons are filled by pycocotools, whatever the layout. Run lengths are those of COCO: down the columns, beginning with
zeros; they are read here, since pycocotools reads beyond the end of a damaged text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

Bits = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

FARTHEST_PX = 100_000_000  # five times as much is still a number of 32 bits in pycocotools
MOST_OUTLINE_PX = 1 << 22  # of one polygon; pycocotools takes 40 bytes a pixel of it
MOST_RUNS = 1 << 24  # of one annotation
MOST_BITS = 60  # of one number of a compressed run length


class ShapeError(Exception):
    """A shape that cannot be drawn: what was seen, the code of the fault, the fix."""

    def __init__(self, seen: str, code: str = "shape_unusable", fix: str = "Correct it, or remove it.") -> None:
        super().__init__(seen)
        self.seen, self.code, self.fix = seen, code, fix


def fill_polygon(points: F64, size: tuple[int, int]) -> Bits:
    """The pixels inside a polygon, by the rule of COCO's own tools: (H, W).

    points: (N, 2) as x, y in pixels; the last one is joined to the first. size: height, width.

    >>> fill_polygon(np.array([[0, 0], [2, 0], [2, 1], [0, 1]], dtype=float), (2, 3)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]

    Raises:
        ShapeError: a corner lies beyond FARTHEST_PX, or the outline is longer than MOST_OUTLINE_PX.

    Source: pycocotools, rleFrPoly: the outline is walked in steps of a fifth of a pixel; even-odd.
    """
    if not (np.abs(points) < FARTHEST_PX).all():
        raise ShapeError(f"reaches beyond {FARTHEST_PX:,} px.")
    outline_px = float(np.abs(points - np.roll(points, -1, axis=0)).max(axis=1).sum())
    if outline_px > MOST_OUTLINE_PX:
        raise ShapeError(f"has an outline of {outline_px:,.0f} px; at most {MOST_OUTLINE_PX:,} px are drawn.")
    runs = coco.merge(coco.frPyObjects([points.ravel()], *size))
    return np.asarray(coco.decode(runs), dtype=np.bool_)


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
