"""Findings about what decays: twice, by default, through Adam, by an unknown rule, or nothing. Reads tables only."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from segdecay.decay.audit_mechanism import Decay, is_linear
from segdecay.decay.audit_subject import Finding, Subject, some
from segdecay.decay.audit_table import AuditRow
from segdecay.decay.registry import may_combine


def check_twice(subject: Subject) -> list[Finding]:
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
        findings.append(Finding("decays_twice", "wrong", names, message, advice))
    return findings


def may_decay_together(acting: Sequence[Decay]) -> bool:
    """Whether one of two shrinks and the other bounds, as decoupled and max_norm do."""
    return len(acting) == 2 and may_combine(*(decay.mechanism for decay in acting))


def check_default(subject: Subject) -> list[Finding]:
    """A decay that comes from the optimizer's default rather than from anybody's choice."""
    signature = inspect.signature(type(subject.optimizer).__init__).parameters
    findings = []
    for key in ("weight_decay", "lambd"):
        default = signature[key].default if key in signature else None
        if not isinstance(default, int | float) or not default or subject.optimizer.defaults.get(key) != default:
            continue
        label = f"({key})"
        rows = [r for r in subject.rows if any(d.label.endswith(label) and d.strength == default for d in r.decays)]
        if rows:
            findings.append(
                Finding(
                    "default_decay",
                    "doubtful",
                    tuple(row.name for row in rows),
                    f"{type(subject.optimizer).__name__} decays {len(rows)} parameters by {key} = {default:g}, "
                    f"which is its own default: nobody need have chosen it.",
                    f"Write {key} = … explicitly, 0 for none; choose it by cross-validation.",
                )
            )
    return findings


def check_coupled(subject: Subject) -> list[Finding]:
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
        Finding(
            "coupled_through_adaptive",
            "doubtful",
            tuple(names),
            f"{label} adds to the gradient, and {name} divides it by the gradient's size: weights with small gradients "
            f"shrink at once, those with large ones hardly ({len(names)} parameters). This is not AdamW's decay, and D "
            f"says nothing about it.",
            "Use AdamW or segdecay's policy 'decoupled' for an even pull; SGD where the stated penalty is meant.",
        )
        for label, names in found.items()
    ]


def check_mechanism(subject: Subject) -> list[Finding]:
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
        Finding(
            "mechanism_unknown",
            "note",
            tuple(names),
            f"{kind.__module__}.{kind.__name__} has weight_decay, and it is not known whether it joins the gradient "
            f"(coupled) or multiplies the weights by 1 − η·λ (decoupled).",
            "Read its step(), or set its weight_decay to 0 and attach a policy of segdecay.",
        )
    ]


def check_nothing(subject: Subject) -> list[Finding]:
    """No decay at all."""
    known = all(not row.is_decayed and not row.is_unknown for row in subject.rows)
    if not known or subject.loss.status == "not examined":
        return []
    return [
        Finding(
            "no_decay",
            "note",
            (),
            "Nothing decays any parameter.",
            "If that is not meant: segdecay.decay.attach(optimizer, model, policy='decoupled', ...).",
        )
    ]
