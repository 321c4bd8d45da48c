"""Arrays as PNG files for people. Knows nothing of data sets or runs."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image


def png(array: npt.NDArray[np.uint8], palette: tuple[tuple[int, int, int], ...] | None = None) -> bytes:
    """An RGB (H, W, 3) or index (H, W) array as PNG bytes."""
    picture = Image.fromarray(array)
    if palette is not None:
        picture = picture.convert("L")
        picture.putpalette([channel for colour in palette for channel in colour])
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def as_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The first three bands, or the first one three times."""
    if image.shape[-1] >= 3:
        return np.ascontiguousarray(image[..., :3])
    return np.repeat(image[..., :1], 3, axis=-1)
