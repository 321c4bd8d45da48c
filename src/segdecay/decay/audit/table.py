"""The table of an audit: every parameter, what decays it, by which mechanism, and how strongly."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.adaptation import base_rate
from segdecay.decay.audit.forms import Form
from segdecay.decay.audit.mechanism import Mechanism, Mechanisms
from segdecay.decay.audit.step_probe import ByHand
from segdecay.decay.axes import StrengthAxis, corrected_axis, decoupled_axis, lambda_axis, sgd_axis
from segdecay.decay.groups import Partition, bare_module, group_parameters
from segdecay.decay.handle import handles_of
from segdecay.decay.head import find_head
from segdecay.decay.regularizers.base import bare_optimizer, traits_of
from segdecay.decay.strength import timescale_epochs, total_decay
from segdecay.errors import DecayError

EQUAL = 1e-3  # a measured factor within this distance of 1 counts as 1
Source = Literal["optimizer", "regularizer", "loss", "step", "hook"]


@dataclass(frozen=True)
class DecayTerm:
    """One decay of one parameter."""

    source: Source
    # coupled, decoupled, other or unknown of an optimizer, step or hook; a regularizer's name; the form of a penalty
    mechanism: str
    strength: float | None  # λ, or what the regularizer or the form has instead; None where it is not known
    label: str  # for people: "AdamW(weight_decay)"
    axis: StrengthAxis | None = None  # what D and τ are read from; None where they have no meaning

    @property
    def acts(self) -> bool:
        """Whether it decays, as far as can be known."""
        return self.strength is not None and self.strength != 0


def gradient_axis(optimizer: Optimizer, group: Mapping[str, Any], mechanisms: Mechanisms) -> StrengthAxis:
    """The axis of λ·w added to the gradient in this group, by the optimizer or by the loss."""
    tried = mechanisms.of_group(group)
    if tried is not None and tried.is_linear and tried.coupling is not None:
        return sgd_axis(tried.coupling)
    return lambda_axis(f"{optimizer_name(optimizer)} divides the gradient, and the penalty in it, by its own size.")


def own_decays(
    optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor, mechanisms: Mechanisms
) -> tuple[DecayTerm, ...]:
    """The decays of a parameter by the settings of its group, as measured; empty if there are none."""
    found = []
    for key in ("weight_decay", "lambd"):
        strength = float(group.get(key) or 0.0)
        if not strength:
            continue
        tried = mechanisms.of(key, group, parameter)
        label = f"{optimizer_name(optimizer)}({key})"
        if tried.how == "nothing":
            strength = 0.0
        axis = None
        if tried.how == "decoupled":
            strength, axis = _decoupled(strength, tried, group)
        elif tried.how == "coupled":
            axis = gradient_axis(optimizer, group, mechanisms)
        found.append(DecayTerm("optimizer", tried.how, strength, label, axis))
    return tuple(found)


def _decoupled(strength: float, tried: Mechanism, group: Mapping[str, Any]) -> tuple[float, StrengthAxis | None]:
    """λ in 1 − η·λ, and its axis; no axis where what is taken off is in no proportion of η."""
    if tried.rate_power == 1:
        return strength * (tried.factor if abs(tried.factor - 1) > EQUAL else 1.0), decoupled_axis()
    return strength, corrected_axis(base_rate(group)) if tried.rate_power == 2 else None


def optimizer_name(optimizer: Optimizer) -> str:
    """The class that makes the update, inside Lookahead and SAM."""
    return type(bare_optimizer(optimizer)).__name__


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


@dataclass(frozen=True)
class AuditRow:
    """One parameter of the model and all of its decays."""

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
    """The rest of the training, where it is known."""

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
    optimizer: Optimizer,
    partition: Partition,
    forms: Mapping[str, Form],
    horizon: Horizon,
    mechanisms: Mechanisms,
    by_hand: Mapping[str, tuple[ByHand, ...]] | None = None,
) -> tuple[AuditRow, ...]:
    """The rows, in the order of the model's parameters.

    Args:
        optimizer: bare.
        partition: of the model.
        forms: of the penalty in the loss, by parameter name.
        horizon: what D and τ are computed from.
        mechanisms: as measured of the optimizer.
        by_hand: what a step does beside the optimizer, by parameter name.
    """
    held = groups_held(optimizer)
    regularizers = regularizer_decays(optimizer)
    rows = []
    for row, parameter in partition.named_parameters():
        indices = held.get(id(parameter), ())
        decays: tuple[DecayTerm, ...] = ()
        for index in dict.fromkeys(indices):
            decays += own_decays(optimizer, optimizer.param_groups[index], parameter, mechanisms)
        if indices:
            decays += regularizers.get(id(parameter), ())
            group = optimizer.param_groups[indices[0]]
            decays += _loss_decay(optimizer, group, forms.get(row.name), mechanisms)
            for one in (by_hand or {}).get(row.name, ()):
                decays += _decay_by_hand(optimizer, group, one, mechanisms)
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


def _loss_decay(
    optimizer: Optimizer, group: Mapping[str, Any], form: Form | None, mechanisms: Mechanisms
) -> tuple[DecayTerm, ...]:
    if form is None or form.kind == "none":
        return ()
    squared = form.kind in ("squared", "toward")
    axis = gradient_axis(optimizer, group, mechanisms) if squared else None
    return (DecayTerm("loss", form.kind, form.coefficient, f"the loss's {form.formula}", axis),)


def _decay_by_hand(
    optimizer: Optimizer, group: Mapping[str, Any], one: ByHand, mechanisms: Mechanisms
) -> tuple[DecayTerm, ...]:
    who = "a hook" if one.by == "hook" else "the step's own code"
    if one.form is not None:
        squared = one.form.kind == "squared"
        axis = gradient_axis(optimizer, group, mechanisms) if squared else None
        mechanism = "coupled" if squared else one.form.kind
        return (DecayTerm(one.by, mechanism, one.form.coefficient, f"{who}, in the gradient", axis),)
    rate = float(group.get("lr", 0.0)) or base_rate(group)
    if one.share is None or not rate:
        return (DecayTerm(one.by, "unknown", None, f"{who}, on the weight"),)
    return (DecayTerm(one.by, "decoupled", one.share / rate, f"{who}, on the weight", decoupled_axis()),)


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


def parameter_lines(rows: Sequence[AuditRow]) -> list[tuple[str, ...]]:
    """One line a parameter, headings first."""
    lines: list[tuple[str, ...]] = [("parameter", "shape", "module", "kind", "group", "decayed by", "τ epochs", "D")]
    for row in rows:
        shape = "x".join(str(side) for side in row.shape) or "scalar"
        lines.append((row.name, shape, row.module, row.group, _held(row), *_decay_cells(row)))
    return lines


def folded_lines(rows: Sequence[AuditRow]) -> list[tuple[str, ...]]:
    """One line for all parameters of an optimizer's group and kind that decay alike, headings first."""
    folded: dict[tuple[str, ...], list[AuditRow]] = {}
    for row in rows:
        folded.setdefault((_held(row), row.group, *_decay_cells(row)), []).append(row)
    lines: list[tuple[str, ...]] = [("group", "kind", "tensors", "numbers", "decayed by", "τ epochs", "D", "such as")]
    for (held, kind, *decay), members in folded.items():
        numbers = sum(math.prod(row.shape) for row in members)
        lines.append((held, kind, str(len(members)), f"{numbers:,}", *decay, members[0].name))
    return lines


def _held(row: AuditRow) -> str:
    return ",".join(str(index) for index in row.optimizer_groups) or "–"


def _decay_cells(row: AuditRow) -> tuple[str, str, str]:
    parts = [
        f"{d.label} {d.mechanism if d.source in ('optimizer', 'step', 'hook') else ''} {_number(d.strength)}"
        for d in row.decays
    ]
    how = " + ".join(" ".join(part.split()) for part in parts) or "–"
    return how, _number(row.timescale_epochs), _number(row.total_decay)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
