"""Colours of masks, and masks over images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.errors import DataError
from segdecay.inference.outputs import colour_mask, overlay

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 200, 100)]


def _pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    mask = random.choice(np.array([0, 1, 2, 255], np.uint8), (6, 5))
    return image, mask


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_every_pixel_takes_the_colour_of_its_class(kind: type[np.integer]) -> None:
    colours = colour_mask(np.array([[2, 1], [0, 255]], kind), PALETTE)
    assert colours.dtype == np.uint8
    assert colours.tolist() == [[[0, 200, 100], [255, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_a_class_that_has_the_number_of_the_ignore_value_can_be_used_with_another_one() -> None:
    palette = [(value, 0, 0) for value in range(256)]
    assert colour_mask(np.array([[255]], np.uint8), palette, ignore=-1).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("value", [3, 254, -1])
def test_a_value_without_a_colour_is_named(value: int) -> None:
    with pytest.raises(DataError, match=rf"holds {value}; .*0–2, 255 is ignored"):
        colour_mask(np.array([[0, value]]), PALETTE)


def test_a_mask_with_a_third_dimension_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 2, 3\)"):
        colour_mask(np.zeros((1, 2, 3), np.uint8), PALETTE)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 1000))
def test_opacity_zero_is_the_image_and_one_is_the_mask(seed: int) -> None:
    image, mask = _pair(seed)
    assert np.array_equal(overlay(image, mask, PALETTE, 0.0), image)
    known = mask != 255
    assert np.array_equal(overlay(image, mask, PALETTE, 1.0)[known], colour_mask(mask, PALETTE)[known])


def test_ignored_pixels_show_the_image_at_any_opacity() -> None:
    image, mask = _pair(1)
    ignored = mask == 255
    assert ignored.any()
    assert np.array_equal(overlay(image, mask, PALETTE, 0.7)[ignored], image[ignored])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_a_grey_image_becomes_rgb(shape: tuple[int, ...]) -> None:
    grey = np.full(shape, 90, np.uint8)
    assert overlay(grey, np.full((6, 5), 255), PALETTE).tolist() == np.full((6, 5, 3), 90).tolist()


def test_the_arguments_are_left_as_they_were() -> None:
    image, mask = _pair(2)
    kept = image.copy(), mask.copy()
    overlay(image, mask, PALETTE)
    assert np.array_equal(image, kept[0])
    assert np.array_equal(mask, kept[1])


@pytest.mark.parametrize(
    ("image", "mask", "opacity", "words"),
    [
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8), 0.5, "sizes must agree"),
        (np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2), np.uint8), 0.5, "(2, 2, 4)"),
        (np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.uint8), 0.5, "float32"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), 1.5, "1.5"),
    ],
)
def test_what_cannot_be_laid_over_is_refused_with_what_was_seen(
    image: np.ndarray, mask: np.ndarray, opacity: float, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        overlay(image, mask, PALETTE, opacity)
    assert words in str(caught.value)
