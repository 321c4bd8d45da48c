"""Reads and writes image files by rows of 8-bit pixels: PNG and JPEG are decoded whole, TIFF by strips or tiles."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segdecay.data.images.bit_depth import PLAIN, Bits, Depth
from segdecay.data.images.decode import UnusableError, read_image, turned
from segdecay.errors import DataError, gather
from segdecay.utils.files import sync_folder

U8 = npt.NDArray[np.uint8]

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES)
MOST_PIXELS = 1 << 33  # of a TIFF; a file of a few bytes can claim any size
MOST_PIECE_BYTES = 1 << 28  # of one decoded strip or tile
BAND_WORDS = {1: "grey", 2: "grey + alpha", 3: "RGB", 4: "RGB + alpha"}
TIFF_FAULTS = (ValueError, RuntimeError, OSError, NotImplementedError, TypeError, IndexError, KeyError, zlib.error,
               struct.error, MemoryError)  # fmt: skip
PHOTOMETRIC = tifffile.PHOTOMETRIC


class ImageFile(Protocol):
    """An image that is read from top to bottom."""

    @property
    def empty(self) -> Bits | None:
        """(H, W) where a band has no data; None: data everywhere."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, bands."""

    def rows(self, top: int, bottom: int) -> U8:
        """(bottom − top, W, B)."""


@dataclass(frozen=True)
class ArraySource:
    """An image that is in memory, (H, W, B)."""

    pixels: U8
    empty: Bits | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, bands = self.pixels.shape
        return height, width, bands

    def rows(self, top: int, bottom: int) -> U8:
        return self.pixels[top:bottom]


def _page_of(tif: tifffile.TiffFile) -> tifffile.TiffPage:
    """The one full-size page of a TIFF.

    Raises:
        DataError: no page, several, or a page that holds something else than 8-bit grey, RGB or a palette; listed.
    """
    pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage) or page.dtype is not None]
    full = [page.aspage() for page in pages if not (page.aspage().is_reduced or page.aspage().is_mask)]
    if len(full) != 1:
        raise DataError(f"holds {len(full)} pages; only files with one image are read. Split it into files.")
    page = full[0]
    faults = []
    if page.dtype != np.uint8 or page.bitspersample != 8:
        kind = f"{page.bitspersample}-bit {page.dtype}"
        faults.append(f"is {kind}; models are trained on 8 bit. Scale it to 8 bit as the training images were.")
    if page.shaped[1] != 1:
        faults.append(f"is a volume of {page.shaped[1]} slices; only 2-D images are read.")
    is_jpeg_colour = page.photometric == PHOTOMETRIC.YCBCR and page.compression in (6, 7)
    known = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE)
    if page.photometric not in known and not is_jpeg_colour:
        faults.append(f"has the colour space {page.photometric!s}; allowed: grey, RGB and palettes. Save it as RGB.")
    if page.tags.valueof(274, 1) != 1:
        faults.append(f"has the orientation {page.tags.valueof(274)}; only upright TIFF is read. Rotate its pixels.")
    if page.imagelength * page.imagewidth > MOST_PIXELS:
        faults.append(f"has {page.imagelength} x {page.imagewidth} pixels, more than {MOST_PIXELS}. Cut it.")
    if min(page.imagelength, page.imagewidth) < 1:
        faults.append("has no pixels.")
    gather(DataError, faults)
    return page


class TiffSource:
    """A TIFF, read in rows: directly from the file if it is not compressed, else piece by piece.

    Memory: one row of pieces (strips or tiles) in addition to the returned rows.

    Raises:
        DataError: pieces of more than MOST_PIECE_BYTES; from `rows`, with the path: damaged or cut short.
    """

    def __init__(self, path: Path, file: IO[bytes], page: tifffile.TiffPage) -> None:
        self._path, self._file, self._page = path, file, page
        planes, _, height, width, samples = page.shaped
        self._planes, self._samples = planes, samples
        colours = page.colormap if page.photometric == PHOTOMETRIC.PALETTE else None  # (3, 256) of 16 bits
        self._colours = None if colours is None else (np.asarray(colours) >> 8).astype(np.uint8).T
        self.shape = (height, width, planes * samples if self._colours is None else 3)
        self._piece_rows = min(page.tilelength if page.is_tiled else page.rowsperstrip or height, height)
        self._is_plain = page.compression == 1 and not page.is_tiled and page.fillorder == 1
        piece_width = page.tilewidth if page.is_tiled else width
        if not self._is_plain and self._piece_rows * piece_width * samples > MOST_PIECE_BYTES:
            mb = self._piece_rows * piece_width * samples >> 20
            raise DataError(f"is compressed in pieces of {mb} MB; at most {MOST_PIECE_BYTES >> 20} MB are allowed. "
                            "Save it in tiles, or without compression.")  # fmt: skip
        self.empty: Bits | None = None
        self._kept: tuple[int, U8] = (-1, np.zeros((0, 0, 0), np.uint8))

    def rows(self, top: int, bottom: int) -> U8:
        """(bottom − top, W, B), with palettes as colours and white-is-zero inverted."""
        try:
            stored = self._plain_rows(top, bottom) if self._is_plain else self._decoded_rows(top, bottom)
        except TIFF_FAULTS as error:
            raise DataError(f"{self._path} is damaged or cut short in rows {top} to {bottom - 1}: {error}") from error
        if self._colours is not None:
            return np.ascontiguousarray(self._colours[stored[..., 0]])
        return 255 - stored if self._page.photometric == PHOTOMETRIC.MINISWHITE else stored

    def _plain_rows(self, top: int, bottom: int) -> U8:
        height, width, _ = self.shape
        strips = -(-height // self._piece_rows)
        line = width * self._samples
        found = np.empty((self._planes, bottom - top, line), np.uint8)
        for plane in range(self._planes):
            row = top
            while row < bottom:
                strip, inside = divmod(row, self._piece_rows)
                count = min(self._piece_rows - inside, bottom - row)
                offset = self._page.dataoffsets[plane * strips + strip] + inside * line
                content = self._stored(offset, count * line)
                found[plane, row - top : row - top + count] = np.frombuffer(content, np.uint8).reshape(count, line)
                row += count
        return self._interleaved(found.reshape(self._planes, bottom - top, width, self._samples))

    def _decoded_rows(self, top: int, bottom: int) -> U8:
        parts = []
        for number in range(top // self._piece_rows, -(-bottom // self._piece_rows)):
            if self._kept[0] != number:
                self._kept = (number, self._row_of_pieces(number))
            first = number * self._piece_rows
            parts.append(self._kept[1][max(0, top - first) : bottom - first])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _row_of_pieces(self, number: int) -> U8:
        """All strips or tiles that begin at row `number` times a piece's rows, side by side."""
        height, width, _ = self.shape
        rows = min(self._piece_rows, height - number * self._piece_rows)
        found = np.zeros((self._planes, rows, width, self._samples), np.uint8)
        down, across = self._page.chunked[-3:-1] if self._planes == 1 else self._page.chunked[-2:]
        for plane in range(self._planes):
            for column in range(across):
                index = (plane * down + number) * across + column
                content = self._stored(self._page.dataoffsets[index], self._page.databytecounts[index]) or None
                piece, (_, _, _, left, _), _ = self._page.decode(content, index, jpegtables=self._page.jpegtables)
                if piece is not None:  # pieces that are not stored are 0
                    part = piece[0, :rows, : width - left]
                    found[plane, : len(part), left : left + part.shape[1]] = part
        return self._interleaved(found)

    def _stored(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        content = self._file.read(count)
        if len(content) != count:  # decoders fill missing bytes silently
            raise ValueError(f"{len(content)} of {count} bytes are there")
        return content

    @staticmethod
    def _interleaved(planes: U8) -> U8:
        """(planes, h, W, samples) to (h, W, planes · samples)."""
        if len(planes) == 1:
            return np.asarray(planes[0])
        return np.ascontiguousarray(planes.transpose(1, 2, 0, 3).reshape(*planes.shape[1:3], -1))


@contextmanager
def open_image(
    path: Path, bands: int, depth: Depth = PLAIN, chosen_bands: tuple[int, ...] | None = None
) -> Iterator[ImageFile]:
    """An image file with this number of bands, turned by its EXIF orientation unless `depth` says otherwise.

    depth, chosen_bands: as in training. If they are set, a TIFF is decoded whole, by the same code as in training, up
    to 4 GiB.

    Raises:
        DataError: missing, damaged, larger than a limit, not 8 bit, or of other bands; with the file's name.
    """
    with ExitStack() as stack:
        try:
            source = _opened(path, stack, depth, chosen_bands)
            _check_bands(source, bands)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        except (DataError, UnusableError, *TIFF_FAULTS) as error:
            raise DataError(f"{path} {error}" if str(error) else f"{path} cannot be read.") from error
        yield source


def reading_in_words(depth: Depth, chosen_bands: tuple[int, ...] | None) -> str:
    """The options for reading files, as in dataset.yaml.

    >>> reading_in_words(Depth(4096.0, -1.0), (3, 2, 1))
    'scale: {max: 4096}, nodata: -1, bands: [3, 2, 1]'
    """
    scale = depth.scale if depth.scale is None or isinstance(depth.scale, str) else f"{{max: {depth.scale:g}}}"
    nodata = None if depth.nodata is None else f"{depth.nodata:g}"
    bands = None if chosen_bands is None else list(chosen_bands)
    said = {"scale": scale, "nodata": nodata, "bands": bands, "grey_as_rgb": "true" if depth.grey_as_rgb else None}
    said |= {"exif": "ignore" if depth.exif == "ignore" else None}
    return ", ".join(f"{key}: {value}" for key, value in said.items() if value is not None) or "8 bits as they are"


def _opened(path: Path, stack: ExitStack, depth: Depth, chosen_bands: tuple[int, ...] | None) -> ImageFile:
    if path.suffix.lower() not in TIFF_SUFFIXES or depth != PLAIN or chosen_bands is not None:
        picture = read_image(path.read_bytes(), depth)
        picture = turned(picture) if depth.exif == "apply" else picture
        chosen = list(range(picture.pixels.shape[2]) if chosen_bands is None else chosen_bands)
        if max(chosen) >= picture.pixels.shape[2]:
            raise DataError(f"has {picture.pixels.shape[2]} bands; the model uses bands {chosen}, counted from 0.")
        empty = None if picture.empty is None else np.asarray(picture.empty[..., chosen].any(axis=2))
        return ArraySource(np.ascontiguousarray(picture.pixels[..., chosen]), empty)
    file = stack.enter_context(path.open("rb"))
    try:
        tif = stack.enter_context(tifffile.TiffFile(file))
    except tifffile.TiffFileError as error:
        raise DataError(f"is no TIFF inside ({error}).") from error
    return TiffSource(path, file, _page_of(tif))


def _check_bands(source: ImageFile, bands: int) -> None:
    seen = source.shape[2]
    if seen != bands:
        words = [f"{count} ({BAND_WORDS[count]})" if count in BAND_WORDS else str(count) for count in (seen, bands)]
        raise DataError(f"has {words[0]} bands; the model was trained on {words[1]}. Convert it first.")


Band = npt.NDArray[Any]
Palette = Sequence[tuple[int, int, int]]

TILE = 256  # of a TIFF, in pixels
SPOOL_BYTES = 64 << 20  # of raw rows in memory; more are kept in a temporary file next to the result
CLASSIC_BYTES = 3 << 30  # raw size from which a TIFF is written as BigTIFF, whose offsets have 64 bits


class BandWriter(AbstractContextManager["BandWriter"]):
    """Writes one picture of height x width x samples pixels. `add` its bands in order; the block's end writes the file.

    Args:
        path: .png (8 bit, 1 or 3 samples) or .tif; its folder is created.
        shape: height, width, samples.
        dtype: uint8, or float16 for TIFF.
        palette: colours of an index picture of one sample.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: str, palette: Palette | None = None) -> None:
        self._path, self._shape, self._dtype, self._palette = path, shape, np.dtype(dtype), palette
        path.parent.mkdir(parents=True, exist_ok=True)
        self._raw: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(path.parent))  # noqa: SIM115

    def add(self, band: Band) -> None:
        """The next rows, (h, W) or (h, W, samples)."""
        self._raw.write(np.ascontiguousarray(band, dtype=self._dtype).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._raw:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            with beside.open("w+b") as file:
                if self._path.suffix == ".png":
                    self._write_png(file)
                else:
                    self._write_tiff(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except BaseException as error:
            beside.unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = str(self._path)
            raise
        sync_folder(self._path.parent)

    def _rows(self, top: int, bottom: int) -> Band:
        _, width, samples = self._shape
        line = width * samples * self._dtype.itemsize
        self._raw.seek(top * line)
        content = self._raw.read((bottom - top) * line)
        return np.frombuffer(content, self._dtype).reshape(bottom - top, width, samples)

    def _write_png(self, file: IO[bytes]) -> None:
        pixels = self._rows(0, self._shape[0])
        picture = Image.fromarray(pixels[..., 0] if self._shape[2] == 1 else pixels)
        if self._palette is not None:
            picture.putpalette([channel for colour in self._palette for channel in colour])
        picture.save(file, format="PNG")

    def _write_tiff(self, file: IO[bytes]) -> None:
        height, width, samples = self._shape
        colours = None
        if self._palette is not None:
            colours = np.zeros((3, 256), np.uint16)
            colours[:, : len(self._palette)] = np.asarray(self._palette, np.uint16).T * 257  # 8 bits to 16
        photometric = "palette" if colours is not None else "rgb" if self._is_rgb else "minisblack"
        with tifffile.TiffWriter(file, bigtiff=height * width * samples * self._dtype.itemsize > CLASSIC_BYTES) as tif:
            tif.write(
                self._tiles(),
                shape=(height, width, samples) if samples > 1 else (height, width),
                dtype=self._dtype,
                tile=(TILE, TILE),
                photometric=photometric,
                planarconfig="contig" if samples > 1 else None,
                colormap=colours,
                compression="zlib",
                metadata=None,
                software="segdecay",
            )

    @property
    def _is_rgb(self) -> bool:
        return self._shape[2] == 3 and self._dtype == np.uint8

    def _tiles(self) -> Iterator[Band]:
        height, width, samples = self._shape
        for top in range(0, height, TILE):
            rows = self._rows(top, min(top + TILE, height))
            for left in range(0, width, TILE):
                tile = np.zeros((TILE, TILE, samples), self._dtype)
                part = rows[:, left : left + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile if samples > 1 else tile[..., 0]
