"""Findings about which parameters are spared: norms and biases that decay, and filters that spare weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segdecay.decay.audit_subject import Finding, Level, Subject, some
from segdecay.decay.groups import FROZEN, POSITION_NAME

# In names that a filter meant for biases, norms and embeddings also finds: "query_proj", "subnet", "patch_embed".
FILTER_WORDS = ("query", "token", "embed", "bias", "norm", "bn")
NORM_PART = re.compile(r"^(layer|rms)?_?norm\d*$|_norm\d*$|^bn\d*$", re.IGNORECASE)


def check_spared(subject: Subject) -> list[Finding]:
    """Norms, biases and positions that decay."""
    norms = [row.name for row in subject.rows_of("norm") if row.is_decayed]
    reasons = {row.name: row.reason for row in subject.partition.rows}
    added = [row.name for row in subject.rows_of("bias") if row.is_decayed]
    places = [name for name in added if reasons[name].startswith("position")]
    biases = [name for name in added if name not in places]
    kinds = (
        ("norm_decayed", norms, "norm gains, norm biases and other scales"),
        ("bias_decayed", biases, "biases"),
        ("position_decayed", places, "position embeddings and tokens"),
    )
    return [
        Finding(
            code,
            "doubtful",
            tuple(names),
            f"{len(names)} {what} decay: {some(names)}.",
            "Most recipes spare them, nnU-Net does not; decide, and say it in groups: segdecay.decay.optimizer_groups.",
        )
        for code, names, what in kinds
        if names
    ]


def check_filter(subject: Subject) -> list[Finding]:
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


def _filter_finding(level: Level, names: Sequence[str], message: str) -> Finding:
    return Finding(
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
