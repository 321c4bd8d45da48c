"""Findings about how hard it decays: lost in half precision, far too much, or as good as nothing."""

from __future__ import annotations

import math

import torch

from segdecay.decay.audit_subject import Finding, Level, Subject, some

HALF = (torch.bfloat16, torch.float16)
NEGLIGIBLE = 0.05  # D at which 95 % of an idle weight is left; torch's AdamW default over 20k cosine steps has 0.01


def check_half(subject: Subject) -> list[Finding]:
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
                known = type(subject.optimizer).__module__.startswith("torch.optim") or decay.source == "policy"
                level: Level = "wrong" if known and not group.get("fused") else "doubtful"
                lost.setdefault((level, str(kind).removeprefix("torch."), shrink), []).append(row.name)
    return [
        Finding(
            "lost_in_half",
            level,
            tuple(names),
            f"{some(names)} are kept in {kind}, where η·λ = {shrink:.3g} rounds 1 − η·λ times any weight back to the "
            f"weight: they do not decay.",
            "Keep the weights in float32 and compute in half precision (autocast), or raise η·λ.",
        )
        for (level, kind, shrink), names in lost.items()
    ]


def check_size(subject: Subject) -> list[Finding]:
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
            Finding(
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
            Finding(
                "decay_does_nothing",
                "doubtful",
                tuple(row.name for row in subject.rows if row.is_decayed),
                f"Total decay D is {max(known):.3g} at most: {left:.1%} of an idle weight is left. That is no decay.",
                "Compare with D of 0.5 to 8, by `segdecay tune` or by a λ that is larger in that proportion.",
            )
        )
    return findings


def check_effective_rate(subject: Subject) -> list[Finding]:
    """Weights before a norm layer: their scale does not matter to the function."""
    names = [row.name for row in subject.rows if row.feeds and row.is_decayed]
    if not names:
        return []
    return [
        Finding(
            "only_effective_rate",
            "note",
            tuple(names),
            f"{len(names)} decayed weights feed a norm layer ({some(names)}): their scale changes no output, "
            f"so decay there sets the effective learning rate, not the capacity.",
            "Tune the head's decay as a second knob: it and unnormalised layers are where L2 acts as L2.",
        )
    ]


def check_schedule(subject: Subject) -> list[Finding]:
    """Rates that change over the training change the decay with them."""
    rates = subject.horizon.learning_rates
    if rates is None or min(rates) == max(rates) or not any(row.total_decay for row in subject.rows):
        return []
    names = tuple(row.name for row in subject.rows if row.total_decay)
    share = sum(rates) / (len(rates) * max(rates))
    return [
        Finding(
            "decay_follows_rate",
            "note",
            names,
            f"The learning rate changes, and the decay with it: in all {share:.0%} of what the peak rate would give. "
            f"A sweep of the learning rate at fixed λ is a sweep of the decay too.",
            "Compare settings by D = Σ η·λ, not by λ.",
        )
    ]
