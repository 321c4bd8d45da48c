"""Conversion between a value on an axis, λ, the timescale τ and the total decay D.

λ is always the optimizer's: coupled regularizers add λ·w to the gradient, decoupled ones multiply w by 1 − η·λ. D = Σ
η_t·λ over all steps is total decay: exp(−D) is left of a weight that gets no gradient. τ = 1/(η_peak·λ·steps per epoch)
is the timescale in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.decay.axes import StrengthAxis, validate_rates
from segdecay.errors import DecayError, gather

FIRST_ORDER_LIMIT = (
    0.1  # of η·λ/(1−√μ)²; there D is off by 2.5 % (μ → 1) to 5 % (μ = 0): the share times (1+μ)/(2(1+√μ)²)
)


@dataclass(frozen=True)
class Described:
    """One strength in all units; None where a unit does not apply or τ is infinite."""

    value: float
    lambda_: float | None
    timescale_epochs: float | None
    total_decay: float | None
    remaining: float | None  # share left of a weight that gets no gradient, by the exact recursion


def describe_strength(
    axis: StrengthAxis,
    value: float,
    learning_rates: Sequence[float],  # of every step
    steps_per_epoch: float,
) -> Described:
    """A value on an axis as λ, τ in epochs, D, and the share left at the end of a weight that gets no gradient.

    Raises:
        DecayError: as `StrengthAxis.to_lambda`, or steps_per_epoch is not positive.

    Example:
        >>> from segdecay.decay.axes import decoupled_axis
        >>> describe_strength(decoupled_axis(), 2.0, [0.1, 0.1, 0.1, 0.1], steps_per_epoch=2)
        Described(value=2.0, lambda_=5.0, timescale_epochs=1.0, total_decay=2.0, remaining=0.0625)
    """
    if not axis.has_lambda or (axis.name == "relative_shrinkage" and axis.size is None):
        axis.validate(value)
        return Described(value, None, None, None, None)
    lambda_ = axis.to_lambda(value, learning_rates)
    if axis.name != "total_decay":
        return Described(value, lambda_, None, None, None)
    timescale = timescale_epochs(axis, lambda_, max(learning_rates), steps_per_epoch) if lambda_ > 0 else None
    return Described(
        value,
        lambda_,
        timescale,
        total_decay(axis, lambda_, learning_rates),
        idle_weight(axis, lambda_, learning_rates),
    )


def total_decay(axis: StrengthAxis, lambda_: float, learning_rates: Sequence[float]) -> float:
    """D of an optimizer's λ over these learning rates.

    Raises:
        DecayError: the axis has no D (coupled L2 through an adaptive optimizer); says why.
    """
    if axis.name != "total_decay":
        raise DecayError(f"D has no meaning here: {axis.reason} Tune λ itself (axis 'lambda'), or use 'decoupled'.")
    return axis.from_lambda(lambda_, learning_rates)


def timescale_epochs(axis: StrengthAxis, lambda_: float, peak_lr: float, steps_per_epoch: float) -> float:
    """τ = (1−μ)/(η_peak·λ·steps per epoch): epochs at the peak rate until a weight that gets no gradient is at 1/e.

    Raises:
        DecayError: the axis has no τ, or a number is not positive.

    Example:
        >>> from segdecay.decay.axes import decoupled_axis
        >>> timescale_epochs(decoupled_axis(), 5.0, 0.1, 2)
        1.0
    """
    return _reciprocal(axis, "λ", lambda_, peak_lr, steps_per_epoch)


def lambda_of_timescale(axis: StrengthAxis, timescale: float, peak_lr: float, steps_per_epoch: float) -> float:
    """The optimizer's λ for a timescale τ in epochs; the inverse of `timescale_epochs`.

    >>> from segdecay.decay.axes import decoupled_axis
    >>> lambda_of_timescale(decoupled_axis(), 1.0, 0.1, 2)
    5.0
    """
    return _reciprocal(axis, "τ in epochs", timescale, peak_lr, steps_per_epoch)


def idle_weight(axis: StrengthAxis, lambda_: float, learning_rates: Sequence[float]) -> float:
    """The final value of a weight of 1 that gets no gradient, by the recursion of the rule, step by step.

    It is negative if momentum makes it overshoot.

    Raises:
        DecayError: the axis has no D.
    """
    total_decay(axis, lambda_, learning_rates)  # refuses axes without D
    weight = 1.0
    if axis.coupling is None:
        for rate in axis.shrinking_rates(learning_rates):
            weight *= 1.0 - rate * lambda_
        return weight
    coupling, buffer = axis.coupling, 0.0
    for step, rate in enumerate(learning_rates):
        gradient = lambda_ * weight
        share = 1.0 if step == 0 else 1.0 - coupling.dampening  # torch fills the buffer without dampening
        buffer = coupling.momentum * buffer + share * gradient
        weight -= rate * (gradient + coupling.momentum * buffer if coupling.nesterov else buffer)
    return weight


def check_first_order(axis: StrengthAxis, lambda_: float, learning_rates: Sequence[float]) -> tuple[str, ...]:
    """A finding if exp(−D) is not the share left, since η·λ is not far below (1−√μ)²; else empty.

    >>> from segdecay.decay.axes import Coupling, sgd_axis
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
    what = "a weight that gets no gradient oscillates" if reached > bound else "D is off by more than a few percent"
    finding = (
        f"η·λ = {reached:.3g} is not far below (1−√μ)² = {bound:.3g} ({reached / bound:.2g} times it): {what}. "
        f"Lower the learning rate, λ or the momentum, or use 'decoupled', where D is exact."
    )
    return (finding,)


def _reciprocal(axis: StrengthAxis, name: str, value: float, peak_lr: float, steps_per_epoch: float) -> float:
    """1/(gain·η·steps·value): from λ to τ, and from τ to λ."""
    if axis.name != "total_decay":
        raise DecayError(f"τ has no meaning here: {axis.reason} Tune λ itself (axis 'lambda'), or use 'decoupled'.")
    numbers = {name: value, "peak learning rate": peak_lr, "steps per epoch": steps_per_epoch}
    faults = [
        f"{key} must be a finite number above 0; saw {number}."
        for key, number in numbers.items()
        if not (math.isfinite(number) and number > 0)
    ]
    gather(DecayError, faults)
    return 1.0 / (axis.gain * peak_lr * steps_per_epoch * value)
