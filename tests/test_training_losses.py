"""The original loss against torch and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.data import IGNORE
from segdecay.training.losses import class_weights, loss_sums, pixel_cross_entropy
from segdecay.training.metrics import image_confusions


def _batch(seed: int, ignored: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 5, 4, generator=draw)
    target = torch.randint(0, 3, (2, 5, 4), generator=draw)
    target[torch.rand(2, 5, 4, generator=draw) < ignored] = IGNORE
    return logits, target


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_loss_is_torchs_mean_over_valid_pixels(seed: int) -> None:
    logits, target = _batch(seed)
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE)
    assert pixel_cross_entropy(logits, target).item() == pytest.approx(expected.item(), rel=1e-6)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_weighted_loss_is_torchs_weighted_mean(seed: int) -> None:
    logits, target = _batch(seed)
    weight = torch.tensor([0.2, 1.0, 5.0])
    expected = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE)
    assert pixel_cross_entropy(logits, target, weight).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_batch_of_ignored_pixels_gives_zero_and_finite_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 4, 4), IGNORE), torch.tensor([1.0, 2.0, 3.0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_logits_at_ignored_pixels_change_neither_loss_nor_gradient_nor_metric() -> None:
    logits, target = _batch(1)
    loud = logits.clone()
    loud.permute(0, 2, 3, 1)[target == IGNORE] = torch.tensor([1e3, -1e3, 7.0])
    gradients = []
    for values in (logits, loud):
        leaf = values.clone().requires_grad_()
        pixel_cross_entropy(leaf, target).backward()  # type: ignore[no-untyped-call]
        gradients.append(leaf.grad)
    assert pixel_cross_entropy(logits, target) == pixel_cross_entropy(loud, target)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(image_confusions(logits.argmax(1), target, 3), image_confusions(loud.argmax(1), target, 3))


def test_sums_of_parts_give_the_loss_of_the_whole() -> None:
    logits, target = _batch(2)
    weight = torch.tensor([0.5, 1.0, 2.0])
    parts = [loss_sums(logits[i : i + 1], target[i : i + 1], weight) for i in range(2)]
    total, mass = sum(p[0].item() for p in parts), sum(p[1].item() for p in parts)
    assert total / mass == pytest.approx(pixel_cross_entropy(logits, target, weight).item(), rel=1e-6)


def test_median_weights_are_median_frequency_over_own_frequency() -> None:
    # frequencies .5, .2 and .1 (of the images that hold the class): median .2
    weights = class_weights("median", np.array([50, 20, 10]), np.array([100, 100, 100]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.4, 1.0, 2.0])


def test_inverse_root_weights_have_mean_one_and_follow_the_root() -> None:
    weights = class_weights("inverse_sqrt", np.array([100, 25]), np.array([125, 125]))
    assert weights is not None
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[1] / weights[0]).item() == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["median", "inverse_sqrt"])
def test_a_class_without_pixels_gets_a_finite_weight(kind: str) -> None:
    weights = class_weights(kind, np.array([9, 0, 1]), np.array([10, 0, 10]))
    assert weights is not None
    assert torch.isfinite(weights).all()
    assert weights[1] == 1.0


def test_no_weights_are_none() -> None:
    assert class_weights("none", np.array([1]), np.array([1])) is None
