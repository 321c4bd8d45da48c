"""Folds of cross-validation: by groups, by blocks inside long groups, or as the data set gives them.

With `groups` a group is in training or in validation of a fold, never in both. With `blocks` it may be in both, and a
gap of frames between them is left out. The part "test" is in no fold.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import RunConfig
from segdecay.data.checks.findings import Finding, Level, names_of, ordered
from segdecay.data.dataset import POOL, Dataset, class_pixels
from segdecay.data.formats.pairing import natural_key
from segdecay.data.splits.stratify import balanced_folds, balanced_rotation, fold_weights
from segdecay.errors import DataError, gather, unknown

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Indices into `dataset.items`, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    left_out: tuple[int, ...] = ()  # in neither: the gap around a validation block


@dataclass(frozen=True)
class FoldPlan:
    """All folds. table[class][fold]: validation pixels; groups_of_class[class]: groups of the pool that have it."""

    method: str
    folds: tuple[Fold, ...]
    table: tuple[tuple[int, ...], ...]
    groups_of_class: tuple[int, ...]
    fingerprint: str  # sha256 over the method and the names in every fold


def make_plan(method: str, folds: Sequence[Fold], dataset: Dataset) -> FoldPlan:
    """A plan with its table, counts and fingerprint."""
    pool = dataset.part(*POOL)
    counts = dict(zip(pool, class_pixels(dataset, pool), strict=True))
    zero = np.zeros(len(dataset.classes), dtype=np.int64)
    columns = [sum((counts[i] for i in fold.validation), zero) for fold in folds]
    table = tuple(tuple(int(column[c]) for column in columns) for c in range(len(dataset.classes)))
    groups = tuple(len({dataset.items[i].group for i in pool if counts[i][c]}) for c in range(len(dataset.classes)))
    named = json.dumps([method, [names_of_fold(fold, dataset) for fold in folds]], sort_keys=True, ensure_ascii=False)
    return FoldPlan(method, tuple(folds), table, groups, hashlib.sha256(named.encode()).hexdigest())


def names_of_fold(fold: Fold, dataset: Dataset) -> dict[str, list[str]]:
    """The names of the images in every part of a fold."""
    parts = {"train": fold.train, "validation": fold.validation, "left_out": fold.left_out}
    return {part: [dataset.items[index].name for index in indices] for part, indices in parts.items()}


MISSING_CODES = frozenset({"class_missing_validation", "class_missing_training"})  # warnings under allow_missing


def check_folds(plan: FoldPlan, dataset: Dataset, *, allow_missing: bool = False) -> tuple[Finding, ...]:
    """Findings on a plan: "wrong" where it cannot be used, "warning" where its scores are doubtful.

    allow_missing: a class that some fold cannot score or learn is a warning.
    """
    missing = [*_missing_in_validation(plan, dataset), *_missing_in_training(plan, dataset)]
    if allow_missing:
        missing = [replace(finding, level="warning") for finding in missing]
    return ordered([*_leaks(plan, dataset), *missing])


def missing_table(plan: FoldPlan, dataset: Dataset) -> str:
    """Groups, and validation pixels per fold, of every class that some fold lacks, as text; "" if no class does."""
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
            message = f"Fold {k + 1} trains on {len(both)} of the images that it validates. Make new folds."
            findings.append(Finding("wrong", "fold_overlap", None, message))
        tested = [i for i in (*fold.train, *fold.validation) if dataset.items[i].part not in POOL]
        if tested:
            message = f"Fold {k + 1} uses {len(tested)} images of the test part. Make new folds."
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
            f"{'; if these images are independent, remove the column group' if by_column else ''}."
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
    """Classes that some fold cannot score. A class that the whole pool lacks is a fault of the data, not of folds."""
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


__all__ = ["METHODS", "Fold", "FoldPlan", "check_folds", "fold_plan", "make_plan", "names_of_fold"]

METHODS = ("groups", "leave-one-group-out", "blocks", "given")
MOST_FOLDS = 100


def fold_plan(
    dataset: Dataset, *, method: str | None, n_folds: int, seed: int, block_gap: int, allow_missing: bool = False
) -> FoldPlan:
    """The folds of train and val together; deterministic for the data, the arguments and the seed.

    method: one of METHODS; None takes that of the data set. n_folds is ignored by "given" and "leave-one-group-out".
    block_gap: items left out of training on each side of a validation block.

    Raises:
        DataError: there are fewer groups than folds, no group is long enough for blocks, no folds are given, given
            folds leak a group, or (unless allow_missing) some fold cannot score or learn a class.
    """
    method = method or dataset.fold_method
    if method not in METHODS:
        raise DataError(unknown("fold method", method, METHODS))
    pool = dataset.part(*POOL)
    if method == "given":
        folds = _given(dataset, pool)
    elif method == "blocks":
        folds = _blocks(dataset, pool, n_folds, seed, block_gap)
    elif method == "leave-one-group-out":
        folds = _leave_one_group_out(dataset, pool)
    else:
        folds = _groups(dataset, pool, n_folds, seed)
    plan = make_plan(method, folds, dataset)
    findings = [one for one in check_folds(plan, dataset, allow_missing=allow_missing) if one.level == "wrong"]
    messages = [one.message for one in findings]
    if any(one.code in MISSING_CODES for one in findings):
        messages[-1] += "\n" + missing_table(plan, dataset)
    gather(DataError, messages)
    return plan


def _members(dataset: Dataset, pool: Sequence[int]) -> dict[str, list[int]]:
    """The items of each group; groups and items in the natural order of their names."""
    members: dict[str, list[int]] = defaultdict(list)
    for index in sorted(pool, key=lambda i: (natural_key(_sequence_name(dataset, i)), i)):
        members[dataset.items[index].group].append(index)
    return dict(sorted(members.items(), key=lambda pair: natural_key(pair[0])))


def _sequence_name(dataset: Dataset, index: int) -> str:
    """The name without its part, so that train and val frames of one video are sorted together."""
    item = dataset.items[index]
    return item.name.removeprefix(f"{item.part}/")


def _amounts(dataset: Dataset, units: Iterable[Sequence[int]], counts: Mapping[int, I64]) -> I64:
    """The amounts to balance: pixels of each class, images with each class, images. (units, 2 * classes + 1)."""
    n_classes = len(dataset.classes)
    rows = []
    for unit in units:
        pixels = np.array([counts[index] for index in unit], dtype=np.int64).reshape(-1, n_classes)
        rows.append(np.concatenate([pixels.sum(axis=0), (pixels > 0).sum(axis=0), [len(unit)]]))
    return np.array(rows, dtype=np.int64).reshape(-1, 2 * n_classes + 1)


def _class_counts(dataset: Dataset, pool: Sequence[int]) -> dict[int, I64]:
    return dict(zip(pool, class_pixels(dataset, tuple(pool)), strict=True))


def _refuse_few_groups(dataset: Dataset, n_groups: int, n_folds: int) -> None:
    """Refuse fewer groups than folds.

    Raises:
        DataError: fewer groups than folds.
    """
    if n_groups >= n_folds:
        return
    own = len({item.group for item in dataset.items}) == len(dataset.items)
    kind = "images" if own else "groups"
    fix = f"Use {n_groups} folds" if n_groups > 1 else f"Add {kind}"
    more = "" if own else ", or folds: blocks where groups are long sequences"
    noun = kind if n_groups != 1 else kind.removesuffix("s")
    raise DataError(f"{n_groups} {noun} for training, folds = {n_folds}: each fold needs its own. {fix}{more}.")


def _groups(dataset: Dataset, pool: Sequence[int], n_folds: int, seed: int) -> list[Fold]:
    members = list(_members(dataset, pool).values())
    _refuse_few_groups(dataset, len(members), n_folds)
    amounts = _amounts(dataset, members, _class_counts(dataset, pool))
    fold_of = balanced_folds(amounts, fold_weights(len(dataset.classes)), n_folds, seed)
    validation = [
        [i for unit, k in zip(members, fold_of, strict=True) if k == fold for i in unit] for fold in range(n_folds)
    ]
    return [_fold(pool, chosen) for chosen in validation]


def _leave_one_group_out(dataset: Dataset, pool: Sequence[int]) -> list[Fold]:
    """As many folds as groups.

    Raises:
        DataError: fewer than two groups, or more than 100.
    """
    members = list(_members(dataset, pool).values())
    if not 2 <= len(members) <= MOST_FOLDS:
        saw = "there is 1" if len(members) == 1 else f"there are {len(members)}"
        fix = "Name groups by group_pattern or groups.csv" if len(members) > 1 else "Add groups"
        raise DataError(
            f"folds: leave-one-group-out needs 2 to {MOST_FOLDS} groups, a fold each; {saw}. {fix}, or use "
            "folds: groups."
        )
    return [_fold(pool, unit) for unit in members]


def _fold(pool: Sequence[int], validation: Iterable[int], left_out: Iterable[int] = ()) -> Fold:
    chosen = set(validation)
    gap = set(left_out) - chosen
    return Fold(tuple(i for i in pool if i not in chosen and i not in gap), tuple(sorted(chosen)), tuple(sorted(gap)))


def _blocks(dataset: Dataset, pool: Sequence[int], n_folds: int, seed: int, block_gap: int) -> list[Fold]:
    """One block of each long group for each fold; a group that is too short for blocks goes whole into one fold."""
    members = list(_members(dataset, pool).values())
    shortest = n_folds * max(1, block_gap)
    long = [unit for unit in members if len(unit) >= shortest]
    short = [unit for unit in members if len(unit) < shortest]
    if not long:
        most = max((len(unit) for unit in members), default=0)
        raise DataError(
            f"folds: blocks needs a group of at least {shortest} images ({n_folds} folds, gap {block_gap}); "
            f"the longest has {most}. Name the sequences by group_pattern or groups.csv, lower search.block_gap, "
            "or use folds: groups."
        )
    counts = _class_counts(dataset, pool)
    cuts = [[len(unit) * k // n_folds for k in range(n_folds + 1)] for unit in long]
    blocks = [[unit[cut[k] : cut[k + 1]] for k in range(n_folds)] for unit, cut in zip(long, cuts, strict=True)]
    amounts = np.stack([_amounts(dataset, sequence, counts) for sequence in blocks])
    fold_of = balanced_rotation(amounts, fold_weights(len(dataset.classes)), seed)
    validation: list[list[int]] = [[] for _ in range(n_folds)]
    left_out: list[list[int]] = [[] for _ in range(n_folds)]
    for unit, cut, order in zip(long, cuts, fold_of, strict=True):
        for k, fold in enumerate(order):
            start, end = cut[k], cut[k + 1]
            validation[fold] += unit[start:end]
            left_out[fold] += unit[max(0, start - block_gap) : start] + unit[end : end + block_gap]
    for unit in sorted(short, key=len, reverse=True):
        min(validation, key=len).extend(unit)
    return [_fold(pool, chosen, gap) for chosen, gap in zip(validation, left_out, strict=True)]


def _given(dataset: Dataset, pool: Sequence[int]) -> list[Fold]:
    """The folds of the column fold; without it, one fold that trains on train and validates on val.

    Raises:
        DataError: the data set gives neither.
    """
    numbers = sorted({fold for i in pool if (fold := dataset.items[i].fold) is not None})
    if len(numbers) > 1:
        return [_fold(pool, [i for i in pool if dataset.items[i].fold == number]) for number in numbers]
    validation = dataset.part("val")
    if numbers or not validation or not dataset.part("train"):
        seen = (
            f"every image has fold {numbers[0]}"
            if numbers
            else "there is no column fold, and not both train and val have images"
        )
        raise DataError(
            f"folds: given needs folds in the data set; {seen}. Give folds in groups.csv, or use folds: groups."
        )
    return [_fold(pool, validation)]


FOLDS = (5, 4, 3)  # tried in this order if no number is set


def plan_folds(dataset: Dataset, config: RunConfig) -> FoldPlan:
    """The folds of a data set and a configuration; deterministic.

    Raises:
        DataError: as `fold_plan`; if no number of folds is set, the faults of the smallest number.
    """
    search = config.search
    asked: tuple[int, ...] = FOLDS if search.folds is None else (search.folds,)
    if search.honest == "holdout":
        asked = tuple(n_folds + 1 for n_folds in asked)  # one fold is held out of the search
    for n_folds in asked:
        try:
            return fold_plan(
                dataset,
                method=search.method,
                n_folds=n_folds,
                seed=config.seed,
                block_gap=search.block_gap,
                allow_missing=search.allow_missing,
            )
        except DataError:
            if n_folds == asked[-1]:
                raise
    raise AssertionError("some number of folds is always tried")
