"""Image files as rows: every way in which a TIFF is stored gives the same pixels; faults name the file and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdecay.errors import DataError
from segdecay.inference import image_io as images
from segdecay.inference.image_io import open_image

U8 = np.ndarray[Any, np.dtype[np.uint8]]


def _pixels(height: int = 150, width: int = 90, bands: int = 3) -> U8:
    return np.random.default_rng(0).integers(0, 256, (height, width, bands)).astype(np.uint8)


def _read(path: Path, bands: int, step: int = 37) -> U8:
    with open_image(path, bands) as source:
        height = source.shape[0]
        parts = [source.rows(top, min(top + step, height)) for top in range(0, height, step)]
        assert source.shape == (height, parts[0].shape[1], bands)
    return np.concatenate(parts)


@pytest.mark.parametrize("layout", [{"tile": (32, 64)}, {"rowsperstrip": 16}, {}])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_tiff_is_read_however_it_is_stored(
    layout: dict[str, Any], planes: str, compression: str | None, tmp_path: Path
) -> None:
    pixels, path = _pixels(), tmp_path / "a.tif"
    stored = np.ascontiguousarray(pixels.transpose(2, 0, 1)) if planes == "separate" else pixels
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planes, compression=compression, **layout)
    np.testing.assert_array_equal(_read(path, 3), pixels)


def test_grey_inverted_palette_and_bigtiff_are_read_as_they_are_seen(tmp_path: Path) -> None:
    pixels = _pixels(bands=1)[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", pixels, photometric="minisblack", bigtiff=True)
    np.testing.assert_array_equal(_read(tmp_path / "grey.tif", 1)[..., 0], pixels)
    tifffile.imwrite(tmp_path / "white.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(_read(tmp_path / "white.tif", 1)[..., 0], 255 - pixels)
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", pixels, photometric="palette", colormap=colours * 257)
    np.testing.assert_array_equal(_read(tmp_path / "palette.tif", 3), colours.T[pixels])


def test_smaller_copies_inside_a_tiff_are_left_aside(tmp_path: Path) -> None:
    pixels = _pixels()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(pixels, photometric="rgb", subifds=0)
        tif.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(_read(tmp_path / "a.tif", 3), pixels)


def test_png_and_jpeg_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    pixels = _pixels(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(_read(tmp_path / "a.png", 3), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("stored", "options", "said"),
    [
        (np.zeros((9, 9, 3), np.uint16), {"photometric": "rgb"}, "16-bit uint16; models are trained on 8 bit"),
        (np.zeros((9, 9), np.float32), {}, "32-bit float32; models are trained on 8 bit"),
        (np.zeros((9, 9, 4), np.uint8), {"photometric": "rgb"}, "4 (RGB + alpha) bands; the model was trained on 3"),
        (np.zeros((9, 9), np.uint8), {"photometric": "minisblack"}, "has 1 (grey) bands"),
        (np.zeros((2, 9, 9, 3), np.uint8), {"photometric": "rgb"}, "holds 2 pages; only files with one image are read"),
        (np.zeros((9, 9, 3), np.uint8), {"photometric": "rgb", "extratags": [(274, 3, 1, 6)]}, "orientation 6"),
        (np.zeros((9, 9, 3), np.uint8), {"photometric": "cielab"}, "has the colour space"),
    ],
)
def test_a_tiff_that_does_not_fit_is_refused_with_the_fix(
    stored: U8, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **options)
    with pytest.raises(DataError) as caught, open_image(path, 3):
        pass
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_files_that_are_something_else_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in (b"", b"junk", b"II*\0" + b"\xff" * 40, b"\x89PNG\r\n\x1a\njunk"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=name), open_image(path, 3):
            pass


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_that_is_cut_short_names_the_rows(compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels(), photometric="rgb", compression=compression, rowsperstrip=50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_image(path, 3) as source:
        source.rows(0, 40)
        with pytest.raises(DataError, match=r"a\.tif is damaged or cut short in rows 100 to 149"):
            source.rows(100, 150)


def test_a_tiff_in_one_huge_compressed_piece_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_PIECE_BYTES", 1 << 14)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels(), photometric="rgb", compression="zlib", rowsperstrip=150)
    with pytest.raises(DataError, match="is compressed in pieces"), open_image(path, 3):
        pass
    tifffile.imwrite(path, _pixels(), photometric="rgb", rowsperstrip=150)
    np.testing.assert_array_equal(_read(path, 3), _pixels())


def test_a_small_file_that_claims_a_huge_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, shape=(90000, 100000), dtype=np.uint8, photometric="minisblack", tile=(65520, 65520),
                     data=iter([b"0"] * 4), compression="zlib", bigtiff=True)  # fmt: skip
    with pytest.raises(DataError, match="90000 x 100000 pixels, more than"), open_image(path, 1):
        pass
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(_pixels(20, 20)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="the limit against decompression bombs"), open_image(tmp_path / "bomb.png", 3):
        pass


def test_an_error_of_the_reader_is_not_taken_for_one_of_the_file(tmp_path: Path) -> None:
    Image.fromarray(_pixels(4, 4)).save(tmp_path / "a.png")
    with pytest.raises(OSError, match="disk is full") as caught, open_image(tmp_path / "a.png", 3):
        raise OSError(28, "disk is full")
    assert not isinstance(caught.value, DataError)
