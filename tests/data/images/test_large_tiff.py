"""A large TIFF is decoded into a mapped file and converted by blocks: equal to the short way, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segdecay.data.images import bit_depth as deep
from segdecay.data.images.bit_depth import Depth, raw_of, to_8_bits
from segdecay.data.images.decode import read_image

SHAPE = (61, 47, 4)
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 16)},
    "packed tiles": {"tile": (16, 16), "compression": "zlib"},
    "planar": {"planarconfig": "separate", "compression": "zlib"},
}


def written(path: Path, values: np.ndarray[Any, Any], **layout: Any) -> bytes:
    if layout.get("planarconfig") == "separate":
        values = np.ascontiguousarray(np.moveaxis(values, 2, 0))
    tifffile.imwrite(path, values, photometric="minisblack", **{"planarconfig": "contig", **layout})
    return path.read_bytes()


def converted(values: np.ndarray[Any, Any], depth: Depth) -> np.ndarray[Any, Any]:
    """By hand, in float64 and all at once."""
    bands = []
    for band in depth.bands or range(values.shape[2]):
        wide = values[..., band].astype(np.float64)
        nothing = ~np.isfinite(wide) | (wide == (np.nan if depth.nodata is None else depth.nodata))
        low, high = np.percentile(wide[~nothing], (1, 99)) if depth.scale == "percentile" else (0.0, depth.scale or 255)
        scaled = np.clip(np.rint((np.where(nothing, 0, wide) - low) * (255 / (high - low))), 0, 255)
        bands.append(np.where(nothing, 0, scaled).astype(np.uint8))
    return np.stack(bands, axis=-1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [None, (2, 0)])
@pytest.mark.parametrize("scale", ["percentile", 4000.0])
def test_the_mapped_way_equals_the_formula(
    layout: str, kind: str, bands: tuple[int, ...] | None, scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(1, 256 if kind == "uint8" else 5000, SHAPE).astype(kind)
    values[:3, :5, 1:] = 0
    if kind == "float32":
        values[5, :, 0] = np.nan
    depth = Depth(scale, 0.0, bands)
    content = written(tmp_path / "a.tif", values, **LAYOUTS[layout])
    monkeypatch.setattr(deep, "MAPPED_BYTES", 1000)
    monkeypatch.setattr(deep, "BLOCK_VALUES", 100)
    raw = raw_of(content)
    assert raw is not None
    pixels, empty = to_8_bits(raw, depth)
    expected = converted(values, Depth(None, 0.0, bands) if kind == "uint8" else depth)
    np.testing.assert_array_equal(pixels, expected)
    chosen = values[..., list(bands or range(4))]
    assert empty is not None
    np.testing.assert_array_equal(empty, ~np.isfinite(chosen) | (chosen == 0))


def test_bands_are_chosen_before_anything_is_converted(tmp_path: Path) -> None:
    values = np.full(SHAPE, 7, dtype=np.float32)
    values[..., 3] = np.nan  # of a band that nobody wants, nobody needs to speak
    picture = read_image(written(tmp_path / "a.tif", values, **LAYOUTS["strips"]), Depth(255.0, None, (1, 0)))
    assert picture.pixels.shape == (61, 47, 2)
    assert picture.n_bands == 4
    assert picture.empty is None


MEASURE = """
import json, sys, threading, time
from pathlib import Path
from segdecay.data.images.bit_depth import Depth
from segdecay.data.images.decode import read_image

def rss_anon():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1024

most, ends = 0.0, threading.Event()
def watch():
    global most
    while not ends.is_set():
        most = max(most, rss_anon())
        time.sleep(0.002)

content = Path(sys.argv[1]).read_bytes()
before = rss_anon()
thread = threading.Thread(target=watch)
thread.start()
picture = read_image(content, Depth(4000.0, None, (0, 1)))
ends.set()
thread.join()
print(json.dumps({"most": most - before, "result": picture.pixels.nbytes / 2**20}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux' measure")
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_a_large_file_needs_little_more_memory_than_its_result(layout: str, tmp_path: Path) -> None:
    side, decoded = 4096, 4096 * 4096 * 4 * 2 / 2**20
    values = np.broadcast_to(np.arange(side, dtype=np.uint16)[:, None, None], (side, side, 4))
    cut: dict[str, Any] = {"rowsperstrip": 64} if layout == "strips" else {"tile": (256, 256)}
    path = tmp_path / "large.tif"
    cut |= {"planarconfig": "contig", "compression": "zlib", "compressionargs": {"level": 1}}
    tifffile.imwrite(path, values, photometric="minisblack", **cut)
    command = [sys.executable, "-c", MEASURE, str(path)]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert (decoded, seen["result"]) == (128, 32)
    print(layout, seen)
    assert seen["most"] < seen["result"] + 48, f"{seen['most']:.0f} MB for {decoded:.0f} MB decoded"
