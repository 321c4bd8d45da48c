"""Findings about which parameters are in which group of the optimizer: spared, decayed by accident, in none, in two."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from segdecay.decay.audit.subject import AuditFinding, Level, Subject, some
from segdecay.decay.audit.table import AuditRow
from segdecay.decay.groups import FROZEN, POSITION_NAME

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
            "Most recipes exclude them from decay, nnU-Net does not. Decide, and use segdecay.decay.optimizer_groups.",
        )
        for code, names, what in kinds
        if names
    ]


def check_filter(subject: Subject) -> list[AuditFinding]:
    """Weights that do not decay while others do: a filter that spares the wrong ones."""
    inside = [row for row in subject.rows if row.optimizer_groups and row.group != FROZEN]
    weights = _decayable(subject)
    heads = {name for finding in check_head(subject) for name in finding.parameters}
    spared = [row for row in weights if row.name not in heads and not row.is_decayed and not row.is_unknown]
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


def check_head(subject: Subject) -> list[AuditFinding]:
    """A layer that makes the logits and does not decay, while other layers do."""
    weights = _decayable(subject)
    heads = [row for row in weights if row.group == "head"]
    others = [row for row in weights if row.group != "head"]
    spared = [row.name for row in heads if not row.is_decayed and not row.is_unknown]
    if not spared or len(spared) < len(heads) or not all(row.is_decayed for row in others) or not others:
        return []
    return [
        AuditFinding(
            "head_spared",
            "doubtful",
            tuple(spared),
            f"The layer that makes the logits is spared while all other layers decay: {some(spared)}. Before norm "
            f"layers decay sets the effective learning rate only; the logits layer is where it limits the function.",
            "Let it decay with the others, and tune its strength apart: segdecay.decay.optimizer_groups.",
        )
    ]


def _decayable(subject: Subject) -> list[AuditRow]:
    """Rows of weights of convolutions and linear layers that the optimizer trains."""
    inside = [row for row in subject.rows if row.optimizer_groups and row.group != FROZEN]
    return [row for row in inside if row.name in subject.layer_weights and row.group not in ("norm", "bias")]


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
        owner: the loss, if it is a module; its parameters count as known.
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
            "Add them to a group; pass every optimizer to the audit where another one trains them; or set "
            "requires_grad to False to say that it is meant.",
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
    """Parameters that are meant not to change, and yet decay."""
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
