"""From one convention to another, through our λ under a policy on an optimizer; refused where no formula exists.

Under SGD coupled and decoupled decay meet: with λ_decoupled = λ_l2/(1−μ) they have the same D to first order, and the
same fixed point at a constant learning rate. Through adaptive optimizers nothing leads from one to the other. Knows
conventions, policies' names and optimizers' traits.
"""

from __future__ import annotations

import torch

from segdecay.decay.conventions import MEANINGS, Convention, Numbers, convention_of
from segdecay.decay.policy import OptimizerTraits, traits_of
from segdecay.errors import DecayError, gather

SIBLING = {"l2": "decoupled", "decoupled": "l2"}
FAMILY = {"adamw": "adam", "sgdw": "sgd"}  # the same update where the decay is the policy's


def check_translation(name: str, *, policy: str, optimizer: torch.optim.Optimizer | str) -> tuple[str, ...]:
    """Why a convention has no meaning for a policy on an optimizer; empty where it has one.

    Raises:
        DecayError: the convention or the optimizer is unknown.

    Example:
        >>> check_translation("torch-adamw", policy="decoupled", optimizer="adamw")
        ()
        >>> check_translation("sklearn-lasso", policy="l2", optimizer="sgd")[0]
        "sklearn-lasso is a strength of 'l1', which no formula turns into 'l2'."
    """
    reason = _reason(convention_of(name), policy, traits_of(optimizer))
    return (reason,) if reason else ()


def from_convention(
    name: str,
    value: float,
    *,
    policy: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """Our λ under a policy on an optimizer, for a value in a convention.

    Args:
        name: of the convention, see `convention_names`.
        value: as the other tool takes it.
        policy: that our λ is for; `l2` and `decoupled` meet under SGD, where the momentum is needed.
        optimizer: the optimizer, or the name of its class in any case.
        numbers: what the convention needs, and the momentum where only the optimizer's name is given.

    Raises:
        DecayError: unknown names, no meaning (says why), a value out of range, or numbers missing: all at once.

    Example:
        >>> at = Numbers(base_lr=0.001, momentum=0.5)
        >>> from_convention("adamw-paper", 0.0005, policy="decoupled", optimizer="adamw", numbers=at)
        0.5
        >>> from_convention("torch-sgd", 0.25, policy="decoupled", optimizer="sgd", numbers=at)
        0.5
    """
    convention, gain = _convention_and_gain(name, policy, optimizer, numbers)
    return convention.to_ours(value, numbers) * gain


def to_convention(
    name: str,
    lambda_: float,
    *,
    policy: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """The value in a convention for our λ; the inverse of `from_convention`, with the same arguments and errors.

    >>> to_convention("torch-sgd", 0.5, policy="decoupled", optimizer="sgd", numbers=Numbers(momentum=0.5))
    0.25
    """
    convention, gain = _convention_and_gain(name, policy, optimizer, numbers)
    return convention.from_ours(lambda_ / gain, numbers)


def translate(
    value: float,
    source: str,
    target: str,
    *,
    policy: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """A value in one convention as that in another, both for the same policy on the same optimizer.

    Raises:
        DecayError: as `from_convention`, for either of the two.

    Example:
        >>> translate(0.25, "keras-l2", "torch-sgd", policy="l2", optimizer="sgd")
        0.5
    """
    faults = [
        reason for name in (source, target) for reason in check_translation(name, policy=policy, optimizer=optimizer)
    ]
    gather(DecayError, faults)
    lambda_ = from_convention(source, value, policy=policy, optimizer=optimizer, numbers=numbers)
    return to_convention(target, lambda_, policy=policy, optimizer=optimizer, numbers=numbers)


def _convention_and_gain(
    name: str, policy: str, optimizer: torch.optim.Optimizer | str, numbers: Numbers | None
) -> tuple[Convention, float]:
    """The convention, and our λ divided by the λ of the convention's own policy."""
    convention, numbers = convention_of(name), numbers or Numbers()
    momentum = numbers.momentum
    traits = traits_of(optimizer, momentum=momentum or 0.0)
    reason = _reason(convention, policy, traits)
    if reason:
        raise DecayError(reason)
    if _acts_as(convention, policy, traits):
        return convention, 1.0
    if isinstance(optimizer, str) and momentum is None:
        missing = (
            f"From {name} to '{policy}' needs momentum ({MEANINGS['momentum']}): λ of 'decoupled' = λ of 'l2' / (1−μ)."
        )
        gather(DecayError, [missing, *convention.check_numbers(numbers)])
    gain = traits.coupling.gain
    return convention, gain if policy == "decoupled" else 1.0 / gain


def _acts_as(convention: Convention, policy: str, traits: OptimizerTraits) -> bool:
    """Whether the tool does to the weights what the policy does on this optimizer."""
    optimizers = convention.rules.get(policy)
    return optimizers is not None and (not optimizers or FAMILY.get(traits.name, traits.name) in optimizers)


def _reason(convention: Convention, policy: str, traits: OptimizerTraits) -> str:
    """Why there is no formula; empty where there is one."""
    sibling = SIBLING.get(policy, "")
    if _acts_as(convention, policy, traits) or (traits.is_sgd and _acts_as(convention, sibling, traits)):
        return ""
    rules = " or ".join(f"'{rule}'" for rule in convention.rules)
    if policy not in convention.rules and sibling not in convention.rules:
        return f"{convention.name} is a strength of {rules}, which no formula turns into '{policy}'."
    if _acts_as(convention, sibling, traits):
        return (
            f"{convention.name} is a strength of '{sibling}', which no formula turns into '{policy}' on {traits.name}: "
            f"it divides what is in the gradient by its own size, but not what multiplies the weights. Choose λ again."
        )
    of = ", ".join(dict.fromkeys(name for names in convention.rules.values() for name in names))
    has_total_decay = (policy == "decoupled" or traits.is_sgd) and ("decoupled" in convention.rules or of == "sgd")
    remedy = "Keep D there" if has_total_decay else "Choose λ again"
    return f"{convention.name} is of {of}, whose learning rates do not compare with those of {traits.name}. {remedy}."
