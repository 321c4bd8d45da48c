"""Can these folds be trained and scored? Leaks, empty folds, and classes that a fold lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segdecay.data.checks import Finding, Level, names_of, ordered
from segdecay.data.dataset import POOL, Dataset, class_pixels
from segdecay.data.plans import Fold, FoldPlan

MISSING_CODES = frozenset({"class_missing_validation", "class_missing_training"})  # what allow_missing allows


def check_folds(plan: FoldPlan, dataset: Dataset, *, allow_missing: bool = False) -> tuple[Finding, ...]:
    """Everything that makes a plan unfit ("wrong") or its scores doubtful ("warning").

    allow_missing: a class that some fold cannot score or learn is a warning.
    """
    missing = [*_missing_in_validation(plan, dataset), *_missing_in_training(plan, dataset)]
    if allow_missing:
        missing = [replace(finding, level="warning") for finding in missing]
    return ordered([*_leaks(plan, dataset), *missing])


def missing_table(plan: FoldPlan, dataset: Dataset) -> str:
    """Groups and validation pixels a fold of every class that some fold lacks, as lines of text; "" when none does."""
    rows = [
        (name, str(groups), *(f"{pixels:,}" for pixels in row))
        for name, row, groups in zip(dataset.classes, plan.table, plan.groups_of_class, strict=True)
        if groups and 0 in row
    ]
    if not rows:
        return ""
    head = ("class", "groups", *(f"fold {k + 1}" for k in range(len(plan.folds))))
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join(["Validation pixels:", *lines])


def _leaks(plan: FoldPlan, dataset: Dataset) -> list[Finding]:
    findings = []
    for k, fold in enumerate(plan.folds):
        if not fold.train or not fold.validation:
            findings.append(Finding("wrong", "fold_empty", None, _empty_text(k, fold)))
        both = {*fold.train} & {*fold.validation}
        if both:
            message = f"Fold {k + 1} trains on {len(both)} of the images that it validates. Make the folds anew."
            findings.append(Finding("wrong", "fold_overlap", None, message))
        tested = [i for i in (*fold.train, *fold.validation) if dataset.items[i].part not in POOL]
        if tested:
            message = f"Fold {k + 1} uses {len(tested)} images of the test part. Make the folds anew."
            findings.append(Finding("wrong", "fold_uses_test", None, message))
        groups = [{dataset.items[i].group for i in side} for side in (fold.train, fold.validation)]
        shared = sorted(groups[0] & groups[1])
        if not shared or plan.method == "blocks":
            continue
        by_column = any(item.fold is not None for item in dataset.items)
        message = (
            f"Fold {k + 1} has {len(shared)} group{'s' if len(shared) > 1 else ''} in both training and validation: "
            f"{names_of(shared)}. Images of one group resemble each other, so scores will be better than on new ones, "
            "and a strength that is too weak may look best. Use folds: groups, or give each group one fold"
            f"{'; if these images are independent, take their column group out' if by_column else ''}."
        )
        level: Level = "wrong" if by_column or plan.method != "given" else "warning"  # published splits may leak
        findings.append(Finding(level, "fold_shares_groups", None, message))
    return findings


def _empty_text(k: int, fold: Fold) -> str:
    if not fold.validation:
        return f"Fold {k + 1} has no image for validation. Use fewer folds."
    if not fold.left_out:
        return f"Fold {k + 1} has no image for training. Use fewer folds."
    return (
        f"Fold {k + 1} validates {len(fold.validation)} image{'s' if len(fold.validation) > 1 else ''}, and the guard "
        f"gap around them leaves out the other {len(fold.left_out)}: nothing is left to train on. Lower "
        "search.block_gap."
    )


def _missing_in_validation(plan: FoldPlan, dataset: Dataset) -> list[Finding]:
    """Classes that some fold cannot score. A class that the whole pool lacks is a matter of the data, not of folds."""
    n_folds = len(plan.folds)
    findings = []
    for name, row, groups in zip(dataset.classes, plan.table, plan.groups_of_class, strict=True):
        lacking = [str(k + 1) for k, pixels in enumerate(row) if pixels == 0]
        if not groups or not lacking:
            continue
        if plan.method == "groups" and groups < n_folds:
            seen = f'class "{name}" occurs in {groups} group{"s" if groups > 1 else ""}, folds = {n_folds}: '
            few = f"Use {groups} folds, merge" if groups > 1 else "Merge"
            rest = f"{len(lacking)} fold{'s' if len(lacking) > 1 else ''} cannot score it."
            message = f"{seen}{rest} {few} classes, or --allow-missing."
        else:
            where = f"fold{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}"
            message = f'class "{name}" is in no validation {_kind(dataset)} of {where} and cannot be scored there. '
            message += "Use fewer or other folds, merge classes, or --allow-missing."
        findings.append(Finding("wrong", "class_missing_validation", None, message))
    return findings


def _kind(dataset: Dataset) -> str:
    return "image" if dataset.task == "classification" else "mask"


def _missing_in_training(plan: FoldPlan, dataset: Dataset) -> list[Finding]:
    pool = dataset.part(*POOL)
    counts = dict(zip(pool, class_pixels(dataset, pool), strict=True))
    zero = np.zeros(len(dataset.classes), dtype=np.int64)
    findings = []
    trained = [sum((counts[i] for i in fold.train if i in counts), zero) for fold in plan.folds]
    for c, name in enumerate(dataset.classes):
        lacking = [str(k + 1) for k, pixels in enumerate(trained) if not pixels[c]]
        if plan.groups_of_class[c] and lacking:
            where = f"fold{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}"
            message = (
                f'class "{name}" is in no training {_kind(dataset)} of {where} and cannot be learned there. '
                "Add images of it from other groups, merge classes, or --allow-missing."
            )
            findings.append(Finding("wrong", "class_missing_training", None, message))
    return findings
