"""Findings about what decays: twice, by default, through Adam, by an unknown rule, or nothing. Reads tables only."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.audit.loss_probe import FORMULAS, LossReport
from segdecay.decay.audit.table import AuditRow, DecayTerm, Horizon, held_parameters, is_linear
from segdecay.decay.groups import FROZEN, POSITION_NAME, Partition
from segdecay.decay.head import WEIGHT_TYPES, bare_name
from segdecay.decay.regularizers.registry import may_combine

Level = Literal["wrong", "doubtful", "note"]
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class AuditFinding:
    """One thing that an audit found.

    `wrong`: not what anybody means. `doubtful`: may be meant, often is not. `note`: good to know.
    """

    code: str
    level: Level
    parameters: tuple[str, ...]
    message: str
    advice: str


@dataclass(frozen=True)
class Subject:
    """All that findings are made from."""

    model: nn.Module  # bare
    optimizer: Optimizer  # bare
    partition: Partition
    rows: tuple[AuditRow, ...]
    loss: LossReport
    horizon: Horizon
    clip_norm: float | None = None
    lambda_meant: float | None = None

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The model's parameters by name."""
        return {row.name: parameter for row, parameter in self.partition.named_parameters()}

    @cached_property
    def layer_weights(self) -> frozenset[str]:
        """Names of the weights of convolutions and linear layers."""
        found = ((path, m) for path, m in self.model.named_modules() if isinstance(m, WEIGHT_TYPES))
        return frozenset(bare_name(f"{path}.weight" if path else "weight") for path, _ in found)

    @property
    def strangers(self) -> list[Parameter]:
        """What the optimizer holds and the model does not."""
        known = {id(parameter) for parameter in self.parameters.values()}
        return [parameter for parameter in held_parameters(self.optimizer) if id(parameter) not in known]

    def rows_of(self, *groups: str) -> list[AuditRow]:
        """The rows of some of the partition's groups."""
        return [row for row in self.rows if row.group in groups]


def some(names: Sequence[str]) -> str:
    """The first names and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_twice(subject: Subject) -> list[AuditFinding]:
    """Parameters that two things decay."""
    by_pair: dict[tuple[str, ...], list[AuditRow]] = {}
    for row in subject.rows:
        acting = [decay for decay in row.decays if decay.acts]
        if len(acting) > 1 and not may_decay_together(acting):
            by_pair.setdefault(tuple(decay.label for decay in acting), []).append(row)
    findings = []
    for labels, rows in by_pair.items():
        names = tuple(row.name for row in rows)
        message = f"{some(names)} decay twice: by {' and by '.join(labels)}."
        advice = (
            "Keep one of them: set weight_decay=0 in the optimizer explicitly, or take the penalty out of the loss."
        )
        findings.append(AuditFinding("decays_twice", "wrong", names, message, advice))
    return findings


def may_decay_together(acting: Sequence[DecayTerm]) -> bool:
    """Whether one of two shrinks and the other bounds, as decoupled and max_norm do."""
    return len(acting) == 2 and may_combine(*(decay.mechanism for decay in acting))


def check_default(subject: Subject) -> list[AuditFinding]:
    """A decay that comes from the optimizer's default rather than from anybody's choice."""
    signature = inspect.signature(type(subject.optimizer).__init__).parameters
    findings = []
    for key in ("weight_decay", "lambd"):
        default = signature[key].default if key in signature else None
        if not isinstance(default, int | float) or not default or subject.optimizer.defaults.get(key) != default:
            continue
        if len({float(group.get(key) or 0.0) for group in subject.optimizer.param_groups}) > 1:
            continue  # somebody chose: other groups have another value, as where norm layers are spared
        label = f"({key})"
        rows = [r for r in subject.rows if any(d.label.endswith(label) and d.strength == default for d in r.decays)]
        if rows:
            findings.append(
                AuditFinding(
                    "default_decay",
                    "doubtful",
                    tuple(row.name for row in rows),
                    f"{type(subject.optimizer).__name__} decays {len(rows)} parameters by {key} = {default:g}, "
                    f"which is its own default: nobody need have chosen it.",
                    f"Write {key} = … explicitly, 0 for none; choose it by cross-validation.",
                )
            )
    return findings


def check_coupled(subject: Subject) -> list[AuditFinding]:
    """λ·w in the gradient of an optimizer that divides gradients by their size."""
    if is_linear(subject.optimizer):
        return []
    found: dict[str, list[str]] = {}
    for row in subject.rows:
        for decay in row.decays:
            is_coupled = decay.mechanism in ("coupled", "l2") or decay.source == "loss"
            if decay.acts and is_coupled and decay.mechanism not in ("l1", "row_norm"):
                found.setdefault(decay.label, []).append(row.name)
    name = type(subject.optimizer).__name__
    return [
        AuditFinding(
            "coupled_through_adaptive",
            "doubtful",
            tuple(names),
            f"{label} adds to the gradient, and {name} divides it by the gradient's size: weights with small gradients "
            f"shrink at once, those with large ones hardly ({len(names)} parameters). This is not AdamW's decay, and D "
            f"says nothing about it.",
            "Use AdamW or segdecay's regularizer 'decoupled' for an even pull; SGD where the stated penalty is meant.",
        )
        for label, names in found.items()
    ]


def check_mechanism(subject: Subject) -> list[AuditFinding]:
    """A decay whose mechanism is not known."""
    names = [
        row.name
        for row in subject.rows
        if any(d.mechanism == "unknown" and d.source == "optimizer" and d.acts for d in row.decays)
    ]
    kind = type(subject.optimizer)
    if not names:
        return []
    return [
        AuditFinding(
            "mechanism_unknown",
            "note",
            tuple(names),
            f"{kind.__module__}.{kind.__name__} has weight_decay, and it is not known whether it joins the gradient "
            f"(coupled) or multiplies the weights by 1 − η·λ (decoupled).",
            "Read its step(), or set its weight_decay to 0 and attach a regularizer of segdecay.",
        )
    ]


def check_nothing(subject: Subject) -> list[AuditFinding]:
    """No decay at all."""
    known = all(not row.is_decayed and not row.is_unknown for row in subject.rows)
    if not known or subject.loss.status == "not examined":
        return []
    return [
        AuditFinding(
            "no_decay",
            "note",
            (),
            "Nothing decays any parameter.",
            "If that is not meant: segdecay.decay.attach(optimizer, model, 'decoupled', ...).",
        )
    ]


# In names that a filter meant for biases, norms and embeddings also finds: "query_proj", "subnet", "patch_embed".
FILTER_WORDS = ("query", "token", "embed", "bias", "norm", "bn")
NORM_PART = re.compile(r"^(layer|rms)?_?norm\d*$|_norm\d*$|^bn\d*$", re.IGNORECASE)


def check_spared(subject: Subject) -> list[AuditFinding]:
    """Norms, biases, positions and what a model's author declares free of decay, where they decay."""
    norms = [row.name for row in subject.rows_of("norm") if row.is_decayed]
    reasons = {row.name: row.reason for row in subject.partition.rows}
    added = [row.name for row in subject.rows_of("bias") if row.is_decayed]
    places = [name for name in added if reasons[name].startswith("position")]
    declared = [name for name in added if reasons[name].startswith("declared")]
    biases = [name for name in added if name not in places and name not in declared]
    kinds = (
        ("norm_decayed", norms, "norm gains, norm biases and other scales"),
        ("bias_decayed", biases, "biases"),
        ("position_decayed", places, "position embeddings and tokens"),
        ("declared_decayed", declared, "parameters that the model's author declares free of decay"),
    )
    return [
        AuditFinding(
            code,
            "doubtful",
            tuple(names),
            f"{len(names)} {what} decay: {some(names)}.",
            "Most recipes spare them, nnU-Net does not; decide, and say it in groups: segdecay.decay.optimizer_groups.",
        )
        for code, names, what in kinds
        if names
    ]


def check_filter(subject: Subject) -> list[AuditFinding]:
    """Weights that do not decay while others do: a filter that spares the wrong ones."""
    inside = [row for row in subject.rows if row.optimizer_groups and row.group != FROZEN]
    weights = [row for row in inside if row.name in subject.layer_weights and row.group not in ("norm", "bias")]
    spared = [row for row in weights if not row.is_decayed and not row.is_unknown]
    others = [row for row in inside if row.group in ("norm", "bias")]
    decayed_others = [row.name for row in others if row.is_decayed]
    if spared and len(spared) == len(weights) and decayed_others:
        return [
            _filter_finding(
                "wrong",
                [row.name for row in spared],
                f"all {len(spared)} weights of convolutions and "
                f"linear layers are spared, and {some(decayed_others)} decay",
            )
        ]
    if not spared or len(spared) == len(weights):
        return []
    beside = {index for row in others for index in row.optimizer_groups}
    by_word: dict[str, list[str]] = {}
    for row in spared:
        shares_group = beside & set(row.optimizer_groups)
        by_word.setdefault(_filter_word(row.name) if shares_group else "", []).append(row.name)
    plain = by_word.pop("", [])
    findings = [
        _filter_finding(
            "wrong", names, f"a filter on '{word}' in names spares {len(names)} weights of layers too: {some(names)}"
        )
        for word, names in by_word.items()
    ]
    if plain:
        findings.append(
            _filter_finding(
                "doubtful",
                plain,
                f"{len(plain)} of {len(weights)} weights of layers are spared while the others decay: {some(plain)}",
            )
        )
    return findings


def _filter_finding(level: Level, names: Sequence[str], message: str) -> AuditFinding:
    return AuditFinding(
        "filter_spares_weights",
        level,
        tuple(names),
        f"{message[0].upper()}{message[1:]}.",
        "Place parameters by module type and dimension, not by a word in the name: segdecay.decay.group_parameters.",
    )


def _filter_word(name: str) -> str:
    """The word in a weight's name that a filter for norms, biases and embeddings would have found; "" for none."""
    parts = name.split(".")[:-1]
    if any(NORM_PART.search(part) or POSITION_NAME.search(part) for part in parts):
        return ""  # a layer inside a norm or position part: spared with it
    return next((word for word in FILTER_WORDS if any(word in part.lower() for part in parts)), "")


def check_no_group(subject: Subject, owner: nn.Module | None = None) -> list[AuditFinding]:
    """Trainable parameters that the optimizer does not hold, and tensors that it holds instead.

    Args:
        subject: what is audited.
        owner: the loss, if it is a module; its own parameters are no strangers.
    """
    missing = [row.name for row in subject.rows if not row.optimizer_groups and row.group != FROZEN]
    own = {id(parameter) for parameter in owner.parameters()} if owner is not None else set()
    strangers = [parameter for parameter in subject.strangers if id(parameter) not in own]
    shapes = ", ".join(str(tuple(parameter.shape)) for parameter in strangers[:3])
    if missing and strangers:
        return [
            AuditFinding(
                "replaced_after",
                "wrong",
                tuple(missing),
                f"{some(missing)} are in no group of the optimizer, and it holds {len(strangers)} tensors that are not "
                f"in the model (shapes {shapes}): it was built before a part was replaced. The new part never "
                f"trains.",
                "Build the optimizer after the last change to the model.",
            )
        ]
    if strangers:
        return [
            AuditFinding(
                "strangers",
                "doubtful",
                (),
                f"The optimizer holds {len(strangers)} tensors that are not in the model (shapes {shapes}).",
                "Pass the module that holds them all, or build the optimizer from this model.",
            )
        ]
    return _missing(subject, missing)


def _missing(subject: Subject, missing: list[str]) -> list[AuditFinding]:
    """Wrong where a filter dropped some of a part; doubtful where a whole part is left out, as on purpose."""
    trained = {row.name.split(".")[0] for row in subject.rows if row.optimizer_groups}
    partial = [name for name in missing if name.split(".")[0] in trained]
    whole = [name for name in missing if name not in partial]
    levels: tuple[tuple[Level, list[str], str], ...] = (
        ("wrong", partial, "although other parameters of the same part are: a filter dropped them"),
        ("doubtful", whole, "nor is anything else of the same part"),
    )
    return [
        AuditFinding(
            "in_no_group",
            level,
            tuple(names),
            f"{some(names)} ({len(names)} trainable parameters) are in no group of the optimizer, {how}. They never "
            f"train and never decay.",
            "Add them to a group, or set requires_grad to False to say that it is meant.",
        )
        for level, names, how in levels
        if names
    ]


def check_two_groups(subject: Subject) -> list[AuditFinding]:
    """Parameters that the optimizer holds more than once: every step updates and decays them as often."""
    names = [row.name for row in subject.rows if len(row.optimizer_groups) > 1]
    if not names:
        return []
    return [
        AuditFinding(
            "in_two_groups",
            "wrong",
            tuple(names),
            f"The optimizer holds {some(names)} more than once: each step updates and decays them as often.",
            "Give every parameter to one group; group by id where modules share parameters.",
        )
    ]


def check_frozen(subject: Subject) -> list[AuditFinding]:
    """Parameters that are meant to stand still and decay."""
    decayed = [row for row in subject.rows if any(d.acts and d.source == "optimizer" for d in row.decays)]
    frozen = [row.name for row in decayed if row.group == FROZEN]
    moving = [name for name in frozen if subject.parameters[name].grad is not None]
    still = [name for name in frozen if name not in moving]
    idle = []
    for row in decayed:
        gradient = subject.parameters[row.name].grad
        if row.group != FROZEN and gradient is not None and not gradient.is_meta and not bool(gradient.any()):
            idle.append(row.name)
    advice = "Leave them out of the optimizer, or set p.grad = None and keep zero_grad(set_to_none=True)."
    kinds: tuple[tuple[str, Level, list[str], str], ...] = (
        (
            "frozen_decays",
            "wrong",
            moving,
            "have requires_grad False and still hold a gradient: every step decays them",
        ),
        ("zero_gradient_decays", "doubtful", idle, "have gradients of zeros only: they learn nothing and decay"),
        (
            "frozen_in_decayed_group",
            "note",
            still,
            "are frozen, in a group that decays. They decay as soon as they get a gradient, even of zeros",
        ),
    )
    return [
        AuditFinding(code, level, tuple(names), f"{some(names)} ({len(names)}) {how}.", advice)
        for code, level, names, how in kinds
        if names
    ]


CLOSE = 0.02  # relative distance at which two strengths are the same
CLIPPED_SHARE = 0.1  # of the clipping norm, from which on the penalty takes a visible part of it
NO_ZEROS = "Gradient steps give no exact zeros; a proximal step does."
FORM_FINDINGS: dict[str, tuple[str, Level, str]] = {  # by form: code, level, advice
    "norm": (
        "norm_not_squared",
        "wrong",
        "Square it: λ·½·Σθ². It is a group lasso over whole tensors now: the pull does not fade as weights shrink.",
    ),
    "joint_norm": (
        "norm_not_squared",
        "wrong",
        "Square it: λ·½·Σθ². As it is, the pull is c/‖θ‖, which grows as the weights shrink.",
    ),
    "nan": (
        "penalty_not_finite",
        "wrong",
        "A square root of 0, as of a bias that starts at zero, has no gradient. Use squares.",
    ),
    "row_norm": ("group_lasso_in_loss", "note", NO_ZEROS),
    "l1": ("l1_in_loss", "note", NO_ZEROS),
    "elastic": ("l1_in_loss", "note", NO_ZEROS),
    "toward": ("pull_to_fixed", "note", "L2-SP, where w are pretrained weights. A layer that was replaced needs no w."),
    "unknown": ("penalty_unknown", "doubtful", "Read the loss: it depends on these weights past the model's output."),
    "zero": ("unknown_at_zero", "note", "They are not spared: as soon as they move, the penalty acts on them too."),
}
COEFFICIENT_IS_LAMBDA = ("squared", "elastic", "toward")


def check_examined(subject: Subject) -> list[AuditFinding]:
    """A loss that could not be probed; it is never clean."""
    if subject.loss.status != "not examined":
        return []
    message = f"The loss was not examined, so a penalty in it would not be seen: {subject.loss.reason}."
    advice = (
        "Give shapes of output and target, or example tensors; probe the penalty alone where the loss runs the model."
    )
    return [AuditFinding("loss_not_examined", "doubtful", (), message, advice)]


def check_forms(subject: Subject) -> list[AuditFinding]:
    """One finding for every form of penalty in the loss; λ·½Σθ² has its own."""
    by_kind: dict[str, list[str]] = {}
    for name, form in subject.loss.forms.items():
        by_kind.setdefault(form.kind, []).append(name)
    findings = []
    for kind, names in by_kind.items():
        if kind in FORM_FINDINGS:
            code, level, advice = FORM_FINDINGS[kind]
            findings.append(AuditFinding(code, level, tuple(names), _pull(subject, kind, names), advice))
    return findings


def _pull(subject: Subject, kind: str, names: Sequence[str]) -> str:
    if kind == "zero":
        return f"The penalty holds {some(names)}, all zeros now: how it will act on them is unknown."
    values = _coefficients(subject, names)
    amount = f", {values}" if values else ""
    return f"The loss adds {FORMULAS[kind]}{amount}, on {len(names)} parameters: {some(names)}."


def _coefficients(subject: Subject, names: Sequence[str]) -> str:
    forms = [subject.loss.forms[name] for name in names]
    known = sorted(form.coefficient for form in forms if form.coefficient is not None)
    if not known:
        return ""
    letter = "λ" if forms[0].kind in COEFFICIENT_IS_LAMBDA else "c"
    if _is_close(known[0], known[-1]):
        return f"{letter} = {known[len(known) // 2]:.3g}"
    return f"{letter} from {known[0]:.3g} to {known[-1]:.3g}"


def check_strength(subject: Subject) -> list[AuditFinding]:
    """The λ that acts, against the one that is meant: a missing ½ and other factors.

    From the gradient alone λ·Σθ² and (2λ)·½Σθ² are the same; so without `lambda_meant` both readings are told.
    """
    values = {
        name: form.coefficient
        for name, form in subject.loss.forms.items()
        if form.kind == "squared" and form.coefficient is not None
    }
    if not values:
        return []
    grown = tuple(name for name, value in values.items() if value < 0)
    if grown:
        message = f"The loss rewards large weights: its λ is negative for {some(grown)}."
        return [AuditFinding("penalty_grows_weights", "wrong", grown, message, "Turn the sign of the penalty.")]
    names, value = tuple(values), sorted(values.values())[len(values) // 2]
    if subject.lambda_meant is not None:
        return _against_meant(names, value, subject.lambda_meant)
    message = (
        f"The loss adds λ·½Σθ² with {_coefficients(subject, names)}, on {len(names)} parameters: {some(names)}. If it "
        f"is written without the ½, its coefficient is {value / 2:.3g} and λ is twice that."
    )
    advice = "Compare λ, not the coefficient, with a weight_decay. Give the λ that is meant, to have it checked."
    return [AuditFinding("penalty_in_loss", "note", names, message, advice)]


def _against_meant(names: tuple[str, ...], value: float, meant: float) -> list[AuditFinding]:
    if _is_close(value, meant):
        return []
    if _is_close(value, 2 * meant):
        message = f"λ in the loss is {value:.3g}, twice the {meant:g} that is meant: the ½ is missing."
        return [AuditFinding("half_missing", "wrong", names, message, "Write λ·½·Σθ², or halve the coefficient.")]
    message = f"λ in the loss is {value:.3g}, {value / meant:.3g} times the {meant:g} that is meant."
    advice = "Look for a factor: the batch size, the number of layers, a mean in place of a sum."
    return [AuditFinding("other_strength", "doubtful", names, message, advice)]


def check_batch(subject: Subject) -> list[AuditFinding]:
    """A penalty that depends on the batch or on the output."""
    factor, names = subject.loss.batch_factor, tuple(subject.loss.forms)
    if not names or _is_close(factor, 1.0):
        return []
    advice = "Add the penalty once, after the mean over the batch."
    if _is_close(factor, 2.0):
        message = "The penalty's gradient doubles when the batch does: λ is multiplied by the batch size."
        return [AuditFinding("penalty_grows_with_batch", "wrong", names, message, advice)]
    message = f"The penalty's gradient is {factor:.3g} times as large when the same images come twice in the batch."
    return [AuditFinding("penalty_depends_on_batch", "doubtful", names, message, advice)]


def check_without_gradient(subject: Subject) -> list[AuditFinding]:
    """A penalty from state_dict() or .data: it is in the value and changes nothing."""
    report = subject.loss
    hidden = report.read_without_gradient
    names = hidden or report.read_as_numbers
    if not names:
        return []
    where = f"{some(names)} ({len(names)} parameters)"
    message = (
        f"The loss's value depends on {where}, but no gradient reaches them: the penalty is shown and does nothing."
        if hidden
        else f"The loss reads {where} as plain numbers: if they are in its value, no gradient reaches them."
    )
    if report.read_buffers:
        message += f" It also counts buffers: {some(report.read_buffers)}."
    advice = (
        "Sum over model.parameters(). state_dict() and .data carry no gradient; state_dict() has running statistics."
    )
    return [AuditFinding("penalty_without_gradient", "wrong" if hidden else "doubtful", names, message, advice)]


def check_clipping(subject: Subject) -> list[AuditFinding]:
    """Clipping acts on a penalty in the loss, and not on decay in the optimizer."""
    size, limit = subject.loss.gradient_norm, subject.clip_norm
    names = tuple(name for name, form in subject.loss.forms.items() if form.kind not in ("zero", "none", "nan"))
    if not names or not size > 0:
        return []
    advice = "Decay in the optimizer or by a regularizer: they act after clipping."
    message = f"The penalty's gradient has norm {size:.3g}. Where gradients are clipped, it is clipped with them."
    if limit is None:
        return [AuditFinding("clipping_would_act", "note", names, message, advice)]
    share = size / limit
    level: Level = "wrong" if share >= 1 else "doubtful" if share > CLIPPED_SHARE else "note"
    what = (
        "every step clips it, and the data's gradient with it"
        if share >= 1
        else "a step that is clipped shrinks it too"
    )
    message = f"The penalty's gradient has norm {size:.3g}, {share:.3g} times the {limit:g} that is clipped to: {what}."
    return [AuditFinding("clipping_swallows", level, names, message, advice)]


def _is_close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= CLOSE * abs(wanted)


HALF = (torch.bfloat16, torch.float16)
# D at which 95 % of a weight that gets no gradient is left; torch's AdamW default over 20k cosine steps has 0.01
NEGLIGIBLE = 0.05


def check_half(subject: Subject) -> list[AuditFinding]:
    """A decoupled decay that rounds away: below a quarter of eps no number of the data type changes."""
    lost: dict[tuple[Level, str, float], list[str]] = {}
    for row in subject.rows:
        kind = subject.parameters[row.name].dtype
        if kind not in HALF or not row.optimizer_groups:
            continue
        group = subject.optimizer.param_groups[row.optimizer_groups[0]]
        for decay in row.decays:
            shrink = subject.horizon.peak(subject.optimizer, row.optimizer_groups[0]) * (decay.strength or 0.0)
            if decay.mechanism == "decoupled" and 0 < shrink <= torch.finfo(kind).eps / 4:
                known = type(subject.optimizer).__module__.startswith("torch.optim") or decay.source == "regularizer"
                level: Level = "wrong" if known and not group.get("fused") else "doubtful"
                lost.setdefault((level, str(kind).removeprefix("torch."), shrink), []).append(row.name)
    return [
        AuditFinding(
            "lost_in_half",
            level,
            tuple(names),
            f"{some(names)} are kept in {kind}, where η·λ = {shrink:.3g} rounds 1 − η·λ times any weight back to the "
            f"weight: they do not decay.",
            "Keep the weights in float32 and compute in half precision (autocast), or raise η·λ.",
        )
        for (level, kind, shrink), names in lost.items()
    ]


def check_size(subject: Subject) -> list[AuditFinding]:
    """Decay that wipes weights out in one step, or that over the whole training does nothing."""
    wiped = [
        row.name
        for row in subject.rows
        for decay in row.decays
        if decay.axis is not None
        and decay.axis.name == "total_decay"
        and decay.acts
        and row.optimizer_groups
        and subject.horizon.peak(subject.optimizer, row.optimizer_groups[0]) * (decay.strength or 0.0) >= 1
    ]
    findings = []
    if wiped:
        findings.append(
            AuditFinding(
                "removes_weights",
                "wrong",
                tuple(dict.fromkeys(wiped)),
                f"η·λ is 1 or more for {some(wiped)}: one step removes the weights.",
                "Lower λ or the learning rate; total decay D of 0.5 to 8 is usual.",
            )
        )
    totals = [row.total_decay for row in subject.rows if row.is_decayed]
    known = [total for total in totals if total is not None]
    if known and len(known) == len(totals) and max(known) < NEGLIGIBLE:
        left = math.exp(-max(known))
        findings.append(
            AuditFinding(
                "decay_does_nothing",
                "doubtful",
                tuple(row.name for row in subject.rows if row.is_decayed),
                f"Total decay D is {max(known):.3g} at most: {left:.1%} of a weight that gets no gradient is left. "
                "That is no decay.",
                "Compare with D of 0.5 to 8, by `segdecay tune` or by a λ that is larger in that proportion.",
            )
        )
    return findings


def check_effective_rate(subject: Subject) -> list[AuditFinding]:
    """Weights before a norm layer: their scale does not matter to the function."""
    names = [row.name for row in subject.rows if row.feeds and row.is_decayed]
    if not names:
        return []
    return [
        AuditFinding(
            "only_effective_rate",
            "note",
            tuple(names),
            f"{len(names)} decayed weights feed a norm layer ({some(names)}): their scale changes no output, "
            f"so decay there sets the effective learning rate, not the capacity.",
            "Tune the head's decay as a second knob: it and unnormalised layers are where L2 acts as L2.",
        )
    ]


def check_schedule(subject: Subject) -> list[AuditFinding]:
    """Rates that change over the training change the decay with them."""
    rates = subject.horizon.learning_rates
    if rates is None or min(rates) == max(rates) or not any(row.total_decay for row in subject.rows):
        return []
    names = tuple(row.name for row in subject.rows if row.total_decay)
    share = sum(rates) / (len(rates) * max(rates))
    return [
        AuditFinding(
            "decay_follows_rate",
            "note",
            names,
            f"The learning rate changes, and the decay with it: in all {share:.0%} of what the peak rate would give. "
            f"A sweep of the learning rate at fixed λ is a sweep of the decay too.",
            "Compare settings by D = Σ η·λ, not by λ.",
        )
    ]
