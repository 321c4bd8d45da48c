"""The original loss against torch and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.data import IGNORE
from segdecay.metrics.confusion import image_confusions
from segdecay.training.losses import (
    class_weights,
    effective_number_weights,
    logit_adjustment,
    loss_sums,
    pixel_cross_entropy,
)


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


def _adjusted_oracle(
    logits: torch.Tensor, target: torch.Tensor, prior: list[float], tau: float, weight: list[float]
) -> float:
    """Weighted mean of −log π_yᵗ·e^f_y / Σ_j π_jᵗ·e^f_j over the valid pixels, pixel by pixel in numpy."""
    values, truth = logits.double().numpy(), target.numpy()
    total = mass = 0.0
    for n, y, x in zip(*np.nonzero(truth != IGNORE), strict=True):
        scores = np.asarray(prior) ** tau * np.exp(values[n, :, y, x])
        label = truth[n, y, x]
        total -= weight[label] * np.log(scores[label] / scores.sum())
        mass += weight[label]
    return total / mass


def test_logit_adjustment_by_hand() -> None:
    # equal logits, priors 3/4 and 1/4: the softmax is the prior; with τ = 2 it is 9/10 and 1/10
    logits = torch.zeros(1, 2, 1, 1)
    for tau, expected in ((1.0, 0.25), (2.0, 0.1)):
        shift = logit_adjustment(tau, np.array([75, 25]))
        loss = pixel_cross_entropy(logits, torch.tensor([[[1]]]), adjustment=shift)
        assert loss.item() == pytest.approx(-np.log(expected), rel=1e-6)


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=20, deadline=None)
def test_adjusted_loss_is_that_of_the_formula(seed: int, tau: float) -> None:
    logits, target = _batch(seed)
    shift = logit_adjustment(tau, np.array([900, 95, 5]))
    expected = _adjusted_oracle(logits, target, [0.9, 0.095, 0.005], tau, [1.0, 1.0, 1.0])
    assert pixel_cross_entropy(logits, target, adjustment=shift).item() == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_adjusted_and_weighted_loss_is_that_of_the_formula(seed: int) -> None:
    logits, target = _batch(seed)
    weight = torch.tensor([1.0, 2.0, 4.0])
    shift = logit_adjustment(1.0, np.array([60, 30, 10]), weight)
    expected = _adjusted_oracle(logits, target, [60 / 160, 60 / 160, 40 / 160], 1.0, [1.0, 2.0, 4.0])
    assert pixel_cross_entropy(logits, target, weight, shift).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["none", "median", "inverse_sqrt"])
def test_without_evidence_the_adjusted_optimum_favours_no_class_whatever_the_class_weights(kind: str) -> None:
    counts = np.array([70, 20, 10])
    weight = class_weights(kind, counts, np.array([100, 100, 40]))
    target = torch.tensor([0] * 70 + [1] * 20 + [2] * 10).view(1, 10, 10)
    bias = torch.zeros(3, requires_grad=True)
    logits = bias.view(1, 3, 1, 1).expand(1, 3, 10, 10)
    pixel_cross_entropy(logits, target, weight, logit_adjustment(1.0, counts, weight)).backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    assert bias.grad.abs().max().item() < 1e-7


def test_ignored_pixels_change_neither_adjusted_loss_nor_its_gradient() -> None:
    logits, target = _batch(1)
    loud = logits.clone()
    loud.permute(0, 2, 3, 1)[target == IGNORE] = torch.tensor([1e3, -1e3, 7.0])
    weight = torch.tensor([0.5, 1.0, 2.0])
    shift = logit_adjustment(1.0, np.array([900, 95, 5]), weight)
    found = []
    for values in (logits, loud):
        leaf = values.clone().requires_grad_()
        loss = pixel_cross_entropy(leaf, target, weight, shift)
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        found.append((loss.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not found[0][1].permute(0, 2, 3, 1)[target == IGNORE].any()


def test_an_adjusted_batch_of_ignored_pixels_gives_zero_and_finite_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    shift = logit_adjustment(1.0, np.array([900, 95, 5]))
    loss = pixel_cross_entropy(logits, torch.full((1, 4, 4), IGNORE), None, shift)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_adjusted_in_single_precision(kind: torch.dtype) -> None:
    # at 3000 half precision has steps of 2 and bfloat16 of 16: log(1/4) added there would be lost
    logits = torch.full((1, 2, 1, 1), 3008.0, dtype=kind, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.tensor([[[1]]]), None, logit_adjustment(1.0, np.array([75, 25])))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-np.log(0.25), rel=1e-4)
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([0.75, -0.75], rel=1e-2)


def test_a_class_without_a_pixel_takes_the_smallest_positive_share() -> None:
    shift = logit_adjustment(1.0, np.array([60, 0, 20]))
    assert shift is not None
    assert shift.exp().tolist() == pytest.approx([0.6, 0.2, 0.2])


def test_a_class_of_weight_zero_takes_the_smallest_positive_share_too() -> None:
    weight = torch.tensor([1.0, 0.0, 2.0])
    shift = logit_adjustment(1.0, np.array([60, 30, 10]), weight)
    assert shift is not None
    assert shift.exp().tolist() == pytest.approx([0.6, 0.2, 0.2])
    logits, target = _batch(0)
    assert torch.isfinite(pixel_cross_entropy(logits, target, weight, shift))


def test_weights_that_undo_the_frequencies_leave_nothing_to_adjust() -> None:
    shift = logit_adjustment(1.0, np.array([60, 30, 10]), torch.tensor([1 / 6, 1 / 3, 1.0]))
    assert shift is not None
    assert shift.tolist() == pytest.approx([np.log(1 / 3)] * 3)


def test_no_adjustment_is_none() -> None:
    assert logit_adjustment(0.0, np.array([3, 1])) is None


@given(st.lists(st.integers(1, 400), min_size=2, max_size=6), st.floats(0, 0.9999))
@settings(max_examples=30, deadline=None)
def test_effective_numbers_are_sums_of_powers(counts: list[int], beta: float) -> None:
    effective = np.array([sum(beta**i for i in range(n)) for n in counts])
    expected = (1 / effective) / np.mean(1 / effective)
    assert effective_number_weights(np.array(counts), beta).tolist() == pytest.approx(list(expected), rel=1e-4)


def test_effective_number_weights_at_the_ends_of_beta() -> None:
    counts = np.array([1, 4])
    assert effective_number_weights(counts, 0.0).tolist() == [1.0, 1.0]
    assert effective_number_weights(counts, 1 - 1e-9).tolist() == pytest.approx([1.6, 0.4], rel=1e-5)


def test_a_class_without_examples_gets_weight_one_and_does_not_shift_the_others() -> None:
    with_absent = effective_number_weights(np.array([3, 0, 9]), 0.99).tolist()
    assert with_absent[1] == 1.0
    assert [with_absent[0], with_absent[2]] == effective_number_weights(np.array([3, 9]), 0.99).tolist()
