"""How hard it is asked to be, in one of the ways to say it, as the strength that a handle takes.

Knows axes, policies and partitions; nothing of optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segdecay.decay.axes import Axis
from segdecay.decay.groups import Partition
from segdecay.decay.multipliers import group_multipliers
from segdecay.decay.policy import Policy
from segdecay.decay.strength import lambda_of_timescale
from segdecay.errors import DecayError

Strength = float | Callable[[int], float]


@dataclass(frozen=True)
class Asked:
    """What `attach` was given; exactly one of the first four."""

    strength: Strength | Mapping[str, float] | None
    axis_value: float | None
    total_decay: float | None
    timescale_epochs: float | None
    learning_rates: Sequence[float] | None
    steps_per_epoch: float | None

    def __post_init__(self) -> None:
        ways = ("strength", "axis_value", "total_decay", "timescale_epochs")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            saw = " and ".join(given) or "none"
            raise DecayError(f"Give the strength in exactly one way: {', '.join(ways)}; saw {saw}.")

    def multipliers(
        self, policy: Policy, partition: Partition, given: Mapping[str, float] | None
    ) -> tuple[Strength | None, dict[str, float]]:
        """The strength without groups (None: it comes from the axis), and the multiplier of every group.

        Raises:
            DecayError: strengths by group beside multipliers, unknown groups, or values out of range.
        """
        if not isinstance(self.strength, Mapping):
            return self.strength, group_multipliers(partition, given)
        if given is not None:
            raise DecayError("Strengths by group and multipliers say the same thing twice. Give one of them.")
        acting = {group: value for group, value in self.strength.items() if value != policy.none}
        for value in acting.values():
            policy.validate(value, 0.0)
        base = max(acting.values(), default=policy.none)
        factors = dict.fromkeys(partition.groups, 0.0)
        factors |= dict.fromkeys(self.strength, 0.0)
        factors |= {group: policy.multiplier(value, base) for group, value in acting.items()}
        return base, group_multipliers(partition, factors)

    def strength_on(self, axis: Axis, plain: Strength | None) -> Strength:
        """The strength on an axis, whose size is known where it needs one.

        Raises:
            DecayError: learning rates or steps are missing, or the unit has no meaning on this axis.
        """
        if plain is not None:
            return plain
        if self.axis_value is not None:
            needs_rates = axis.has_lambda and axis.name != "lambda"
            rates = self._rates(f"axis_value on the axis {axis.name}") if needs_rates else [1.0]
            if needs_rates:
                return axis.to_strength(self.axis_value, rates)
            axis.validate(self.axis_value)
            return self.axis_value
        if axis.name != "total_decay":
            reason = f" {axis.reason}" if axis.reason else ""
            raise DecayError(
                f"D and τ have no meaning here; the axis is {axis.name}.{reason} Give strength or axis_value."
            )
        if self.total_decay is not None:
            return axis.to_lambda(self.total_decay, self._rates("total_decay"))
        rates = self._rates("timescale_epochs")
        if self.steps_per_epoch is None:
            raise DecayError("timescale_epochs needs steps_per_epoch, the optimizer steps of an epoch.")
        return lambda_of_timescale(axis, self.timescale_epochs or 0.0, max(rates), self.steps_per_epoch)

    def _rates(self, what: str) -> Sequence[float]:
        if self.learning_rates is None:
            raise DecayError(
                f"{what} needs the learning rates of all steps to come: learning_rates=[...], one a step of the "
                f"schedule. Without them, give strength (λ)."
            )
        return self.learning_rates
