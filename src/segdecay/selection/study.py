"""A search from its plan to its verdict: cells in the ledger, more of them at a strong edge, then the decision.

Knows cells and records; nothing of refits, bundles or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdecay.config import RunConfig
from segdecay.data.dataset import Dataset
from segdecay.data.folds import FoldPlan
from segdecay.errors import ConfigError, RunError
from segdecay.records import CellRecord, Verdict
from segdecay.selection import evidence as ev
from segdecay.selection.executors import Event, Executor
from segdecay.selection.grid import MOST_EXTENSIONS, next_strength, start_grid
from segdecay.selection.ledger import Ledger, setting_name
from segdecay.selection.verdict import Candidate, Decision, decide, is_strong_edge
from segdecay.selection.words import sentence_of
from segdecay.training.seeds import derive_seed
from segdecay.training.setup import CellTask, axis_for, largest_value, strength_of


@dataclass
class Study:
    """What is searched, over what, with whom."""

    config: RunConfig
    dataset: Dataset
    folds: FoldPlan
    ledger: Ledger
    executor: Executor
    on_event: Callable[[Event], None]
    checkpoint_every_s: float = 5.0
    size: float | None = None  # median initial size of what is shrunk, where the axis is relative to it
    failures: dict[Path, str] = field(default_factory=dict)

    @property
    def fold_images(self) -> int:
        """Training images of a typical fold; strengths are shown for it."""
        return int(np.median([len(fold.train) for fold in self.folds.folds]))

    def tasks(self, value: float) -> list[CellTask]:
        """All cells of one setting."""
        axis = axis_for(self.config.decay, self.config.optimizer)
        setting = setting_name(axis.name, value)
        return [
            CellTask(
                folder=self.ledger.cell(setting, number, seed),
                dataset=self.dataset.root,
                config=self.config,
                setting=setting,
                value=value,
                fold=number,
                seed=seed,
                train=fold.train,
                scored=fold.validation,
                checkpoint_every_s=self.checkpoint_every_s,
            )
            for seed in self.config.search.seeds
            for number, fold in enumerate(self.folds.folds)
        ]


def grid_of(study: Study) -> list[float]:
    """The grid that the search starts with.

    Raises:
        ConfigError: a strength whose steps would make ηλ reach 1, or none that acts.
        DecayError: a value that is not on the axis.
    """
    axis = axis_for(study.config.decay, study.config.optimizer)
    if axis.only_none:
        raise ConfigError(
            f"Policy '{study.config.decay.policy}' has no strength to search. Use `segdecay train` for one training, "
            "or search another policy: none is in every search."
        )
    smallest = min(len(fold.train) for fold in study.folds.folds)
    largest = largest_value(study.config, smallest)
    for value in study.config.search.grid or ():
        if value != axis.none and not axis.has_lambda:
            axis.validate(value)
    return start_grid(study.config.search.grid, axis.default_grid, none=axis.none, largest=largest)


def run_study(study: Study) -> tuple[Verdict, Decision]:
    """Run every cell that is missing, extend the grid at its strong edge, decide.

    Raises:
        RunError: no setting could be scored; the reasons are listed.
    """
    axis = axis_for(study.config.decay, study.config.optimizer)
    smallest = min(len(fold.train) for fold in study.folds.folds)
    largest = largest_value(study.config, smallest)
    grid = grid_of(study)
    asked = len(grid)
    while True:
        _run_missing(study, grid)
        candidates = [_candidate(study, value) for value in grid]
        if all(candidate.counts is None for candidate in candidates):
            reasons = "\n".join(f"- {c.strength.value:g}: {c.dropped}" for c in candidates)
            raise RunError(f"No strength could be scored:\n{reasons}")
        more = next_strength(grid, none=axis.none, largest=largest)
        if len(grid) - asked >= MOST_EXTENSIONS or more is None or not is_strong_edge(candidates):
            break
        grid = [*grid, more]
    decision = decide(
        candidates,
        study.dataset.classes,
        confidence=study.config.search.confidence,
        resamples=study.config.search.resamples,
        seed=derive_seed(study.config.seed, "resamples") % 2**32,
        rule=study.config.search.rule,
    )
    return _verdict(study, grid, decision), decision


def _run_missing(study: Study, grid: Sequence[float]) -> None:
    """Run cells fold by fold, so that an unfinished search has whole rows to compare."""
    tasks = [task for value in grid for task in study.tasks(value)]
    order = sorted(range(len(tasks)), key=lambda i: (tasks[i].seed, tasks[i].fold, i))
    missing = [tasks[i] for i in order if study.ledger.record(tasks[i].folder) is None]

    def note(event: Event) -> None:
        if event.kind == "failed":
            study.failures[event.task.folder] = event.reason or "failed"
        study.on_event(event)

    if missing:
        study.executor.run(missing, note)


def _candidate(study: Study, value: float) -> Candidate:
    """One setting from its records; a diverged or failed cell takes it out of the choice."""
    tasks = study.tasks(value)
    strength = strength_of(study.config, value, study.fold_images, size=study.size)
    records: list[CellRecord] = []
    for task in tasks:
        record = study.ledger.record(task.folder)
        if record is None:
            reason = f"failed in fold {task.fold + 1}: {study.failures.get(task.folder, 'unfinished')}"
            return Candidate(strength, None, reason, None, 0)
        records.append(record)
    collapsed = sum(bool(record.extra.get("collapsed")) for record in records)
    lost = [record for record in records if record.status != "finished"]
    if lost:
        reason = f"diverged in {len(lost)} of {len(records)} trainings: {lost[0].reason}"
        return Candidate(strength, None, reason, None, collapsed)
    counts = [
        [ev.Counts.of(study.ledger.confusions(task.folder)) for task in tasks if task.fold == fold]
        for fold in range(len(study.folds.folds))
    ]
    train = float(np.mean([record.train.miou for record in records if record.train is not None]))
    return Candidate(strength, counts, None, train, collapsed)


def _verdict(study: Study, grid: Sequence[float], decision: Decision) -> Verdict:
    """The decision as the record that verdict.json holds."""
    config, settings = study.config, decision.settings
    records = [
        record
        for value in grid
        for task in study.tasks(value)
        if (record := study.ledger.record(task.folder)) is not None
    ]
    difference = decision.best_difference
    return Verdict(
        kind=decision.kind,
        criterion=config.search.criterion,
        policy=config.decay.policy,
        strength=settings[decision.taken].strength,
        one_se=settings[decision.one_se].strength,
        selection=decision.selection,
        zero={
            "mean": decision.zero.mean,
            "standard_error": decision.zero.standard_error,
            "difference_interval": None if difference is None else difference.interval,
        },
        settings=settings,
        classes=decision.classes,
        seeds=config.search.seeds,
        honest=None,
        test=None,
        cost={
            "cells": len(records),
            "epochs": sum(record.epochs for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
        },
        indistinguishable=decision.indistinguishable,
        evidence={
            "statistic": "paired differences of fold mIoU; variance: the larger of image bootstrap and fold spread",
            "rule": config.search.rule,
            "confidence": config.search.confidence,
            "resamples": config.search.resamples,
            "folds": decision.n_folds,
            "fold_method": study.folds.method,
            "strengths_looked_at": decision.looked_at,
            "best": settings[decision.best].strength,
            "best_difference": difference,
        },
        sentence=sentence_of(decision, study.dataset.classes),
        paste="",
    )
