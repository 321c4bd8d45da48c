"""One file's bytes to uint8 pixels, or the reason why not; and resizing. Knows PNG and JPEG, deep.py the other kinds;
nothing of data sets.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segdecay.data.images.bit_depth import (
    PLAIN,
    Bits,
    Depth,
    Raw,
    UnusableError,
    expanded,
    no_warnings,
    raw_of,
    refuse_hollow,
    to_8_bits,
)

__all__ = ["Depth", "Picture", "UnusableError", "read_image", "read_mask", "resize_image", "resize_mask", "turned"]

U8 = npt.NDArray[np.uint8]

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

FORMATS = ("PNG", "JPEG")  # JPEG brings MPO, the files of some phones, with it
BAND_NAMES = {"L": "grey", "LA": "grey + alpha", "RGB": "RGB", "RGBA": "RGB + alpha"}
STRIP_BYTES = 1 << 25
TURN_TAG = 0x0112  # EXIF orientation
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that exchange height and width
FLIPS = {  # orientation: are rows, are columns reversed (after the exchange)
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}


@dataclass(frozen=True)
class Picture:
    """A decoded file, not yet turned by its EXIF orientation."""

    pixels: U8  # (H, W, B)
    mode: str  # of Pillow: "L", "RGB", "P", ...
    orientation: int  # EXIF, 1 when upright or unknown
    lossy: bool
    colours: tuple[tuple[int, int, int], ...] = ()  # of a palette file
    empty: Bits | None = None  # (H, W, B): where there is no data
    n_bands: int | None = None  # of the file, where only the chosen ones were decoded


def _png_bits(content: bytes) -> int:
    """Bits a band that a PNG declares; Pillow reads 16-bit RGB as 8 bit without a word."""
    return content[24] if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) > 24 else 8


def _open(content: bytes) -> Image.Image:
    """A fully loaded image.

    Raises:
        UnusableError: empty, damaged, of another format, or larger than Pillow's limit against decompression bombs.
    """
    if not content:
        raise UnusableError("empty_file", "is empty (0 bytes).", "Copy it again or remove the pair.")
    try:
        with no_warnings():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # of which Pillow only warns
                raise _too_many_pixels()
            refuse_hollow(image.width * image.height * len(image.getbands()), content)
            image.load()
    except Image.DecompressionBombError as error:  # twice the limit
        raise _too_many_pixels() from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        known = content[:3] == b"\xff\xd8\xff" or content[:8] == b"\x89PNG\r\n\x1a\n"
        inside = "is none of PNG, JPEG, TIFF, .npy and .mat inside."
        reason = f"is damaged or cut short ({_cause(error)})." if known else inside
        raise UnusableError("unreadable", reason, "Copy or export it again.") from error
    return image


def _too_many_pixels() -> UnusableError:
    seen = f"has more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs."
    return UnusableError("too_many_pixels", seen, "Cut it into tiles.")


def _cause(error: Exception) -> str:
    """What a reader says, without the address of a buffer."""
    return "no picture inside" if isinstance(error, UnidentifiedImageError) else str(error)


def _orientation(image: Image.Image) -> int:
    try:
        with no_warnings():
            value = image.getexif().get(TURN_TAG, 1)
    except (OSError, SyntaxError, ValueError, struct.error):  # an EXIF block that is damaged turns nothing
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _refuse_deep(content: bytes) -> None:
    """Refuse 16 bits a band where Pillow would read 8."""
    if _png_bits(content) == 16:
        raise UnusableError(
            "deep", "has 16 bits a band: reading it as 8 bit would drop half of them.", "Save it as 8 bit, or as TIFF."
        )


def _array(image: Image.Image) -> U8:
    """Pixels (H, W, B), in strips: at once Pillow would copy all of them three times."""
    width, height = image.size
    rows = max(1, STRIP_BYTES // (width * len(image.getbands())))
    if rows >= height:
        return np.asarray(image).astype(np.uint8, copy=False).reshape(height, width, -1)
    pixels = np.empty((height, width, len(image.getbands())), dtype=np.uint8)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        pixels[top : top + rows] = strip.reshape(*strip.shape[:2], -1)
    return pixels


def read_image(content: bytes, depth: Depth = PLAIN) -> Picture:
    """An image's pixels in its own bands: grey 1, grey + alpha 2, RGB 3, RGB + alpha 4; palette files are expanded.

    depth: how more than 8 bits become 8.

    Raises:
        UnusableError: damaged, empty, too large, more than 8 bits a band without a scale, bands that have no meaning
            here, or pixels without data of which nobody spoke.
    """
    raw = raw_of(content)
    if raw is not None:
        return _of_raw(expanded(raw), depth)
    image = _open(content)
    mode = image.mode
    if mode.startswith(("I", "F")):
        wide = np.asarray(image)
        wide = wide.astype(np.uint16) if mode.startswith("I") and wide.min() >= 0 and wide.max() < 1 << 16 else wide
        return _of_raw(Raw(wide[..., None], "L"), depth)
    _refuse_deep(content)
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in BAND_NAMES:
        raise UnusableError("bands_unknown", f"has bands {mode}; grey and RGB are read.", "Save it as RGB.")
    pixels = _array(image)
    return Picture(pixels, image.mode, _orientation(image), lossy=image.format in {"JPEG", "MPO"})


def _of_raw(raw: Raw, depth: Depth) -> Picture:
    pixels, empty = to_8_bits(raw, depth)
    chosen = None if depth.bands is None or pixels.shape[2] != len(depth.bands) else raw.values.shape[2]
    return Picture(pixels, raw.mode, raw.orientation, lossy=False, empty=empty, n_bands=chosen)


def _mask_of_raw(raw: Raw) -> Picture:
    """A mask of whole numbers 0–255 in one band, or of colours."""
    values = raw.values
    low, high = (float(one) for one in (values.min(), values.max()))
    if not (np.isfinite(values).all() and low >= 0 and high <= 255 and (values == np.rint(values)).all()):
        seen = f"is a {values.dtype} mask holding {low:g}–{high:g}; class indices are 0–254."
        raise UnusableError("deep_mask", seen, "Save class indices as 8-bit grey PNG.")
    mode = raw.mode if values.shape[2] != 3 else "RGB"
    return Picture(values.astype(np.uint8), mode, raw.orientation, lossy=False, colours=raw.colours)


def read_mask(content: bytes) -> Picture:
    """A mask's pixels as they are stored: indices of a palette file, (H, W, 1), never its colours.

    Raises:
        UnusableError: damaged, empty, too large, or more than 8 bits a band.
    """
    raw = raw_of(content)
    if raw is not None:
        return _mask_of_raw(raw)
    image = _open(content)
    lossy = image.format in {"JPEG", "MPO"}
    if image.mode.startswith("I"):  # 16 bits that hold 8 lose nothing
        wide = np.asarray(image)
        if wide.min() >= 0 and wide.max() <= 255:
            return Picture(wide.astype(np.uint8)[..., None], "L", 1, lossy)
        seen = f"is a 16-bit mask holding {wide.min()}–{wide.max()}; class indices are 0–254."
        raise UnusableError("deep_mask", seen, "Save class indices as 8-bit grey PNG.")
    if image.mode == "F":
        raise UnusableError("deep_mask", "is a mask of fractions.", "Save class indices as 8-bit grey PNG.")
    _refuse_deep(content)
    colours: tuple[tuple[int, int, int], ...] = ()
    if image.mode == "P":
        flat = image.getpalette() or []
        colours = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))
    pixels = _array(image)
    return Picture(pixels, image.mode, _orientation(image), lossy, colours)


def turned(picture: Picture) -> Picture:
    """The picture as its EXIF orientation says it is seen."""
    if picture.orientation == 1:
        return picture
    empty = None if picture.empty is None else _turned(picture.empty, picture.orientation)
    return replace(picture, pixels=_turned(picture.pixels, picture.orientation), orientation=1, empty=empty)


def _turned(pixels: npt.NDArray[Pixel], orientation: int) -> npt.NDArray[Pixel]:
    pixels = pixels.swapaxes(0, 1) if orientation in SIDEWAYS else pixels
    rows, columns = FLIPS[orientation]
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def resize_image(pixels: U8, size: tuple[int, int]) -> U8:
    """(H, W, B) to size (h, w): bilinear, with the support widened where it shrinks, so that nothing aliases."""
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., b])).resize((width, height), Image.Resampling.BILINEAR)
        )
        for b in range(pixels.shape[2])
    ]
    return np.stack(bands, axis=-1)


def resize_mask(labels: U8, size: tuple[int, int]) -> U8:
    """(H, W) to size (h, w): the nearest pixel, so that no new value appears.

    >>> resize_mask(np.array([[0, 0, 7, 7]], dtype=np.uint8), (1, 2)).tolist()
    [[0, 7]]
    """
    if labels.shape == size:
        return labels
    height, width = size
    return np.asarray(Image.fromarray(np.ascontiguousarray(labels)).resize((width, height), Image.Resampling.NEAREST))
