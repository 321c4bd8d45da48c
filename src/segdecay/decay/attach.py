"""Attaching a regularizer to an optimizer, and refusing what would go wrong in silence.

Knows optimizers, models and partitions; nothing of losses, data, loops or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from segdecay.decay.axes import Axis
from segdecay.decay.groups import FROZEN, Partition, group_multipliers, group_parameters
from segdecay.decay.handle import Handle, Schedule, refuse_pair
from segdecay.decay.regularizers.base import Regularizer, bare_optimizer
from segdecay.decay.regularizers.registry import axis_of, build_regularizer
from segdecay.decay.strength import lambda_of_timescale
from segdecay.errors import DecayError, gather

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
        self, regularizer: Regularizer, partition: Partition, given: Mapping[str, float] | None
    ) -> tuple[Strength | None, dict[str, float]]:
        """The strength without groups (None: it comes from the axis), and the multiplier of every group.

        Raises:
            DecayError: strengths by group beside multipliers, unknown groups, or values out of range.
        """
        if not isinstance(self.strength, Mapping):
            return self.strength, group_multipliers(partition, given)
        if given is not None:
            raise DecayError("Strengths by group and multipliers say the same thing twice. Give one of them.")
        acting = {group: value for group, value in self.strength.items() if value != regularizer.none}
        for value in acting.values():
            regularizer.validate(value, 0.0)
        base = max(acting.values(), default=regularizer.none)
        factors = dict.fromkeys(partition.groups, 0.0)
        factors |= dict.fromkeys(self.strength, 0.0)
        factors |= {group: regularizer.multiplier(value, base) for group, value in acting.items()}
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


def attach(
    optimizer: Optimizer,
    model: nn.Module,
    *,
    regularizer: str,
    strength: float | Schedule | Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    partition: Partition | None = None,
    multipliers: Mapping[str, float] | None = None,
    take_over: bool = False,
    axis_value: float | None = None,
    total_decay: float | None = None,
    timescale_epochs: float | None = None,
    learning_rates: Sequence[float] | None = None,
    steps_per_epoch: float | None = None,
) -> Handle:
    """Let a regularizer act in every step of an optimizer. Learning rates are read at each step and never scale λ.

    Args:
        optimizer: any torch optimizer but LBFGS, bare or wrapped by Fabric, Lightning or Accelerate.
        model: the module whose parameters it holds, bare, compiled or wrapped.
        regularizer: a name in REGULARIZERS. `decoupled` and `max_norm` may both be attached; no other pair.
        strength: what the regularizer's formula calls λ (c for max_norm): a number, a function of the step counted from
            0, or one number for each group, where groups that are not named are left alone.
        options: of the regularizer, by keyword; see `describe_regularizer`.
        partition: of this model; default `group_parameters(model)`.
        multipliers: of the strength by group; default 1 for encoder, body and head, 0 for norm and bias.
        take_over: set the optimizer's own weight_decay to 0 until `detach`.
        axis_value: instead of strength: a value on the regularizer's axis (`axis_of`), such as a verdict's.
        total_decay: instead of strength: D = Σ η·λ; needs learning_rates.
        timescale_epochs: instead of strength: τ in epochs, above 0; needs learning_rates and steps_per_epoch.
        learning_rates: of all steps to come. Regularizers that compare with the peak rate use them too.
        steps_per_epoch: optimizer steps.

    Raises:
        DecayError: unknown names, an optimizer that decays already, is refused, or holds other parameters, a partition
            of another model, sharded weights where the regularizer needs whole ones, a strength out of range (says the
            largest allowed) or given twice, or a regularizer attached before.

    Example:
        >>> import torch
        >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.constant_(net.weight, 2.0)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        >>> handle = attach(sgd, net, regularizer="decoupled", strength=0.1)
        >>> net.weight.grad = torch.zeros(1, 1); sgd.step(); round(net.weight.item(), 6)
        1.9
    """
    optimizer = bare_optimizer(optimizer)
    axis = axis_of(regularizer, optimizer, options=options)  # refuses what is unknown or has no meaning
    refuse_pair(optimizer, regularizer)
    partition = partition or group_parameters(model)
    _validate_parameters(optimizer, model, partition)
    rule = build_regularizer(regularizer, options)
    if rule.whole_tensors:
        _refuse_shards(regularizer, partition)
    asked = Asked(strength, axis_value, total_decay, timescale_epochs, learning_rates, steps_per_epoch)
    taken, by_group = asked.multipliers(rule, partition, multipliers)
    handle = Handle(optimizer, partition, rule, by_group, take_over=take_over, learning_rates=learning_rates)
    try:
        handle.set_strength(asked.strength_on(axis.with_size(handle.size()), taken))
    except DecayError:
        handle.detach()
        raise
    return handle


def _refuse_shards(regularizer: str, partition: Partition) -> None:
    """What fully_shard (FSDP2) or tensor parallelism spread over processes: a regularizer here sees one piece of it."""
    placed = ((row.name, getattr(parameter, "placements", ())) for row, parameter in partition.named_parameters())
    sharded = [name for name, placements in placed if any(placement.is_shard() for placement in placements)]
    if sharded:
        raise DecayError(
            f"Regularizer '{regularizer}' needs whole weights, and {len(sharded)} are sharded over processes (FSDP): "
            f"{', '.join(sharded[:3])}{', …' if len(sharded) > 3 else ''}. Use DistributedDataParallel, or a "
            f"regularizer that acts on every number alone, such as 'decoupled'."
        )


def _validate_parameters(optimizer: Optimizer, model: nn.Module, partition: Partition) -> None:
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise DecayError(
            "A differentiable optimizer is refused: regularizers act outside autograd. Set differentiable=False."
        )
    faults = partition.check_fits(model)
    gather(DecayError, faults[:10], "The partition is not of this model as it is now:" if faults else "")
    known = {id(parameter): row for row, parameter in partition.named_parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = [parameter for parameter in held if id(parameter) not in known]
    if strangers:
        shapes = ", ".join(str(tuple(parameter.shape)) for parameter in strangers[:5])
        raise DecayError(
            f"The optimizer holds {len(strangers)} of {len(held)} parameters that are not in this model (shapes "
            f"{shapes}{', …' if len(strangers) > 5 else ''}). Was it built before the head was replaced, or for "
            f"another model? Build it from this model's parameters, or pass the module that holds them all."
        )
    if not any(known[id(parameter)].group != FROZEN for parameter in held):
        raise DecayError(
            f"None of the optimizer's {len(held)} parameters is trainable. Set requires_grad before attaching."
        )
