"""Masks that are not what they should be: each mistake is recognised, and the offered fix works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_folder import HALF, RNG, Folder

from segdecay.data.dataset import IGNORE


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "set")


def test_binary_masks_of_0_and_255_are_told_both_meanings(folder: Folder) -> None:
    for name in "abc":
        folder.mask(name, HALF * 255)
    found = folder.findings()
    assert found.keys() == {"mask_0_255"}  # and no word of classes that are missing because of it
    finding = found["mask_0_255"]
    assert finding.message.startswith(
        "masks/a.png holds {0, 255}, expected {0, 1}. If 255 is the foreground: values: {0: background, 255: road}; "
        "if it means unlabelled: ignore: [255]."
    )
    assert "The same in 2 more: masks/b.png, masks/c.png." in finding.message


def test_the_offered_mapping_for_0_and_255_works(folder: Folder) -> None:
    for name in "abc":
        folder.mask(name, HALF * 255)
    folder.spec("values: {0: background, 255: road}")
    np.testing.assert_array_equal(folder.dataset().mask(0), HALF)


def test_the_offered_ignore_works(folder: Folder) -> None:
    void = HALF.copy()
    void[0, 0] = 255
    folder.mask("a", void)
    folder.spec("ignore: [255]")
    assert folder.dataset().mask(0)[0, 0] == IGNORE


def test_a_label_out_of_range_is_named_with_its_pixels(folder: Folder) -> None:
    mask = HALF.copy()
    mask[0, :3] = 9
    folder.mask("b", mask)
    finding = folder.findings()["label_out_of_range"]
    assert finding.message.startswith("masks/b.png holds 9 (3 px); classes are 0, 1.")
    assert "ignore: [9]" in finding.message
    assert finding.level == "wrong"
    assert finding.file == "masks/b.png"


def test_masks_numbered_from_one_get_the_mapping(folder: Folder) -> None:
    for name in "abc":
        folder.mask(name, HALF + 1)
    message = folder.findings()["label_out_of_range"].message
    assert "Numbered from 1? Then set values: {1: background, 2: road}." in message


def test_an_rgb_mask_lists_its_colours_with_shares(folder: Folder) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    folder.mask("a", colours[HALF])
    message = folder.findings()["rgb_mask"].message
    assert message.startswith("masks/a.png is RGB with 2 colours: #000000 50 %, #ff0000 50 %.")
    assert "Add colors: to dataset.yaml (a template: segdecay init)." in message


def test_grey_saved_as_rgb_is_recognised(folder: Folder) -> None:
    folder.mask("a", np.repeat(HALF[..., None], 3, axis=2))
    assert "It is grey saved as RGB: save it as 8-bit grey." in folder.findings()["rgb_mask"].message


def test_colours_are_mapped_and_unknown_ones_named(folder: Folder) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    for name in "abc":
        folder.mask(name, colours[HALF])
    folder.spec("colors: {'#000000': background, '#ff0000': road}")
    np.testing.assert_array_equal(folder.dataset().mask(0), HALF)
    mask = colours[HALF]
    mask[0, 0] = (1, 2, 3)
    folder.mask("c", mask)
    message = folder.findings()["colour_unknown"].message
    assert message.startswith("masks/c.png holds #010203 (1 px), which colors does not list.")


def test_a_palette_mask_is_read_as_indices(folder: Folder) -> None:
    for name in "abc":
        folder.palette_mask(name, [0, 0, 0, 200, 10, 10])
    np.testing.assert_array_equal(folder.dataset().mask(0), HALF)


def test_palettes_that_differ_are_refused_and_their_colours_can_be_used(folder: Folder) -> None:
    folder.palette_mask("a", [0, 0, 0, 200, 10, 10])
    folder.palette_mask("b", [0, 0, 0, 10, 200, 10])
    folder.palette_mask("c", [0, 0, 0, 200, 10, 10])
    message = folder.findings()["palettes_differ"].message
    assert message.startswith(
        "masks/b.png has index 1 as #0ac80a, masks/a.png as #c80a0a: palettes differ between files"
    )
    folder.spec(
        "classes: [background, road, grass]\ncolors: {'#000000': background, '#c80a0a': road, '#0ac80a': grass}"
    )
    dataset = folder.dataset()
    np.testing.assert_array_equal(dataset.mask(0), HALF)
    np.testing.assert_array_equal(dataset.mask(1), HALF * 2)


def test_a_lossy_mask_is_told_from_a_wrong_label(folder: Folder) -> None:
    mask = (HALF * 255).repeat(4, axis=0).repeat(3, axis=1)
    noisy = np.clip(mask.astype(int) + RNG.integers(-9, 10, mask.shape), 0, 255).astype(np.uint8)
    (folder.root / "masks" / "a.png").unlink()
    folder.mask("a", noisy, suffix="jpg")
    message = folder.findings()["lossy_mask"].message
    assert message.startswith("masks/a.jpg holds ")
    assert "lossy or interpolated. Re-export as PNG, nearest neighbour." in message


def test_a_mask_numbered_by_object_is_recognised(folder: Folder) -> None:
    folder.mask("a", (np.arange(48) % 12).reshape(6, 8).astype(np.uint8))
    message = folder.findings()["object_numbers"].message
    assert message.startswith("masks/a.png holds 0–11 without a gap; classes are 0, 1. Are objects numbered?")


def test_a_16_bit_mask_with_small_values_loses_nothing(folder: Folder) -> None:
    folder.mask("a", HALF.astype(np.uint16))
    np.testing.assert_array_equal(folder.dataset().mask(0), HALF)
    folder.mask("a", HALF.astype(np.uint16) * 1000)
    assert "masks/a.png holds 1000 (24 px), which no class claims" in folder.findings()["label_out_of_range"].message
    folder.mask("a", (np.arange(48).reshape(6, 8) * 1000).astype(np.uint16))
    assert "is a 16-bit mask holding 0–47000" in folder.findings()["deep_mask"].message


def test_masks_with_transparency_are_refused_and_opaque_alpha_is_noted(folder: Folder) -> None:
    folder.mask("a", np.stack([HALF, np.full_like(HALF, 255)], axis=-1))
    finding = folder.findings()["mask_alpha_opaque"]
    assert finding.level == "note"
    assert "opaque everywhere; it is left out" in finding.message
    folder.mask("b", np.stack([HALF, HALF * 255], axis=-1))
    assert "transparent in 50.0 % of its pixels" in folder.findings()["mask_alpha"].message


def test_anti_aliased_colours_are_told_from_unlisted_ones(folder: Folder) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    folder.spec("colors: {'#000000': background, '#ff0000': road}")
    for name in "abc":
        folder.mask(name, colours[HALF])
    mixed = colours[HALF]
    mixed[:, 4] = [(40 * row + 20, 0, 0) for row in range(6)]
    folder.mask("b", mixed)
    message = folder.findings()["anti_aliased"].message
    assert message.startswith("masks/b.png holds 6 colours between the stated ones, 6 px: #140000 (1 px)")
    assert "Re-export without anti-aliasing" in message
    mixed[:, 4] = [(0, 40 * row + 20, 200) for row in range(6)]
    folder.mask("b", mixed)
    message = folder.findings()["colour_unknown"].message
    assert 'Add a line \'"#0014c8": CLASS\' to colors, or set ignore: ["#0014c8", "#003cc8"' in message


def test_a_class_of_a_few_pixels_is_named_with_its_images(folder: Folder) -> None:
    (folder.root / "classes.txt").write_text("background\nroad\nsky\n")
    large = HALF.repeat(10, axis=0).repeat(10, axis=1)
    for name in "abc":
        folder.image(name, RNG.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        folder.mask(name, large)
    few = large.copy()
    few[0, :3] = 2
    folder.mask("b", few)
    finding = folder.findings()["handful_of_pixels"]
    assert finding.level == "warning"
    assert finding.message.startswith("Few labelled pixels: sky (3 px in 1 image: b).")
    few[:5, :30] = 2
    folder.mask("b", few)
    assert folder.findings() == {}


def test_masks_that_are_all_background_are_noted(folder: Folder) -> None:
    folder.mask("b", HALF * 0)
    finding = folder.findings()["all_background"]
    assert finding.level == "note"
    assert finding.message.startswith(
        "One training mask is all 'background': b. This is right for images without objects"
    )
