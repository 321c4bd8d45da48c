"""Final trainings on everything but the test part: at the taken strength, and at none to compare with.

Knows the study, the verdict's strength and the ledger; decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segdecay.data import Dataset
from segdecay.errors import RunError
from segdecay.records import CellRecord, Verdict
from segdecay.selection.criteria import Criterion
from segdecay.selection.executors import Event
from segdecay.selection.study import Study
from segdecay.steps import pool_of
from segdecay.training.setup import CellTask

REFIT_FOLD = -1  # the number that a final training draws its seeds with


def refit(study: Study, verdict: Verdict, *, none: float) -> dict[str, CellRecord]:
    """Train on the whole pool at the taken axis value, and at none when there is a test part to compare on.

    The test part is scored once, after the last step of each.

    Raises:
        DiskFullError: there is no room for one.
        RunError: a refit failed or diverged.
    """
    test = study.dataset.part("test")
    values = {"chosen": verdict.strength.value}
    if test and verdict.strength.value != none:
        values["zero"] = none
    tasks = {role: _refit_task(study, role, value, test) for role, value in values.items()}
    for task in tasks.values():  # a cell that failed before may have changed the verdict
        study.ledger.forget_other_setting(task.folder, task.setting)
    failures: dict[Path, str] = {}

    def note(event: Event) -> None:
        if event.kind == "failed":
            failures[event.task.folder] = event.reason or "failed"
        study.on_event(event)

    missing = [task for task in tasks.values() if study.ledger.record(task.folder) is None]
    if missing:
        study.executor.run(missing, note)
    records: dict[str, CellRecord] = {}
    for role, task in tasks.items():
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            raise RunError(_refit_failed(values[role], record, failures.get(task.folder, "unfinished"), study))
        records[role] = record
    return records


def _refit_failed(value: float, record: CellRecord | None, failure: str, study: Study) -> str:
    if record is None:
        remedy = "Remove the cause and run the same command again: only the refit is left to do."
    else:
        remedy = "Train at a neighbouring strength, or lower optimizer.lr in a new run."
    reason = failure if record is None else record.reason
    return f"The refit at {value:g} did not succeed: {reason}. The verdict is in {study.ledger.run}. {remedy}"


def _refit_task(study: Study, role: str, value: float, test: tuple[int, ...]) -> CellTask:
    return CellTask(
        folder=study.ledger.refit(role),
        dataset=study.dataset.root,
        config=study.config_at(value),
        setting=study.name_of(value),
        value=value,
        fold=REFIT_FOLD,
        seed=study.config.search.seeds[0],
        train=pool_of(study.dataset),
        scored=test,
        keep_model=True,
        is_refit=True,
        scores_on_the_way=0,
        checkpoint_every_s=study.checkpoint_every_s,
        own=study.own,
    )


def scores_on_test(refits: dict[str, CellRecord], dataset: Dataset, criterion: Criterion) -> dict[str, Any] | None:
    """The test scores of the refits by their names; none's are those of "chosen" when none was taken.

    `score` is by the criterion, and `classes` by what it scores classes with.
    """
    if not dataset.part("test"):
        return None
    scores = {}
    for role in ("chosen", "zero"):
        found = refits.get(role, refits["chosen"]).validation
        if found is not None:
            own = found.recall if criterion.by_class.class_score == "recall" else found.iou
            scores[role] = {
                "miou": found.miou,
                "iou": dict(zip(dataset.classes, found.iou, strict=True)),
                "score": criterion.of_record(found),
                "classes": dict(zip(dataset.classes, own, strict=True)),
            }
    return scores


def cost_with(cost: dict[str, Any], refits: Sequence[CellRecord]) -> dict[str, Any]:
    """The cost of a search with that of its refits added."""
    return {
        "cells": cost["cells"],
        "refits": len(refits),
        "epochs": cost["epochs"] + sum(record.epochs for record in refits),
        "seconds": round(cost["seconds"] + sum(record.seconds for record in refits), 1),
    }
