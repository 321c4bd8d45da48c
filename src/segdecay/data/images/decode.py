"""Decode the bytes of an image or a mask to uint8 pixels, and resize them.

Pillow reads PNG, JPEG, GIF, WebP, BMP and PNM; TIFF, .npy and .mat are read by bit_depth.py. Other formats are named.
Grey and RGB of 8 bits in PNG and JPEG, which most files are, are decoded by imagecodecs, in half of Pillow's time and
to the same pixels; Pillow judges their heads, and reads them where anything is special or damaged.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import imagecodecs
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

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM")  # JPEG includes MPO, which some phones write
MARKS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
NOT_READ = (  # offset in the file, bytes there, name of the format, how to convert it
    (4, b"ftyphei", "HEIC", "Save it as PNG or JPEG."),
    (4, b"ftypmif1", "HEIC", "Save it as PNG or JPEG."),
    (4, b"ftypavif", "AVIF", "Save it as PNG or JPEG."),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000", "Save it as PNG or TIFF."),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", "Save it as PNG or TIFF."),
    (128, b"DICM", "DICOM", "Save each slice as .npy or TIFF, for example with pydicom."),
    (344, b"n+1\0", "NIfTI", "Save each slice as .npy or TIFF, for example with nibabel."),
    (344, b"ni1\0", "NIfTI", "Save each slice as .npy or TIFF, for example with nibabel."),
    (0, b"\x89HDF\r\n", "HDF5", "Save each array as .npy."),
    (0, b"NRRD", "NRRD", "Save each slice as .npy or TIFF."),
    (0, b"8BPS", "Photoshop", "Save it as PNG."),
    (0, b"%PDF", "PDF", "Save each page as PNG."),
    (0, b"PK\x03\x04", "ZIP (or .npz)", "Unpack it; arrays are read from .npy."),
    (0, b"\x1f\x8b", "gzip (NIfTI, where the name ends in .nii.gz)", "Unpack it, and save each slice as .npy or TIFF."),
)
BAND_NAMES = {"L": "grey", "LA": "grey + alpha", "RGB": "RGB", "RGBA": "RGB + alpha"}
STRIP_BYTES = 1 << 22
TURNING_CHUNKS = frozenset({b"eXIf", b"iTXt", b"zTXt", b"tEXt"})  # of PNG, where an orientation may stand
SPECIAL_CHUNKS = TURNING_CHUNKS | {b"tRNS", b"acTL", b"fcTL"}
END_OF_JPEG = b"\xff\xd9"
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
    """A decoded file, before its EXIF orientation is applied."""

    pixels: U8  # (H, W, B)
    mode: str  # of Pillow: "L", "RGB", "P", ...
    orientation: int  # EXIF, 1 when upright or unknown
    lossy: bool
    colours: tuple[tuple[int, int, int], ...] = ()  # of a palette file
    empty: Bits | None = None  # (H, W, B): where there is no data
    n_bands: int | None = None  # of the file, where only the chosen ones were decoded
    wide: npt.NDArray[Any] | None = None  # (H, W, B): a mask's values as stored, where uint8 cannot hold them
    pages: int = 1  # of a TIFF, whose pages became bands


def _png_bits(content: bytes) -> int:
    """Bits per band that a PNG declares; Pillow silently reads 16-bit RGB as 8 bit."""
    return content[24] if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) > 24 else 8


def _chunks_of_png(content: bytes) -> set[bytes]:
    """The kinds of chunks that a PNG has; nothing where they do not end as they should."""
    place, kinds = 8, set[bytes]()
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        kinds.add(kind)
        if kind == b"IEND":
            return kinds
        place += 12 + length
    return set()


def _quick_pixels(image: Image.Image, content: bytes) -> U8 | None:
    """The pixels (H, W, B) of an image that is open but not loaded; None where Pillow alone reads it as is needed here.

    A JPEG that does not end as it should is left to Pillow, which tells one that is cut short.
    """
    if image.mode not in {"L", "RGB"}:
        return None
    try:
        if image.format in {"JPEG", "MPO"} and content.endswith(END_OF_JPEG):
            pixels = imagecodecs.jpeg8_decode(content)
        elif image.format == "PNG" and _png_bits(content) == 8 and _is_plain_png(content):
            pixels = imagecodecs.png_decode(content)
        else:
            return None
    except (RuntimeError, ValueError, MemoryError):  # Pillow says what is wrong
        return None
    shape = (image.height, image.width, len(image.getbands()))
    is_sound = pixels.dtype == np.uint8 and pixels.size == math.prod(shape) and pixels.shape[:2] == shape[:2]
    return np.asarray(pixels).reshape(shape) if is_sound else None


def _is_plain_png(content: bytes) -> bool:
    kinds = _chunks_of_png(content)
    return b"IDAT" in kinds and not kinds & SPECIAL_CHUNKS


def _open(content: bytes) -> tuple[Image.Image, U8 | None]:
    """An image, and its pixels where they were decoded quickly; else it is fully loaded.

    Raises:
        UnusableError: the file is empty, damaged, of another format, or exceeds Pillow's decompression bomb limit.
    """
    if not content:
        raise UnusableError("empty_file", "is empty (0 bytes).", "Copy it again or remove the pair.")
    try:
        with no_warnings():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # here Pillow only warns
                raise _too_many_pixels()
            refuse_hollow(image.width * image.height * len(image.getbands()), content)
            quick = _quick_pixels(image, content)
            if quick is not None:
                return image, quick
            image.load()
    except Image.DecompressionBombError as error:  # twice the limit
        raise _too_many_pixels() from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        format_name, fix = format_not_read(content)
        if format_name:
            raise UnusableError("format_not_read", f"holds {format_name}, which is not read.", fix) from error
        known = content.startswith(MARKS) or content[8:12] == b"WEBP"
        inside = "holds no image (PNG, JPEG, GIF, WebP, BMP, PNM, TIFF, .npy and .mat are read)."
        reason = f"is damaged or cut short ({_cause(error)})." if known else inside
        raise UnusableError("unreadable", reason, "Copy or export it again.") from error
    if getattr(image, "n_frames", 1) > 1 and image.format in {"GIF", "WEBP"}:
        seen = f"is a moving picture of {getattr(image, 'n_frames', 1)} frames."
        raise UnusableError("moving", seen, "Save each frame as a file of its own.")
    return image, None


def format_not_read(content: bytes) -> tuple[str, str]:
    """The name of a known format that is not read, and what converts it; empty for any other content.

    >>> format_not_read(bytes(128) + b"DICM")[0], format_not_read(b"BM")[0]
    ('DICOM', '')
    """
    for start, mark, name, fix in NOT_READ:
        if content[start : start + len(mark)] == mark:
            return name, fix
    return "", ""


def _too_many_pixels() -> UnusableError:
    seen = f"has more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs."
    return UnusableError("too_many_pixels", seen, "Cut it into tiles.")


def _cause(error: Exception) -> str:
    """The decoder's message, without the address of a buffer."""
    return "it holds no image" if isinstance(error, UnidentifiedImageError) else str(error)


def _orientation(image: Image.Image) -> int:
    try:
        with no_warnings():
            value = image.getexif().get(TURN_TAG, 1)
    except (OSError, SyntaxError, ValueError, struct.error):  # a damaged EXIF block is ignored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _refuse_deep(content: bytes) -> None:
    """Refuse 16 bits per band where Pillow would read 8."""
    if _png_bits(content) == 16:
        raise UnusableError(
            "deep", "has 16 bits per band: reading it as 8 bit drops half of them.", "Save it as 8 bit, or as TIFF."
        )


def _array(image: Image.Image) -> U8:
    """Pixels (H, W, B), converted in strips: on a whole image Pillow would hold three copies."""
    width, height = image.size
    rows = max(1, STRIP_BYTES // (width * len(image.getbands())))
    if rows >= height:
        return np.asarray(image).astype(np.uint8, copy=False).reshape(height, width, -1)
    pixels = np.empty((height, width, len(image.getbands())), dtype=np.uint8)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        pixels[top : top + rows] = strip.reshape(*strip.shape[:2], -1)
    return pixels


def _of_quick(image: Image.Image, pixels: U8) -> Picture:
    is_jpeg = image.format != "PNG"  # Pillow would load a PNG to look for an orientation, and there is none
    return Picture(pixels, image.mode, _orientation(image) if is_jpeg else 1, lossy=is_jpeg)


def read_image(content: bytes, depth: Depth = PLAIN, page: int | None = None) -> Picture:
    """An image's pixels in the bands of the file: grey 1, grey + alpha 2, RGB 3, RGB + alpha 4; palette and CMYK become
    RGB.

    depth: how more than 8 bits become 8; page: the page of a TIFF, from 0; None stacks all pages as bands.

    Raises:
        UnusableError: the file is damaged, empty or too large, has more than 8 bits per band and no scale, bands that
            are not supported, or pixels without data while nodata is not set.
    """
    picture = _read_image(content, depth, page)
    is_grey = picture.pixels.shape[2] <= 2 and picture.n_bands is None
    return _as_rgb(picture) if depth.grey_as_rgb and is_grey else picture


def _as_rgb(picture: Picture) -> Picture:
    """Grey as three equal bands; an alpha band stays the last."""
    pixels = np.concatenate([np.repeat(picture.pixels[..., :1], 3, axis=2), picture.pixels[..., 1:]], axis=2)
    empty = None
    if picture.empty is not None:
        empty = np.concatenate([np.repeat(picture.empty[..., :1], 3, axis=2), picture.empty[..., 1:]], axis=2)
    return replace(picture, pixels=pixels, empty=empty, mode="RGBA" if pixels.shape[2] == 4 else "RGB")


def _read_image(content: bytes, depth: Depth, page: int | None) -> Picture:
    raw = raw_of(content, page)
    if raw is not None:
        if raw.pages > 1 and raw.values.shape[2] > raw.pages:
            raise _several_pages(raw)
        return _of_raw(expanded(raw), depth)
    image, quick = _open(content)
    if quick is not None:
        return _of_quick(image, quick)
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
    elif mode == "CMYK":
        image = image.convert("RGB")
    elif mode not in BAND_NAMES:
        raise UnusableError("bands_unknown", f"has bands {mode}; grey and RGB are read.", "Save it as RGB.")
    pixels = _array(image)
    return Picture(pixels, image.mode, _orientation(image), lossy=image.format in {"JPEG", "MPO"})


def _of_raw(raw: Raw, depth: Depth) -> Picture:
    pixels, empty = to_8_bits(raw, depth)
    chosen = None if depth.bands is None or pixels.shape[2] != len(depth.bands) else raw.values.shape[2]
    return Picture(pixels, raw.mode, raw.orientation, lossy=False, empty=empty, n_bands=chosen)


def _several_pages(raw: Raw) -> UnusableError:
    each = raw.values.shape[2] // raw.pages
    seen = f"has {raw.pages} pages of {each} band{'s' if each > 1 else ''}."
    fix = "Set pages: frames if each page is an image with its mask; otherwise save each page as a file."
    return UnusableError("pages", seen, fix)


def _mask_of_raw(raw: Raw, *, wide: bool) -> Picture:
    """A mask of whole numbers 0–255 in one band, or of colours; other values only if `wide` is set."""
    values, is_rgb = raw.values, raw.values.shape[2] == 3 and raw.pages == 1
    mode = "RGB" if is_rgb else raw.mode
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(one) for one in (finite.min(), finite.max())) if finite.size else (math.nan, math.nan)
    is_plain = finite.size == values.size and low >= 0 and high <= 255
    if is_plain and (values.dtype.kind != "f" or bool((values == np.rint(values)).all())):
        pixels = values.astype(np.uint8)
        return Picture(pixels, mode, raw.orientation, lossy=False, colours=raw.colours, pages=raw.pages)
    if wide:
        pixels = np.zeros((*values.shape[:2], 1), dtype=np.uint8)
        return Picture(pixels, mode, raw.orientation, lossy=False, wide=values, pages=raw.pages)
    seen = f"is a {values.dtype} mask holding {low:g}–{high:g}; class indices are 0–254."
    raise UnusableError("deep_mask", seen, "Save class indices as 8-bit grey PNG.")


def read_mask(content: bytes, page: int | None = None, *, wide: bool = False) -> Picture:
    """A mask's pixels as they are stored: of a palette file the indices (H, W, 1), never the colours.

    page: the page of a TIFF, from 0; wide: values that 8 bits cannot hold are returned as `Picture.wide`, not refused.

    Raises:
        UnusableError: the file is damaged, empty or too large, or has more than 8 bits per band.
    """
    raw = raw_of(content, page)
    if raw is not None:
        return _mask_of_raw(raw, wide=wide)
    image, quick = _open(content)
    if quick is not None:
        return _of_quick(image, quick)
    lossy = image.format in {"JPEG", "MPO"}
    if image.mode.startswith("I"):  # 16 bits that hold 8 lose nothing
        stored = np.asarray(image)
        if stored.min() >= 0 and stored.max() <= 255:
            return Picture(stored.astype(np.uint8)[..., None], "L", 1, lossy)
        if wide:
            return Picture(np.zeros((*stored.shape, 1), dtype=np.uint8), "L", 1, lossy, wide=stored[..., None])
        seen = f"is a 16-bit mask holding {stored.min()}–{stored.max()}; class indices are 0–254."
        raise UnusableError("deep_mask", seen, "Save class indices as 8-bit grey PNG.")
    if image.mode == "F":
        raise UnusableError("deep_mask", "is a mask of floating-point values.", "Save class indices as 8-bit grey PNG.")
    _refuse_deep(content)
    colours: tuple[tuple[int, int, int], ...] = ()
    if image.mode == "P":
        flat = image.getpalette() or []
        colours = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))
    pixels = _array(image)
    return Picture(pixels, image.mode, _orientation(image), lossy, colours)


def turned(picture: Picture) -> Picture:
    """The picture, rotated and mirrored by its EXIF orientation."""
    if picture.orientation == 1:
        return picture
    empty = None if picture.empty is None else _turned(picture.empty, picture.orientation)
    return replace(picture, pixels=_turned(picture.pixels, picture.orientation), orientation=1, empty=empty)


def _turned(pixels: npt.NDArray[Pixel], orientation: int) -> npt.NDArray[Pixel]:
    pixels = pixels.swapaxes(0, 1) if orientation in SIDEWAYS else pixels
    rows, columns = FLIPS[orientation]
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def resize_image(pixels: U8, size: tuple[int, int]) -> U8:
    """(H, W, B) to size (h, w): bilinear, antialiased where it shrinks."""
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
    """(H, W) to size (h, w) by the nearest pixel, so that no new value appears.

    >>> resize_mask(np.array([[0, 0, 7, 7]], dtype=np.uint8), (1, 2)).tolist()
    [[0, 7]]
    """
    if labels.shape == size:
        return labels
    height, width = size
    return np.asarray(Image.fromarray(np.ascontiguousarray(labels)).resize((width, height), Image.Resampling.NEAREST))
