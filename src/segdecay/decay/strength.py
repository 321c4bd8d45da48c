"""How hard: the axis along which a strength is tuned, and λ, τ and D in both directions.

λ is always the optimizer's: coupled policies add λ·w to the gradient, decoupled ones multiply w by 1 − η·λ.
D = Σ η_t·λ over all steps is total decay: exp(−D) is left of a weight that gets no gradient. τ = 1/(η_peak·λ·steps an
epoch) is the timescale in epochs. Pure arithmetic: knows nothing of torch, models, optimizers' state or data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segdecay.errors import DecayError, gather

TOTAL_DECAY_GRID = (0.0, 1.0, 4.0, 16.0)
LAMBDA_GRID = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
FIRST_ORDER_LIMIT = (
    0.1  # of η·λ/(1−√μ)²; there D is off by 2.5 % (μ → 1) to 5 % (μ = 0): the share times (1+μ)/(2(1+√μ)²)
)


@dataclass(frozen=True)
class Coupling:
    """How a penalty in the gradient passes through SGD's momentum buffer."""

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def gain(self) -> float:
        """What a constant gradient is multiplied by in the long run: (1 − dampening)/(1 − μ).

        >>> round(Coupling(momentum=0.9).gain, 6)
        10.0
        """
        return (1.0 - self.dampening) / (1.0 - self.momentum) if self.momentum else 1.0


@dataclass(frozen=True)
class Axis:
    """What a policy on an optimizer is tuned along.

    `exact` says whether D is exact (decoupled) or first order (coupled L2 under SGD, valid while η·λ is far below
    (1−√μ)²: see `check_first_order`). On the axis `lambda` there is no D, and `reason` says why.
    """

    name: Literal["total_decay", "lambda"]
    unit: str
    default_grid: tuple[float, ...]
    stronger: Literal["higher", "lower"] = "higher"
    none: float = 0.0
    exact: bool = True
    reason: str = ""
    coupling: Coupling | None = None  # None: the rule multiplies the weight itself
    only_none: bool = False

    def to_lambda(self, value: float, learning_rates: Sequence[float]) -> float:
        """The optimizer's λ for a value on this axis and the learning rates of all steps to come.

        Raises:
            DecayError: the value is negative, NaN, infinite or too large (η·λ ≥ 1), or the rates are unusable.

        Example:
            >>> decoupled_axis().to_lambda(1.0, [0.125, 0.25, 0.125])
            2.0
        """
        rates = validate_rates(learning_rates)
        validate_strength(value, self.name)
        if self.only_none and value != self.none:
            raise DecayError(f"Policy 'none' has no strength; saw {value:g}, allowed: 0. Choose another policy.")
        if value >= self.largest(rates):
            raise DecayError(
                f"{self.name} = {value:g} is too strong for these learning rates: η·λ would reach 1 and remove the "
                f"weights in one step. It must stay below {self.largest(rates):.6g}."
            )
        return value if self.name == "lambda" else value / (self.gain * math.fsum(rates))

    def from_lambda(self, lambda_: float, learning_rates: Sequence[float]) -> float:
        """The value on this axis of an optimizer's λ; the inverse of `to_lambda`.

        >>> decoupled_axis().from_lambda(2.0, [0.125, 0.25, 0.125])
        1.0
        """
        rates = validate_rates(learning_rates)
        validate_strength(lambda_, "λ")
        return lambda_ if self.name == "lambda" else lambda_ * self.gain * math.fsum(rates)

    def largest(self, learning_rates: Sequence[float]) -> float:
        """The value at which η·λ = 1 at the peak learning rate; every strength must be below it.

        >>> decoupled_axis().largest([0.125, 0.25, 0.125])
        2.0
        """
        rates = validate_rates(learning_rates)
        per_lambda = 1.0 if self.name == "lambda" else self.gain * math.fsum(rates)
        return per_lambda / max(rates)

    @property
    def gain(self) -> float:
        """What momentum multiplies the decay by; 1 where the rule acts on the weight."""
        return 1.0 if self.coupling is None else self.coupling.gain


@dataclass(frozen=True)
class Described:
    """One strength in every unit it has; None where the unit has no meaning (or τ is infinite)."""

    value: float
    lambda_: float
    timescale_epochs: float | None
    total_decay: float | None
    remaining: float | None  # share left of a weight that gets no gradient, by the exact recursion


def decoupled_axis() -> Axis:
    """D = Σ η_t·λ, exact: the rule multiplies weights by 1 − η_t·λ."""
    return Axis("total_decay", "Σ η·λ", TOTAL_DECAY_GRID)


def sgd_axis(coupling: Coupling) -> Axis:
    """D = Σ η_t·λ/(1−μ), to first order: λ·w in the gradient of SGD."""
    return Axis("total_decay", "Σ η·λ/(1−μ)", TOTAL_DECAY_GRID, exact=False, coupling=coupling)


def lambda_axis(reason: str) -> Axis:
    """λ itself, where D predicts nothing for the reason given."""
    return Axis("lambda", "λ added as λ·w to the gradient", LAMBDA_GRID, exact=False, reason=reason)


def none_axis() -> Axis:
    """The axis of no decay: its only value is 0."""
    return Axis("total_decay", "Σ η·λ", (0.0,), only_none=True)


def describe_strength(
    axis: Axis,
    value: float,
    learning_rates: Sequence[float],  # of every step
    steps_per_epoch: float,
) -> Described:
    """A value on an axis as λ, τ in epochs, D, and what is left of an idle weight at the end.

    Raises:
        DecayError: as `Axis.to_lambda`, or steps_per_epoch is not positive.

    Example:
        >>> describe_strength(decoupled_axis(), 2.0, [0.1, 0.1, 0.1, 0.1], steps_per_epoch=2)
        Described(value=2.0, lambda_=5.0, timescale_epochs=1.0, total_decay=2.0, remaining=0.0625)
    """
    lambda_ = axis.to_lambda(value, learning_rates)
    if axis.name == "lambda":
        return Described(value, lambda_, None, None, None)
    timescale = timescale_epochs(axis, lambda_, max(learning_rates), steps_per_epoch) if lambda_ > 0 else None
    return Described(
        value,
        lambda_,
        timescale,
        total_decay(axis, lambda_, learning_rates),
        idle_weight(axis, lambda_, learning_rates),
    )


def total_decay(axis: Axis, lambda_: float, learning_rates: Sequence[float]) -> float:
    """D of an optimizer's λ over these learning rates.

    Raises:
        DecayError: the axis has no D (coupled L2 through an adaptive optimizer); says why.
    """
    if axis.name == "lambda":
        raise DecayError(f"D has no meaning here: {axis.reason} Tune λ itself (axis 'lambda'), or use 'decoupled'.")
    return axis.from_lambda(lambda_, learning_rates)


def timescale_epochs(axis: Axis, lambda_: float, peak_lr: float, steps_per_epoch: float) -> float:
    """τ = (1−μ)/(η_peak·λ·steps an epoch): epochs at the peak rate in which an idle weight falls to 1/e.

    Raises:
        DecayError: the axis has no τ, or a number is not positive.

    Example:
        >>> timescale_epochs(decoupled_axis(), 5.0, 0.1, 2)
        1.0
    """
    return _reciprocal(axis, "λ", lambda_, peak_lr, steps_per_epoch)


def lambda_of_timescale(axis: Axis, timescale: float, peak_lr: float, steps_per_epoch: float) -> float:
    """The optimizer's λ for a timescale τ in epochs; the inverse of `timescale_epochs`.

    >>> lambda_of_timescale(decoupled_axis(), 1.0, 0.1, 2)
    5.0
    """
    return _reciprocal(axis, "τ in epochs", timescale, peak_lr, steps_per_epoch)


def idle_weight(axis: Axis, lambda_: float, learning_rates: Sequence[float]) -> float:
    """What is left of a weight of 1 that gets no gradient: the rule's own recursion, step by step.

    Negative where momentum makes it overshoot.

    Raises:
        DecayError: the axis has no such law.
    """
    total_decay(axis, lambda_, learning_rates)  # refuses what has no meaning
    weight = 1.0
    if axis.coupling is None:
        for rate in learning_rates:
            weight *= 1.0 - rate * lambda_
        return weight
    coupling, buffer = axis.coupling, 0.0
    for step, rate in enumerate(learning_rates):
        gradient = lambda_ * weight
        share = 1.0 if step == 0 else 1.0 - coupling.dampening  # torch fills the buffer undamped
        buffer = coupling.momentum * buffer + share * gradient
        weight -= rate * (gradient + coupling.momentum * buffer if coupling.nesterov else buffer)
    return weight


def check_first_order(axis: Axis, lambda_: float, learning_rates: Sequence[float]) -> tuple[str, ...]:
    """A finding where exp(−D) no longer says what is left: η·λ is not far below (1−√μ)². Else empty.

    >>> check_first_order(sgd_axis(Coupling(0.99)), 0.1, [0.004] * 10)[0][:62]
    'η·λ = 0.0004 is not far below (1−√μ)² = 2.51e-05 (16 times it)'
    >>> check_first_order(sgd_axis(Coupling(0.9)), 1e-4, [0.01] * 10)
    ()
    """
    if axis.coupling is None:
        return ()
    bound = (1.0 - math.sqrt(axis.coupling.momentum)) ** 2
    reached = max(validate_rates(learning_rates)) * lambda_
    if reached <= FIRST_ORDER_LIMIT * bound:
        return ()
    what = "an idle weight oscillates" if reached > bound else "D is off by more than a few percent"
    finding = (
        f"η·λ = {reached:.3g} is not far below (1−√μ)² = {bound:.3g} ({reached / bound:.2g} times it): {what}. "
        f"Lower the learning rate, λ or the momentum, or use 'decoupled', where D is exact."
    )
    return (finding,)


def validate_strength(value: float, name: str = "strength") -> None:
    """Raises DecayError unless the value is a finite number that is not negative."""
    if not math.isfinite(value) or value < 0:
        raise DecayError(f"{name} must be a finite number, 0 or more; saw {value}.")


def validate_rates(learning_rates: Sequence[float]) -> list[float]:
    """The learning rates as floats.

    Raises:
        DecayError: none are given, one is negative or not finite, or all are 0.
    """
    rates = [float(rate) for rate in learning_rates]
    if not rates:
        raise DecayError("No learning rates: give those of all steps to come, such as [0.01] * steps.")
    bad = [(step, rate) for step, rate in enumerate(rates) if not math.isfinite(rate) or rate < 0]
    gather(
        DecayError, [f"Learning rate of step {step} is {rate}; it must be finite, 0 or more." for step, rate in bad[:5]]
    )
    if max(rates) == 0:
        raise DecayError(f"All {len(rates)} learning rates are 0: nothing would be learned or decayed.")
    return rates


def _reciprocal(axis: Axis, name: str, value: float, peak_lr: float, steps_per_epoch: float) -> float:
    """1/(gain·η·steps·value): τ of λ, and λ of τ."""
    if axis.name == "lambda":
        raise DecayError(f"τ has no meaning here: {axis.reason} Tune λ itself (axis 'lambda'), or use 'decoupled'.")
    numbers = {name: value, "peak learning rate": peak_lr, "steps per epoch": steps_per_epoch}
    faults = [
        f"{key} must be a finite number above 0; saw {number}."
        for key, number in numbers.items()
        if not (math.isfinite(number) and number > 0)
    ]
    gather(DecayError, faults)
    return 1.0 / (axis.gain * peak_lr * steps_per_epoch * value)
