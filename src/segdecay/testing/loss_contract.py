"""The contract of losses, for our own and those of third parties: subclass it in a test module.

Needs no test framework: a broken promise is an AssertionError, and pytest collects the methods that begin with `test_`.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.testing import assert_close

from segdecay.data.dataset import IGNORE
from segdecay.testing.small_runs import expect
from segdecay.training.losses import Loss

CLASSES = 4
WEIGHT = (0.5, 1.0, 2.0, 4.0)
ADJUSTMENT = (-0.1, -1.0, -2.0, -3.0)
SURE = 40.0  # a logit with which every other class has the probability e⁻⁴⁰
SOUGHT = 1e-3  # length of a step that must lower the loss


class LossContract:
    """What every loss must do; `build` returns the loss under test.

    Promises: ignored pixels, even with infinite logits, change no bit of value or gradient; a batch of ignored pixels
    has loss 0 and gradient 0; logits in half precision are computed in single precision; logits of ±10⁴ give finite
    values and gradients; so does a batch that lacks a class, whatever the weight of this class; relabelled classes and
    reordered pixels give the same loss; only the ratios of class weights matter; correct predictions have loss 0; the
    gradient is the derivative of the value, and a small step against it lowers the loss; the loss of a data set does
    not depend on its batches; equal calls give equal bits.

    Example:
        >>> from segdecay.training.losses import Dice
        >>> class TestDice(LossContract):
        ...     def build(self) -> Loss:
        ...         return Dice()
        >>> TestDice().test_ignored_pixels_change_neither_value_nor_gradient()
    """

    @abstractmethod
    def build(self) -> Loss:
        """The loss, with the options to be tested."""

    # --- the promises -------------------------------------------------------------------------------------------------

    def test_ignored_pixels_change_neither_value_nor_gradient(self) -> None:
        logits, target = batch(0)
        quiet = self._both(logits, target)
        for under in (1e4, -1e4, float("inf"), float("nan")):
            loud = logits.clone()
            loud.permute(0, 2, 3, 1)[target == IGNORE] = torch.tensor([under, 7.0, -3.0, 0.0])
            value, gradient = self._both(loud, target)
            expect(torch.equal(value, quiet[0]), f"{under} under ignored pixels: {value} instead of {quiet[0]}.")
            expect(torch.equal(gradient, quiet[1]), f"{under} under ignored pixels changed the gradient.")
        reached = quiet[1].permute(0, 2, 3, 1)[target == IGNORE]
        expect(not reached.any(), "A gradient reaches the logits of ignored pixels.")

    def test_an_image_of_ignored_pixels_changes_nothing(self) -> None:
        logits, target = batch(1)
        more = torch.cat([logits, torch.randn(1, *logits.shape[1:])])
        padded = torch.cat([target, torch.full_like(target[:1], IGNORE)])
        assert_close(self._both(more, padded)[0], self._both(logits, target)[0])
        expect(not self._both(more, padded)[1][-1].any(), "A gradient reaches an image of ignored pixels.")

    def test_a_batch_of_ignored_pixels_gives_zero_and_no_gradient(self) -> None:
        logits, target = batch(2)
        for dtype in (torch.float16, torch.float32):
            for weight in (None, torch.tensor(WEIGHT)):
                value, gradient = self._both(logits.to(dtype), torch.full_like(target, IGNORE), weight)
                expect(value.item() == 0, f"A batch of ignored pixels gives {value.item()}, not 0.")
                expect(torch.equal(gradient, torch.zeros_like(gradient)), "Its gradient is not 0.")

    def test_half_precision_is_computed_in_single(self) -> None:
        logits, target = batch(3)
        for dtype in (torch.float16, torch.bfloat16):
            low = logits.to(dtype)
            expected, slope = self._both(low.float(), target)
            with torch.autocast("cpu", dtype):
                value, gradient = self._both(low, target)
            expect(value.dtype == torch.float32, f"{dtype} gives a loss in {value.dtype}.")
            expect(torch.equal(value, expected), f"{dtype} gives {value} instead of {expected}.")
            assert_close(gradient, slope.to(dtype))

    def test_extreme_logits_stay_finite(self) -> None:
        for seed in range(3):
            logits, target = batch(seed)
            for dtype in (torch.float16, torch.float32):
                value, gradient = self._both((logits.sign() * 1e4).to(dtype), target)
                expect(bool(value.isfinite()), f"Logits of ±10⁴ in {dtype} give {value}.")
                expect(
                    bool(gradient.isfinite().all()), f"Logits of ±10⁴ in {dtype} give gradients that are not finite."
                )

    def test_a_class_that_the_batch_lacks_is_defined_whatever_its_weight(self) -> None:
        logits, target = batch(4)
        target[target == 3] = 1
        light, heavy = torch.tensor(WEIGHT), torch.tensor([*WEIGHT[:3], 400.0])
        found = [self._both(logits, target, weight) for weight in (light, heavy)]
        for one, other in zip(*found, strict=True):
            expect(bool(one.isfinite().all()), "A class that the batch lacks gives values that are not finite.")
            expect(torch.equal(one, other), "The weight of a class that the batch lacks has an effect.")
        only, gradient = self._both(logits, torch.where(target == IGNORE, IGNORE, 0))
        expect(bool(only.isfinite() and gradient.isfinite().all()), "A batch of one class is not finite.")

    def test_classes_may_be_relabelled(self) -> None:
        logits, target = batch(5)
        order = torch.tensor([2, 0, 3, 1])  # the new class k is the old one order[k]
        renamed = torch.where(target == IGNORE, IGNORE, order.argsort()[target.clamp_max(CLASSES - 1)])
        weight, shift = torch.tensor(WEIGHT), torch.tensor(ADJUSTMENT)
        value, gradient = self._both(logits, target, weight, shift)
        again, permuted = self._both(logits[:, order], renamed, weight[order], shift[order])
        assert_close(again, value)
        assert_close(permuted, gradient[:, order])

    def test_the_order_of_pixels_does_not_matter(self) -> None:
        logits, target = batch(6)
        order = torch.randperm(target[0].numel(), generator=torch.Generator().manual_seed(0))
        value, gradient = self._both(logits, target)
        shuffled, moved = self._both(
            logits.flatten(2)[..., order].view_as(logits), target.flatten(1)[:, order].view_as(target)
        )
        assert_close(shuffled, value)
        assert_close(moved.flatten(2), gradient.flatten(2)[..., order])

    def test_class_weights_are_relative(self) -> None:
        logits, target = batch(7)
        ones = torch.ones(CLASSES)
        plain = self._both(logits, target, None)
        assert_close(self._both(logits, target, ones), plain)
        assert_close(self._both(logits, target, 8 * torch.tensor(WEIGHT)), self._both(logits, target))
        moved = self._both(logits, target)[1]
        expect(not torch.allclose(moved, plain[1]), "Class weights have no effect.")

    def test_the_right_answer_costs_nothing_and_any_other_something(self) -> None:
        logits, target = batch(8)
        right = torch.nn.functional.one_hot(target.clamp_max(CLASSES - 1), CLASSES).movedim(-1, 1) * SURE
        best, worst = self._both(right.float(), target)[0], self._both(-right.float(), target)[0]
        value = self._both(logits, target)[0]
        expect(abs(best.item()) < 1e-5, f"A correct prediction has loss {best.item()}.")
        expect(bool(best < value < worst), f"Right {best.item()}, random {value.item()}, wrong {worst.item()}.")

    def test_the_gradient_is_that_of_the_value_and_leads_downhill(self) -> None:
        logits, target = batch(9)
        weight, shift = torch.tensor(WEIGHT), torch.tensor(ADJUSTMENT)
        leaf = logits.double().requires_grad_()
        torch.autograd.gradcheck(lambda z: self.build()(z, target, weight, shift), (leaf,))
        value, gradient = self._both(logits.double(), target)
        lower = self._both(logits.double() - SOUGHT * gradient / gradient.norm(), target)[0]
        expect(bool(lower < value), f"A step against the gradient leads from {value.item()} to {lower.item()}.")

    def test_the_loss_of_a_data_set_does_not_depend_on_its_batches(self) -> None:
        logits, target = batch(10, images=5)
        target[2] = IGNORE
        loss, weight = self.build(), torch.tensor(WEIGHT)
        found = []
        for size in (1, 2, 5):
            parts = [
                loss.sums(z.where((t != IGNORE).unsqueeze(1), 0.0), t, weight)
                for z, t in zip(torch.split(logits, size), torch.split(target, size), strict=True)
            ]
            found.append(sum(part[0].item() for part in parts) / sum(part[1].item() for part in parts))
        rest = [0, 1, 3, 4]
        total, mass = (part.item() for part in loss.sums(logits[rest], target[rest], weight))
        assert_close([*found, total / mass], found[:1] * 4)
        one = loss(logits[:1], target[:1], weight).item()
        total, mass = (part.item() for part in loss.sums(logits[:1], target[:1], weight))
        expect(
            abs(total / mass - one) < 1e-5 * abs(one),
            f"For one image, `sums` gives {total / mass}, not {one}.",
        )

    def test_the_same_call_gives_the_same_bits(self) -> None:
        logits, target = batch(11)
        logits = logits.round()  # many ties
        was = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            one, other = self._both(logits, target), self._both(logits.clone(), target.clone())
        finally:
            torch.use_deterministic_algorithms(was)
        expect(all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), "Two calls differ.")

    def test_it_has_a_name_and_a_source(self) -> None:
        loss = self.build()
        expect(bool(loss.name and loss.words), "A loss needs `name`, and `words` for its name in a sentence.")
        expect("Source:" in (type(loss).__doc__ or ""), "Its docstring names no source.")

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _both(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None = torch.tensor(WEIGHT),  # noqa: B008 - never changed
        adjustment: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Value and gradient."""
        leaf = logits.clone().requires_grad_()
        value = self.build()(leaf, target, weight, adjustment)
        expect(value.shape == (), f"The loss is a scalar; saw the shape {tuple(value.shape)}.")
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient


def batch(seed: int, images: int = 2, ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    """Random logits (N, 4, 5, 6), and masks (N, 5, 6) that hold every class and ignored pixels."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, CLASSES, 5, 6, generator=draw)
    target = torch.randint(0, CLASSES, (images, 5, 6), generator=draw)
    target[torch.rand(target.shape, generator=draw) < ignored] = IGNORE
    target[:, 0, :CLASSES] = torch.arange(CLASSES)
    return logits, target
