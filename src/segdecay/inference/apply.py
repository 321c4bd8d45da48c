"""Applies a predictor to an image of any size: small images at once, large ones in blended windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segdecay.errors import ConfigError, gather
from segdecay.inference.image_io import ArraySource, ImageFile
from segdecay.inference.predictor import Predictor
from segdecay.inference.sliding_window import (
    OVERLAP,
    STRIDE,
    TILE,
    TileBlock,
    TilePlan,
    blended_blocks,
    check_tiling,
    plan_tiles,
)

F32 = npt.NDArray[np.float32]
BAND_PIXELS = 1 << 22  # pixels of a large image that are processed at a time


def shrinking(length: int, size: int) -> F32:
    """The (size, length) matrix of the antialiased bilinear filter.

    Output i has triangle weights around (i + ½)·scale, as wide as `scale` = length / size (at least 1) on each side.

    >>> (shrinking(4, 2) * 7).round().tolist()
    [[3.0, 3.0, 1.0, 0.0], [0.0, 1.0, 3.0, 3.0]]
    """
    scale = np.float32(length / size)
    centres = (np.arange(size, dtype=np.float32)[:, None] + 0.5) * scale
    found = np.arange(length, dtype=np.float32) + 0.5 - centres
    np.abs(found, out=found)
    found = np.maximum(0, 1 - found / max(scale, np.float32(1)))
    found /= found.sum(axis=1, keepdims=True)
    return found


def shrunk(source: ImageFile, size: tuple[int, int]) -> F32:  # (h, w, B), 0 … 255
    """The whole image at the size h x w."""
    height, width, bands = source.shape
    down, across = shrinking(height, size[0]), shrinking(width, size[1])
    found = np.zeros((*size, bands), np.float32)
    step = max(1, BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        rows = source.rows(top, bottom).astype(np.float32)
        narrow = np.einsum("wx,yxb->ywb", across, rows, optimize=True)
        found += np.einsum("hy,ywb->hwb", down[:, top:bottom], narrow, optimize=True)
    return found


def enlarging(size: int, length: int, start: int, stop: int) -> F32:
    """Rows start … stop of the (length, size) matrix of bilinear enlarging, pixel centres at ½.

    >>> enlarging(2, 4, 0, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    place = np.clip((np.arange(start, stop) + 0.5) * size / length - 0.5, 0, size - 1)
    low = np.minimum(np.floor(place).astype(int), max(0, size - 2))
    share = place - low
    found = np.zeros((stop - start, size), np.float32)
    found[np.arange(stop - start), low] = 1 - share
    found[np.arange(stop - start), np.minimum(low + 1, size - 1)] += share
    return found


def resized_blocks(predictor: Predictor, source: ImageFile) -> Iterator[TileBlock]:
    """Blocks of full width: the probabilities at the models' size, enlarged to the image's size.

    Probabilities are enlarged here; for images that are predicted at once, logits are.
    """
    height, width, _ = source.shape
    size = predictor.size or (height, width)
    image = torch.from_numpy(shrunk(source, size)).permute(2, 0, 1)[None]
    values = predictor.probabilities(image)[0].cpu()
    across = torch.from_numpy(enlarging(size[1], width, 0, width))
    step = max(1, BAND_PIXELS // (width * len(values)))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        down = torch.from_numpy(enlarging(size[0], height, top, bottom))
        yield TileBlock(top, 0, down @ values @ across.T, source.rows(top, bottom))


U8 = npt.NDArray[np.uint8]
WHOLE_PIXELS = 1 << 20  # largest image that is predicted at once if no tile is given


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into windows: `tile` and `overlap` in pixels; without a tile only large images are cut.

    batch: windows per forward pass; None: 1 on a CPU, 8 on a GPU.
    """

    tile: int | None = None
    overlap: int = OVERLAP
    batch: int | None = None


def build_tiling(tile: int | None, overlap: int | None, batch: int | None) -> Tiling:
    """The windows that were asked for; the overlap defaults to a quarter of the tile.

    >>> build_tiling(256, None, None)
    Tiling(tile=256, overlap=64, batch=None)
    """
    quarter = (tile or TILE) // 4 // STRIDE * STRIDE
    return Tiling(tile, quarter if overlap is None else overlap, batch)


def check_tiling_of(tiling: Tiling, predictor: Predictor) -> None:
    """Refuse windows that do not fit the model.

    Raises:
        ConfigError: lists all faults.
    """
    faults = check_tiling(TILE if tiling.tile is None else tiling.tile, tiling.overlap, predictor.stride)
    if tiling.batch is not None and tiling.batch < 1:
        faults.append(f"--batch: at least 1 is needed; saw {tiling.batch}.")
    gather(ConfigError, faults)


def plan_of(predictor: Predictor, shape: tuple[int, int, int], tiling: Tiling) -> TilePlan | None:
    """The windows of an image, or None if it is predicted at once.

    A model with a fixed input size uses tiles only on request, since an enlarged part of an image differs from its
    training images.
    """
    height, width, _ = shape
    side = predictor.stride  # a thin image is padded to it
    if tiling.tile is None and (predictor.size is not None or max(height, side) * max(width, side) <= WHOLE_PIXELS):
        return None
    return plan_tiles(height, width, tile=tiling.tile or TILE, overlap=tiling.overlap, stride=predictor.stride)


def predicted_blocks(
    predictor: Predictor,
    source: ImageFile,
    tiling: Tiling = Tiling(),
    on_window: Callable[[int], None] = lambda _done: None,
) -> Iterator[TileBlock]:
    """Blocks of probabilities that cover an image once, from left to right, then down.

    Raises:
        ModelError: a model cannot be applied to a window.
        DataError: the image is damaged.
    """
    height, width, _ = source.shape
    plan = plan_of(predictor, source.shape, tiling)
    if plan is not None:
        batch = tiling.batch or (1 if predictor.device.type == "cpu" else 8)
        yield from blended_blocks(predictor.probabilities, source.rows, plan, batch=batch, on_window=on_window)
    elif height * width > WHOLE_PIXELS:
        yield from resized_blocks(predictor, source)
        on_window(1)
    else:
        image = np.array(source.rows(0, height))
        values = predictor.probabilities(torch.from_numpy(image).permute(2, 0, 1)[None])
        on_window(1)
        yield TileBlock(0, 0, values[0].cpu(), image)


def predict_mask(
    predictor: Predictor,
    image: U8,  # (H, W, B)
    tiling: Tiling = Tiling(),
) -> U8:  # (H, W) class indices, or (1, 1) where images have one label
    """The class of every pixel, at the size of the image; or the label of the whole image."""
    if predictor.task == "classification":
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return np.asarray(predictor.probabilities(whole)[0].argmax(dim=0).to(torch.uint8).cpu().numpy())
    mask = np.zeros(image.shape[:2], np.uint8)
    for block in predicted_blocks(predictor, ArraySource(image), tiling):
        rows, columns = block.values.shape[1:]
        found = block.values.argmax(dim=0).to(torch.uint8).numpy()
        mask[block.top : block.top + rows, block.left : block.left + columns] = found
    return mask
