"""A large image for a model that sees every image at one size: shrunk in bands, its probabilities enlarged in bands.

Shrinking is Pillow's and torch's antialiased bilinear filter, a matrix for each side; enlarging is bilinear. Memory:
the small image, and a band of the large one. Knows arrays and predictors; nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from segdecay.deploy.blending import Block
from segdecay.deploy.images import Source
from segdecay.deploy.predictor import Predictor

F32 = npt.NDArray[np.float32]
BAND_PIXELS = 1 << 22  # of the large image that are worked on at a time


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


def shrunk(source: Source, size: tuple[int, int]) -> F32:  # (h, w, B), 0 … 255
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


def resized_blocks(predictor: Predictor, source: Source) -> Iterator[Block]:
    """Blocks of full width: the probabilities at the models' size, enlarged to the image's.

    Differs from an image that is small enough to be predicted at once in what is enlarged: probabilities, not logits.
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
        yield Block(top, 0, down @ values @ across.T, source.rows(top, bottom))
