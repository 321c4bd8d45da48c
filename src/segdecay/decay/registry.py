"""The policies by name, their documentation and their axes. A new policy adds one line to POLICIES."""

from __future__ import annotations

import inspect

import torch

from segdecay.decay.penalties import L2
from segdecay.decay.policy import Policy, traits_of
from segdecay.decay.shrinkage import Decoupled, NoDecay
from segdecay.decay.strength import Axis
from segdecay.errors import DecayError, unknown

POLICIES: dict[str, type[Policy]] = {
    NoDecay.name: NoDecay,
    L2.name: L2,
    Decoupled.name: Decoupled,
}


def policy_names() -> tuple[str, ...]:
    """All policies, in the order in which they are listed.

    >>> policy_names()
    ('none', 'l2', 'decoupled')
    """
    return tuple(POLICIES)


def build_policy(name: str) -> Policy:
    """A fresh policy by name.

    Raises:
        DecayError: the name is unknown.
    """
    if name not in POLICIES:
        raise DecayError(unknown("policy", name, POLICIES))
    return POLICIES[name]()


def describe_policy(name: str) -> str:
    """A policy's formula and documentation as text for a terminal.

    Raises:
        DecayError: the name is unknown.
    """
    policy = build_policy(name)
    documentation = inspect.getdoc(type(policy)) or ""
    return f"{policy.name}:  {policy.formula}\n  that is:  {policy.plain_formula}\n\n{documentation}"


def axis_of(policy: str, optimizer: torch.optim.Optimizer | str, *, momentum: float = 0.0) -> Axis:
    """What this policy on this optimizer is tuned along.

    Args:
        policy: a name in POLICIES.
        optimizer: the optimizer, or the name of its class in any case.
        momentum: of SGD, where only the name is given.

    Raises:
        DecayError: unknown names, or a combination without meaning (LBFGS).

    Example:
        >>> axis_of("decoupled", "adamw").name, axis_of("l2", "adam").name
        ('total_decay', 'lambda')
    """
    return build_policy(policy).axis(traits_of(optimizer, momentum=momentum))
