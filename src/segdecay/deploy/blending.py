"""Probabilities of an image of any size, window by window, with memory for a band of it alone.

Windows go from left to right, then down. What no later window adds to leaves as a block; what is still shared waits:
columns within a window's width, rows in a band as wide as the image. Knows tensors; nothing of files or networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.deploy.tiles import Axis, Plan, Span

U8 = npt.NDArray[np.uint8]
Rows = Callable[[int, int], U8]  # (top, bottom) to (bottom − top, W, B): asked for in order, without gaps
Function = Callable[[Tensor], Tensor]  # (N, B, H, W) uint8 to (N, C, H, W) float


@dataclass(frozen=True)
class Block:
    """A finished rectangle: its corner, the blended values and the image's own pixels."""

    top: int
    left: int
    values: Tensor  # (C, h, w) float32
    image: U8  # (h, w, B)


def blended_blocks(
    function: Function,
    rows: Rows,
    plan: Plan,
    *,
    batch: int = 1,
    on_window: Callable[[int], None] = lambda _done: None,
) -> Iterator[Block]:
    """Blocks of the blended values of `function` on every window; together they cover the image once.

    Memory: a band of a window's height of the image, `batch` windows, and C x shared rows x width of float32.

    Args:
        function: values of windows, (N, B, h, w) to (N, C, h, w).
        rows: reads rows of the image.
        plan: where the windows lie.
        batch: windows of one shape that are given to `function` at a time, at least 1.
        on_window: told how many windows were done since it was last told.
    """
    band: U8 | None = None
    start = 0
    waiting: Tensor | None = None  # (C, shared rows, W): what windows above gave to rows that are not final
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
            yield Block(top, left, final, band[: final.shape[1], left : left + final.shape[2]])
        waiting = later


def _finished_columns(
    function: Function,
    band: U8,  # (h, W, B)
    weights: Tensor,  # (h,)
    columns: Axis,
    batch: int,
    on_window: Callable[[int], None],
) -> Iterator[tuple[int, Tensor]]:
    """(left, (C, h, w)) from left to right: what all windows of this row of windows give, times the row's weights."""
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
