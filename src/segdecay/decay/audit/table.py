"""The table of an audit: every parameter, what decays it, by which mechanism, how hard."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.audit.loss_probe import Form
from segdecay.decay.axes import Coupling, StrengthAxis, decoupled_axis, lambda_axis, sgd_axis
from segdecay.decay.groups import Partition, bare_module, group_parameters
from segdecay.decay.handle import handles_of
from segdecay.decay.head import find_head
from segdecay.decay.regularizers.base import SGD_NAMES, traits_of
from segdecay.decay.strength import timescale_epochs, total_decay
from segdecay.errors import DecayError

Source = Literal["optimizer", "regularizer", "loss"]
# By class name in lower case, where the group carries no flag. torch 2.14, timm 1.0 and transformers 5, read in code.
DECOUPLED_NAMES = ("sgdw", "nadamw", "lion", "muon", "adafactor", "adan", "adamp", "sgdp")
COUPLED_NAMES = ("sgd", "adam", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "asgd", "lars")
DECOUPLED_FLAGS = ("decoupled_weight_decay", "decoupled_decay", "decoupled", "weight_decouple")
OTHER_RULES = ("fixed_decay", "corrected_weight_decay", "fully_decoupled_decay")  # the factor is not 1 − η·λ
WRAPPED = ("_base_optimizer", "base_optimizer")  # Lookahead of timm, SAM


@dataclass(frozen=True)
class DecayTerm:
    """One thing that decays one parameter."""

    source: Source
    mechanism: (
        str  # coupled, decoupled or unknown of an optimizer; a regularizer's name; the form of a penalty in the loss
    )
    strength: float | None  # λ, or what the regularizer or the form has instead; None where it is not known
    label: str  # for people: "AdamW(weight_decay)"
    axis: StrengthAxis | None = None  # what D and τ are read from; None where they have no meaning

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


def gradient_axis(optimizer: Optimizer, group: Mapping[str, Any]) -> StrengthAxis:
    """The axis of λ·w added to the gradient in this group, by the optimizer or by the loss."""
    if is_linear(optimizer):
        coupling = Coupling(
            float(group.get("momentum", 0.0)), float(group.get("dampening", 0.0)), bool(group.get("nesterov", False))
        )
        return sgd_axis(coupling)
    return lambda_axis(f"{_class_of(optimizer).__name__} divides the gradient, and the penalty in it, by its own size.")


def own_decays(optimizer: Optimizer, group: Mapping[str, Any]) -> tuple[DecayTerm, ...]:
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
        found.append(DecayTerm("optimizer", mechanism, strength, f"{name}(weight_decay)", axis))
    if "asgd" in _names(optimizer) and group.get("lambd"):
        found.append(DecayTerm("optimizer", "decoupled", float(group["lambd"]), f"{name}(lambd)", decoupled_axis()))
    return tuple(found)


def regularizer_decays(optimizer: Optimizer) -> dict[int, tuple[DecayTerm, ...]]:
    """By id of the parameter: what the attached regularizers do to it."""
    found: dict[int, tuple[DecayTerm, ...]] = {}
    for handle in handles_of(optimizer):
        try:
            axis: StrengthAxis | None = handle.regularizer.axis(traits_of(optimizer))
        except DecayError:
            axis = None
        strengths = handle.strengths()
        for row, parameter in handle.partition.named_parameters():
            strength = strengths.get(row.name)
            if strength is not None:
                decay = DecayTerm(
                    "regularizer", handle.regularizer.name, strength, f"regularizer {handle.regularizer.name}", axis
                )
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


@dataclass(frozen=True)
class AuditRow:
    """One parameter of the model and all that decays it."""

    name: str
    shape: tuple[int, ...]
    module: str  # class of the module that owns it
    group: str  # encoder, body, head, norm, bias or frozen, as `group_parameters` places it
    optimizer_groups: tuple[int, ...]  # indices; empty: in none; the same twice: twice in one
    decays: tuple[DecayTerm, ...]
    feeds: str  # the norm layer that takes this weight's output; then decay moves the effective rate only
    timescale_epochs: float | None  # τ at the peak rate; None where it has no meaning or was not asked for
    total_decay: float | None  # D; None where it has no meaning or was not asked for

    @property
    def is_decayed(self) -> bool:
        """Whether anything is known to decay it."""
        return any(decay.acts for decay in self.decays)

    @property
    def is_unknown(self) -> bool:
        """Whether the loss reaches it in a way that cannot be read: it may be decayed or not."""
        return any(decay.strength is None for decay in self.decays)


@dataclass(frozen=True)
class Horizon:
    """How long training will go on, where it is known."""

    learning_rates: tuple[float, ...] | None = None  # of the optimizer's first group (before lr_scale), at every step
    steps_per_epoch: float | None = None

    def rates(self, optimizer: Optimizer, index: int) -> tuple[float, ...] | None:
        """Learning rates of a group: those of the first, in proportion of the base rates."""
        if self.learning_rates is None:
            return None
        groups = optimizer.param_groups
        first, own = base_rate(groups[0]), base_rate(groups[index])
        if all("lr_scale" in group for group in groups):
            first /= float(groups[0]["lr_scale"]) or 1.0  # the rates given are those that lr_scale multiplies
        if own == first:
            return self.learning_rates
        return tuple(rate * own / first for rate in self.learning_rates) if first > 0 else None

    def peak(self, optimizer: Optimizer, index: int) -> float:
        """The largest learning rate of a group; its base rate where no schedule is given."""
        rates = self.rates(optimizer, index)
        return max(rates) if rates else base_rate(optimizer.param_groups[index])


def base_rate(group: Mapping[str, Any]) -> float:
    """The learning rate of a group before any schedule scaled it, times timm's `lr_scale`.

    timm's layer-wise decay keeps `lr_scale` beside `lr`, and its scheduler multiplies; a group without `initial_lr`
    whose rate was multiplied by hand carries no `lr_scale`.

    >>> base_rate({"lr": 0.1, "lr_scale": 0.5}), base_rate({"lr": 0.05, "initial_lr": 0.1, "lr_scale": 0.5})
    (0.05, 0.05)
    """
    return float(group.get("initial_lr", group.get("lr", 0.0))) * float(group.get("lr_scale", 1.0))


def audit_partition(model: nn.Module) -> Partition:
    """The partition of a model; where no head is found the last matrix stands in, as the audit does not need it.

    Raises:
        DecayError: as `group_parameters`, but for the head.
    """
    try:
        find_head(bare_module(model))
    except DecayError:
        names = [name for name, parameter in bare_module(model).named_parameters() if parameter.requires_grad]
        return group_parameters(model, rules={glob.escape(names[-1]): "head"} if names else None)
    return group_parameters(model)


def audit_rows(
    optimizer: Optimizer, partition: Partition, forms: Mapping[str, Form], horizon: Horizon
) -> tuple[AuditRow, ...]:
    """The rows, in the order of the model's parameters.

    Args:
        optimizer: bare.
        partition: of the model.
        forms: of the penalty in the loss, by parameter name.
        horizon: what D and τ are computed from.
    """
    held = groups_held(optimizer)
    regularizers = regularizer_decays(optimizer)
    own = [own_decays(optimizer, group) for group in optimizer.param_groups]
    rows = []
    for row, parameter in partition.named_parameters():
        indices = held.get(id(parameter), ())
        decays: tuple[DecayTerm, ...] = ()
        for index in dict.fromkeys(indices):
            decays += own[index]
        if indices:
            decays += regularizers.get(id(parameter), ())
            decays += _loss_decay(optimizer, indices[0], forms.get(row.name))
        tau, total = _scales(optimizer, indices, decays, horizon)
        rows.append(AuditRow(row.name, row.shape, row.module, row.group, indices, decays, row.feeds, tau, total))
    return tuple(rows)


def joined_rows(tables: Sequence[tuple[AuditRow, ...]]) -> tuple[AuditRow, ...]:
    """The rows of several optimizers as one table: each parameter with the groups and decays of all that hold it.

    D and τ are those of its only optimizer; of a parameter that several hold there is none.
    """
    if len(tables) == 1:
        return tables[0]
    rows = []
    for versions in zip(*tables, strict=True):
        held = [row for row in versions if row.optimizer_groups]
        if len(held) == 1:
            rows.append(held[0])
            continue
        groups = tuple(index for row in held for index in row.optimizer_groups)
        decays = tuple(dict.fromkeys(decay for row in held for decay in row.decays))
        rows.append(
            replace(versions[0], optimizer_groups=groups, decays=decays, timescale_epochs=None, total_decay=None)
        )
    return tuple(rows)


def groups_held(optimizer: Optimizer) -> dict[int, tuple[int, ...]]:
    """By id of the parameter: the optimizer's groups that hold it, one index each time."""
    held: dict[int, tuple[int, ...]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            held[id(parameter)] = (*held.get(id(parameter), ()), index)
    return held


def held_parameters(optimizer: Optimizer) -> list[Parameter]:
    """Every parameter of an optimizer, in order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _loss_decay(optimizer: Optimizer, index: int, form: Form | None) -> tuple[DecayTerm, ...]:
    if form is None or form.kind == "none":
        return ()
    squared = form.kind in ("squared", "toward")
    axis = gradient_axis(optimizer, optimizer.param_groups[index]) if squared else None
    return (DecayTerm("loss", form.kind, form.coefficient, f"the loss's {form.formula}", axis),)


def _scales(
    optimizer: Optimizer, indices: Sequence[int], decays: Sequence[DecayTerm], horizon: Horizon
) -> tuple[float | None, float | None]:
    """τ and D of all that decays a parameter; None unless every part of it has one."""
    shrinking = [decay for decay in decays if decay.strength is None or decay.strength > 0]
    if len(set(indices)) != 1 or not shrinking:
        return None, None
    parts = []
    for decay in shrinking:
        if decay.axis is None or decay.axis.name != "total_decay" or decay.strength is None:
            return None, None
        parts.append((decay.axis, decay.strength))
    rates, peak, steps = horizon.rates(optimizer, indices[0]), horizon.peak(optimizer, indices[0]), None
    steps = horizon.steps_per_epoch
    tau = total = None
    if steps is not None and peak > 0:
        tau = 1.0 / sum(1.0 / timescale_epochs(axis, strength, peak, steps) for axis, strength in parts)
    if rates is not None and max(rates) > 0:
        total = sum(total_decay(axis, strength, rates) for axis, strength in parts)
    return tau, total
