"""TIFF, .npy and .mat of any depth: scaling, bands, pixels without data, and what each mistake is answered with."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_zoo as zoo
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from segdecay.data.dataset import IGNORE
from segdecay.data.images.bit_depth import Depth, UnusableError, raw_of
from segdecay.data.images.decode import read_image, read_mask
from segdecay.errors import ConfigError

RAMP = np.linspace(0, 60_000, 80).reshape(8, 10).astype(np.uint16)


def tiff_bytes(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_sixteen_bits_of_five_bands_are_read_with_a_scale(tmp_path: Path) -> None:
    dataset = zoo.dataset(zoo.tiff(tmp_path / "set"))
    assert dataset.bands == 5
    assert dataset.image(0).min() == 0
    assert dataset.image(0).max() == 255
    zoo.spec(tmp_path / "set", "classes: [background, road]\nscale: {max: 10000}\nbands: [3, 1]")
    dataset = zoo.dataset(tmp_path / "set")
    stored = tifffile.imread(tmp_path / "set" / "images" / "p1_a.TIF")
    np.testing.assert_array_equal(dataset.image(0), np.rint(stored[..., [3, 1]] / 10000 * 255).astype(np.uint8))


def test_without_a_scale_the_text_says_what_would_be_clipped_and_what_to_set(tmp_path: Path) -> None:
    message = zoo.findings(zoo.tiff(tmp_path / "set", ""))["deep"].message
    assert message.startswith("images/p1_a.TIF is uint16, ")
    assert "reading it as 8 bit would clip 98 %. Set scale: percentile, or scale: {max: 65535}." in message


def poke(values: Any) -> None:
    values[0, :4] = np.nan
    values[1, 0, 2] = -9999


def test_pixels_without_data_must_be_spoken_of_and_are_ignored(tmp_path: Path) -> None:
    root = zoo.tiff(tmp_path / "set", edit=poke)
    message = zoo.findings(root)["nodata"].message
    assert "images/p1_a.TIF holds 5.0 % NaN. Set nodata: nan (filled, and ignored in loss, metrics" in message
    zoo.spec(root, "classes: [background, road]\nscale: percentile\nnodata: -9999")
    dataset = zoo.dataset(root)
    assert (dataset.mask(0)[0, :4] == IGNORE).all()
    assert dataset.mask(0)[1, 0] == IGNORE
    assert (dataset.mask(0) == IGNORE).sum() == 5
    assert not dataset.image(0)[0, :4].any()
    zoo.spec(root, "classes: [background, road]\nscale: percentile\nnodata: .nan\nbands: [0, 1]")
    assert (zoo.dataset(root).mask(0) == IGNORE).sum() == 4


def test_the_nodata_value_that_a_geotiff_states_is_named() -> None:
    content = tiff_bytes(RAMP, extratags=[(42113, "s", 0, "0", True)])
    with pytest.raises(UnusableError, match=r"nodata 0 in 1\.2 %\. Set nodata: 0 "):
        read_image(content, Depth("percentile"))
    empty = read_image(content, Depth("percentile", 0.0)).empty
    assert empty is not None
    assert empty.sum() == 1


@pytest.mark.parametrize(
    "content",
    [
        tiff_bytes(RAMP),
        tiff_bytes(RAMP, compression="zlib", bigtiff=True),
        tiff_bytes(RAMP, byteorder=">"),
        npy_bytes(RAMP),
        npy_bytes(np.asfortranarray(RAMP)),
        npy_bytes(RAMP.astype(">u2")),
    ],
)
def test_one_picture_is_the_same_in_every_file(content: bytes) -> None:
    found = read_image(content, Depth(60_000.0)).pixels[..., 0]
    np.testing.assert_array_equal(found, np.rint(RAMP / 60_000 * 255).astype(np.uint8))


def test_planes_apart_and_together_are_the_same_bands() -> None:
    pixels = zoo.picture(3, 4)
    together = tiff_bytes(pixels, photometric="minisblack", planarconfig="contig")
    apart = tiff_bytes(np.moveaxis(pixels, -1, 0), photometric="minisblack", planarconfig="separate")
    for content in (together, apart):
        np.testing.assert_array_equal(read_image(content).pixels, pixels)


def test_a_mat_file_holds_one_array(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"mask": zoo.labels(0), "note": "x"}, do_compression=True)
    np.testing.assert_array_equal(read_mask((tmp_path / "a.mat").read_bytes()).pixels[..., 0], zoo.labels(0))
    savemat(tmp_path / "b.mat", {"a": zoo.labels(0), "b": zoo.labels(1)})
    with pytest.raises(UnusableError, match=r"exactly one array .*it has a, b"):
        read_mask((tmp_path / "b.mat").read_bytes())
    with pytest.raises(UnusableError, match=r"version 7\.3 .HDF5.* '-v7' in MATLAB"):
        read_mask(b"MATLAB 7.3 MAT-file" + bytes(600))


def test_no_pickle_is_read() -> None:
    with pytest.raises(UnusableError, match="holds Python objects"):
        read_image(npy_bytes(np.array([[{}], [{}]], dtype=object)))


def test_a_header_that_claims_too_much_is_refused_before_it_is_believed() -> None:
    content = npy_bytes(zoo.labels(0))
    with pytest.raises(UnusableError, match="GiB, at most 4 are read"):
        read_image(content.replace(b"(8, 10), }" + b" " * 6, b"(99999,9999999)}"))
    with pytest.raises(UnusableError, match="cut short"):
        read_image(content.replace(b"(8, 10)", b"(9, 99)"))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((3, 4), 300), "holding 300–300"),
        (np.full((3, 4), 0.5), "holding 0.5–0.5"),
        (np.full((3, 4), np.nan), "nan"),
    ],
)
def test_masks_that_are_no_indices_are_refused(array: Any, expected: str) -> None:
    with pytest.raises(UnusableError, match=expected):
        read_mask(npy_bytes(array))


def test_whole_numbers_of_any_type_are_indices() -> None:
    for kind in (np.uint16, np.int64, np.float32, np.bool_):
        found = read_mask(npy_bytes(zoo.labels(0).astype(kind))).pixels[..., 0]
        np.testing.assert_array_equal(found, zoo.labels(0))


@pytest.mark.parametrize("text", ["scale: max", "scale: {max: 0}", "scale: {most: 3}", "nodata: none"])
def test_a_scale_or_nodata_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"scale|nodata"):
        zoo.findings(zoo.tiff(tmp_path / "set", text))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["tiff", "npy"]))
def test_damage_anywhere_is_a_fault_of_the_file(seed: int, kind: str) -> None:
    content = bytearray(tiff_bytes(RAMP, compression="zlib") if kind == "tiff" else npy_bytes(RAMP))
    rng = np.random.default_rng(seed)
    for place in rng.integers(4 if kind == "tiff" else 6, len(content), 4):
        content[place] = int(rng.integers(256))
    try:
        raw = raw_of(bytes(content))
    except UnusableError:
        return
    assert raw is not None
    assert raw.values.ndim == 3
