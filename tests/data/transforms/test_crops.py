"""Batches: whole images of one size, or windows of image and mask at one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segdecay.config.schema import AugmentConfig, DataConfig
from segdecay.data.dataset import IGNORE, Dataset
from segdecay.data.loading import load_dataset
from segdecay.data.transforms.crops import crop_size, take_batch, window
from segdecay.errors import DataError

torch.set_num_threads(1)


def make(root: Path, *sizes: tuple[int, int]) -> Dataset:
    """One pair a size; the red band of an image is its mask."""
    for i, (height, width) in enumerate(sizes):
        rng = np.random.default_rng(i)
        mask = rng.integers(0, 2, (height, width), dtype=np.uint8)
        image = np.stack([mask, *rng.integers(0, 255, (2, height, width), dtype=np.uint8)], axis=-1)
        for kind, array in (("images", image), ("masks", mask)):
            (root / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / "set" / kind / f"{i:02d}.png")
    (root / "set" / "classes.txt").write_text("background\nroad\n")
    return load_dataset(DataConfig.model_validate({"path": str(root / "set")}), cache=root / "cache")[0]


def config(crop: object) -> AugmentConfig:
    return AugmentConfig.model_validate({"crop": crop})


def test_whole_images_come_as_they_are(tmp_path: Path) -> None:
    dataset = make(tmp_path, (9, 12), (9, 12), (9, 12))
    images, masks = take_batch(dataset, [2, 0], crop=None, generator=None)
    assert (images.dtype, masks.dtype) == (torch.uint8, torch.int64)
    assert images.shape == (2, 3, 9, 12)
    np.testing.assert_array_equal(images[0].numpy(), dataset.image(2).transpose(2, 0, 1))
    np.testing.assert_array_equal(masks[1].numpy(), dataset.mask(0))


def test_whole_images_of_different_sizes_are_an_error(tmp_path: Path) -> None:
    dataset = make(tmp_path, (9, 12), (8, 12))
    with pytest.raises(
        DataError, match=r"2 sizes \(height x width: 8x12, 9x12\) .* Set augment.crop: auto, or data.size"
    ):
        take_batch(dataset, [0, 1], crop=None, generator=None)
    with pytest.raises(DataError, match="do not fit whole"):
        crop_size(dataset, [0, 1], config(None))


@pytest.mark.parametrize("crop", [(5, 7), (20, 5), (20, 30)])
def test_image_and_mask_show_the_same_window(tmp_path: Path, crop: tuple[int, int]) -> None:
    dataset = make(tmp_path, (9, 12), (15, 8))
    generator = torch.Generator().manual_seed(0)
    images, masks = take_batch(dataset, [0, 1, 0, 1], crop=crop, generator=generator)
    assert images.shape == (4, 3, *crop)
    inside = masks != IGNORE
    assert torch.equal(images[:, 0][inside].long(), masks[inside])
    assert inside.sum(dim=(1, 2)).tolist() == [min(crop[0], h) * min(crop[1], w) for h, w in [(9, 12), (15, 8)] * 2]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1, exclude_max=True))
def test_a_window_is_a_part_of_the_image_padded_at_right_and_bottom(
    height: int, width: int, crop_height: int, crop_width: int, place: float
) -> None:
    mask = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    image, labels = window(mask[..., None], mask, (crop_height, crop_width), (place, place))
    assert labels.shape == (crop_height, crop_width)
    rows, columns = min(height, crop_height), min(width, crop_width)
    top, left = divmod(int(labels[0, 0]), width)
    np.testing.assert_array_equal(labels[:rows, :columns], mask[top : top + rows, left : left + columns])
    assert (labels[rows:] == IGNORE).all()
    assert (labels[:, columns:] == IGNORE).all()
    np.testing.assert_array_equal(
        image[rows:, :columns, 0], np.repeat(image[rows - 1 : rows, :columns, 0], crop_height - rows, 0)
    )


def test_windows_reach_every_place() -> None:
    mask = np.arange(5, dtype=np.uint8).reshape(1, 5)
    starts = {int(window(mask[..., None], mask, (1, 3), (0.0, place))[1][0, 0]) for place in np.linspace(0, 0.999, 50)}
    assert starts == {0, 1, 2}


def test_windows_depend_on_the_generator_only(tmp_path: Path) -> None:
    dataset = make(tmp_path, (40, 40))
    one, again, other = (
        take_batch(dataset, [0, 0], crop=(8, 8), generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_without_a_generator_the_window_is_in_the_middle(tmp_path: Path) -> None:
    dataset = make(tmp_path, (9, 11))
    _, masks = take_batch(dataset, [0], crop=(3, 5), generator=None)
    np.testing.assert_array_equal(masks[0].numpy(), dataset.mask(0)[3:6, 3:8])


def test_auto_takes_whole_images_of_one_size(tmp_path: Path) -> None:
    assert crop_size(make(tmp_path, (9, 12), (9, 12)), [0, 1], config("auto")) is None


def test_auto_takes_a_window_that_nearly_all_images_fill(tmp_path: Path) -> None:
    dataset = make(tmp_path, *[(20 + i, 30) for i in range(20)], (8, 8))
    assert crop_size(dataset, range(21), config("auto")) == (21, 30)


def test_auto_takes_at_most_512_pixels_a_side(tmp_path: Path) -> None:
    assert crop_size(make(tmp_path, (520, 16)), [0], config("auto")) == (512, 16)


def test_a_window_of_the_images_size_is_no_window(tmp_path: Path) -> None:
    dataset = make(tmp_path, (9, 12))
    assert crop_size(dataset, [0], config([9, 12])) is None
    assert crop_size(dataset, [0], config([8, 12])) == (8, 12)
