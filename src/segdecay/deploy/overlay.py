"""Masks as colours, alone or over their image. Pure numpy: arrays in, arrays out; no files, no models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]


def colour_mask(
    mask: npt.NDArray[np.integer],  # (H, W) class indices, or `ignore`
    palette: Sequence[tuple[int, int, int]],  # RGB of every class, 0-255
    ignore: int = 255,
) -> U8:  # (H, W, 3) RGB
    """Every pixel in the colour of its class; ignored pixels are black.

    Raises:
        DataError: the mask is not two-dimensional, or holds a value that no colour belongs to.

    >>> colour_mask(np.array([[0, 1, 255]]), [(10, 20, 30), (200, 0, 0)]).tolist()
    [[[10, 20, 30], [200, 0, 0], [0, 0, 0]]]
    """
    if mask.ndim != 2:
        raise DataError(f"A mask has height and width; saw an array of shape {mask.shape}.")
    seen = {int(value) for value in np.unique(mask)}
    wrong = sorted(value for value in seen if value != ignore and not 0 <= value < len(palette))
    if wrong:
        shown = ", ".join(str(value) for value in wrong[:5])
        raise DataError(
            f"The mask holds {shown}; the palette has colours for 0–{len(palette) - 1}, {ignore} is ignored."
        )
    colours = np.zeros((len(palette) + 1, 3), np.uint8)
    colours[:-1] = np.asarray(palette, np.uint8).reshape(-1, 3)
    return colours[np.where(mask == ignore, len(palette), mask)]


def overlay(
    image: U8,  # (H, W, 3) RGB, or (H, W) or (H, W, 1) grey
    mask: npt.NDArray[np.integer],  # (H, W)
    palette: Sequence[tuple[int, int, int]],
    opacity: float = 0.5,  # 0 shows the image alone, 1 the mask alone
    ignore: int = 255,
) -> U8:  # (H, W, 3) RGB
    """The mask's colours over the image: round((1 − opacity)·image + opacity·colour); ignored pixels stay the image.

    Raises:
        DataError: sizes differ, the image is neither grey nor RGB of 8 bits, or opacity is not in 0 to 1.

    >>> overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0, 255]]), [(200, 0, 50)]).tolist()
    [[[150, 50, 75], [100, 100, 100]]]
    """
    if not 0 <= opacity <= 1:
        raise DataError(f"Opacity is {opacity:g}; it goes from 0 (image alone) to 1 (mask alone).")
    if image.dtype != np.uint8:
        raise DataError(f"The image has values of type {image.dtype}; uint8 is needed. Scale it to 0–255 first.")
    picture = image[..., None] if image.ndim == 2 else image
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise DataError(f"The image has the shape {image.shape}; (H, W), (H, W, 1) or (H, W, 3) is needed.")
    if picture.shape[:2] != mask.shape:
        raise DataError(f"The image is {picture.shape[0]}x{picture.shape[1]}, its mask {mask.shape}; sizes must agree.")
    picture = np.broadcast_to(picture, (*mask.shape, 3))
    blended = (1 - opacity) * picture.astype(np.float32) + opacity * colour_mask(mask, palette, ignore)
    return np.where((mask == ignore)[..., None], picture, np.rint(blended).astype(np.uint8))
