"""The partition of a model's parameters into groups, with the reason for each parameter.

The group follows from the type of the module that owns the parameter, from its dimension and from its name; none of the
three suffices alone.
"""

from __future__ import annotations

import fnmatch
import html
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import Parameter, is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from segdecay.decay.axes import validate_strength
from segdecay.decay.head import WRAPPERS, Head, bare_name, find_head, is_weight_layer
from segdecay.decay.scale_invariance import find_feeds, output_dim
from segdecay.errors import DecayError, did_you_mean, gather, unknown
from segdecay.utils.tables import data_frame, html_table

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("encoder", "body", "head", "norm", "bias")
FROZEN = "frozen"
ENCODER_NAMES = ("encoder", "backbone")
NORM_TYPES = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,  # LayerNorm2d of timm and torchvision are subclasses
    nn.RMSNorm,
)
NORM_CLASS = re.compile(r"norm(act)?(\d|\dd)?$", re.IGNORECASE)  # ScaleNorm, MyLayerNorm2d; not NormedConv2d
NORM_LEAVES = ("weight", "bias", "scale", "shift", "gain", "gamma", "beta")  # other matrices in such a class decay
WEIGHT_NAME = re.compile(r"weight|kernel|original1?$")  # original1: the direction of torch's weight_norm
BIAS_NAME = re.compile(r"(^|_)bias(es)?(_|\d|$)")
POSITION_NAME = re.compile(
    r"(^|_)(pos|position|positions|positional|wpe|posemb|rel|relative|distance)(_|$)|pos_?emb|rel(ative)?_?pos",
    re.IGNORECASE,
)
# Of a module that computes what is added by position: Swin v2's cpb_mlp, LayoutLM's rel_pos_bias
POSITION_BIAS = re.compile(r"(^|_)cpb(_|$)|pos(ition)?(_[xy])?_bias(_|$)", re.IGNORECASE)
TOKEN_NAME = re.compile(r"(^|_)tokens?$|^class_embedding$")  # of a plain parameter; embed_tokens is a vocabulary


@dataclass(frozen=True)
class ParameterRow:
    """One row of the partition's table. A parameter shared between modules has one row, under its first name."""

    name: str
    shape: tuple[int, ...]
    module: str
    group: str
    reason: str
    trainable: bool
    feeds: str = ""  # name of the norm layer that alone takes this weight's output, which makes it scale-invariant
    output_dim: int = 0  # dimension of the output channels: 1 for transposed convolutions; 0 for other layers


@dataclass(frozen=True, repr=False)
class Partition:
    """All parameters of a model; every trainable one is in exactly one group."""

    rows: tuple[ParameterRow, ...]
    _parameters: Mapping[str, Parameter] = field(repr=False)
    _again: Callable[[], Partition] | None = field(default=None, repr=False, compare=False)

    def regrouped(self) -> Partition:
        """A new partition of the same model by the same rules, after freezing, unfreezing or replacing its head.

        Raises:
            DecayError: as `group_parameters`; or the partition was not made by it.
        """
        if self._again is None:
            raise DecayError("This partition was not made by group_parameters: make a new one and attach again.")
        return self._again()

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that hold trainable parameters: the default ones in their order, then those of rules."""
        present = dict.fromkeys(row.group for row in self.rows if row.trainable)
        return (*(name for name in GROUPS if name in present), *(name for name in present if name not in GROUPS))

    def parameters(self, group: str) -> list[tuple[str, Parameter]]:
        """Names and parameters of a group ("frozen" too), in order of registration; empty if there are none."""
        return [(row.name, self._parameters[row.name]) for row in self.rows if row.group == group]

    def named_parameters(self) -> Iterator[tuple[ParameterRow, Parameter]]:
        """Every row with its parameter."""
        return ((row, self._parameters[row.name]) for row in self.rows)

    def check_fits(self, model: nn.Module) -> tuple[str, ...]:
        """Findings if a model, which may have been wrapped or compiled since, no longer holds these parameters."""
        now = {entry.names[0]: entry.parameter for entry in _entries(bare_module(model))}
        faults = [f"{name} is new" for name in now if name not in self._parameters]
        faults += [f"{name} is gone" for name in self._parameters if name not in now]
        both = [name for name in now if name in self._parameters]
        faults += [f"{name} is another tensor" for name in both if now[name] is not self._parameters[name]]
        frozen = [name for name, _ in self.parameters(FROZEN)]
        faults += [
            f"{name} was frozen and is trainable now" for name in frozen if name in now and now[name].requires_grad
        ]
        return tuple(faults)

    def __repr__(self) -> str:
        counts = ", ".join(f"{group} {len(self.parameters(group))}" for group in (*self.groups, FROZEN))
        return f"Partition({len(self.rows)} parameters: {counts})"

    def _repr_html_(self) -> str:
        rows = [(row.group, row.name, _size(row.shape), row.module, _why(row)) for row in self.rows]
        return f"<p>{html.escape(repr(self))}</p>" + html_table(["group", "parameter", "shape", "module", "why"], rows)

    def dataframe(self) -> pd.DataFrame:
        """One row a parameter: name, shape, module, group, reason, whether it trains."""
        return data_frame(
            {
                "parameter": row.name,
                "shape": row.shape,
                "numbers": math.prod(row.shape),
                "module": row.module,
                "group": row.group,
                "reason": row.reason,
                "trainable": row.trainable,
                "feeds": row.feeds,
            }
            for row in self.rows
        )

    def table(self) -> str:
        """The rows as text: group, name, shape, module, reason; then tensors and numbers per group."""
        cells = [("group", "parameter", "shape", "module", "why")]
        cells += [(row.group, row.name, _size(row.shape), row.module, _why(row)) for row in self.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = [
            "  ".join([*(text.ljust(w) for text, w in zip(line, widths, strict=False)), line[4]]) for line in cells
        ]
        for group in (*self.groups, FROZEN):
            members = self.parameters(group)
            if members:
                numbers = sum(parameter.numel() for _, parameter in members)
                lines.append(f"{group}: {len(members)} tensors, {numbers} numbers")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Entry:
    """A parameter with all its names and owners; more than one if it is shared."""

    parameter: Parameter
    names: list[str]
    owners: list[nn.Module]


def bare_module(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, (Distributed)DataParallel and Fabric wrappers."""
    while True:
        children = dict(model.named_children())
        inner = next((children[name] for name in WRAPPERS if name in children), None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def group_parameters(
    model: nn.Module,
    *,
    rules: Mapping[str, str] | None = None,
    head: str | None = None,
    feeds_norm: Sequence[str] | None = None,
) -> Partition:
    """Place every parameter of a model in one group: encoder, body, head, norm, bias; frozen if it needs no gradient.

    `norm` holds scales (norm layers, layer scale, other 1-d parameters), `bias` holds added terms (biases, position
    embeddings, class tokens, relative position tables); neither decays by default. Parameters that the model's author
    excludes from decay (`no_weight_decay()`, `no_weight_decay_keywords()`, a parameter's flag `_no_weight_decay`) are
    in `bias`, unless a rule says otherwise; vocabulary embeddings and heads tied to them decay. For wrapped and
    compiled models the names are those of the inner module.

    Args:
        model: any module.
        rules: glob over whole parameter names → group; the first match decides, before everything else. A new group
            name makes a new group, whose multiplier must then be given.
        head: name of (or glob over) the modules that compute the logits, if they are not found automatically.
        feeds_norm: globs over the weights whose output goes only into a norm layer, such as "encoder.*.weight".
            Default: found by order of registration (`segdecay.decay.scale_invariance`).

    Raises:
        DecayError: a rule or glob matches nothing, the head is not found, a parameter is uninitialised, or no parameter
            is trainable.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        >>> [(row.name, row.group) for row in group_parameters(model).rows][:3]
        [('0.weight', 'body'), ('0.bias', 'bias'), ('1.weight', 'norm')]
        >>> group_parameters(model, rules={"0.*": "norm"}).groups
        ('head', 'norm', 'bias')
    """
    bare = bare_module(model)
    entries = _entries(bare)
    _validate(bare, entries)
    taken = {**declared_undecayed(bare, entries), **_apply_rules(entries, rules or {})}
    found = None
    if head is not None or "head" not in (rules or {}).values():
        found = find_head(bare, head)
    feeds = find_feeds(bare, feeds_norm)
    rows = []
    for entry in entries:
        group, reason = _place(entry, taken, found)
        if len(entry.names) > 1:
            reason += f"; shared with {', '.join(entry.names[1:])}"
        shape = tuple(entry.parameter.shape)
        module = type(entry.owners[0]).__name__
        trains, norm = entry.parameter.requires_grad, feeds.get(entry.names[0], "")
        dim = output_dim(entry.owners[0], shape)
        rows.append(ParameterRow(entry.names[0], shape, module, group, reason, trains, norm, dim))
    again = partial(group_parameters, bare, rules=rules, head=head, feeds_norm=feeds_norm)
    return Partition(tuple(rows), {entry.names[0]: entry.parameter for entry in entries}, again)


def declared_undecayed(model: nn.Module, entries: Sequence[_Entry]) -> dict[int, tuple[str, str]]:
    """By id of the parameter: the group bias and the reason, for parameters that the author excludes from decay.

    `no_weight_decay()` gives whole names or globs over them, and `no_weight_decay_keywords()` parts of names, as timm
    and its followers read them, of the module that has the method; a parameter may carry the flag `_no_weight_decay`.
    """
    found: dict[int, tuple[str, str]] = {}
    for path, module in model.named_modules():
        prefix = f"{bare_name(path)}." if path else ""
        globs = _declared(module, "no_weight_decay")
        keywords = _declared(module, "no_weight_decay_keywords")
        if not globs and not keywords:
            continue
        kind = type(module).__name__
        for entry in entries:
            inside = [name.removeprefix(prefix) for name in entry.names if name.startswith(prefix)]
            if any(fnmatch.fnmatchcase(name, glob) for name in inside for glob in globs):
                found[id(entry.parameter)] = ("bias", f"declared by {kind}.no_weight_decay()")
            elif any(word in name for name in inside for word in keywords):
                found[id(entry.parameter)] = ("bias", f"declared by {kind}.no_weight_decay_keywords()")
    for entry in entries:
        if getattr(entry.parameter, "_no_weight_decay", False):
            found[id(entry.parameter)] = ("bias", "declared by the parameter's flag _no_weight_decay")
    return found


def _declared(module: nn.Module, method: str) -> set[str]:
    """The names that a method without arguments returns; empty if the module lacks it or it is of another kind."""
    function = getattr(module, method, None)
    if not callable(function) or isinstance(function, nn.Module):
        return set()
    try:
        names = function()
    except (TypeError, NotImplementedError):
        return set()
    return (
        {name for name in names if isinstance(name, str)}
        if isinstance(names, set | frozenset | list | tuple | dict)
        else set()
    )


def partition_by_optimizer(partition: Partition, optimizer: Any) -> tuple[Partition, dict[str, float]]:
    """The partition given by an optimizer's parameter groups, and multipliers in proportion to their weight_decay.

    Returns:
        Groups `group_0`, `group_1`, … in the optimizer's order, and the multiplier of each: 1 for the largest
        weight_decay, 0 where there is none.

    Raises:
        DecayError: no group of the optimizer has weight_decay, so that the groups do not say what should decay.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 1)
        >>> groups = [{"params": [net.weight], "weight_decay": 0.1}, {"params": [net.bias], "weight_decay": 0.0}]
        >>> partition_by_optimizer(group_parameters(net), torch.optim.AdamW(groups))[1]
        {'group_0': 1.0, 'group_1': 0.0}
    """
    strengths = [float(group.get("weight_decay") or 0.0) for group in optimizer.param_groups]
    if not any(strengths):
        raise DecayError(
            f"groups='optimizer' decays the groups of the optimizer that have weight_decay, and none of its "
            f"{len(strengths)} groups has any. Give weight_decay to those that should decay, or use groups='model'."
        )
    of = {id(p): index for index, group in enumerate(optimizer.param_groups) for p in group["params"]}
    rows = []
    for row, parameter in partition.named_parameters():
        index = of.get(id(parameter))
        if index is None or not row.trainable:
            rows.append(row)
            continue
        reason = f"group {index} of the optimizer, weight_decay {strengths[index]:g}"
        rows.append(replace(row, group=f"group_{index}", reason=reason))
    parameters = {row.name: parameter for row, parameter in partition.named_parameters()}
    multipliers = {f"group_{index}": value / max(strengths) for index, value in enumerate(strengths)}
    placed = Partition(tuple(rows), parameters, lambda: partition_by_optimizer(partition.regrouped(), optimizer)[0])
    others = {group: 0.0 for group in placed.groups if group not in multipliers and group not in GROUPS}
    return placed, {**{name: value for name, value in multipliers.items() if name in placed.groups}, **others}


def _entries(model: nn.Module) -> list[_Entry]:
    entries: dict[int, _Entry] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            entry = entries.setdefault(id(parameter), _Entry(parameter, [], []))
            entry.names.append(bare_name(f"{path}.{leaf}" if path else leaf))
            entry.owners.append(module)
    return list(entries.values())


def _validate(model: nn.Module, entries: list[_Entry]) -> None:
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise DecayError(
            "The model is wrapped in FullyShardedDataParallel, whose flat parameters mix weights, norms and biases. "
            "Use fully_shard (FSDP2), which keeps parameters apart, or DistributedDataParallel."
        )
    lazy = [entry.names[0] for entry in entries if is_lazy(entry.parameter)]
    if lazy:
        raise DecayError(f"Parameters without a shape yet: {', '.join(lazy)}. Pass one batch through the model first.")
    if not any(entry.parameter.requires_grad for entry in entries):
        raise DecayError(
            f"{type(model).__name__} has no trainable parameter ({len(entries)} parameters in all). Set requires_grad "
            f"before grouping."
        )


def _apply_rules(entries: list[_Entry], rules: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """By id of the parameter: (group, reason), by the first rule that matches one of its names."""
    taken: dict[int, tuple[str, str]] = {}
    faults = []
    names = [name for entry in entries for name in entry.names]
    modules = {f"{name.rsplit('.', depth)[0]}.*" for name in names for depth in range(1, name.count(".") + 1)}
    for pattern, group in rules.items():
        if group == FROZEN or not group.isidentifier():
            faults.append(
                f"Rule '{pattern}': '{group}' cannot be assigned; allowed: {', '.join(GROUPS)}, or a new name. "
                f"Frozen parameters are those whose requires_grad is False."
            )
        matched = [entry for entry in entries if any(fnmatch.fnmatchcase(name, pattern) for name in entry.names)]
        fresh = [entry for entry in matched if id(entry.parameter) not in taken]
        if not matched:
            near = did_you_mean(pattern, [*names, *sorted(modules)])
            faults.append(f"Rule '{pattern}' matches no parameter; rules are globs over whole names.{near}")
        elif not fresh:
            faults.append(
                f"Rule '{pattern}' has no effect: earlier rules already match all of its {len(matched)} parameters."
            )
        for entry in fresh:
            taken[id(entry.parameter)] = (group, f"rule '{pattern}'")
    gather(DecayError, faults)
    return taken


def _place(entry: _Entry, taken: dict[int, tuple[str, str]], head: Head | None) -> tuple[str, str]:
    """Group and reason of one parameter."""
    parameter = entry.parameter
    if not parameter.requires_grad:
        return FROZEN, "requires_grad is False"
    if id(parameter) in taken:
        return taken[id(parameter)]
    return _undecayed(entry) or _decayed(entry, head)


def _undecayed(entry: _Entry) -> tuple[str, str] | None:
    """The group norm or bias, with the reason, or None for a weight."""
    owner, parameter, name = entry.owners[0], entry.parameter, entry.names[0]
    *path, leaf = name.split(".")
    kind = type(owner).__name__
    axes = sum(side > 1 for side in parameter.shape)
    is_gain = axes <= 1 or leaf in NORM_LEAVES
    if isinstance(owner, NORM_TYPES) or (is_gain and NORM_CLASS.search(kind) and not is_weight_layer(owner)):
        return "norm", f"norm layer: {kind}"
    is_embedding = isinstance(owner, nn.Embedding)
    words = [leaf, *path[-1:]] if is_embedding else [leaf]
    is_token = not is_embedding and TOKEN_NAME.search(leaf)
    is_layer = is_weight_layer(owner) or isinstance(owner, ParametrizationList)
    is_weight = is_layer and WEIGHT_NAME.search(leaf) is not None
    if not is_weight and (is_token or any(POSITION_NAME.search(word) for word in words)):
        return "bias", "position embedding or token: added to the features"
    if any(POSITION_BIAS.search(part) for part in path):
        return "bias", "part of what computes a bias of positions"
    if any(BIAS_NAME.search(word) for word in words):
        return "bias", "bias by name"
    if parameter.ndim <= 1:
        return "norm", f"{parameter.ndim}-d parameter: a gain, slope or scale"
    if leaf == "weight_g" and hasattr(owner, "weight_v"):
        return "norm", "gain of torch's weight_norm"
    if axes <= 1 and not is_weight and not isinstance(owner, nn.Embedding | nn.RNNBase):
        return "norm", f"one number per channel, shape {_size(tuple(parameter.shape))}: a scale"
    return None


def _decayed(entry: _Entry, head: Head | None) -> tuple[str, str]:
    """The group head, encoder or body, with the reason."""
    if head is not None and any(head.holds(name) for name in entry.names):
        return "head", head.reason
    kind, ndim = type(entry.owners[0]).__name__, entry.parameter.ndim
    parts = entry.names[0].split(".")
    encoder = next((word for word in parts[:2] if word in ENCODER_NAMES), None)
    if encoder:
        return "encoder", f"{ndim}-d weight of {kind} under '{encoder}'"
    return "body", f"{ndim}-d weight of {kind}"


def _why(row: ParameterRow) -> str:
    return f"{row.reason}; feeds {row.feeds}" if row.feeds else row.reason


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"


DEFAULT_MULTIPLIERS: Mapping[str, float] = MappingProxyType(
    {"encoder": 1.0, "body": 1.0, "head": 1.0, "norm": 0.0, "bias": 0.0}
)


def group_multipliers(partition: Partition, multipliers: Mapping[str, float] | None = None) -> dict[str, float]:
    """The multiplier of every group of a partition: the given one, else the default.

    Raises:
        DecayError: a name is not a group, a value is negative or not finite, or a group made by a rule has no value.

    Example:
        >>> from torch import nn
        >>> from segdecay.decay.groups import group_parameters
        >>> group_multipliers(group_parameters(nn.Linear(2, 1)), {"bias": 0.5})
        {'head': 1.0, 'bias': 0.5}
    """
    given = dict(multipliers or {})
    own = [group for group in partition.groups if group not in GROUPS]
    allowed = (*GROUPS, *own)
    faults = [unknown("group", name, allowed) for name in given if name not in allowed]
    faults += [
        f"The multiplier of group '{name}' must be a finite number, 0 or more; saw {value}."
        for name, value in given.items()
        if not math.isfinite(value) or value < 0
    ]
    faults += [
        f"Group '{name}' comes from a rule and has no default: give multipliers={{'{name}': …}}. If it is not meant to "
        f"be a new group, the usual ones are {', '.join(GROUPS)}."
        for name in own
        if name not in given
    ]
    gather(DecayError, faults)
    return {group: float(given.get(group, DEFAULT_MULTIPLIERS.get(group, 0.0))) for group in partition.groups}


def optimizer_groups(
    partition: Partition, multipliers: Mapping[str, float] | None = None, *, strength: float = 0.0
) -> list[dict[str, Any]]:
    """The trainable parameters as groups for a torch optimizer, each with an explicit weight_decay.

    Args:
        partition: of the model.
        multipliers: of the strength, by group.
        strength: λ of the optimizer's own weight decay; 0 if a regularizer is attached instead.

    Returns:
        One dict per group that is not empty: params, weight_decay = strength times multiplier, name.

    Raises:
        DecayError: as `group_multipliers`; the strength is negative or not finite.

    Example:
        >>> from torch import nn
        >>> from segdecay.decay.groups import group_parameters
        >>> groups = optimizer_groups(group_parameters(nn.Linear(2, 1)), strength=0.1)
        >>> [(group["name"], group["weight_decay"], len(group["params"])) for group in groups]
        [('head', 0.1, 1), ('bias', 0.0, 1)]
    """
    validate_strength(strength)
    return [
        {
            "params": [parameter for _, parameter in partition.parameters(group)],
            "weight_decay": strength * multiplier,
            "name": group,
        }
        for group, multiplier in group_multipliers(partition, multipliers).items()
        if group != FROZEN
    ]
