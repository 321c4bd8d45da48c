"""Findings about who is in the optimizer: in no group, in two, frozen, or of another model. Reads tables only."""

from __future__ import annotations

from torch import nn

from segdecay.decay.audit_subject import Finding, Level, Subject, some
from segdecay.decay.groups import FROZEN


def check_no_group(subject: Subject, owner: nn.Module | None = None) -> list[Finding]:
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
            Finding(
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
            Finding(
                "strangers",
                "doubtful",
                (),
                f"The optimizer holds {len(strangers)} tensors that are not in the model (shapes {shapes}).",
                "Pass the module that holds them all, or build the optimizer from this model.",
            )
        ]
    return _missing(subject, missing)


def _missing(subject: Subject, missing: list[str]) -> list[Finding]:
    """Wrong where a filter dropped some of a part; doubtful where a whole part is left out, as on purpose."""
    trained = {row.name.split(".")[0] for row in subject.rows if row.optimizer_groups}
    partial = [name for name in missing if name.split(".")[0] in trained]
    whole = [name for name in missing if name not in partial]
    levels: tuple[tuple[Level, list[str], str], ...] = (
        ("wrong", partial, "although other parameters of the same part are: a filter dropped them"),
        ("doubtful", whole, "nor is anything else of the same part"),
    )
    return [
        Finding(
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


def check_two_groups(subject: Subject) -> list[Finding]:
    """Parameters that the optimizer holds more than once: every step updates and decays them as often."""
    names = [row.name for row in subject.rows if len(row.optimizer_groups) > 1]
    if not names:
        return []
    return [
        Finding(
            "in_two_groups",
            "wrong",
            tuple(names),
            f"The optimizer holds {some(names)} more than once: each step updates and decays them as often.",
            "Give every parameter to one group; group by id where modules share parameters.",
        )
    ]


def check_frozen(subject: Subject) -> list[Finding]:
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
        Finding(code, level, tuple(names), f"{some(names)} ({len(names)}) {how}.", advice)
        for code, level, names, how in kinds
        if names
    ]
