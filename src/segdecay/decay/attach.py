"""Attaching a policy to an optimizer, and refusing what would go wrong in silence.

Knows optimizers, models and partitions; nothing of losses, data, loops or files.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from segdecay.decay.groups import FROZEN, Partition, group_parameters
from segdecay.decay.handle import Handle, handle_of
from segdecay.decay.multipliers import group_multipliers
from segdecay.decay.policy import bare_optimizer
from segdecay.decay.registry import axis_of, build_policy
from segdecay.errors import DecayError, gather


def attach(
    optimizer: Optimizer,
    model: nn.Module,
    *,
    policy: str,
    strength: float,
    partition: Partition | None = None,
    multipliers: Mapping[str, float] | None = None,
    take_over: bool = False,
) -> Handle:
    """Let a policy act in every step of an optimizer. Learning rates are read at each step and never scale λ.

    Args:
        optimizer: any torch optimizer but LBFGS, bare or wrapped by Fabric, Lightning or Accelerate.
        model: the module whose parameters it holds, bare, compiled or wrapped.
        policy: a name in POLICIES.
        strength: the optimizer's λ, 0 or more: `l2` adds λ·w to the gradient, `decoupled` multiplies w by 1 − lr·λ.
        partition: of this model; default `group_parameters(model)`.
        multipliers: of the strength by group; default 1 for encoder, body and head, 0 for norm and bias.
        take_over: set the optimizer's own weight_decay to 0 until `detach`.

    Raises:
        DecayError: unknown names, an optimizer that decays already, is refused, or holds other parameters, a partition
            of another model, a strength out of range (says the largest allowed), or a policy attached before.

    Example:
        >>> import torch
        >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.constant_(net.weight, 2.0)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        >>> handle = attach(sgd, net, policy="decoupled", strength=0.1)
        >>> net.weight.grad = torch.zeros(1, 1); sgd.step(); round(net.weight.item(), 6)
        1.9
    """
    optimizer = bare_optimizer(optimizer)
    axis_of(policy, optimizer)  # refuses unknown policies and optimizers without meaning
    present = handle_of(optimizer)
    if present is not None:
        raise DecayError(
            f"Policy '{present.policy.name}' is attached to this optimizer already; a second one "
            f"would decay twice. Call detach() on its handle first."
        )
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise DecayError(
            "A differentiable optimizer is refused: policies act outside autograd. Set differentiable=False."
        )
    partition = partition or group_parameters(model)
    faults = partition.check_fits(model)
    gather(DecayError, faults[:10], "The partition is not of this model as it is now:" if faults else "")
    _validate_parameters(optimizer, partition)
    rule = build_policy(policy)
    rule.validate(strength, 0.0)
    handle = Handle(optimizer, partition, rule, group_multipliers(partition, multipliers), take_over=take_over)
    try:
        handle.set_strength(strength)
    except DecayError:
        handle.detach()
        raise
    return handle


def _validate_parameters(optimizer: Optimizer, partition: Partition) -> None:
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
