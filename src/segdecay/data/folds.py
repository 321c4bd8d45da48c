"""Which items are trained on and which are validated, fold by fold: groups, blocks inside long groups, or as given.

Knows a data set's items and masks; knows nothing of files or models. With `groups` no fold shares one; with `blocks`
folds share groups on purpose, behind a guard gap. The part "test" is in no fold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segdecay.data.balance import balanced_folds, balanced_rotation, fold_weights
from segdecay.data.dataset import POOL, Dataset, class_pixels
from segdecay.data.fold_checks import MISSING_CODES, check_folds, missing_table
from segdecay.data.plans import Fold, FoldPlan, make_plan, plan_from_json, plan_to_json
from segdecay.data.sources.pairs import natural_key
from segdecay.errors import DataError, gather, unknown

__all__ = ["METHODS", "Fold", "FoldPlan", "check_folds", "fold_plan", "make_plan", "plan_from_json", "plan_to_json"]

I64 = npt.NDArray[np.int64]
METHODS = ("groups", "leave-one-group-out", "blocks", "given")
MOST_FOLDS = 100


def fold_plan(
    dataset: Dataset, *, method: str | None, n_folds: int, seed: int, block_gap: int, allow_missing: bool = False
) -> FoldPlan:
    """The folds of train and val together; the same for the same data, arguments and seed.

    method: one of METHODS; None takes the data set's own. n_folds is ignored by "given" and "leave-one-group-out".
    block_gap: items left out of training on each side of a validation block.

    Raises:
        DataError: fewer groups than folds, no group long enough for blocks, nothing given, given folds that leak a
            group, or (unless allow_missing) a class that some fold cannot score or learn, with the table.
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
    """Items of each group in natural order of their names, groups in natural order too."""
    members: dict[str, list[int]] = defaultdict(list)
    for index in sorted(pool, key=lambda i: (natural_key(_sequence_name(dataset, i)), i)):
        members[dataset.items[index].group].append(index)
    return dict(sorted(members.items(), key=lambda pair: natural_key(pair[0])))


def _sequence_name(dataset: Dataset, index: int) -> str:
    """The name without its part, so that train and val frames of one video stand in their order."""
    item = dataset.items[index]
    return item.name.removeprefix(f"{item.part}/")


def _amounts(dataset: Dataset, units: Iterable[Sequence[int]], counts: Mapping[int, I64]) -> I64:
    """What is balanced: pixels of each class, images with each class, images. (units, 2 * classes + 1)."""
    n_classes = len(dataset.classes)
    rows = []
    for unit in units:
        pixels = np.array([counts[index] for index in unit], dtype=np.int64).reshape(-1, n_classes)
        rows.append(np.concatenate([pixels.sum(axis=0), (pixels > 0).sum(axis=0), [len(unit)]]))
    return np.array(rows, dtype=np.int64).reshape(-1, 2 * n_classes + 1)


def _class_counts(dataset: Dataset, pool: Sequence[int]) -> dict[int, I64]:
    return dict(zip(pool, class_pixels(dataset, tuple(pool)), strict=True))


def _refuse_few_groups(dataset: Dataset, n_groups: int, n_folds: int) -> None:
    """Each fold needs a group of its own.

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
    """One block of each long group for each fold; groups too short for that go into one fold as they are."""
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
    """The folds of the column fold; else val validates what train trained.

    Raises:
        DataError: the data set gives neither.
    """
    numbers = sorted({fold for i in pool if (fold := dataset.items[i].fold) is not None})
    if len(numbers) > 1:
        return [_fold(pool, [i for i in pool if dataset.items[i].fold == number]) for number in numbers]
    validation = dataset.part("val")
    if numbers or not validation or not dataset.part("train"):
        seen = (
            f"every image has fold {numbers[0]}" if numbers else "there is no column fold, nor images in train and val"
        )
        raise DataError(f"folds: given needs folds; {seen}. Give folds in groups.csv, or use folds: groups.")
    return [_fold(pool, validation)]
