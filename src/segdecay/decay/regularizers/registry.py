"""The regularizers by name, their documentation and their axes. A new regularizer adds one line to REGULARIZERS."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from segdecay.decay.axes import StrengthAxis
from segdecay.decay.regularizers.base import Regularizer, traits_of
from segdecay.decay.regularizers.cpr import CPR
from segdecay.decay.regularizers.decoupled import Cautious, Corrected, Decoupled, NoDecay, Scheduled
from segdecay.decay.regularizers.dropout import Dropout
from segdecay.decay.regularizers.l2 import L2
from segdecay.decay.regularizers.l2_sp import L2SP
from segdecay.decay.regularizers.max_norm import MaxNorm
from segdecay.decay.regularizers.proximal import L1, ElasticNet, GroupLasso
from segdecay.errors import DecayError, gather, unknown
from segdecay.utils.plugins import Registry

REGULARIZERS: Registry[type[Regularizer]] = Registry(
    "segdecay.regularizers",
    {
        NoDecay.name: NoDecay,
        L2.name: L2,
        Decoupled.name: Decoupled,
        L1.name: L1,
        ElasticNet.name: ElasticNet,
        GroupLasso.name: GroupLasso,
        L2SP.name: L2SP,
        MaxNorm.name: MaxNorm,
        CPR.name: CPR,
        Cautious.name: Cautious,
        Corrected.name: Corrected,
        Scheduled.name: Scheduled,
        Dropout.name: Dropout,
    },
)
# One shrinks, the other bounds; any other pair would regularize the same weights twice.
COMBINATIONS = (frozenset(("decoupled", "max_norm")),)


def regularizer_names() -> tuple[str, ...]:
    """All regularizers, in the order in which they are listed.

    >>> regularizer_names()[:3]
    ('none', 'l2', 'decoupled')
    """
    return tuple(REGULARIZERS)


def build_regularizer(name: str, options: Mapping[str, Any] | None = None) -> Regularizer:
    """A new regularizer by name, with its options.

    Raises:
        DecayError: the name or an option is unknown, or an option's value is not allowed.
    """
    if name not in REGULARIZERS:
        raise DecayError(unknown_regularizer(name))
    kind = REGULARIZERS[name]
    allowed = option_names(name)
    if options and not allowed:
        raise DecayError(f"Regularizer '{name}' has no options; saw {', '.join(options)}.")
    gather(DecayError, [unknown(f"option of '{name}'", key, allowed) for key in options or {} if key not in allowed])
    return kind(**(options or {}))


# Names that people give to a regularizer, and ours.
OTHER_NAMES = {
    "adamw": "decoupled", "sgdw": "decoupled", "weight_decay": "decoupled", "wd": "decoupled", "adam": "l2",
    "sgd": "l2", "ridge": "l2", "tikhonov": "l2", "lasso": "l1", "elasticnet": "elastic_net", "l2sp": "l2_sp",
}  # fmt: skip
OPTIMIZERS = ("adamw", "sgdw", "adam", "sgd")


def unknown_regularizer(name: str) -> str:
    """One line for a regularizer that does not exist, with ours where the name is known from elsewhere.

    >>> unknown_regularizer("adamw")[-88:]
    "AdamW's weight decay is 'decoupled'; the optimizer itself is chosen with optimizer.name."
    """
    ours = OTHER_NAMES.get(name.lower().replace("-", "_"))
    if ours is None:
        return unknown("regularizer", name, REGULARIZERS)
    said = f"Unknown regularizer '{name}'; allowed: {', '.join(REGULARIZERS)}."
    if name.lower() in OPTIMIZERS:
        title = {"adamw": "AdamW", "adam": "Adam"}.get(name.lower(), name.upper())
        return f"{said} {title}'s weight decay is '{ours}'; the optimizer itself is chosen with optimizer.name."
    return f"{said} Here it is called '{ours}'."


def option_names(name: str) -> tuple[str, ...]:
    """The options of a regularizer.

    >>> option_names("l2")
    ()
    """
    parameters = inspect.signature(REGULARIZERS[name]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def may_combine(first: str, second: str) -> bool:
    """Whether two regularizers may act on one optimizer.

    >>> may_combine("decoupled", "l2")
    False
    """
    return frozenset((first, second)) in COMBINATIONS


def describe_regularizer(name: str) -> str:
    """A regularizer's formula and documentation as text for a terminal.

    Raises:
        DecayError: the name is unknown.
    """
    regularizer = build_regularizer(name)
    documentation = inspect.getdoc(type(regularizer)) or ""
    return f"{regularizer.name}:  {regularizer.formula}\n  that is:  {regularizer.plain_formula}\n\n{documentation}"


def axis_of(
    regularizer: str,
    optimizer: torch.optim.Optimizer | str,
    *,
    momentum: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> StrengthAxis:
    """The axis along which this regularizer is tuned under this optimizer.

    Args:
        regularizer: a name in REGULARIZERS.
        optimizer: the optimizer, or the name of its class in any case.
        momentum: of SGD, if only the name is given.
        options: of the regularizer; some change the axis.

    Raises:
        DecayError: a name or an option is unknown, or regularizer and optimizer do not fit.

    Example:
        >>> axis_of("decoupled", "adamw").name, axis_of("l2", "adam").name
        ('total_decay', 'lambda')
    """
    return build_regularizer(regularizer, options).axis(traits_of(optimizer, momentum=momentum))
