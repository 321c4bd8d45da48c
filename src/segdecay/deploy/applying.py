"""A predictor on an image of any size: at once where it is small, in blended windows where it is not.

Knows predictors and sources of rows; nothing of what is kept of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segdecay.deploy.blending import Block, blended_blocks
from segdecay.deploy.images import ArraySource, Source
from segdecay.deploy.predictor import Predictor
from segdecay.deploy.resizing import resized_blocks
from segdecay.deploy.tiles import OVERLAP, TILE, Plan, check_tiling, plan_tiles
from segdecay.errors import ConfigError, gather

U8 = npt.NDArray[np.uint8]
WHOLE_PIXELS = 1 << 20  # of an image that is predicted at once where no tile is asked for


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: `tile` and `overlap` in pixels; no tile: only where the image is large.

    batch: windows that the model sees at a time; None: 1 on a CPU, 8 on a GPU.
    """

    tile: int | None = None
    overlap: int = OVERLAP
    batch: int | None = None


def check_tiling_of(tiling: Tiling, predictor: Predictor) -> None:
    """Refuse windows that do not fit the model.

    Raises:
        ConfigError: listing all faults.
    """
    faults = check_tiling(TILE if tiling.tile is None else tiling.tile, tiling.overlap, predictor.stride)
    if tiling.batch is not None and tiling.batch < 1:
        faults.append(f"--batch: at least 1 is needed; saw {tiling.batch}.")
    gather(ConfigError, faults)


def plan_of(predictor: Predictor, shape: tuple[int, int, int], tiling: Tiling) -> Plan | None:
    """The windows of an image, or None where it is predicted at once.

    A model that sees every image at one size is given tiles only where they are asked for: an image's part, enlarged,
    is not what it was trained on.
    """
    height, width, _ = shape
    side = predictor.stride  # a thin image is padded to it
    if tiling.tile is None and (predictor.size is not None or max(height, side) * max(width, side) <= WHOLE_PIXELS):
        return None
    return plan_tiles(height, width, tile=tiling.tile or TILE, overlap=tiling.overlap, stride=predictor.stride)


def predicted_blocks(
    predictor: Predictor,
    source: Source,
    tiling: Tiling = Tiling(),
    on_window: Callable[[int], None] = lambda _done: None,
) -> Iterator[Block]:
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
        yield Block(0, 0, values[0].cpu(), image)


def predict_mask(
    predictor: Predictor,
    image: U8,  # (H, W, B)
    tiling: Tiling = Tiling(),
) -> U8:  # (H, W) class indices, or (1, 1) where images have one label
    """The class of every pixel, at the size of the image; the label of an image is found on the whole of it."""
    if predictor.task == "classification":
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return np.asarray(predictor.probabilities(whole)[0].argmax(dim=0).to(torch.uint8).cpu().numpy())
    mask = np.zeros(image.shape[:2], np.uint8)
    for block in predicted_blocks(predictor, ArraySource(image), tiling):
        rows, columns = block.values.shape[1:]
        found = block.values.argmax(dim=0).to(torch.uint8).numpy()
        mask[block.top : block.top + rows, block.left : block.left + columns] = found
    return mask
