"""Averages over symmetries, models and resized copies are what their formulas say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segdecay.errors import ConfigError, ModelError
from segdecay.inference import apply as applying
from segdecay.inference.apply import Tiling, enlarging, plan_of, predict_mask, predicted_blocks, shrinking, shrunk
from segdecay.inference.bundle import Bundle
from segdecay.inference.image_io import ArraySource
from segdecay.inference.outputs import bands_of
from segdecay.inference.predictor import SYMMETRIES, Predictor, build_predictor
from segdecay.models.unet import UNet

U8 = np.ndarray[Any, np.dtype[np.uint8]]


class Lean(nn.Module):
    """Logits that depend on where a pixel lies: no symmetry holds for it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5, 2.0]))

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height) / 7, torch.arange(width) / 5, indexing="ij")
        lean = images.mean(dim=1, keepdim=True) + y + 2 * x
        return self.weight.view(1, 3, 1, 1) * lean


def _bundle(model: nn.Module, classes: int = 3, **changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "model": model.eval(),
        "classes": tuple(f"class {index}" for index in range(classes)),
        "palette": tuple((index, 2 * index, 50) for index in range(classes)),
        "bands": 3,
        "mean": (100.0, 110.0, 120.0),
        "deviation": (50.0, 60.0, 70.0),
        "size": None,
        "made_by": {},
    }
    return Bundle(**{**values, **changes})


def _unet(seed: int = 0, classes: int = 3) -> UNet:
    torch.manual_seed(seed)
    return UNet(3, classes, width=4, depth=2)


def _image(height: int, width: int) -> U8:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _batch(image: U8) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def test_d4_is_eight_different_symmetries_and_each_is_undone() -> None:
    marks = torch.arange(6.0).view(1, 1, 2, 3)
    seen = set()
    for symmetry in SYMMETRIES["d4"]:
        turned = symmetry.there(marks)
        seen.add((tuple(turned.shape), tuple(turned.flatten().tolist())))
        assert symmetry.back(turned).equal(marks)
        assert symmetry.exchanges_sides == (turned.shape[-1] == 2)
    assert len(seen) == 8


def test_averaging_is_the_mean_of_probabilities_over_mirrorings() -> None:
    bundle, images = _bundle(Lean()), _batch(_image(6, 9))
    flips: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]
    expected = torch.stack([bundle.logits(images.flip(f)).softmax(dim=1).flip(f) for f in flips]).mean(dim=0)
    found = Predictor((bundle,), "flips").probabilities(images)
    torch.testing.assert_close(found, expected)
    assert (found - bundle.logits(images).softmax(dim=1)).abs().max() > 0.01


@pytest.mark.parametrize(("tta", "symmetries"), [("flips", SYMMETRIES["flips"]), ("d4", SYMMETRIES["d4"])])
@pytest.mark.parametrize("size", [None, (8, 12)])
def test_an_averaged_prediction_turns_with_the_image(tta: str, symmetries: Any, size: tuple[int, int] | None) -> None:
    predictor, images = Predictor((_bundle(Lean(), size=size),), tta), _batch(_image(10, 10))
    upright = predictor.probabilities(images)
    for symmetry in symmetries:
        if size is None or not symmetry.exchanges_sides:
            turned = symmetry.back(predictor.probabilities(symmetry.there(images)))
            torch.testing.assert_close(turned, upright, atol=1e-5, rtol=1e-5)


def test_an_ensemble_is_the_mean_of_its_models() -> None:
    one, two = _bundle(_unet(0)), _bundle(_unet(1), mean=(90.0, 90.0, 90.0))
    images = _batch(_image(12, 15))
    expected = (one.logits(images).softmax(dim=1) + two.logits(images).softmax(dim=1)) / 2
    torch.testing.assert_close(build_predictor([one, two]).probabilities(images), expected)


def test_models_that_differ_are_refused_with_all_differences() -> None:
    one = _bundle(_unet())
    other = _bundle(_unet(classes=2), classes=2, bands=4, size=(8, 8))
    with pytest.raises(ModelError) as caught:
        build_predictor([one, other])
    for word in ("classes", "bands: 3 in the first, 4 in model 2", "size"):
        assert word in str(caught.value)
    with pytest.raises(ConfigError, match="Did you mean 'flips'"):
        build_predictor([one], "flip")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (700, 1), (5, 3)])
@pytest.mark.parametrize("size", [None, (16, 24)])
def test_images_of_any_shape_are_predicted(height: int, width: int, size: tuple[int, int] | None) -> None:
    predictor = Predictor((_bundle(_unet(), size=size),), "d4")
    assert predict_mask(predictor, _image(height, width)).shape == (height, width)
    assert predict_mask(predictor, _image(height, width), Tiling(64, 32)).shape == (height, width)


def test_small_images_are_seen_whole_and_large_ones_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "WHOLE_PIXELS", 600 * 600)
    native, resizing = Predictor((_bundle(_unet()),)), Predictor((_bundle(_unet(), size=(32, 32)),))
    assert plan_of(native, (600, 600, 3), Tiling()) is None
    plan = plan_of(native, (601, 600, 3), Tiling())
    assert plan is not None
    assert plan.count == 4
    assert plan_of(native, (1, 600 * 600, 3), Tiling()) is not None  # padded to the stride, it is large
    assert plan_of(resizing, (5000, 5000, 3), Tiling()) is None
    assert plan_of(resizing, (600, 600, 3), Tiling(256, 64)) is not None


def test_windows_of_a_deep_net_start_at_multiples_of_its_own_stride() -> None:
    deep = Predictor((_bundle(UNet(3, 3, width=2, depth=7)),))
    assert deep.stride == 128
    with pytest.raises(ConfigError, match="multiple of 128"):
        plan_of(deep, (2000, 2000, 3), Tiling(320, 64))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 40))
def test_shrinking_is_torchs_antialiased_filter(length: int, size: int) -> None:
    line = torch.from_numpy(np.random.default_rng(length).random((1, 1, 1, length), dtype=np.float32))
    expected = nn.functional.interpolate(line, (1, size), mode="bilinear", antialias=True, align_corners=False)
    found = shrinking(length, size) @ line[0, 0, 0].numpy()
    np.testing.assert_allclose(found, expected[0, 0, 0], atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60))
def test_enlarging_is_torchs_bilinear_filter(size: int, length: int) -> None:
    line = torch.from_numpy(np.random.default_rng(length).random((1, 1, 1, size), dtype=np.float32))
    expected = nn.functional.interpolate(line, (1, length), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(enlarging(size, length, 0, length) @ line[0, 0, 0].numpy(), expected[0, 0, 0], atol=1e-5)


def test_a_large_image_for_a_resizing_model_is_predicted_in_bands_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image, predictor = _image(150, 170), Predictor((_bundle(_unet(), size=(24, 32)),))
    at_once = torch.cat([block.values for block in predicted_blocks(predictor, ArraySource(image))], dim=1)
    monkeypatch.setattr(applying, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr("segdecay.inference.apply.BAND_PIXELS", 170 * 13)
    blocks = list(predicted_blocks(predictor, ArraySource(image)))
    assert len(blocks) > 10
    in_bands = torch.cat([block.values for block in blocks], dim=1)
    # probabilities are enlarged in place of logits: alike, not the same
    assert (in_bands - at_once).abs().max() < 0.02
    assert (in_bands.argmax(dim=0) == at_once.argmax(dim=0)).float().mean() > 0.97
    whole = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = nn.functional.interpolate(whole, (24, 32), mode="bilinear", antialias=True, align_corners=False)
    np.testing.assert_allclose(shrunk(ArraySource(image), (24, 32)), small[0].permute(1, 2, 0), atol=1e-2)


def test_bands_hold_the_taken_class_its_probability_and_the_entropy() -> None:
    image, predictor = _image(80, 90), Predictor((_bundle(_unet()),))
    blocks = list(predicted_blocks(predictor, ArraySource(image), Tiling(64, 32)))
    bands = list(bands_of(blocks, 90, ("probabilities", "confidence", "entropy")))
    joined = {key: np.concatenate([band.floats[key] for band in bands]) for key in bands[0].floats}
    values = joined["probabilities"].astype(np.float64)
    assert values.shape == (80, 90, 3)
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=2e-3)
    np.testing.assert_allclose(joined["confidence"], values.max(axis=-1), atol=1e-3)
    expected = -(values * np.log(values)).sum(axis=-1) / np.log(3)
    np.testing.assert_allclose(joined["entropy"], expected, atol=3e-3)
    mask = np.concatenate([band.mask for band in bands])
    sure = np.sort(values, axis=-1)[..., -1] - np.sort(values, axis=-1)[..., -2] > 2e-3
    np.testing.assert_array_equal(mask[sure], values.argmax(axis=-1)[sure])
    np.testing.assert_array_equal(np.concatenate([band.image for band in bands]), image)


def test_a_model_that_cannot_be_applied_is_told_with_the_size() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(9, 3)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.head(images.flatten(2))
            return found

    with pytest.raises(ModelError, match="cannot be applied to an image of 7x5 pixels"):
        Predictor((replace(_bundle(Fixed())),)).probabilities(_batch(_image(7, 5)))


def test_a_turned_image_is_resized_to_the_turned_size() -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(Lean):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape[-2:]))
            return super().forward(images)

    Predictor((_bundle(Watching(), size=(8, 12)),), "d4").probabilities(_batch(_image(20, 30)))
    assert sorted(seen) == [(8, 12)] * 4 + [(12, 8)] * 4
