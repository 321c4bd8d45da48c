"""Augmentation: image and mask move together, labels stay labels, and only the generator decides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segdecay.config.schema import AugmentConfig
from segdecay.data.dataset import IGNORE
from segdecay.data.transforms.augment import augment

torch.set_num_threads(1)
STILL = {"flip": "data", "degrees": 0.0, "scale": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}


def run(
    images: Tensor, masks: Tensor, *, seed: int = 0, allowed: str = "none", **changes: object
) -> tuple[Tensor, Tensor]:
    config = AugmentConfig.model_validate({**STILL, **changes})
    return augment(images, masks, config=config, flip=allowed, generator=torch.Generator().manual_seed(seed))


def batch(n: int = 6, height: int = 9, width: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 5, (n, height, width), generator=generator)
    masks[:, 0, 0] = IGNORE
    return torch.rand((n, 3, height, width), generator=generator) * 255, masks


def test_zero_strength_returns_the_very_tensors() -> None:
    images, masks = batch()
    changed = run(images, masks)
    assert changed[0] is images
    assert changed[1] is masks


@given(st.integers(0, 10_000), st.sampled_from(["horizontal", "both"]))
@settings(max_examples=30, deadline=None)
def test_a_flip_keeps_an_image_equal_to_its_mask_and_every_pixel(seed: int, allowed: str) -> None:
    _, masks = batch(seed=seed)
    images, flipped = run(masks[:, None].float(), masks, seed=seed, allowed=allowed)
    assert torch.equal(images[:, 0].long(), flipped)
    assert torch.equal(flipped.flatten(1).sort().values, masks.flatten(1).sort().values)


def test_a_horizontal_flip_never_exchanges_rows() -> None:
    images, masks = batch(n=64)
    _, flipped = run(images, masks, allowed="horizontal")
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, masks, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(flipped, masks, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


def test_both_flips_reach_all_four_ways() -> None:
    image = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(64, 1, 1, 1)
    changed, _ = run(image, torch.zeros(64, 2, 2, dtype=torch.int64), allowed="both")
    assert len({tuple(one.flatten().tolist()) for one in changed}) == 4


def test_the_configuration_overrules_what_the_data_allows() -> None:
    images, masks = batch()
    assert run(images, masks, allowed="both", flip="none")[0] is images
    assert not torch.equal(run(images, masks, allowed="none", flip="both")[1], masks)


def test_the_result_depends_on_the_generator_only() -> None:
    images, masks = batch()
    options: dict[str, object] = {"degrees": 20.0, "scale": 0.2, "shift": 0.1, "brightness": 0.2, "contrast": 0.2}
    one = run(images, masks, seed=5, allowed="both", **options)
    torch.manual_seed(99)
    again = run(images, masks, seed=5, allowed="both", **options)
    other = run(images, masks, seed=6, allowed="both", **options)
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_inputs_are_not_changed() -> None:
    images, masks = batch()
    before = images.clone(), masks.clone()
    run(images, masks, allowed="both", degrees=20.0, brightness=0.5, contrast=0.5)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_labels_stay_labels_under_every_movement(seed: int) -> None:
    images, masks = batch(seed=seed)
    moved_images, moved = run(images, masks, seed=seed, degrees=180.0, scale=0.9, shift=0.9)
    assert moved.dtype == torch.int64
    for new, old in zip(moved, masks, strict=True):
        assert set(new.unique().tolist()) <= set(old.unique().tolist())
    assert moved_images.shape == images.shape
    assert bool(moved_images.isfinite().all())


def test_image_and_mask_move_by_the_same_amount() -> None:
    masks = torch.zeros(8, 40, 60, dtype=torch.int64)
    masks[:, 10:25, 15:40] = 1
    images = masks[:, None].float() * 255
    moved, labels = run(images, masks, degrees=25.0, scale=0.2, shift=0.1)
    agree = ((moved[:, 0] > 127.5) == (labels == 1)).float().mean()
    assert float(agree) > 0.99
    assert not torch.equal(labels, masks)


def test_a_turn_keeps_shapes_on_images_that_are_not_square() -> None:
    y, x = torch.meshgrid(torch.arange(60) - 29.5, torch.arange(180) - 89.5, indexing="ij")
    disc = ((x**2 + y**2) < 12**2).long()[None]  # a disc in the middle looks the same under every turn
    for seed in range(8):
        _, turned = run(disc[:, None].float(), disc, seed=seed, degrees=180.0)
        assert float((turned == disc)[0, 10:50, 70:110].float().mean()) > 0.98


def test_ignored_pixels_stay_ignored() -> None:
    masks = torch.full((2, 8, 8), IGNORE, dtype=torch.int64)
    _, moved = run(torch.zeros(2, 3, 8, 8), masks, degrees=45.0, shift=0.5, allowed="both")
    assert torch.equal(moved, masks)


def test_borders_are_mirrored_not_filled() -> None:
    images, masks = torch.full((4, 3, 16, 16), 77.0), torch.ones(4, 16, 16, dtype=torch.int64)
    moved, labels = run(images, masks, degrees=90.0, shift=0.5, scale=0.5)
    torch.testing.assert_close(moved, images)
    assert torch.equal(labels, masks)


def test_colour_touches_images_only_and_stays_in_range() -> None:
    images, masks = batch()
    changed, same = run(images, masks, brightness=0.5, contrast=0.5)
    assert same is masks
    assert not torch.equal(changed, images)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255


@pytest.mark.parametrize("changes", [{"brightness": 0.2}, {"contrast": 0.5}])
def test_each_image_gets_its_own_draw(changes: dict[str, object]) -> None:
    one = torch.linspace(60, 160, 192).reshape(1, 3, 8, 8)
    config = AugmentConfig.model_validate({**STILL, **changes})
    images, masks = one.repeat(8, 1, 1, 1), torch.zeros(8, 8, 8, dtype=torch.int64)
    changed, _ = augment(images, masks, config=config, flip="none", generator=torch.Generator().manual_seed(0))
    assert len({float(image[0, 0, 0]) for image in changed}) == 8


def test_one_switch_does_not_shift_the_draws_of_another() -> None:
    images, masks = batch()
    alone = run(images, masks, allowed="horizontal")[1]
    with_colour = run(images, masks, allowed="horizontal", brightness=0.3)[1]
    assert torch.equal(alone, with_colour)
