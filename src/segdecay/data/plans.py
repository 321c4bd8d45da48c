"""The plan of a cross-validation as a record: which items each fold trains on, validates and leaves out.

Knows items by index in memory and by name on disk; does not know how a plan is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.dataset import POOL, Dataset, class_pixels
from segdecay.errors import DataError

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Indices into `dataset.items`, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    left_out: tuple[int, ...] = ()  # in neither: the guard gap around a validation block


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
    named = json.dumps([method, [_names(fold, dataset) for fold in folds]], sort_keys=True, ensure_ascii=False)
    return FoldPlan(method, tuple(folds), table, groups, hashlib.sha256(named.encode()).hexdigest())


def _names(fold: Fold, dataset: Dataset) -> dict[str, list[str]]:
    parts = {"train": fold.train, "validation": fold.validation, "left_out": fold.left_out}
    return {part: [dataset.items[index].name for index in indices] for part, indices in parts.items()}


def plan_to_json(plan: FoldPlan, dataset: Dataset) -> dict[str, Any]:
    """The values of folds.json: items by name, so that they stay readable and checkable."""
    return {
        "method": plan.method,
        "fingerprint": plan.fingerprint,
        "folds": [_names(fold, dataset) for fold in plan.folds],
        "classes": list(dataset.classes),
        "table": [list(row) for row in plan.table],
        "groups_of_class": list(plan.groups_of_class),
    }


def plan_from_json(values: Mapping[str, Any], dataset: Dataset) -> FoldPlan:
    """The plan that `plan_to_json` wrote, for the same data.

    Raises:
        DataError: an image that the data set does not have (any more), or folds that were edited by hand.
    """
    index_of = {item.name: index for index, item in enumerate(dataset.items)}
    named = [fold[part] for fold in values["folds"] for part in ("train", "validation", "left_out")]
    absent = sorted({name for names in named for name in names if name not in index_of})
    if absent:
        raise DataError(
            f"The saved folds name {len(absent)} images that the data set does not have, for example {absent[0]}. "
            "The data changed: start a new run."
        )
    folds = [
        Fold(*(tuple(index_of[name] for name in fold[part]) for part in ("train", "validation", "left_out")))
        for fold in values["folds"]
    ]
    plan = make_plan(str(values["method"]), folds, dataset)
    if plan.fingerprint != values["fingerprint"]:
        raise DataError("The saved folds were edited: their fingerprint does not fit. Start a new run.")
    return plan
