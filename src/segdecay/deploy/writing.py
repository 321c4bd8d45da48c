"""Pictures written in bands from top to bottom: PNG, or tiled and compressed TIFF whatever the size.

A file appears under its name when it is whole: beside, sync, rename. Knows arrays and files; nothing of models.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segdecay.records import sync_folder

Band = npt.NDArray[Any]
Palette = Sequence[tuple[int, int, int]]

TILE = 256  # of a TIFF, in pixels
SPOOL_BYTES = 64 << 20  # of raw rows in memory; what is beyond lies in a temporary file beside the result
CLASSIC_BYTES = 3 << 30  # raw size from which a TIFF is written as BigTIFF, whose offsets have 64 bits


class BandWriter(AbstractContextManager["BandWriter"]):
    """One picture of height x width x samples pixels. `add` its bands in order; it is written when the block ends.

    Args:
        path: .png (8 bit, 1 or 3 samples) or .tif; its folder is made.
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
