"""A joint search: strengths together with what else is searched, every point on every fold.

Points without decay are searched by themselves, over everything that acts there, so that decay is compared with a
network that was tuned as well. Inside a strength the point that scores a fold is the one that the other folds chose, so
no score profits from having been selected; these trainings become the cells that the verdict rests on. The ledger is
the truth: proposals follow from its scores (proposing.py). Knows studies and the ledger; nothing of refits or pages.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.config import RunConfig
from segdecay.records import RACED_OUT, CellRecord, Strength, Verdict, write_bytes, write_json
from segdecay.selection.dimensions import Dimension, Value, config_with, dimensions_of
from segdecay.selection.evidence import Counts
from segdecay.selection.ledger import setting_name
from segdecay.selection.proposing import Point, Proposer, best_of
from segdecay.selection.racing import Searched
from segdecay.selection.scoring import Candidate
from segdecay.selection.study import Study, candidate_from, conclude, criterion_of, decide_of, grid_of
from segdecay.selection.verdict import Decision
from segdecay.training.seeds import derive_seed
from segdecay.training.setup import CellTask, axis_for, strength_of

NONE_SHARE = 3  # one trial in so many is without decay
FILE = "search.json"
NOT_TRIED = f"{RACED_OUT}no trial was made there"


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


def count_trials(config: RunConfig) -> tuple[int, int]:
    """Trials without decay, and with it.

    Where nothing that is searched acts without decay, one trial is all there is to know of none.
    """
    acting = [one for one in dimensions_of(config) if one.is_for_none]
    none = config.search.trials // NONE_SHARE if acting else 1
    return none, config.search.trials - none


def run_joint(study: Study) -> tuple[Verdict, Decision]:
    """Search, then decide between strengths, each at the best of what was searched beside it.

    Raises:
        RunError: no strength could be scored.
    """
    grid = grid_of(study)
    none, acting = grid[0], grid[1:]
    every = dimensions_of(study.config)
    seed = derive_seed(study.config.seed, "joint") % 2**32
    n_none, n_decay = count_trials(study.config)
    sampler = study.config.search.sampler
    arms = (
        Proposer(tuple(one for one in every if one.is_for_none), 0, sampler, seed, n_none),
        Proposer(every, len(acting), sampler, seed + 1, n_decay),
    )
    outcomes: tuple[list[Outcome], list[Outcome]] = ([], [])
    while len(outcomes[1]) < n_decay and not _is_spent(study, outcomes):
        counts = (min(1, n_none - len(outcomes[0])), min(NONE_SHARE - 1, n_decay - len(outcomes[1])))
        trials = []
        for arm, done, count in zip(arms, outcomes, counts, strict=True):
            points = arm.ask([(_point(one, acting), one.score) for one in done], count) if count else []
            trials.append([_trial(study.config, len(done) + i, point, none, acting) for i, point in enumerate(points)])
        _run(study, [trial for found in trials for trial in found])
        for done, found in zip(outcomes, trials, strict=True):
            done += [_outcome(study, trial) for trial in found]
    every_outcome = [*outcomes[0], *outcomes[1]]
    searched = _profile(study, grid, every_outcome)
    verdict, decision = conclude(study, searched)
    write_json(study.ledger.run / FILE, _facts(study, every, every_outcome))
    return replace(
        verdict, evidence={**verdict.evidence, "joint": _told(study, every_outcome, verdict, none)}
    ), decision


def _is_spent(study: Study, outcomes: tuple[list[Outcome], list[Outcome]]) -> bool:
    """Whether a budget leaves no room for another round; the first round is always run."""
    done = sum(map(len, outcomes))
    if not done:
        return False
    cells = (done + NONE_SHARE) * len(study.folds.folds) * len(study.config.search.seeds)
    over = study.budget.cells is not None and cells > study.budget.cells
    return over or time.monotonic() >= study.budget.stop_at


def _point(outcome: Outcome, acting: Sequence[float]) -> Point:
    value = outcome.trial.value
    return Point(outcome.trial.values, acting.index(value) if value in acting else None)


def _trial(config: RunConfig, number: int, point: Point, none: float, acting: Sequence[float]) -> Trial:
    value = none if point.level is None else acting[point.level]
    return Trial(number, value, dict(point.values), config_with(config, point.values))


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


def _run(study: Study, trials: Sequence[Trial]) -> None:
    by_folder = {task.folder: task for trial in trials for task in tasks_of(study, trial)}
    missing = [task for folder, task in by_folder.items() if study.ledger.record(folder) is None]
    if missing:
        study.executor.run(missing, study.note)


def _outcome(study: Study, trial: Trial) -> Outcome:
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


def _profile(study: Study, grid: Sequence[float], outcomes: Sequence[Outcome]) -> Searched:
    """Every strength at its best, as cells of the study: each fold's is that of the trial that the others chose."""
    blocks: dict[float, tuple[int, ...]] = {}
    dropped: dict[float, str] = {}
    for value in grid:
        own = [one for one in outcomes if one.trial.value == value]
        best = best_of([one.score for one in own])
        if own and best is None:  # its failed cells say why
            best, own = 0, own[:1]
        if best is None:
            blocks[value], dropped[value] = (), NOT_TRIED
            continue
        study.configs[value], study.names[value] = own[best].trial.config, own[best].trial.name
        tasks = study.tasks(value)
        blocks[value] = tuple(range(len(tasks)))
        for task in tasks:
            chosen = choose_without([one.folds for one in own], task.fold)
            trial = own[best if chosen is None else chosen].trial
            source = study.ledger.trial(trial.name, task.fold, task.seed)
            if source in study.failures:
                study.failures[task.folder] = study.failures[source]
            _copy_cell(study, trial, source, task)
    return Searched(blocks, dropped, None)


def _copy_cell(study: Study, trial: Trial, source: Path, task: CellTask) -> None:
    """Make a trial's training the cell of its strength; cell.json comes last, as it says that the cell is whole."""
    record = study.ledger.record(source)
    if record is None:
        return
    mine = study.ledger.record(task.folder)
    if mine is not None and mine.extra.get("trial") == trial.name:
        return
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != "cell.json":
            write_bytes(task.folder / path.name, path.read_bytes())
    renamed: CellRecord = replace(record, setting=task.setting, extra={**record.extra, "trial": trial.name})
    write_json(task.folder / "cell.json", renamed)


def _strength(study: Study, trial: Trial) -> Strength:
    return strength_of(trial.config, trial.value, study.fold_images, size=study.size)


def _facts(study: Study, dimensions: Sequence[Dimension], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What search.json holds: dimensions, and every trial with its scores."""
    return {
        "sampler": study.config.search.sampler,
        "dimensions": [
            {
                "name": one.name,
                "label": one.label,
                "is_log": one.is_log,
                "choices": one.choices,
                "range": None if one.choices else (one.low, one.high),
                "default": one.default,
            }
            for one in dimensions
        ],
        "trials": [
            {
                "number": one.trial.number,
                "name": one.trial.name,
                "strength": _strength(study, one.trial),
                "lr": one.trial.config.optimizer.lr,
                "values": one.trial.values,
                "folds": one.folds,
                "score": one.score,
            }
            for one in outcomes
        ],
    }


def _told(study: Study, outcomes: Sequence[Outcome], verdict: Verdict, none: float) -> dict[str, Any]:
    """What was found beside the strengths, and what the strengths alone would have said, all else as configured."""
    best = verdict.evidence["best"].value
    return {
        "searched": study.config.search.joint,
        "trials": len(outcomes),
        "best": _values_at(study, outcomes, best),
        "none": _values_at(study, outcomes, none),
        "none_gain": _none_gain(study, outcomes, none),
        "as_configured": _as_configured(study, outcomes),
    }


def _none_gain(study: Study, outcomes: Sequence[Outcome], none: float) -> float | None:
    """What none gains by its own values over the configured ones; each fold's values were chosen by the others."""
    own = [one.folds for one in outcomes if one.trial.value == none]
    chosen = [choose_without(own, fold) for fold in range(len(study.folds.folds))]
    if own[0] is None or any(index is None for index in chosen):
        return None
    gains = [
        folds[fold] - own[0][fold]
        for fold, index in enumerate(chosen)
        if index is not None and (folds := own[index]) is not None
    ]
    return float(np.mean(gains))


def _as_configured(study: Study, outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """The decision between the strengths that were tried with everything else as it is configured."""
    default = {one.name: one.rounded(one.default) for one in dimensions_of(study.config)}
    found: dict[float, Candidate] = {}
    for one in outcomes:
        if all(default[name] == value for name, value in one.trial.values.items()) and one.trial.value not in found:
            found[one.trial.value] = candidate_from(study, _strength(study, one.trial), tasks_of(study, one.trial))
    if len([one for one in found.values() if one.counts is not None]) < 2:
        return None
    decision = decide_of(study, list(found.values()))
    return {
        "kind": decision.kind,
        "best": decision.settings[decision.best].strength,
        "best_difference": decision.best_difference,
    }


def _values_at(study: Study, outcomes: Sequence[Outcome], value: float) -> dict[str, Value]:
    name = study.name_of(value)
    return next((one.trial.values for one in outcomes if one.trial.name == name), {})
