"""Pictures written in bands are read back the same; a file appears only when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdecay.inference import image_io as writing
from segdecay.inference.image_io import BandWriter

PALETTE = ((1, 2, 3), (200, 100, 50), (0, 255, 7))


def _write(path: Path, pixels: np.ndarray[Any, np.dtype[Any]], palette: Any = None, step: int = 70) -> None:
    shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2] if pixels.ndim == 3 else 1)
    with BandWriter(path, shape, str(pixels.dtype), palette) as writer:
        for top in range(0, len(pixels), step):
            writer.add(pixels[top : top + step])


@pytest.mark.parametrize("spool", [1 << 26, 100])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_keep_their_indices_and_the_palette(
    suffix: str, spool: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SPOOL_BYTES", spool)
    mask = np.random.default_rng(0).integers(0, 3, (301, 530)).astype(np.uint8)
    path = tmp_path / "deep" / f"mask{suffix}"
    _write(path, mask, PALETTE)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), mask)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.asarray(PALETTE)[mask])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("dtype", "samples"), [("uint8", 3), ("float16", 1), ("float16", 3), ("float16", 7)])
def test_tiffs_are_tiled_compressed_and_equal(dtype: str, samples: int, tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((300, 333, samples)) * 200).astype(dtype)
    _write(tmp_path / "a.tif", pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages[0].aspage()
        assert page.is_tiled
        assert page.compression == 8
        assert page.photometric == (2 if dtype == "uint8" else 1)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(pixels.shape), pixels)


def test_large_results_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CLASSIC_BYTES", 1000)
    _write(tmp_path / "a.tif", np.zeros((40, 40), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff


def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OSError, match="on the way"):
        _write_broken(tmp_path / "a.png")
    with pytest.raises(ValueError, match="reshape"):
        _write_short(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def _write_short(path: Path) -> None:
    with BandWriter(path, (4, 4, 1), "uint8") as writer:
        writer.add(np.ones((2, 4), np.uint8))


def _write_broken(path: Path) -> None:
    with BandWriter(path, (4, 4, 1), "uint8") as writer:
        writer.add(np.ones((4, 4), np.uint8))
        raise OSError("on the way")
