"""Losses against outside implementations, exact scores of hard predictions, and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import segmentation_models_pytorch.losses as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from segdecay.data import IGNORE
from segdecay.metrics.confusion import image_confusions
from segdecay.training.losses import (
    CrossEntropy,
    Dice,
    Focal,
    Loss,
    Lovasz,
    Ohem,
    OriginalLoss,
    Tversky,
    logit_adjustment,
    pixel_cross_entropy,
)
from segdecay.training.losses.regions import jaccard_steps

SEEDS = st.integers(0, 10_000)
ALL = (CrossEntropy(), Focal(), Dice(), Tversky(), Lovasz(), Ohem())
BY_NAME = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)


def _batch(
    seed: int, *, classes: int = 3, side: int = 6, ignored: float = 0.3, absent: bool = False
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, side, side, generator=draw)
    target = torch.randint(0, classes - absent, (2, side, side), generator=draw)
    target[torch.rand(target.shape, generator=draw) < ignored] = IGNORE
    if not absent:
        target[0, 0, :classes] = torch.arange(classes)
    return logits, target


# --- smp, where it is right -----------------------------------------------------------------------------------------

PAIRS = [
    (Dice(), lambda **more: smp.DiceLoss("multiclass", ignore_index=IGNORE, **more)),
    # they add `smooth` to the halves of the fraction, so it counts twice
    (Dice(smooth=0.5), lambda **more: smp.DiceLoss("multiclass", ignore_index=IGNORE, smooth=0.25, **more)),
    (
        Tversky(alpha=0.2, beta=0.9, smooth=0.5),
        lambda **more: smp.TverskyLoss("multiclass", ignore_index=IGNORE, alpha=0.2, beta=0.9, smooth=0.5, **more),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_overlaps_are_those_of_smp_where_the_batch_holds_every_class(ours: Loss, theirs, seed: int) -> None:  # type: ignore[no-untyped-def]
    logits, target = _batch(seed)
    assert ours(logits, target).item() == pytest.approx(theirs()(logits, target).item(), rel=1e-5)
    weight = [0.2, 1.0, 3.0]
    weighted = theirs(class_weights=weight)(logits, target)
    assert ours(logits, target, torch.tensor(weight)).item() == pytest.approx(weighted.item(), rel=1e-5)


@given(SEEDS, st.booleans())
@settings(max_examples=15, deadline=None)
def test_lovasz_is_that_of_smp_in_value_and_gradient(seed: int, absent: bool) -> None:
    logits, target = _batch(seed, absent=absent)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = Lovasz()(ours, target), smp.LovaszLoss("multiclass", ignore_index=IGNORE)(theirs, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.autograd.backward([value, expected])
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_smp_thins_out_the_overlap_of_batches_that_lack_a_class_and_ours_does_not() -> None:
    logits, target = _batch(0, absent=True)
    ours, theirs = Dice()(logits, target), smp.DiceLoss("multiclass", ignore_index=IGNORE)(logits, target)
    assert theirs.item() == pytest.approx(ours.item() * 2 / 3, rel=1e-5)  # 2 of 3 classes are there


def test_what_else_keeps_the_losses_of_smp_from_the_contract() -> None:
    """If this fails, theirs may have become usable: see docs/log.md."""
    logits, target = _batch(0)
    nothing = torch.full_like(target, IGNORE)
    assert smp.LovaszLoss("multiclass", ignore_index=IGNORE)(logits, nothing).shape == (0, 3)
    assert smp.FocalLoss("multiclass", ignore_index=IGNORE)(logits, nothing).isnan()
    assert smp.DiceLoss("multiclass", ignore_index=IGNORE)(logits.half(), target).dtype == torch.float16
    infinite = logits.clone()
    infinite.permute(0, 2, 3, 1)[target == IGNORE] = float("inf")
    assert smp.DiceLoss("multiclass", ignore_index=IGNORE)(infinite, target).isnan()
    with pytest.raises(RuntimeError, match="same dtype"):
        smp.LovaszLoss("multiclass", ignore_index=IGNORE)(logits.half(), target)


def test_with_many_pixels_the_lovasz_gradient_of_single_precision_is_that_of_double() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 300, 300, generator=draw)
    target = (torch.rand(1, 300, 300, generator=draw) < 0.3).long()
    gradients = {}
    for name, loss, values in (
        ("double", Lovasz(), logits.double()),
        ("single", Lovasz(), logits),
        ("smp", smp.LovaszLoss("multiclass"), logits),
    ):
        leaf = values.clone().requires_grad_()
        (gradients[name],) = torch.autograd.grad(loss(leaf, target), leaf)
    scale = gradients["double"].norm()
    assert (gradients["single"] - gradients["double"]).norm() < 1e-5 * scale
    assert (gradients["smp"] - gradients["double"]).norm() > 1e-3 * scale  # if not, theirs can be used


# --- torchvision and torch ------------------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from([0.5, 1.0, 2.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_focal_of_two_classes_is_the_sigmoid_focal_loss_of_torchvision(seed: int, gamma: float) -> None:
    logits, target = _batch(seed, classes=2)
    margin, valid = logits[:, 1] - logits[:, 0], target != IGNORE
    expected = sigmoid_focal_loss(margin[valid], target[valid].float(), alpha=-1, gamma=gamma, reduction="mean")
    assert Focal(gamma=gamma)(logits, target).item() == pytest.approx(expected.item(), rel=1e-4)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_focal_without_gamma_is_cross_entropy_to_the_bit(seed: int) -> None:
    logits, target = _batch(seed)
    weight, shift = torch.tensor([0.2, 1.0, 5.0]), logit_adjustment(1.0, np.array([900, 95, 5]))
    found = []
    for loss in (Focal(gamma=0.0), CrossEntropy()):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target, weight, shift)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_ohem_that_keeps_all_is_cross_entropy(seed: int) -> None:
    logits, target = _batch(seed)
    weight = torch.tensor([0.2, 1.0, 5.0])
    for loss in (Ohem(share=1.0), Ohem(share=0.1, threshold=1.0), Ohem(share=0.0, min_kept=1e6)):
        assert loss(logits, target, weight).item() == pytest.approx(
            CrossEntropy()(logits, target, weight).item(), rel=1e-5
        )


# --- exact scores of hard predictions -------------------------------------------------------------------------------


def _class_scores(logits: Tensor, target: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """IoU and Dice of the classes that the truth holds, from the confusion matrix of the metrics."""
    matrix = image_confusions(logits.argmax(dim=1), target, logits.shape[1]).sum(dim=0).numpy().astype(np.float64)
    right, true, called = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    there = true > 0
    return (right / (true + called - right))[there], (2 * right / (true + called))[there]


@given(SEEDS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_hard_predictions_cost_one_minus_their_scores(seed: int, absent: bool) -> None:
    logits, target = _batch(seed, classes=4, absent=absent)
    hard = torch.nn.functional.one_hot(logits.argmax(dim=1), 4).movedim(-1, 1) * 200.0
    iou, dice = _class_scores(hard, target)
    assert Lovasz()(hard, target).item() == pytest.approx(1 - iou.mean(), abs=1e-5)
    assert Dice()(hard, target).item() == pytest.approx(1 - dice.mean(), abs=1e-5)
    assert Tversky(alpha=1.0, beta=1.0)(hard, target).item() == pytest.approx(1 - iou.mean(), abs=1e-5)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    there = np.arange(4 - absent) + 1.0
    weighted = Lovasz()(hard, target, weight).item()
    assert weighted == pytest.approx(1 - (iou * there).sum() / there.sum(), abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_steps_are_differences_of_the_jaccard_loss_of_growing_sets(pixels: list[tuple[int, bool]]) -> None:
    errors = torch.tensor([[error / 5 for error, _ in pixels]])
    truth = torch.tensor([[is_true for _, is_true in pixels]])
    true = {index for index, (_, is_true) in enumerate(pixels) if is_true}
    expected, before, wrong = [0.0] * len(pixels), 0.0, set()
    for index in sorted(range(len(pixels)), key=lambda i: (-pixels[i][0], i)):
        wrong.add(index)
        loss = 1 - len(true - wrong) / len(true | wrong) if true else 0.0
        expected[index], before = loss - before, loss
    assert jaccard_steps(errors, truth)[0].tolist() == pytest.approx(expected, abs=1e-6)


# --- worked by hand -------------------------------------------------------------------------------------------------


def test_ohem_keeps_the_hardest_share_first_among_equals_and_never_ignored_pixels() -> None:
    losses = torch.tensor([[[0.5, 2.0, 0.5, 0.0, 9.0, 0.5, 0.1]]])
    is_valid = torch.tensor([[[True, True, True, True, False, True, True]]])
    kept = {share: Ohem(share=share).is_kept(losses, is_valid).flatten().tolist() for share in (0.5, 0.34, 0.0)}
    assert kept[0.5] == [True, True, True, False, False, False, False]  # 3 of 6
    assert kept[0.34] == [True, True, True, False, False, False, False]  # 2.04 is rounded up
    assert kept[0.0] == [False, True, False, False, False, False, False]  # min_kept


def test_a_share_that_is_a_whole_number_of_pixels_is_not_rounded_up() -> None:
    losses = torch.arange(100.0).view(1, 10, 10)
    assert Ohem(share=0.07).is_kept(losses, torch.ones(1, 10, 10, dtype=torch.bool)).sum() == 7


def test_ohem_keeps_every_pixel_below_the_threshold() -> None:
    chances = torch.tensor([0.9, 0.6, 0.5, 0.8, 0.69, 0.99])
    kept = Ohem(share=0.2, threshold=0.7).is_kept(-chances.log().view(1, 2, 3), torch.ones(1, 2, 3, dtype=torch.bool))
    assert kept.flatten().tolist() == [False, True, True, False, True, False]


def test_ohem_is_the_weighted_mean_over_what_it_keeps() -> None:
    odds = [1.0, 3.0, 9.0, 1.0]  # true probabilities 1/2, 3/4, 9/10, 1/2
    target = torch.tensor([[[0, 1, 0, 1]]])
    logits = torch.zeros(1, 2, 1, 4)
    for index, odd in enumerate(odds):
        logits[0, target[0, 0, index], 0, index] = np.log(odd)
    value = Ohem(share=0.75)(logits, target, torch.tensor([1.0, 3.0])).item()
    assert value == pytest.approx((np.log(2) + 3 * np.log(4 / 3) + 3 * np.log(2)) / 7, rel=1e-5)


def test_tversky_weighs_false_positives_by_alpha_and_false_negatives_by_beta() -> None:
    # two classes, truth 0 0 0 1; class 0 has probability .5 everywhere: TP 1.5, FP .5, FN 1.5; class 1: .5, 1.5, .5
    value = Tversky(alpha=0.2, beta=0.6)(torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [0, 1]]])).item()
    expected = 1 - (1.5 / (1.5 + 0.1 + 0.9) + 0.5 / (0.5 + 0.3 + 0.3)) / 2
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_sum_is_the_sum_with_its_factors_in_value_gradient_and_over_a_data_set() -> None:
    logits, target = _batch(3)
    weight, shift = torch.tensor([0.5, 1.0, 2.0]), logit_adjustment(1.0, np.array([900, 95, 5]))
    both = OriginalLoss((CrossEntropy(), Dice()), (2.0, 0.5))
    apart = 2 * CrossEntropy()(logits, target, weight, shift) + 0.5 * Dice()(logits, target, weight, shift)
    assert both(logits, target, weight, shift).item() == pytest.approx(apart.item(), rel=1e-6)
    sums = sum(
        (both.sums(logits[i : i + 1], target[i : i + 1], weight, shift) for i in range(2)),
        torch.zeros(2, 2, dtype=torch.float64),
    )
    dice = np.mean([Dice()(logits[i : i + 1], target[i : i + 1], weight, shift).item() for i in range(2)])
    entropy = pixel_cross_entropy(logits, target, weight, shift).item()
    assert both.of_sums(sums) == pytest.approx(2 * entropy + 0.5 * float(dice), rel=1e-6)
    assert np.isnan(both.of_sums(torch.zeros(2, 2)))


# --- properties -----------------------------------------------------------------------------------------------------


@BY_NAME
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_losses_are_invariant_to_relabelling_and_to_what_lies_under_ignored_pixels(
    loss: Loss, data: st.DataObject, seed: int
) -> None:
    classes, ignored = data.draw(st.integers(2, 6)), data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    order = torch.tensor(data.draw(st.permutations(range(classes))))
    under = data.draw(st.floats(width=32, allow_nan=True, allow_infinity=True))
    logits, target = _batch(seed, classes=classes, ignored=ignored, absent=True)
    weight = torch.tensor(data.draw(st.lists(st.floats(0.125, 8, width=32), min_size=classes, max_size=classes)))
    value = loss(logits, target, weight)
    loud = logits.clone()
    loud.permute(0, 2, 3, 1)[target == IGNORE] = under
    assert torch.equal(loss(loud, target, weight), value)
    renamed = torch.where(target == IGNORE, IGNORE, order.argsort()[target.clamp_max(classes - 1)])
    assert loss(logits[:, order], renamed, weight[order]).item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6)


@BY_NAME
def test_other_shapes_than_images_do(loss: Loss) -> None:
    logits, target = _batch(0)
    flat = loss(logits.flatten(2), target.flatten(1)).item()
    assert loss(logits, target).item() == pytest.approx(flat, rel=1e-5)
    assert loss(logits.contiguous(memory_format=torch.channels_last), target).item() == pytest.approx(flat, rel=1e-5)
    rows = logits.permute(0, 2, 3, 1).reshape(-1, 3)
    assert loss(rows, target.flatten()).item() == pytest.approx(flat, rel=1e-5)
