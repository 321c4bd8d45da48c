"""The strength given to `attach`, in the user's unit, until it is converted to λ.

λ depends on the regularizer's axis, on the learning rates to come or on another tool's convention. `Strength` holds the
given value and its unit; `Given.resolve` converts it once the rest is known.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from segdecay.decay.axes import StrengthAxis, validate_rates
from segdecay.decay.conventions import Numbers, from_convention
from segdecay.decay.groups import Partition, group_multipliers
from segdecay.decay.regularizers.base import Regularizer
from segdecay.decay.strength import lambda_of_timescale
from segdecay.errors import DecayError

Schedule = Callable[[int], float]  # λ at a step, counted from 0
Unit = Literal["lambda", "axis", "total_decay", "timescale", "convention"]
MARK = "segdecay.Strength"  # the only key of a Strength written as JSON


def number_of(value: object, what: str) -> float:
    """A real number as float.

    Raises:
        DecayError: the value is a text, a bool, or anything else that is not a real number.

    Example:
        >>> number_of(1, "strength")
        1.0
    """
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        raise DecayError(
            f"{what} must be a number; saw the text {value!r}. YAML reads 1e-4 as text: write 1.0e-4 there, or pass "
            f"float(...)."
        )
    raise DecayError(f"{what} must be a number; saw {type(value).__name__} ({value!r:.60}).")


def scheduled(schedule: Schedule, step: int) -> float:
    """λ of a schedule at a step.

    Raises:
        DecayError: the function fails, or does not return a number.
    """
    try:
        value = schedule(step)
    except Exception as error:
        raise DecayError(
            f"The schedule given as strength failed at step {step}: {type(error).__name__}: {error}. It must return λ, "
            f"a number, for every step counted from 0."
        ) from error
    return number_of(value, f"strength at step {step}")


@dataclass(frozen=True)
class Strength:
    """A strength in a unit other than plain λ. Use the constructors `from_...`.

    Attributes:
        unit: that of the constructor.
        value: the given number; under `from_lambda` it may be a function of the step.
        learning_rates: of all steps to come; None if not given.
        steps_per_epoch: optimizer steps; None if not given.
        convention: name of another tool's convention, else empty.
        numbers: those that the convention needs.

    Example:
        >>> Strength.from_total_decay(2.0, learning_rates=[0.1, 0.1]).value
        2.0
    """

    unit: Unit
    value: float | Schedule
    learning_rates: tuple[float, ...] | None = None
    steps_per_epoch: float | None = None
    convention: str = ""
    numbers: Numbers | None = None

    @classmethod
    def from_lambda(cls, value: float | Schedule, *, learning_rates: Sequence[float] | None = None) -> Strength:
        """λ of the regularizer's formula (c for max_norm), or a function of the step.

        Args:
            value: 0 or more.
            learning_rates: of all steps to come, for regularizers that need the peak rate, and for the warning if other
                rates are used.
        """
        given = value if callable(value) else number_of(value, "λ")
        return cls("lambda", given, _rates(learning_rates))

    @classmethod
    def from_total_decay(cls, value: float, *, learning_rates: Sequence[float] | None = None) -> Strength:
        """D = Σ η·λ over the steps to come: exp(−D) is left of a weight that gets no gradient.

        Args:
            value: D, 0 or more.
            learning_rates: of all steps to come. They may be left out only for the callbacks of
                `segdecay.integrations`, which read them from the trainer's scheduler.
        """
        return cls("total_decay", number_of(value, "total decay D"), _rates(learning_rates))

    @classmethod
    def from_timescale(
        cls, epochs: float, *, learning_rates: Sequence[float] | None = None, steps_per_epoch: float | None = None
    ) -> Strength:
        """τ in epochs: at the peak rate a weight that gets no gradient falls to 1/e in that time.

        Args:
            epochs: τ, above 0.
            learning_rates: of all steps to come.
            steps_per_epoch: optimizer steps, above 0.
        """
        steps = None if steps_per_epoch is None else number_of(steps_per_epoch, "steps_per_epoch")
        return cls("timescale", number_of(epochs, "τ in epochs"), _rates(learning_rates), steps)

    @classmethod
    def from_axis(cls, value: float, *, learning_rates: Sequence[float] | None = None) -> Strength:
        """A value on the regularizer's axis (`axis_of`), such as the one a verdict reports.

        Args:
            value: on the axis.
            learning_rates: of all steps to come, if the axis depends on them.
        """
        return cls("axis", number_of(value, "axis value"), _rates(learning_rates))

    @classmethod
    def from_convention(
        cls,
        name: str,
        value: float,
        *,
        numbers: Numbers | None = None,
        learning_rates: Sequence[float] | None = None,
    ) -> Strength:
        """A strength in another tool's convention.

        Args:
            name: of the convention; see `convention_names`.
            value: in the unit of that tool.
            numbers: those that the convention needs, such as base_lr or n_samples.
            learning_rates: as `from_lambda`.
        """
        return cls(
            "convention", number_of(value, name), _rates(learning_rates), convention=name, numbers=numbers or Numbers()
        )

    def with_learning_rates(self, rates: Sequence[float]) -> Strength:
        """The same strength for these learning rates."""
        return replace(self, learning_rates=_rates(rates))

    def with_steps_per_epoch(self, steps: float) -> Strength:
        """The same strength for this number of optimizer steps per epoch."""
        return replace(self, steps_per_epoch=steps)

    def to_json(self) -> dict[str, Any]:
        """As plain values.

        Raises:
            DecayError: the value is a function.
        """
        if callable(self.value):
            raise DecayError("A strength that is a function of the step cannot be written as JSON.")
        return {MARK: asdict(self)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Strength:
        """The inverse of `to_json`."""
        fields = dict(saved[MARK])
        given, rates = fields.pop("numbers"), fields.pop("learning_rates")
        return cls(**fields, numbers=None if given is None else Numbers(**given), learning_rates=_rates(rates))


def _rates(learning_rates: Sequence[float] | None) -> tuple[float, ...] | None:
    if learning_rates is None:
        return None
    return tuple(validate_rates([number_of(rate, "learning rate") for rate in learning_rates]))


GivenStrength = float | Schedule | Mapping[str, float] | Strength


@dataclass(frozen=True)
class Given:
    """The argument `strength` of `attach`, checked."""

    strength: Strength | None  # None: one number for each group
    by_group: Mapping[str, float] | None = None

    @classmethod
    def of(cls, strength: object) -> Given:
        """Raise DecayError unless it is a number, a function, a mapping or a `Strength`."""
        if isinstance(strength, Strength):
            return cls(strength)
        if isinstance(strength, Mapping):
            if MARK in strength:
                return cls(Strength.from_json(strength))
            named = {str(group): number_of(value, f"strength of group '{group}'") for group, value in strength.items()}
            return cls(None, named)
        if callable(strength):
            return cls(Strength.from_lambda(strength))
        return cls(Strength.from_lambda(number_of(strength, "strength")))

    @property
    def learning_rates(self) -> tuple[float, ...] | None:
        """The learning rates of all steps to come, if given."""
        return None if self.strength is None else self.strength.learning_rates

    @property
    def asks_for_law(self) -> bool:
        """Whether D, τ or an axis value was given, which apply only if the regularizer acts by its formula."""
        return self.strength is not None and self.strength.unit in ("total_decay", "timescale", "axis")

    @property
    def asks_for_rates(self) -> bool:
        """Whether D or τ was given together with the learning rates of the training."""
        return self.strength is not None and self.strength.unit in ("total_decay", "timescale")

    def multipliers(
        self, regularizer: Regularizer, partition: Partition, given: Mapping[str, float] | None
    ) -> tuple[float | None, dict[str, float]]:
        """The λ shared by the groups, if strengths are by group, and the multiplier of every group.

        Raises:
            DecayError: strengths by group and multipliers are both given, a group is unknown, or a value is out of
                range.
        """
        if self.by_group is None:
            return None, group_multipliers(partition, given)
        if given is not None:
            raise DecayError("Strengths by group and multipliers exclude each other. Give one of them.")
        acting = {group: value for group, value in self.by_group.items() if value != regularizer.none}
        for value in acting.values():
            regularizer.validate(value, 0.0)
        base = max(acting.values(), default=regularizer.none)
        factors = dict.fromkeys(partition.groups, 0.0)
        factors |= dict.fromkeys(self.by_group, 0.0)
        factors |= {group: regularizer.multiplier(value, base) for group, value in acting.items()}
        return base, group_multipliers(partition, factors)

    def resolve(self, axis: StrengthAxis, regularizer: str, optimizer: Optimizer) -> float | Schedule:
        """λ of the given strength on an axis whose size, if it needs one, is set.

        Raises:
            DecayError: learning rates or steps are missing, or the unit does not apply to this axis.
        """
        given = self.strength
        if given is None:
            raise DecayError("Strengths by group have no single λ.")
        if callable(given.value) or given.unit == "lambda":
            return given.value
        if given.unit == "convention":
            return from_convention(
                given.convention, given.value, regularizer=regularizer, optimizer=optimizer, numbers=given.numbers
            )
        if given.unit == "axis":
            needs_rates = axis.has_lambda and axis.name != "lambda"
            rates = _needed_rates(given, f"from_axis on the axis {axis.name}") if needs_rates else (1.0,)
            if needs_rates:
                return axis.to_strength(given.value, rates)
            axis.validate(given.value)
            return given.value
        if axis.name != "total_decay":
            reason = f" {axis.reason}" if axis.reason else ""
            raise DecayError(
                f"D and τ have no meaning here; the axis is {axis.name}.{reason} Give λ, or Strength.from_axis."
            )
        if given.unit == "total_decay":
            return axis.to_lambda(given.value, _needed_rates(given, "from_total_decay"))
        rates = _needed_rates(given, "from_timescale")
        if given.steps_per_epoch is None:
            raise DecayError("from_timescale needs steps_per_epoch, the optimizer steps of an epoch.")
        return lambda_of_timescale(axis, given.value, max(rates), given.steps_per_epoch)


def validate_given(strength: object) -> list[str]:
    """Faults of the argument `strength`, for callers that collect them."""
    try:
        Given.of(strength)
    except DecayError as error:
        return [str(error)]
    return []


def _needed_rates(given: Strength, what: str) -> tuple[float, ...]:
    if given.learning_rates is None:
        raise DecayError(
            f"{what} needs the learning rates of all steps to come: learning_rates=[...], one per step. "
            f"Or give λ instead."
        )
    return given.learning_rates
