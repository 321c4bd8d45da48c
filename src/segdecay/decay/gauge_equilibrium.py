"""Rotational equilibrium: how far a weight turns in a step, and how far it would if decay and gradients were balanced.

The scale of a weight before a norm layer changes nothing, so its gradient is orthogonal to it: gradients lengthen it,
decay shortens it, and where both balance it turns by a fixed angle a step, whatever the loss is.

Knows optimizers' settings and tensors; changes neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from segdecay.decay.gauge_weights import exact_norm
from segdecay.decay.handle import Handle
from segdecay.errors import DecayError, gather

UNDERSTOOD = ("none", "l2", "decoupled")  # policies whose equilibrium is known


def equilibrium_angle(shrinkage: float, momentum: float = 0.0, *, nesterov: bool = False) -> float:
    """The angle, in radians a step, that a scale-invariant weight turns by in equilibrium: √(2ρ(1−μ)/(1+μ)).

    Args:
        shrinkage: ρ, the share that decay alone takes off the weight a step in the long run: ηλ where it is decoupled,
            ηλ·(1−dampening)/(1−μ) for L2 in SGD. Thus √(2ηλ/(1+μ)) for SGD with momentum and L2, and
            √(2ηλ(1−β₁)/(1+β₁)) for AdamW.
        momentum: μ of SGD or β₁ of Adam, below 1.
        nesterov: SGD's; then times √(1+2μ−2μ³), our own extension.

    Raises:
        DecayError: a value out of range.

    Example:
        >>> round(equilibrium_angle(0.02), 6)
        0.2

    Source: Kosson et al., ICML 2024, table 1; holds for small ρ and after 1/ρ steps or so.
    """
    faults = []
    if not (math.isfinite(shrinkage) and shrinkage >= 0):
        faults.append(f"shrinkage must be a finite number, 0 or more; saw {shrinkage}.")
    if not 0 <= momentum < 1:
        faults.append(f"momentum must be at least 0 and below 1; saw {momentum}.")
    gather(DecayError, faults)
    ahead = 1 + 2 * momentum - 2 * momentum**3 if nesterov else 1.0
    return math.sqrt(2 * shrinkage * ahead * (1 - momentum) / (1 + momentum))


def turned_angle(before: Tensor, after: Tensor) -> float | None:
    """The angle between two tensors as vectors, in radians, exact for small ones; None where one of them is zero.

    >>> import torch
    >>> round(turned_angle(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0])) / math.pi, 6)
    0.25
    """
    one, other = exact_norm(before), exact_norm(after)
    if not all(math.isfinite(length) and length > 0 for length in (one, other)):
        return None
    # the triangle of both and their difference, after Kahan: arccos of the product loses half of the digits
    apart = exact_norm(before.detach() - after.detach())
    sine = (apart - (one - other)) * (apart + (one - other))
    cosine = (one + other - apart) * (one + other + apart)
    return 2 * math.atan2(math.sqrt(max(sine, 0.0)), math.sqrt(max(cosine, 0.0)))


def predicted_angles(
    optimizer: Optimizer,  # bare
    handles: Sequence[Handle],
    names: Mapping[int, str],  # by id of the parameter
) -> dict[str, float | None]:
    """The equilibrium angle of every parameter of an optimizer, at its present learning rate, by name.

    0 where nothing decays; None where no formula is known: another policy than l2 and decoupled acts, L2 goes through
    Adam's division, or the optimizer is neither torch's SGD nor its Adam or AdamW without amsgrad.
    """
    given: list[dict[str, float | None]] = [handle.strengths() for handle in handles]
    found: dict[str, float | None] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is not None:
                acting = [
                    (handle.policy.name, strength)
                    for handle, strengths in zip(handles, given, strict=True)
                    if (strength := strengths.get(name)) is not None
                ]
                found[name] = _predicted(optimizer, group, parameter, acting)
    return found


def _predicted(
    optimizer: Optimizer, group: Mapping[str, Any], parameter: Parameter, acting: Sequence[tuple[str, float]]
) -> float | None:
    if parameter.is_complex() or any(policy not in UNDERSTOOD for policy, _ in acting):
        return None
    coupled = sum(strength for policy, strength in acting if policy == "l2")
    decoupled = sum(strength for policy, strength in acting if policy == "decoupled")
    lr, own = float(group["lr"]), float(group.get("weight_decay", 0.0))
    if isinstance(optimizer, SGD):
        momentum = float(group["momentum"])
        gain = (1 - float(group["dampening"]) if momentum else 1.0) / (1 - momentum)
        return equilibrium_angle(lr * (gain * (coupled + own) + decoupled), momentum, nesterov=group["nesterov"])
    if isinstance(optimizer, Adam) and not group["amsgrad"]:  # AdamW is below Adam
        if group.get("decoupled_weight_decay", False):
            decoupled, own = decoupled + own, 0.0
        return None if coupled + own else equilibrium_angle(lr * decoupled, float(group["betas"][0]))
    return None
