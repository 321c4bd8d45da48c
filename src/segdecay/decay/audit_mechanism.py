"""By which mechanism an optimizer, and the policies attached to it, decay a parameter, and how hard.

Knows torch optimizers by class and by the flags in their groups, and handles; nothing of models or losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from segdecay.decay.attached import handles_of
from segdecay.decay.axes import Axis, Coupling, decoupled_axis, lambda_axis, sgd_axis
from segdecay.decay.policy import SGD_NAMES, traits_of
from segdecay.errors import DecayError

Source = Literal["optimizer", "policy", "loss"]
# By class name in lower case, where the group carries no flag. torch 2.14, timm 1.0 and transformers 5, read in code.
DECOUPLED_NAMES = ("sgdw", "nadamw", "lion", "muon", "adafactor", "adan", "adamp", "sgdp")
COUPLED_NAMES = ("sgd", "adam", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "asgd", "lars")
DECOUPLED_FLAGS = ("decoupled_weight_decay", "decoupled_decay", "decoupled", "weight_decouple")
OTHER_RULES = ("fixed_decay", "corrected_weight_decay", "fully_decoupled_decay")  # the factor is not 1 − η·λ
WRAPPED = ("_base_optimizer", "base_optimizer")  # Lookahead of timm, SAM


@dataclass(frozen=True)
class Decay:
    """One thing that decays one parameter."""

    source: Source
    mechanism: str  # coupled, decoupled or unknown of an optimizer; a policy's name; the form of a penalty in the loss
    strength: float | None  # λ, or what the policy or the form has instead; None where it is not known
    label: str  # for people: "AdamW(weight_decay)"
    axis: Axis | None = None  # what D and τ are read from; None where they have no meaning

    @property
    def acts(self) -> bool:
        """Whether it decays, as far as can be known."""
        return self.strength is not None and self.strength != 0


def optimizer_name(optimizer: Optimizer) -> str:
    """The class that makes the update, in lower case: the inner one of Lookahead and SAM."""
    return _class_of(optimizer).__name__.lower()


def is_linear(optimizer: Optimizer) -> bool:
    """Whether a gradient reaches the weight through at most a momentum buffer: SGD and its decoupled form.

    >>> net = torch.nn.Linear(1, 1)
    >>> is_linear(torch.optim.SGD(net.parameters(), lr=0.1)), is_linear(torch.optim.Adam(net.parameters()))
    (True, False)
    """
    return any(name in SGD_NAMES for name in _names(optimizer))


def mechanism_of(optimizer: Optimizer, group: Mapping[str, Any]) -> str:
    """How a group's own weight_decay acts: "coupled" (λ·w joins the gradient), "decoupled", or "unknown".

    >>> net = torch.nn.Linear(1, 1)
    >>> adam, adamw = torch.optim.Adam(net.parameters()), torch.optim.AdamW(net.parameters())
    >>> mechanism_of(adam, adam.param_groups[0]), mechanism_of(adamw, adamw.param_groups[0])
    ('coupled', 'decoupled')
    """
    for flag in DECOUPLED_FLAGS:
        if flag in group:
            return "decoupled" if group[flag] else "coupled"
    if hasattr(optimizer, "adam_w_mode"):  # FusedAdam of apex and DeepSpeed
        return "decoupled" if optimizer.adam_w_mode else "coupled"
    for name in _names(optimizer):
        if name in DECOUPLED_NAMES or name.startswith("adamw"):
            return "decoupled"
        if name in COUPLED_NAMES:
            return "coupled"
    return "unknown"


def gradient_axis(optimizer: Optimizer, group: Mapping[str, Any]) -> Axis:
    """The axis of λ·w added to the gradient in this group, by the optimizer or by the loss."""
    if is_linear(optimizer):
        coupling = Coupling(
            float(group.get("momentum", 0.0)), float(group.get("dampening", 0.0)), bool(group.get("nesterov", False))
        )
        return sgd_axis(coupling)
    return lambda_axis(f"{_class_of(optimizer).__name__} divides the gradient, and the penalty in it, by its own size.")


def own_decays(optimizer: Optimizer, group: Mapping[str, Any]) -> tuple[Decay, ...]:
    """What a group's own settings decay its parameters by; empty if by nothing."""
    name = _class_of(optimizer).__name__
    found = []
    strength = float(group.get("weight_decay") or 0.0)
    if strength:
        mechanism = mechanism_of(optimizer, group)
        axis = None
        if mechanism == "decoupled" and not any(group.get(flag) for flag in OTHER_RULES):
            axis = decoupled_axis()
        elif mechanism == "coupled":
            axis = gradient_axis(optimizer, group)
        found.append(Decay("optimizer", mechanism, strength, f"{name}(weight_decay)", axis))
    if "asgd" in _names(optimizer) and group.get("lambd"):
        found.append(Decay("optimizer", "decoupled", float(group["lambd"]), f"{name}(lambd)", decoupled_axis()))
    return tuple(found)


def policy_decays(optimizer: Optimizer) -> dict[int, tuple[Decay, ...]]:
    """By id of the parameter: what the attached policies do to it."""
    found: dict[int, tuple[Decay, ...]] = {}
    for handle in handles_of(optimizer):
        try:
            axis: Axis | None = handle.policy.axis(traits_of(optimizer))
        except DecayError:
            axis = None
        strengths = handle.strengths()
        for row, parameter in handle.partition.named_parameters():
            strength = strengths.get(row.name)
            if strength is not None:
                decay = Decay("policy", handle.policy.name, strength, f"policy {handle.policy.name}", axis)
                found[id(parameter)] = (*found.get(id(parameter), ()), decay)
    return found


def _class_of(optimizer: Optimizer) -> type[Optimizer]:
    for attribute in WRAPPED:
        inner = getattr(optimizer, attribute, None)
        if isinstance(inner, Optimizer):
            return _class_of(inner)
    return type(optimizer)


def _names(optimizer: Optimizer) -> list[str]:
    """The class and its parents in lower case, nearest first; torch's own AdamW is a child of its Adam."""
    return [kind.__name__.lower() for kind in _class_of(optimizer).__mro__ if issubclass(kind, torch.optim.Optimizer)]
