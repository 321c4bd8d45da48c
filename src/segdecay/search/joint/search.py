"""A joint search: the strength together with other values, such as the learning rate; every point on every fold.

Points without decay are searched separately, over everything that acts there, so that decay is compared with a network
tuned as well. At every strength, a fold is scored by the point that the other folds chose, so no score is biased by the
selection; these trainings become the trials of the verdict. Proposals depend on the ledger's scores alone (sampler.py).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segdecay.config.schema import RunConfig
from segdecay.runs.records import RACED_OUT, TrialRecord
from segdecay.runs.verdict import Cost, Verdict
from segdecay.search.joint.points import (
    Point,
    PointOutcome,
    choose_without,
    joint_record,
    outcome_of,
    tasks_of,
    told_of,
)
from segdecay.search.joint.sampler import Proposal, Proposer, best_of
from segdecay.search.joint.sentences import joint_sentence
from segdecay.search.joint.space import config_with, dimensions_of
from segdecay.search.race_runner import Searched
from segdecay.search.study import Study, conclude, grid_of
from segdecay.search.trials import cost_of
from segdecay.search.verdict import Decision
from segdecay.training.batches import derive_seed
from segdecay.training.setup import TrialTask
from segdecay.utils.files import write_bytes, write_json

NONE_SHARE = 3  # one point in NONE_SHARE is without decay
FILE = "search.json"
NOT_TRIED = f"{RACED_OUT}no point has this strength"


def count_points(config: RunConfig) -> tuple[int, int]:
    """Number of points without decay, and with it.

    One point without decay is enough if no searched value changes a training without decay.
    """
    acting = [one for one in dimensions_of(config) if one.is_for_none]
    none = config.search.points // NONE_SHARE if acting else 1
    return none, config.search.points - none


def run_joint(study: Study) -> tuple[Verdict, Decision]:
    """Search, then decide between the strengths, each at the best values of the other searched parameters.

    Raises:
        RunError: no strength could be scored.
    """
    grid = grid_of(study)
    none, acting = grid[0], grid[1:]
    every = dimensions_of(study.config)
    seed = derive_seed(study.config.seed, "joint") % 2**32
    n_none, n_decay = count_points(study.config)
    sampler = study.config.search.sampler
    arms = (
        Proposer(tuple(one for one in every if one.is_for_none), 0, sampler, seed, n_none),
        Proposer(every, len(acting), sampler, seed + 1, n_decay),
    )
    outcomes: tuple[list[PointOutcome], list[PointOutcome]] = ([], [])
    while len(outcomes[1]) < n_decay and not _is_spent(study, outcomes):
        counts = (min(1, n_none - len(outcomes[0])), min(NONE_SHARE - 1, n_decay - len(outcomes[1])))
        points = []
        for arm, done, count in zip(arms, outcomes, counts, strict=True):
            proposals = arm.ask([(_proposal(one, acting), one.score) for one in done], count) if count else []
            points.append([_point(study.config, len(done) + i, one, none, acting) for i, one in enumerate(proposals)])
        _run(study, [point for found in points for point in found])
        for done, found in zip(outcomes, points, strict=True):
            done += [outcome_of(study, point) for point in found]
    every_outcome = [*outcomes[0], *outcomes[1]]
    searched = _profile(study, grid, every_outcome)
    verdict, decision = conclude(study, searched)
    write_json(study.ledger.run / FILE, joint_record(study, every, every_outcome))
    told = told_of(study, every_outcome, verdict, none)
    sentence = f"{verdict.sentence} {joint_sentence(told, verdict.kind, verdict.strength.axis)}"
    cost = _cost(study, every_outcome)
    return replace(verdict, sentence=sentence, cost=cost, evidence={**verdict.evidence, "joint": told}), decision


def _cost(study: Study, outcomes: Sequence[PointOutcome]) -> Cost:
    """The cost of all trainings, including those that the verdict does not use."""
    folders = {task.folder for one in outcomes for task in tasks_of(study, one.point)}
    records = [record for folder in sorted(folders) if (record := study.ledger.record(folder)) is not None]
    return cost_of(records)


def _is_spent(study: Study, outcomes: tuple[list[PointOutcome], list[PointOutcome]]) -> bool:
    """Whether another round would exceed the budget; the first round always runs."""
    done = sum(map(len, outcomes))
    if not done:
        return False
    trials = (done + NONE_SHARE) * len(study.folds.folds) * len(study.config.search.seeds)
    over = study.budget.trials is not None and trials > study.budget.trials
    return over or time.monotonic() >= study.budget.stop_at


def _proposal(outcome: PointOutcome, acting: Sequence[float]) -> Proposal:
    value = outcome.point.value
    return Proposal(outcome.point.values, acting.index(value) if value in acting else None)


def _point(config: RunConfig, number: int, proposal: Proposal, none: float, acting: Sequence[float]) -> Point:
    value = none if proposal.level is None else acting[proposal.level]
    return Point(number, value, dict(proposal.values), config_with(config, proposal.values))


def _run(study: Study, points: Sequence[Point]) -> None:
    by_folder = {task.folder: task for point in points for task in tasks_of(study, point)}
    missing = [task for folder, task in by_folder.items() if study.ledger.record(folder) is None]
    if missing:
        study.executor.run(missing, study.note)


def _profile(study: Study, grid: Sequence[float], outcomes: Sequence[PointOutcome]) -> Searched:
    """Trials of the study for every strength: in each fold, those of the point that the other folds chose."""
    blocks: dict[float, tuple[int, ...]] = {}
    dropped: dict[float, str] = {}
    for value in grid:
        own = [one for one in outcomes if one.point.value == value]
        best = best_of([one.score for one in own])
        if own and best is None:  # keep the failed trials: their records hold the reason
            best, own = 0, own[:1]
        if best is None:
            blocks[value], dropped[value] = (), NOT_TRIED
            continue
        study.configs[value], study.names[value] = own[best].point.config, own[best].point.name
        tasks = study.tasks(value)
        blocks[value] = tuple(range(len(tasks)))
        for task in tasks:
            chosen = choose_without([one.folds for one in own], task.fold)
            point = own[best if chosen is None else chosen].point
            source = study.ledger.point(point.name, task.fold, task.seed)
            if source in study.failures:
                study.failures[task.folder] = study.failures[source]
            _copy_trial(study, point, source, task)
    return Searched(blocks, dropped, None)


def _copy_trial(study: Study, point: Point, source: Path, task: TrialTask) -> None:
    """Copy a point's trial to the trial of its strength; trial.json comes last, since it marks the trial complete."""
    record = study.ledger.record(source)
    if record is None:
        return
    mine = study.ledger.record(task.folder)
    if mine is not None and mine.extra.get("point") == point.name:
        return
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != "trial.json":
            write_bytes(task.folder / path.name, path.read_bytes())
    renamed: TrialRecord = replace(record, setting=task.setting, extra={**record.extra, "point": point.name})
    write_json(task.folder / "trial.json", renamed)
