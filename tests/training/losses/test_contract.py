"""Every loss keeps the contract, and so do options at the ends of their ranges."""

from __future__ import annotations

import pytest

from segdecay.testing import LossContract
from segdecay.training.losses import LOSSES, CrossEntropy, Dice, Focal, Loss, Lovasz, Ohem, Tversky


class TestCrossEntropy(LossContract):
    def build(self) -> Loss:
        return CrossEntropy()


class TestFocal(LossContract):
    def build(self) -> Loss:
        return Focal()


class TestFocalOfSmallGamma(LossContract):
    def build(self) -> Loss:
        return Focal(gamma=0.3)  # the slope of (1 − p)^γ is infinite at p = 1


class TestDice(LossContract):
    def build(self) -> Loss:
        return Dice()


class TestDiceSmooth(LossContract):
    def build(self) -> Loss:
        return Dice(smooth=1.0)


class TestTversky(LossContract):
    def build(self) -> Loss:
        return Tversky()


class TestTverskyOfRecallAlone(LossContract):
    def build(self) -> Loss:
        return Tversky(alpha=0.0, beta=1.0)


class TestLovasz(LossContract):
    def build(self) -> Loss:
        return Lovasz()


class TestOhem(LossContract):
    def build(self) -> Loss:
        return Ohem()


class TestOhemByThreshold(LossContract):
    def build(self) -> Loss:
        return Ohem(share=0.1, threshold=0.7, min_kept=3)


class Forgetful(Loss):
    """Means over all pixels, ignored ones too."""

    name, words = "forgetful", "forgetful"

    def value(self, logits, target, weight):  # type: ignore[no-untyped-def]
        return CrossEntropy().sums(logits, target, weight)[0] / target.numel()

    def sums(self, logits, target, weight):  # type: ignore[no-untyped-def]
        return CrossEntropy().sums(logits, target, weight)


def test_the_contract_sees_a_loss_that_averages_over_ignored_pixels() -> None:
    class Forgetting(LossContract):
        def build(self) -> Loss:
            return Forgetful()

    with pytest.raises(AssertionError):
        Forgetting().test_an_image_of_ignored_pixels_changes_nothing()
    with pytest.raises(AssertionError):
        Forgetting().test_the_loss_of_a_data_set_does_not_depend_on_its_batches()


def test_every_loss_of_the_registry_is_tried_here() -> None:
    tried = {
        case().build().name
        for case in globals().values()
        if isinstance(case, type) and issubclass(case, LossContract) and case is not LossContract
    }
    assert tried == set(LOSSES)
