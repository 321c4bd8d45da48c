"""Findings about decay: applied twice, left at a default, passed through Adam, too strong, too weak, or absent."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import torch

from segdecay.decay.audit.mechanism import Mechanism
from segdecay.decay.audit.subject import AuditFinding, Level, Subject, some
from segdecay.decay.audit.table import AuditRow, DecayTerm, optimizer_name
from segdecay.decay.regularizers.registry import may_combine
from segdecay.decay.strength import check_first_order

HALF = (torch.bfloat16, torch.float16)
# D at which 95 % of a weight that gets no gradient is left; torch's AdamW default over 20k cosine steps has 0.01
NEGLIGIBLE = 0.05
USUAL = 1e-2  # a measured factor of η·λ within this distance of 1 is not reported


def check_twice(subject: Subject) -> list[AuditFinding]:
    """Parameters that decay from two sources."""
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
            continue  # a choice: other groups have another value, for example where norm layers are spared
        label = f"({key})"
        rows = [r for r in subject.rows if any(d.label.endswith(label) and d.strength == default for d in r.decays)]
        if rows:
            findings.append(
                AuditFinding(
                    "default_decay",
                    "doubtful",
                    tuple(row.name for row in rows),
                    f"{type(subject.optimizer).__name__} decays {len(rows)} parameters by {key} = {default:g}, "
                    f"which is its default: it may not have been chosen.",
                    f"Write {key} = … explicitly (0: no decay), and choose it by cross-validation.",
                )
            )
    return findings


def check_coupled(subject: Subject) -> list[AuditFinding]:
    """λ·w in the gradient of an optimizer that divides gradients by their size."""
    found: dict[str, list[str]] = {}
    for row in subject.rows:
        if not row.optimizer_groups:
            continue
        tried = subject.mechanisms.of_group(subject.optimizer.param_groups[row.optimizer_groups[0]])
        if tried is not None and tried.is_linear:
            continue
        for decay in row.decays:
            is_coupled = decay.mechanism in ("coupled", "l2") or decay.source == "loss"
            if decay.acts and is_coupled and decay.mechanism not in ("l1", "row_norm"):
                found.setdefault(decay.label, []).append(row.name)
    name = optimizer_name(subject.optimizer)
    return [
        AuditFinding(
            "coupled_through_adaptive",
            "doubtful",
            tuple(names),
            f"{label} adds to the gradient, and {name} divides it by the gradient's size: weights with small gradients "
            f"shrink fast, those with large ones hardly at all ({len(names)} parameters). This is not AdamW's decay, "
            f"and D says nothing about it.",
            "Use AdamW or segdecay's regularizer 'decoupled' for an even pull; SGD where the stated penalty is meant.",
        )
        for label, names in found.items()
    ]


MECHANISM_TEXTS = {  # by what was measured: code, text
    "other": (
        "other_mechanism",
        (
            "{key} of {name} neither joins the gradient nor multiplies weights by 1 − η·λ: tried on stand-in weights, "
            "{left:.6g} of a weight without gradient was left after {steps} steps, where (1 − η·λ)^{steps} is "
            "{asked:.6g}. D says nothing about it."
        ),
    ),
    "scaled": (
        "other_mechanism",
        (
            "{key} of {name} multiplies weights by 1 − f, where f is {factor:.3g} times η·λ{power}: tried on stand-in "
            "weights."
        ),
    ),
    "nothing": ("weight_decay_ignored", "{key} of {name} has no effect: tried on stand-in weights."),
    "unknown": (
        "mechanism_unknown",
        (
            "{name} has {key}, and it is not known whether it joins the gradient (coupled) or multiplies the weights "
            "by 1 − η·λ (decoupled): it could not be tried on stand-in weights ({reason})."
        ),
    ),
}
MECHANISM_ADVICE = {
    "other_mechanism": "Set it to 0 and attach a regularizer of segdecay, if a known strength is wanted.",
    "weight_decay_ignored": "Read its step(). To decay these weights, attach a regularizer of segdecay.",
    "mechanism_unknown": "Read its step(), or set its weight_decay to 0 and attach a regularizer of segdecay.",
}


def check_mechanism(subject: Subject) -> list[AuditFinding]:
    """A decay that is neither coupled nor decoupled, does nothing, or could not be tried."""
    found: dict[tuple[str, str, Mechanism], list[str]] = {}
    for row in subject.rows:
        for index in dict.fromkeys(row.optimizer_groups):
            group = subject.optimizer.param_groups[index]
            for key in ("weight_decay", "lambd"):
                if group.get(key):
                    tried = subject.mechanisms.of(key, group, subject.parameters[row.name])
                    how: str = "scaled" if tried.how == "decoupled" and not _is_usual(tried) else tried.how
                    found.setdefault((how, key, tried), []).append(row.name)
    kind = type(subject.optimizer)
    name = f"{kind.__module__}.{kind.__name__}"
    findings = []
    for (how, key, tried), names in found.items():
        if how in MECHANISM_TEXTS:
            code, text = MECHANISM_TEXTS[how]
            power = (
                "" if tried.rate_power == 1 else f" at this η, and is proportional to η to the power {tried.rate_power}"
            )
            message = text.format(key=key, name=name, power=power, **vars(tried))
            message += f" Seen for {len(names)} parameters: {some(names)}."
            level: Level = "doubtful" if code == "weight_decay_ignored" else "note"
            findings.append(AuditFinding(code, level, tuple(names), message, MECHANISM_ADVICE[code]))
    return findings


def _is_usual(tried: Mechanism) -> bool:
    return abs(tried.factor - 1) < USUAL and tried.rate_power == 1


def check_by_hand(subject: Subject) -> list[AuditFinding]:
    """Decay by a hook or by the code of the step, in addition to the optimizer's."""
    found: dict[tuple[str, str], list[str]] = {}
    strengths: dict[tuple[str, str], list[float | None]] = {}
    for row in subject.rows:
        for decay in row.decays:
            if decay.source in ("step", "hook"):
                found.setdefault((decay.source, decay.label), []).append(row.name)
                strengths.setdefault((decay.source, decay.label), []).append(decay.strength)
    findings = []
    for (source, label), names in found.items():
        known = [value for value in strengths[source, label] if value is not None]
        known.sort()
        amount = f"λ = {known[len(known) // 2]:.3g}" if known else "by no fixed share"
        is_known = len(known) == len(names)
        message = f"{label[0].upper()}{label[1:]}, decays {len(names)} parameters ({amount}): {some(names)}."
        if not is_known:
            message = f"{label[0].upper()}{label[1:]}, changes {len(names)} parameters in another way: {some(names)}."
        advice = "The optimizer's weight_decay or a regularizer beside it would be a second decay."
        findings.append(
            AuditFinding(
                f"decay_{'by_hook' if source == 'hook' else 'in_step'}",
                "note" if is_known else "doubtful",
                tuple(names),
                message,
                advice,
            )
        )
    return findings


def check_oscillation(subject: Subject) -> list[AuditFinding]:
    """Decay through momentum with η·λ near (1−√μ)²: weights oscillate, and D does not tell what is left of them."""
    found: dict[str, list[str]] = {}
    for row in subject.rows:
        for decay in row.decays:
            if decay.axis is None or decay.axis.coupling is None or not decay.acts or not row.optimizer_groups:
                continue
            peak = subject.horizon.peak(subject.optimizer, row.optimizer_groups[0])
            if peak > 0 and decay.strength is not None and decay.strength > 0:
                for finding in check_first_order(decay.axis, decay.strength, [peak]):
                    found.setdefault(finding, []).append(row.name)
    return [
        AuditFinding(
            "oscillates",
            "doubtful",
            tuple(names),
            f"{said.split('. ')[0]}. Seen for {len(names)} parameters: {some(names)}.",
            said.split(". ")[1],
        )
        for said, names in found.items()
    ]


def check_nothing(subject: Subject) -> list[AuditFinding]:
    """No decay at all."""
    known = all(not row.is_decayed and not row.is_unknown for row in subject.rows)
    if not known or (subject.loss.status == "not examined" and subject.step.status != "examined"):
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


def check_half(subject: Subject) -> list[AuditFinding]:
    """Decoupled decay that is lost by rounding: below a quarter of eps it changes no number of the data type."""
    lost: dict[tuple[Level, str, float], list[str]] = {}
    for row in subject.rows:
        kind = subject.parameters[row.name].dtype
        if kind not in HALF or not row.optimizer_groups:
            continue
        group = subject.optimizer.param_groups[row.optimizer_groups[0]]
        for decay in row.decays:
            shrink = subject.horizon.peak(subject.optimizer, row.optimizer_groups[0]) * (decay.strength or 0.0)
            if decay.mechanism == "decoupled" and 0 < shrink <= torch.finfo(kind).eps / 4:
                known = decay.source == "regularizer" or subject.mechanisms.of_group(group) is not None
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
    """Decay that removes weights in one step, or that does next to nothing over the whole training."""
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
            "Tune the decay of the head separately: there, and in layers without a norm layer, L2 limits the function.",
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
            f"The learning rate changes, and with it the decay: over the training it is {share:.0%} of what the "
            f"peak rate would give. A sweep of the learning rate at fixed λ is a sweep of the decay too.",
            "Compare settings by D = Σ η·λ, not by λ.",
        )
    ]
