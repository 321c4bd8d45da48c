"""Quick decoding is that of Pillow to the last pixel, or leaves a file to Pillow."""

from __future__ import annotations

import io
import itertools
from typing import Any

import fuzz_bytes as fuzz
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segdecay.data.images.decode import UnusableError, _quick_pixels, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE).resize((47, 33)))


U8 = npt.NDArray[np.uint8]


def quick(content: bytes) -> U8 | None:
    return _quick_pixels(Image.open(io.BytesIO(content)), content)


def by_pillow(content: bytes) -> U8:
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_quick_pixels_are_those_of_pillow(mode: str) -> None:
    picture = np.asarray(Image.fromarray(SMOOTH).convert(mode))
    jpegs = [
        fuzz.encoded(picture, "JPEG", quality=quality, subsampling=sampling, progressive=progressive)
        for quality, sampling, progressive in itertools.product((10, 75, 100), (0, 1, 2), (False, True))
    ]
    for content in (*jpegs, fuzz.png(picture), fuzz.png(picture[:1, :1])):
        found = quick(content)
        assert found is not None
        np.testing.assert_array_equal(found, by_pillow(content))


def _png_with(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).save(stream, "PNG", **options)
    return stream.getvalue()


def _turned_by_text() -> PngInfo:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    return info


@pytest.mark.parametrize(
    "content",
    [
        _png_with(transparency=(1, 2, 3)),
        _png_with(pnginfo=_turned_by_text()),
        _png_with(exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0"),
        fuzz.png(NOISE.astype(np.uint16)[..., 0]),
        _png_with()[:-30],
        fuzz.encoded(SMOOTH, "JPEG")[:-200],
    ],
    ids=["transparent colour", "turned by text", "EXIF", "16 bits", "PNG cut short", "JPEG cut short"],
)
def test_what_is_special_is_left_to_pillow(content: bytes) -> None:
    assert quick(content) is None


def test_a_damaged_file_has_the_pixels_of_pillow_or_none() -> None:
    """Nothing is decoded quickly that Pillow refuses, or to other pixels."""
    random = np.random.default_rng(7)
    seeds = (fuzz.png(SMOOTH), fuzz.encoded(SMOOTH, "JPEG"), fuzz.encoded(SMOOTH, "JPEG", progressive=True))
    n_quick = 0
    for number in range(600):
        content = fuzz.mutated(seeds[number % 3], random, seeds[(number + 1) % 3])
        try:
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        except (OSError, SyntaxError, ValueError):
            continue
        found = _quick_pixels(image, content)
        if found is not None:
            n_quick += 1
            np.testing.assert_array_equal(found, by_pillow(content))
    assert n_quick > 50


def test_a_jpeg_cut_short_is_no_picture() -> None:
    with pytest.raises(UnusableError, match="cut short"):
        read_image(fuzz.encoded(SMOOTH, "JPEG")[:-200])
