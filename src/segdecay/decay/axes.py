"""Axes along which the strength of a regularizer is tuned, and the conversion of their values to the optimizer's λ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from segdecay.errors import DecayError, gather

TOTAL_DECAY_GRID = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
LAMBDA_GRID = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Coupling:
    """The settings of SGD's momentum buffer, through which a penalty in the gradient passes."""

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def gain(self) -> float:
        """The factor on a constant gradient in the long run: (1 − dampening)/(1 − μ).

        >>> round(Coupling(momentum=0.9).gain, 6)
        10.0
        """
        return (1.0 - self.dampening) / (1.0 - self.momentum) if self.momentum else 1.0


@dataclass(frozen=True)
class StrengthAxis:
    """The axis along which a regularizer is tuned under an optimizer.

    `exact` says whether D is exact (decoupled) or first order (coupled L2 under SGD, valid while η·λ is far below
    (1−√μ)²: see `check_first_order`). Names: total_decay; lambda, where there is no D and `reason` says why;
    relative_shrinkage, Σ η·λ over the median initial size of the shrunk weights, which `with_size` must set before
    there is a λ; and axes without λ, such as max_norm, whose value is passed to `attach` as it is.
    """

    name: str
    unit: str
    default_grid: tuple[float, ...]
    stronger: Literal["higher", "lower"] = "higher"
    none: float = 0.0
    exact: bool = True
    reason: str = ""
    coupling: Coupling | None = None  # None: the rule multiplies the weight itself
    only_none: bool = False
    has_lambda: bool = True
    size: float | None = None  # relative_shrinkage only
    square: bool = False  # the weight is multiplied by 1 − (η²/η_max)·λ instead of 1 − η·λ
    peak_lr: float | None = None  # η_max, if it is not the largest of the given rates
    below: float = math.inf  # upper bound of the values, exclusive

    def with_size(self, size: float | None) -> StrengthAxis:
        """The axis for weights of this median size; unchanged if it does not depend on sizes."""
        return replace(self, size=size) if self.name == "relative_shrinkage" else self

    def to_strength(self, value: float, learning_rates: Sequence[float]) -> float:
        """The strength for `attach` of a value on this axis: λ, or the value itself if there is no λ.

        Raises:
            DecayError: as `to_lambda`.
        """
        if self.has_lambda:
            return self.to_lambda(value, learning_rates)
        self.validate(value)
        return value

    def validate(self, value: float) -> None:
        """Raise DecayError unless a value is on this axis: 0 or more; if lower is stronger, above 0 or inf."""
        if self.stronger == "lower":
            if math.isnan(value) or value <= 0:
                raise DecayError(f"{self.name} must be above 0; saw {value:g}. {self.none:g} means no decay.")
            return
        validate_strength(value, self.name)
        if value >= self.below:
            raise DecayError(f"{self.name} must be from 0 to below {self.below:g}; saw {value:g}.")
        if self.only_none and value != self.none:
            raise DecayError(
                f"Regularizer 'none' has no strength; saw {value:g}, allowed: 0. Choose another regularizer."
            )

    def to_lambda(self, value: float, learning_rates: Sequence[float]) -> float:
        """The optimizer's λ for a value on this axis and the learning rates of all steps to come.

        Raises:
            DecayError: the value is negative, NaN, infinite or too large (η·λ ≥ 1), or the rates are unusable.

        Example:
            >>> decoupled_axis().to_lambda(1.0, [0.125, 0.25, 0.125])
            2.0
        """
        rates = validate_rates(learning_rates)
        self.validate(value)
        scale = self._scale(rates)
        if value >= self.largest(rates):
            raise DecayError(
                f"{self.name} = {value:g} is too strong for these learning rates: η·λ would reach 1 and remove the "
                f"weights in one step. It must stay below {self.largest(rates):.6g}."
            )
        return value / scale

    def from_lambda(self, lambda_: float, learning_rates: Sequence[float]) -> float:
        """The value on this axis of an optimizer's λ; the inverse of `to_lambda`.

        >>> decoupled_axis().from_lambda(2.0, [0.125, 0.25, 0.125])
        1.0
        """
        rates = validate_rates(learning_rates)
        validate_strength(lambda_, "λ")
        return lambda_ * self._scale(rates)

    def _scale(self, rates: Sequence[float]) -> float:
        """The axis value of λ = 1."""
        if not self.has_lambda:
            raise DecayError(f"The axis '{self.name}' has no λ: {self.reason}")
        if self.name == "lambda":
            return 1.0
        total = self.gain * math.fsum(self.shrinking_rates(rates))
        if self.name != "relative_shrinkage":
            return total
        if self.size is None or not self.size > 0:
            raise DecayError(
                f"On the axis relative_shrinkage λ depends on the size of the weights: give it by with_size(); saw "
                f"{self.size}."
            )
        return total / self.size

    def largest(self, learning_rates: Sequence[float]) -> float:
        """The smallest value that is too large: there η·λ = 1 at the peak learning rate, or the axis ends.

        >>> decoupled_axis().largest([0.125, 0.25, 0.125])
        2.0
        """
        rates = validate_rates(learning_rates)
        if not self.has_lambda or self.name == "relative_shrinkage":
            return self.below
        return self._scale(rates) / max(rates)

    def shrinking_rates(self, learning_rates: Sequence[float]) -> list[float]:
        """The factor on λ in each step: η, or η²/η_max on a square axis.

        >>> corrected_axis().shrinking_rates([0.5, 1.0])
        [0.25, 1.0]
        """
        rates = validate_rates(learning_rates)
        if not self.square:
            return rates
        peak = self.peak_lr or max(rates)
        return [rate * rate / peak for rate in rates]

    @property
    def gain(self) -> float:
        """The factor of momentum on the decay; 1 if the rule multiplies the weight."""
        return 1.0 if self.coupling is None else self.coupling.gain


def decoupled_axis(unit: str = "Σ η·λ", reason: str = "") -> StrengthAxis:
    """D = Σ η_t·λ, exact: the rule multiplies weights by 1 − η_t·λ. `reason` says if D is only a bound."""
    return StrengthAxis("total_decay", unit, TOTAL_DECAY_GRID, reason=reason)


def corrected_axis(peak_lr: float | None = None, reason: str = "") -> StrengthAxis:
    """D = Σ η_t²/η_max·λ, exact: the rule multiplies weights by 1 − η_t²/η_max·λ.

    Args:
        peak_lr: η_max; default the largest of the learning rates.
        reason: the weights for which it holds.

    >>> corrected_axis().to_lambda(1.0, [0.25, 0.5, 0.25])
    1.3333333333333333
    """
    return StrengthAxis("total_decay", "Σ η²/η_max·λ", TOTAL_DECAY_GRID, reason=reason, square=True, peak_lr=peak_lr)


def sgd_axis(coupling: Coupling) -> StrengthAxis:
    """D = Σ η_t·λ/(1−μ), to first order: λ·w in the gradient of SGD."""
    return StrengthAxis("total_decay", "Σ η·λ/(1−μ)", TOTAL_DECAY_GRID, exact=False, coupling=coupling)


def lambda_axis(reason: str, unit: str = "λ added as λ·w to the gradient") -> StrengthAxis:
    """λ itself, if D predicts nothing for the given reason."""
    return StrengthAxis("lambda", unit, LAMBDA_GRID, exact=False, reason=reason)


def none_axis() -> StrengthAxis:
    """The axis of no decay: its only value is 0."""
    return StrengthAxis("total_decay", "Σ η·λ", (0.0,), only_none=True)


def validate_strength(value: float, name: str = "strength") -> None:
    """Raise DecayError unless the value is a finite number that is not negative."""
    if not math.isfinite(value) or value < 0:
        raise DecayError(f"{name} must be a finite number, 0 or more; saw {value}.")


def validate_rates(learning_rates: Sequence[float]) -> list[float]:
    """The learning rates as floats.

    Raises:
        DecayError: none are given, one is negative or not finite, or all are 0.
    """
    rates = [float(rate) for rate in learning_rates]
    if not rates:
        raise DecayError("No learning rates were given: give those of all steps to come, such as [0.01] * steps.")
    bad = [(step, rate) for step, rate in enumerate(rates) if not math.isfinite(rate) or rate < 0]
    gather(
        DecayError, [f"Learning rate of step {step} is {rate}; it must be finite, 0 or more." for step, rate in bad[:5]]
    )
    if max(rates) == 0:
        raise DecayError(f"All {len(rates)} learning rates are 0: nothing would be learned or decayed.")
    return rates


RELATIVE_GRID = (0.0, 0.1, 0.3, 1.0, 3.0)


def relative_axis(coupling: Coupling | None = None) -> StrengthAxis:
    """Σ η·λ (times 1/(1−μ) under SGD) over the median initial size of the shrunk weights.

    At 1 a weight of median size that gets no gradient just reaches zero. `with_size` sets the size.

    >>> relative_axis().with_size(0.5).to_lambda(1.0, [0.1, 0.1])
    2.5
    """
    return StrengthAxis("relative_shrinkage", "Σ η·λ / median size", RELATIVE_GRID, coupling=coupling)


def bound_axis(name: str, unit: str, grid: tuple[float, ...], reason: str) -> StrengthAxis:
    """An axis without λ on which smaller is stronger and inf means no bound: for bounds and factors of bounds.

    >>> bound_axis("max_norm", "c", (float("inf"), 4.0, 2.0), "it bounds norms.").to_strength(2.0, [0.1])
    2.0
    """
    return StrengthAxis(name, unit, grid, stronger="lower", none=math.inf, has_lambda=False, reason=reason)
