"""Points of a joint search, their cells, and what these scored. Knows studies and the ledger; proposes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segdecay.config import RunConfig
from segdecay.records import Strength
from segdecay.selection.dimensions import Value
from segdecay.selection.evidence import Counts
from segdecay.selection.ledger import setting_name
from segdecay.selection.proposing import best_of
from segdecay.selection.study import Study, criterion_of
from segdecay.training.setup import CellTask, axis_for, strength_of


@dataclass(frozen=True)
class Trial:
    """One point of the search, trained on every fold."""

    number: int
    value: float  # of the strength, on the axis
    values: dict[str, Value]
    config: RunConfig

    @property
    def name(self) -> str:
        """The folder of its cells: equal points share it."""
        axis = axis_for(self.config.decay, self.config.optimizer)
        beside = [
            f"{key}={value}" if isinstance(value, str) else f"{key}={value:g}" for key, value in self.values.items()
        ]
        return ",".join([setting_name(axis.name, self.value), *beside])


@dataclass(frozen=True)
class Outcome:
    """A trial with its score on every fold, mean over seeds; None where a training failed."""

    trial: Trial
    folds: tuple[float, ...] | None

    @property
    def score(self) -> float | None:
        return None if self.folds is None else float(np.mean(self.folds))


def tasks_of(study: Study, trial: Trial) -> list[CellTask]:
    """The cells of a trial, fold by fold and seed by seed as those of a strength."""
    return [
        replace(
            task,
            folder=study.ledger.trial(trial.name, task.fold, task.seed),
            config=trial.config,
            setting=trial.name,
        )
        for task in study.tasks(trial.value)
    ]


def outcome_of(study: Study, trial: Trial) -> Outcome:
    """What a trial scored, from the ledger."""
    tasks, criterion = tasks_of(study, trial), criterion_of(study)
    scores: dict[int, list[float]] = {}
    for task in tasks:
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            return Outcome(trial, None)
        counts = Counts.of(study.ledger.confusions(task.folder))
        scores.setdefault(task.fold, []).append(counts.score(criterion))
    return Outcome(trial, tuple(float(np.mean(scores[fold])) for fold in sorted(scores)))


def choose_without(folds: Sequence[Sequence[float] | None], left_out: int) -> int | None:
    """The setting with the best mean over the other folds; None where none is scored.

    >>> choose_without([(0.9, 0.1, 0.2), (0.3, 0.4, 0.4), None], left_out=0)
    1
    >>> choose_without([(0.9, 0.1, 0.2), (0.3, 0.4, 0.4), None], left_out=2)
    0
    """
    return best_of([None if one is None else float(np.mean(np.delete(np.asarray(one), left_out))) for one in folds])


def strength_at(study: Study, trial: Trial) -> Strength:
    """The strength of a trial in every unit, at its own learning rate."""
    return strength_of(trial.config, trial.value, study.fold_images, size=study.size)
