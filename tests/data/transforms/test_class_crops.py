"""Class-aware crops: everywhere in the window alike, more of what is rare, and nothing but the generator decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare

from segdecay.config.schema import DataConfig
from segdecay.data import Dataset, load_dataset
from segdecay.data.transforms.crops import does_nothing, draw_by_class, find_places, take_batch, window, window_place

torch.set_num_threads(1)
U8 = npt.NDArray[np.uint8]


def make(root: Path, *masks: U8) -> Dataset:
    """One pair a mask; the red band of an image is its mask."""
    for kind in ("images", "masks"):
        (root / "set" / kind).mkdir(parents=True)
    for i, mask in enumerate(masks):
        image = np.stack([mask, np.full_like(mask, i), mask], axis=-1)
        Image.fromarray(image).save(root / "set" / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(root / "set" / "masks" / f"{i:02d}.png")
    (root / "set" / "classes.txt").write_text("ground\nroad\npole\n")
    return load_dataset(DataConfig.model_validate({"path": str(root / "set")}), cache=root / "cache")[0]


@pytest.fixture(scope="module")
def one_pole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten images of 60x80, road on the right of each; a single pixel of pole, in the middle of image 3."""
    masks = [np.zeros((60, 80), np.uint8) for _ in range(10)]
    for mask in masks:
        mask[:, 40:] = 1
    masks[3][30, 40] = 2
    return make(tmp_path_factory.mktemp("one"), *masks)


def drawn(
    dataset: Dataset, share: float, n: int, seed: int = 0, crop: tuple[int, int] = (16, 20)
) -> tuple[list[int], torch.Tensor]:
    places = find_places(dataset, range(len(dataset.items)))
    order = torch.randint(0, len(dataset.items), (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    generator = torch.Generator().manual_seed(seed)
    taken, where = draw_by_class(dataset, order, places, share=share, crop=crop, generator=generator)
    _, masks = take_batch(dataset, taken, crop=crop, generator=generator, places=where)
    return taken, masks


def test_the_drawn_pixel_is_everywhere_in_its_window_alike(one_pole: Dataset) -> None:
    _, masks = drawn(one_pole, 1.0, 6000)
    image, row, column = np.nonzero((masks == 2).numpy())
    assert len(np.unique(image)) > 1800  # every third window
    for place, side in ((row, 16), (column, 20)):
        assert chisquare(np.bincount(place, minlength=side)).pvalue > 0.01


def test_a_rare_class_is_in_about_the_share_of_windows_that_was_asked_for(one_pole: Dataset) -> None:
    found = {
        share: (drawn(one_pole, share, 3000)[1] == 2).flatten(1).any(dim=1).float().mean() for share in (0, 0.5, 1)
    }
    assert float(found[0]) < 0.03
    assert 0.15 < float(found[0.5]) < 0.22
    assert 0.31 < float(found[1]) < 0.38


def test_classes_are_drawn_alike_and_then_their_images(one_pole: Dataset) -> None:
    taken, _ = drawn(one_pole, 1.0, 6000)
    counts = np.bincount(taken, minlength=10)
    assert chisquare(np.delete(counts, 3)).pvalue > 0.01
    assert counts[3] == pytest.approx(6000 * (1 / 3 + 2 / 30), rel=0.1)


def test_pixels_of_a_class_are_drawn_alike_across_tiles(tmp_path: Path) -> None:
    mask = np.zeros((300, 520), np.uint8)
    where = [(0, 0), (255, 255), (256, 256), (299, 519), (10, 511), (10, 512)]  # on both sides of every border
    for row, column in where:
        mask[row, column] = 1
    dataset = make(tmp_path, mask)
    road = find_places(dataset, [0])[1]
    draws = np.random.default_rng(0).random((3000, 2))
    found = [road.pixel(dataset, draw)[1:] for draw in draws]
    assert set(found) == set(where)
    assert chisquare([found.count(place) for place in where]).pvalue > 0.01


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1, exclude_max=True), st.data())
def test_a_window_holds_its_pixel_and_lies_inside(side: int, size: int, draw: float, data: st.DataObject) -> None:
    pixel = data.draw(st.integers(0, side - 1))
    mask = np.arange(side, dtype=np.uint8).reshape(1, side)
    place = window_place(pixel, side, size, draw)
    assert 0 <= place < 1
    _, shown = window(mask[..., None], mask, (1, size), (0.0, place))
    assert pixel in shown[0]
    assert (shown[0] != 255).sum() == min(side, size)


def test_every_window_that_holds_the_pixel_is_drawn() -> None:
    starts = {int(window_place(5, 10, 4, draw) * 7) for draw in np.linspace(0, 0.999, 100)}
    assert starts == {2, 3, 4, 5}
    assert {int(window_place(0, 10, 4, draw) * 7) for draw in np.linspace(0, 0.999, 100)} == {0}


def test_without_a_share_nothing_is_changed(one_pole: Dataset) -> None:
    places = find_places(one_pole, range(10))
    taken, where = draw_by_class(
        one_pole, [4, 2], places, share=0.0, crop=(8, 8), generator=torch.Generator().manual_seed(0)
    )
    assert taken == [4, 2]
    assert np.isnan(where).all()


def test_only_the_images_given_are_drawn(one_pole: Dataset) -> None:
    places = find_places(one_pole, [0, 1, 2])
    assert [one.label for one in places] == [0, 1]
    generator = torch.Generator().manual_seed(0)
    taken, _ = draw_by_class(one_pole, [0] * 200, places, share=1.0, crop=(8, 8), generator=generator)
    assert set(taken) == {0, 1, 2}


def test_draws_depend_on_the_generator_only(one_pole: Dataset) -> None:
    one, again, other = (drawn(one_pole, 0.7, 40, seed) for seed in (1, 1, 2))
    assert one[0] == again[0]
    assert torch.equal(one[1], again[1])
    assert one[0] != other[0]


def test_whole_images_that_hold_every_class_leave_nothing_to_do(one_pole: Dataset) -> None:
    everywhere, some = [0, 1, 2], [2, 3]
    assert does_nothing(one_pole, everywhere, find_places(one_pole, everywhere), None)
    assert does_nothing(one_pole, everywhere, find_places(one_pole, everywhere), (60, 80))
    assert not does_nothing(one_pole, everywhere, find_places(one_pole, everywhere), (60, 79))
    assert not does_nothing(one_pole, some, find_places(one_pole, some), None)


def test_whole_images_are_drawn_by_class_without_a_window(one_pole: Dataset) -> None:
    places = find_places(one_pole, range(10))
    taken, where = draw_by_class(
        one_pole, [0] * 300, places, share=1.0, crop=None, generator=torch.Generator().manual_seed(0)
    )
    assert taken.count(3) > 100
    assert np.isnan(where).all()
