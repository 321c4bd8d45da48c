"""Sliding windows: their positions on an image, their weights, and the blending of their values.

Windows form a product grid, so the weight of a pixel is the product of a weight of its row and one of its column. Both
are normalised: the weights of all windows that hold a pixel sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.errors import ConfigError, gather

F32 = npt.NDArray[np.float32]
Span = tuple[int, int]  # first pixel, and the one after the last

STRIDE = 32  # windows start at its multiples, so that pooling pairs the same pixels as in the whole image
TILE, OVERLAP = 512, 128  # pixels; automatic training crops are not smaller than 512


@dataclass(frozen=True)
class TileAxis:
    """The windows along one side of an image."""

    length: int
    spans: tuple[Span, ...]
    weights: tuple[F32, ...]  # of every window, (its length,); over the windows that hold a pixel they sum to 1

    def final_until(self, index: int) -> int:
        """The first pixel to which a window after `index` still contributes."""
        return self.spans[index + 1][0] if index + 1 < len(self.spans) else self.length


@dataclass(frozen=True)
class TilePlan:
    """The windows of an image: every pair of a span of rows and a span of columns."""

    rows: TileAxis
    columns: TileAxis

    @property
    def count(self) -> int:
        """The number of windows."""
        return len(self.rows.spans) * len(self.columns.spans)


def check_tiling(tile: int, overlap: int, stride: int = STRIDE) -> list[str]:
    """Faults of a tile and its overlap, in pixels."""
    faults = []
    if tile < 2 * stride or tile % stride:
        near = max(2 * stride, round(tile / stride) * stride)
        faults.append(f"--tile: a multiple of {stride} from {2 * stride} on is needed; saw {tile}. Take {near}.")
    if overlap < 0 or overlap % stride or overlap > tile // 2:
        near = min(max(0, round(overlap / stride) * stride), tile // 2 // stride * stride)
        faults.append(
            f"--overlap: a multiple of {stride} from 0 to half of the tile is needed; saw {overlap}. Take {near}."
        )
    return faults


def spans_of(length: int, tile: int, overlap: int, stride: int = STRIDE) -> tuple[Span, ...]:
    """Windows that cover 0 … length, starting at multiples of `stride`, neighbours sharing at least `overlap` pixels.

    A single window if the tile covers all. The last one ends with the image: it is at least a tile long, at most
    `stride` − 1 pixels longer.

    >>> spans_of(100, 128, 32), spans_of(340, 128, 32)
    (((0, 100),), ((0, 128), (96, 224), (192, 340)))
    """
    if length <= tile:
        return ((0, length),)
    last = (length - tile) // stride  # in strides
    gaps = -(-last * stride // (tile - overlap))
    starts = [number * last // max(1, gaps) * stride for number in range(gaps + 1)]
    return tuple((start, length if start == starts[-1] else start + tile) for start in starts)


def _ramps(span: Span, length: int, overlap: int) -> npt.NDArray[np.float64]:
    """Unnormalised weights: they rise smoothly over `overlap` pixels from an edge inside the image."""
    size = span[1] - span[0]
    inside = np.arange(size) + 0.5
    depth = np.full(size, np.inf)
    if span[0] > 0:
        depth = inside
    if span[1] < length:
        depth = np.minimum(depth, size - inside)
    share = np.clip(depth / max(1, overlap), 0.0, 1.0)
    return np.asarray(share**2 * (3 - 2 * share))


def axis_of(length: int, tile: int, overlap: int, stride: int = STRIDE) -> TileAxis:
    """The windows along a side of `length` pixels, with weights that blend smoothly where they share pixels.

    >>> axis = axis_of(256, 192, 128, stride=64)
    >>> axis.spans, [f"{w:.2f}" for w in axis.weights[0][[0, 63, 127, 128, 191]]]
    (((0, 192), (64, 256)), ['1.00', '1.00', '0.51', '0.49', '0.00'])
    """
    spans = spans_of(length, tile, overlap, stride)
    raw = [_ramps(span, length, overlap) for span in spans]
    total = np.zeros(length)
    for span, weights in zip(spans, raw, strict=True):
        total[slice(*span)] += weights
    return TileAxis(
        length,
        spans,
        tuple((weights / total[slice(*span)]).astype(np.float32) for span, weights in zip(spans, raw, strict=True)),
    )


def plan_tiles(height: int, width: int, *, tile: int = TILE, overlap: int = OVERLAP, stride: int = STRIDE) -> TilePlan:
    """The windows of an image of height x width pixels.

    Raises:
        ConfigError: a tile or an overlap that is no multiple of the stride or out of range; all faults together.

    >>> plan_tiles(600, 1000, tile=512, overlap=128).count
    6
    """
    gather(ConfigError, check_tiling(tile, overlap, stride))
    return TilePlan(axis_of(height, tile, overlap, stride), axis_of(width, tile, overlap, stride))


U8 = npt.NDArray[np.uint8]
Rows = Callable[[int, int], U8]  # (top, bottom) to (bottom − top, W, B); called in order, without gaps
Function = Callable[[Tensor], Tensor]  # (N, B, H, W) uint8 to (N, C, H, W) float


@dataclass(frozen=True)
class TileBlock:
    """A finished rectangle: its corner, the blended values and the pixels of the image."""

    top: int
    left: int
    values: Tensor  # (C, h, w) float32
    image: U8  # (h, w, B)


def blended_blocks(
    function: Function,
    rows: Rows,
    plan: TilePlan,
    *,
    batch: int = 1,
    on_window: Callable[[int], None] = lambda _done: None,
) -> Iterator[TileBlock]:
    """Blocks of the blended values of `function` on every window; together they cover the image once.

    Memory: a band of a window's height of the image, `batch` windows, and C x shared rows x width of float32.

    Args:
        function: values of windows, (N, B, h, w) to (N, C, h, w).
        rows: reads rows of the image.
        plan: the positions of the windows.
        batch: windows of one shape per call of `function`, at least 1.
        on_window: called with the number of windows done since the last call.
    """
    band: U8 | None = None
    start = 0
    waiting: Tensor | None = None  # (C, shared rows, W): contributions of windows above to unfinished rows
    for row, (top, bottom) in enumerate(plan.rows.spans):
        kept = None if band is None else band[top - start :]
        read = top if kept is None else top + len(kept)
        fresh = rows(read, bottom)
        band, start = (fresh if kept is None else np.concatenate([kept, fresh])), top
        next_top = plan.rows.final_until(row)
        later: Tensor | None = None
        weights = torch.from_numpy(plan.rows.weights[row])
        for left, piece in _finished_columns(function, band, weights, plan.columns, batch, on_window):
            if waiting is not None:
                piece[:, : waiting.shape[1]] += waiting[:, :, left : left + piece.shape[2]]
            if next_top < bottom:
                if later is None:
                    later = torch.empty(len(piece), bottom - next_top, plan.columns.length)
                later[:, :, left : left + piece.shape[2]] = piece[:, next_top - top :]
            final = piece[:, : next_top - top]
            yield TileBlock(top, left, final, band[: final.shape[1], left : left + final.shape[2]])
        waiting = later


def _finished_columns(
    function: Function,
    band: U8,  # (h, W, B)
    weights: Tensor,  # (h,)
    columns: TileAxis,
    batch: int,
    on_window: Callable[[int], None],
) -> Iterator[tuple[int, Tensor]]:
    """(left, (C, h, w)) from left to right: the sum of a row of windows, times the weights of the rows."""
    waiting: Tensor | None = None  # (C, h, shared columns)
    index = 0
    for spans in _batches(columns.spans, batch):
        images = np.stack([band[:, slice(*span)] for span in spans])
        values = function(torch.from_numpy(images).permute(0, 3, 1, 2)).float().cpu()
        for (left, right), window in zip(spans, values, strict=True):
            piece = window * weights[:, None] * torch.from_numpy(columns.weights[index])
            if waiting is not None:
                piece[:, :, : waiting.shape[2]] += waiting
            final = columns.final_until(index)
            waiting = piece[:, :, final - left :].clone() if final < right else None
            index += 1
            yield left, piece[:, :, : final - left]
        on_window(len(spans))


def _batches(spans: tuple[Span, ...], batch: int) -> Iterator[list[Span]]:
    """Neighbours of one width, at most `batch` of them."""
    group: list[Span] = []
    for span in spans:
        if group and (len(group) == batch or span[1] - span[0] != group[0][1] - group[0][0]):
            yield group
            group = []
        group.append(span)
    yield group
