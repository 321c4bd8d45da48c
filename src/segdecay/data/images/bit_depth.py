"""Read TIFF, GeoTIFF, .npy and .mat files of any bit depth and number of bands, and convert them to 8 bits.

No code of a file is run. Values become 0–255 by a maximum that stands for all files, or by the 1st and 99th percentile
of each band of each image. Pixels without data (NaN, infinite, or the nodata value) become 0 and are told apart.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile

_LOCK = threading.Lock()
_INSIDE = 0  # threads inside no_warnings()
_CAUGHT = ExitStack()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress warnings while any thread is inside; the last one to leave restores the filters."""
    global _INSIDE  # noqa: PLW0603  (warning filters are global to the process, too)
    with _LOCK:
        if not _INSIDE:
            _CAUGHT.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _INSIDE += 1
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if not _INSIDE:
                _CAUGHT.close()


U8 = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NPY_MARK, MAT_MARK, MAT_73_MARK = b"\x93NUMPY", b"MATLAB 5.0", b"MATLAB 7.3"
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # damaged files are reported as findings, not in this log

GDAL_NODATA = 42113
PERCENTILES = (1, 99)
MOST_BYTES = 1 << 32  # of one decoded file; a file of a few bytes can claim any size
MAPPED_BYTES = 64 << 20  # decoded TIFFs above this lie in a temporary file, not in memory
BLOCK_VALUES = 1 << 20  # converted at a time
HARMLESS_BYTES, MOST_RATIO = 1 << 26, 2000  # deflate reaches 1032 to 1
FAULTS = (ValueError, RuntimeError, OSError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError,
               AssertionError, SyntaxError, EOFError, TokenError, zlib.error, struct.error, MemoryError,
               tifffile.TiffFileError)  # fmt: skip


class UnusableError(Exception):
    """A file whose content cannot be used: `code` of the fault, what was `seen`, the `fix`."""

    def __init__(self, code: str, seen: str, fix: str) -> None:
        super().__init__(f"{seen} {fix}")
        self.code, self.seen, self.fix = code, seen, fix


@dataclass(frozen=True)
class Depth:
    """How a file's values become the bands of 8 bits that a model sees.

    scale: "percentile", or the value that becomes 255; nodata: NaN means NaN alone; bands: those that are wanted, from
    0, None: all; grey_as_rgb: grey becomes three equal bands; exif: whether their EXIF orientation turns images.
    """

    scale: Literal["percentile"] | float | None = None
    nodata: float | None = None
    bands: tuple[int, ...] | None = None
    grey_as_rgb: bool = False
    exif: Literal["apply", "ignore"] = "apply"

    def chosen(self, n_bands: int) -> list[int]:
        """The bands to decode: all of them if a requested one is missing, which the caller reports."""
        fits = self.bands is not None and max(self.bands) < n_bands
        return list(self.bands) if self.bands is not None and fits else list(range(n_bands))


PLAIN = Depth()  # 8 bits as they are


def depth_to_json(depth: Depth) -> dict[str, Any]:
    """All but the bands, as JSON can hold it, which has no NaN.

    >>> depth_to_json(Depth(nodata=math.nan))
    {'scale': None, 'nodata': 'nan', 'grey_as_rgb': False, 'exif': 'apply'}
    """
    is_nan = depth.nodata is not None and math.isnan(depth.nodata)
    nodata = "nan" if is_nan else depth.nodata
    return {"scale": depth.scale, "nodata": nodata, "grey_as_rgb": depth.grey_as_rgb, "exif": depth.exif}


def depth_from_json(values: Mapping[str, Any]) -> Depth:
    """What `depth_to_json` wrote; what is not there is as it is by default.

    >>> depth_from_json({"scale": 4096, "nodata": "nan"}).scale
    4096.0
    """
    scale, nodata = values.get("scale"), values.get("nodata")
    kept = scale if scale is None or scale == "percentile" else float(scale)
    turns: Literal["apply", "ignore"] = "ignore" if values.get("exif") == "ignore" else "apply"
    return Depth(kept, None if nodata is None else float(nodata), None, bool(values.get("grey_as_rgb")), turns)


@dataclass(frozen=True)
class Raw:
    """A file's values as they are stored, (H, W, B). mode: Pillow's, if one fits; nodata: the value the file declares.

    pages: the pages of a TIFF that became bands, B / pages of them each.
    """

    values: Array
    mode: str
    orientation: int = 1
    nodata: float | None = None
    colours: tuple[tuple[int, int, int], ...] = ()
    pages: int = 1


def raw_of(content: bytes, page: int | None = None) -> Raw | None:
    """The values of a TIFF (or of one of its pages, from 0), .npy or .mat file; None for anything else.

    Raises:
        UnusableError: the file is damaged, too large, or of a kind that cannot be read.
    """
    if content[:4] in TIFF_MARKS:
        return _with_bands(_read("TIFF", partial(_read_tiff, page=page), content))
    if content[:6] == NPY_MARK:
        return _with_bands(_read(".npy file", _read_npy, content))
    if content[:10] == MAT_73_MARK:
        raise UnusableError("mat_73", "is a .mat file of version 7.3 (HDF5).", "Save it with '-v7' in MATLAB.")
    if content[:10] == MAT_MARK:
        return _with_bands(_read(".mat file", _read_mat, content))
    return None


def _read(kind: str, read: Any, content: bytes) -> Raw:
    try:
        with no_warnings():
            raw = read(content)
    except FAULTS as error:
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise UnusableError("unreadable", f"is a {kind} that cannot be read ({reason}).", "Export it again.") from error
    assert isinstance(raw, Raw)  # noqa: S101  (of our own readers)
    return raw


def _refuse_large(n_bytes: int) -> None:
    if n_bytes > MOST_BYTES:
        raise UnusableError(
            "too_many_pixels", f"holds {n_bytes / 2**30:.0f} GiB, at most 4 are read.", "Cut it into tiles."
        )


def refuse_hollow(n_bytes: int, content: bytes) -> None:
    """Refuse a header that declares far more pixels than the file can hold, before anything is decoded.

    Raises:
        UnusableError: no compression packs n_bytes of pixels into the content.
    """
    if n_bytes > max(HARMLESS_BYTES, MOST_RATIO * len(content)):
        seen = f"claims {n_bytes / 2**20:,.0f} MiB of pixels in {len(content):,} bytes: it is damaged or cut short."
        raise UnusableError("unreadable", seen, "Copy or export it again.")


def count_pages(path: Path) -> int:
    """Pages of a TIFF that are images of one size; 1 for any other file, also for one that cannot be read.

    Planar bands, stored one after the other, are not pages.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) not in TIFF_MARKS:
                return 1
        with no_warnings(), tifffile.TiffFile(path) as file:
            return _pages_of(file.series[0])
    except FAULTS:
        return 1


def _pages_of(series: tifffile.TiffPageSeries) -> int:
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS")


def _read_tiff(content: bytes, page: int | None = None) -> Raw:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        first, n_pages = file.pages.first, _pages_of(file.series[0])
        if page is not None and n_pages == len(file.pages):
            return _of_series(file.pages[page], first, content, 1)  # type: ignore[arg-type]
        raw = _of_series(file.series[0], first, content, n_pages)
        if page is None:
            return raw
        each = raw.values.shape[2] // n_pages  # pages in one contiguous block, as tifffile writes a stack
        return replace(raw, values=raw.values[..., page * each : (page + 1) * each], pages=1)


def _of_series(series: tifffile.TiffPageSeries, page: Any, content: bytes, pages: int) -> Raw:
    n_bytes = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    _refuse_large(n_bytes)
    refuse_hollow(n_bytes, content)
    # a large file is decoded, strip by strip or tile by tile, into a mapped temporary file
    values = np.asarray(series.asarray(maxworkers=1, out="memmap" if n_bytes > MAPPED_BYTES else None))
    axes = series.axes
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"its axes are {axes}")
    values = np.moveaxis(values, (axes.index("Y"), axes.index("X")), (0, 1))
    values = values.reshape(*values.shape[:2], -1)
    photometric, extra = page.photometric, tuple(getattr(page, "extrasamples", ()) or ())
    tags = {code: page.tags[code].value for code in (GDAL_NODATA, 274) if code in page.tags}
    colours: tuple[tuple[int, int, int], ...] = ()
    if photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        colours = tuple((int(r) >> 8, int(g) >> 8, int(b) >> 8) for r, g, b in np.asarray(page.colormap).T)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and values.dtype in (np.uint8, np.bool_):
        values = ~values
    bands = values.shape[2]
    is_rgb = photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    mode = "RGBA" if is_rgb and bands == 4 and extra[:1] in ((1,), (2,)) else "RGB" if is_rgb and bands == 3 else ""
    turn = tags.get(274, 1)
    orientation = int(turn) if isinstance(turn, int) and 1 <= turn <= 8 else 1
    return Raw(values, "P" if colours else mode, orientation, _number(tags.get(GDAL_NODATA)), colours, pages)


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def _read_npy(content: bytes) -> Raw:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    _refuse_large(math.prod(shape) * dtype.itemsize)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError("it holds Python objects" if dtype.hasobject else "it is cut short")
    stream.seek(0)
    return Raw(np.load(stream, allow_pickle=False), "")


def _read_mat(content: bytes) -> Raw:
    from scipy.io import loadmat, whosmat

    stream: Any = io.BytesIO(content)
    kinds = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "single", "double", "logical")
    named = {name: kind for name, _, kind in whosmat(stream)}
    stream.seek(0)
    if named.get("GTcls") == "struct":  # how the Semantic Boundaries Dataset stores masks
        return Raw(np.asarray(loadmat(stream)["GTcls"][0, 0]["Segmentation"]), "")
    there = [(name, shape) for name, shape, kind in whosmat(stream) if kind in kinds and min(shape) > 0]
    pictures = [(name, shape) for name, shape in there if len(shape) in (2, 3) and min(shape[:2]) > 1]
    if len(pictures) != 1:
        names = ", ".join(name for name, _ in pictures) or "none"
        raise ValueError(f"it needs exactly one array (H, W) or (H, W, bands); it has {names}")
    name, shape = pictures[0]
    _refuse_large(math.prod(shape) * 8)
    return Raw(np.asarray(loadmat(stream, variable_names=[name])[name]), "")


def _with_bands(raw: Raw) -> Raw:
    """The values as (H, W, B), with Pillow's mode if one fits."""
    values = raw.values[..., None] if raw.values.ndim == 2 else raw.values
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "buif":
        kind = f"{values.dtype} of shape {list(raw.values.shape)}"
        raise UnusableError(
            "array_shape", f"is {kind}; only numbers of shape (H, W) or (H, W, bands) are read.", "Convert it."
        )
    mode = raw.mode or {1: "L"}.get(values.shape[2], f"{values.shape[2]} bands")
    return Raw(values, mode, raw.orientation, raw.nodata, raw.colours, raw.pages)


def expanded(raw: Raw) -> Raw:
    """A palette's colours in place of its indices."""
    if not raw.colours:
        return raw
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(raw.colours)] = raw.colours[:256]
    return Raw(table[raw.values[..., 0].astype(np.uint8)], "RGB", raw.orientation, raw.nodata)


def to_8_bits(raw: Raw, depth: Depth) -> tuple[U8, Bits | None]:
    """The chosen bands (H, W, B) as uint8, and the pixels without data: (H, W, B), or None if there are none.

    Converts a few rows of one band at a time, so that of a mapped file only the result is in memory.

    Raises:
        UnusableError: more than 8 bits without a scale, or pixels without data while nodata is not set.
    """
    values, chosen = raw.values, depth.chosen(raw.values.shape[2])
    empty = _without_data(raw, depth, chosen)
    is_plain = values.dtype in (np.bool_, np.uint8)
    if not is_plain and depth.scale is None:
        raise UnusableError("deep", *_unscaled(values[..., chosen], empty))
    pixels = np.empty((*values.shape[:2], len(chosen)), dtype=np.uint8)
    for place, band in enumerate(chosen):
        nothing = None if empty is None else empty[..., place]
        span = (0.0, 1.0) if depth.scale is None or is_plain else _span(values[..., band], nothing, depth.scale)
        for rows in _blocks(values.shape):
            part = values[rows, :, band]
            scaled = part if values.dtype == np.uint8 else part * np.uint8(255) if is_plain else _scaled(part, *span)
            pixels[rows, :, place] = scaled if nothing is None else np.where(nothing[rows], 0, scaled)
    return pixels, empty


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows, each of about a million values of a band."""
    step = max(1, BLOCK_VALUES // shape[1])
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _without_data(raw: Raw, depth: Depth, chosen: list[int]) -> Bits | None:
    """Pixels without data in the chosen bands: (H, W, B), or None if there are none."""
    values, shape = raw.values, raw.values.shape
    told = depth.nodata if depth.nodata is not None else raw.nodata
    is_told = told is not None and not math.isnan(told)
    if values.dtype.kind != "f" and not is_told:
        return None
    empty = np.zeros((*shape[:2], len(chosen)), dtype=np.bool_)
    n_broken = n_marked = 0
    for place, band in enumerate(chosen):
        for rows in _blocks(shape):
            part, nothing = values[rows, :, band], empty[rows, :, place]
            if values.dtype.kind == "f":
                nothing |= ~np.isfinite(part)
                n_broken += int(nothing.sum())
            if is_told:
                marked = np.asarray(part == told)
                n_marked += int(marked.sum())
                nothing |= marked
    if depth.nodata is None and (n_broken or n_marked):
        seen = [f"{100 * n_broken / empty.size:.1f} % NaN"] if n_broken else []
        seen += [f"nodata {told:g} in {100 * n_marked / empty.size:.1f} %"] if n_marked else []
        value = f"{told:g}" if is_told else "nan"
        fix = f"Set nodata: {value} (filled, and ignored in loss, metrics and statistics)."
        raise UnusableError("nodata", f"holds {', '.join(seen)}.", fix)
    return empty if n_broken or n_marked else None


def _unscaled(values: Array, empty: Bits | None) -> tuple[str, str]:
    """What 8 bits would lose, and what to set."""
    valid = values if empty is None else values[~empty]
    low, high = (valid.min(), valid.max()) if valid.size else (0, 0)
    lost = 100 * float(((valid < 0) | (valid > 255)).mean()) if valid.size else 0.0
    kind = "float" if values.dtype.kind == "f" else str(values.dtype)
    span = f"{low:g}–{high:g}"
    most = 65535 if values.dtype == np.uint16 else float(high)
    if kind == "float" and lost == 0:
        seen = f"is float, {span}: which values are black and white is not known."
    else:
        seen = f"is {kind}, {span}: reading it as 8 bit would clip {lost:.0f} %."
    return seen, f"Set scale: percentile, or scale: {{max: {most:g}}}."


def _span(band: Array, empty: Bits | None, scale: Literal["percentile"] | float) -> tuple[float, float]:
    """The values of a band (H, W) that become 0 and 255."""
    if scale != "percentile":
        return 0.0, float(scale)
    valid = (band if empty is None else band[~empty]).astype(np.float64).ravel()
    if not valid.size:
        return 0.0, 0.0
    low, high = np.percentile(valid, PERCENTILES, overwrite_input=True)
    return float(low), float(high)


def _scaled(part: Array, low: float, high: float) -> U8:
    wide = np.where(np.isfinite(part), part, 0).astype(np.float64)
    return np.clip(np.rint((wide - low) * (255 / (high - low) if high > low else 0)), 0, 255).astype(np.uint8)
