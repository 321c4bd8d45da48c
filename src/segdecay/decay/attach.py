"""Attach a regularizer to an optimizer, and refuse what would go wrong in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from segdecay.decay.groups import FROZEN, Partition, group_parameters
from segdecay.decay.handle import Handle, refuse_pair
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.decay.regularizers.registry import axis_of, build_regularizer
from segdecay.decay.strength_given import Given, GivenStrength
from segdecay.errors import DecayError, gather


def attach(
    optimizer: Optimizer,
    model: nn.Module,
    regularizer: str,
    *,
    strength: GivenStrength,
    options: Mapping[str, Any] | None = None,
    partition: Partition | None = None,
    multipliers: Mapping[str, float] | None = None,
    take_over: bool = False,
) -> Handle:
    """Let a regularizer act in every step of an optimizer. Learning rates are read at each step and never scale λ.

    Args:
        optimizer: any torch optimizer but LBFGS, bare or wrapped by Fabric, Lightning or Accelerate.
        model: the module whose parameters it holds, bare, compiled or wrapped.
        regularizer: a name in REGULARIZERS. `decoupled` and `max_norm` may both be attached; no other pair.
        strength: what the regularizer's formula calls λ (c for max_norm): a number, a function of the step counted from
            0, or one number for each group, where groups that are not named are left alone; or a `Strength`, such as
            `Strength.from_total_decay(2.0, learning_rates=[...])`.
        options: of the regularizer, by keyword; see `describe_regularizer`.
        partition: of this model; default `group_parameters(model)`.
        multipliers: of the strength by group; default 1 for encoder, body and head, 0 for norm and bias.
        take_over: set the optimizer's own weight_decay to 0 until `detach`.

    Raises:
        DecayError: unknown names, an optimizer that decays already, is refused, or holds other parameters, a partition
            of another model, sharded weights where the regularizer needs whole ones, a strength that is no number, out
            of range (says the largest allowed) or given twice, or a regularizer attached before. The optimizer is then
            as it was.

    Example:
        >>> import torch
        >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.constant_(net.weight, 2.0)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        >>> handle = attach(sgd, net, "decoupled", strength=0.1)
        >>> net.weight.grad = torch.zeros(1, 1); sgd.step(); round(net.weight.item(), 6)
        1.9
    """
    optimizer = bare_optimizer(optimizer)
    given = Given.of(strength)
    axis = axis_of(regularizer, optimizer, options=options)  # refuses what is unknown or has no meaning
    refuse_pair(optimizer, regularizer)
    partition = partition or group_parameters(model)
    _validate_parameters(optimizer, model, partition)
    rule = build_regularizer(regularizer, options)
    if rule.whole_tensors:
        _refuse_shards(regularizer, partition)
    shared, by_group = given.multipliers(rule, partition, multipliers)
    rates = given.learning_rates
    handle = Handle(optimizer, partition, rule, by_group, take_over=take_over, learning_rates=rates)
    try:
        lambda_ = given.resolve(axis.with_size(handle.size()), regularizer, optimizer) if shared is None else shared
        handle.set_strength(lambda_)
    except BaseException:
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
