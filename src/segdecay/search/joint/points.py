"""Points of a joint search, their trials and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segdecay.config.schema import RunConfig
from segdecay.metrics.bootstrap import Counts
from segdecay.runs.joint import JointDimension, JointPoint, JointSearch
from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Verdict
from segdecay.search.joint.sampler import best_of
from segdecay.search.joint.space import Dimension, Value, dimensions_of
from segdecay.search.ledger import setting_name
from segdecay.search.sentences import regularization_name
from segdecay.search.study import Study, candidate_from, decide_of
from segdecay.search.verdict import Candidate
from segdecay.training.setup import TrialTask, axis_for, strength_of


@dataclass(frozen=True)
class Point:
    """One point of the search, trained on every fold."""

    number: int
    value: float  # of the strength, on the axis
    values: dict[str, Value]
    config: RunConfig

    @property
    def name(self) -> str:
        """The folder of its trials: equal points share it."""
        axis = axis_for(self.config.decay, self.config.optimizer)
        beside = [
            f"{key}={value}" if isinstance(value, str) else f"{key}={value:g}" for key, value in self.values.items()
        ]
        return ",".join([setting_name(axis.name, self.value), *beside])


@dataclass(frozen=True)
class PointOutcome:
    """A point with its score on every fold, mean over seeds; None if a training failed."""

    point: Point
    folds: tuple[float, ...] | None

    @property
    def score(self) -> float | None:
        return None if self.folds is None else float(np.mean(self.folds))


def tasks_of(study: Study, point: Point) -> list[TrialTask]:
    """The trials of a point: every fold and seed of its strength, in folders of the point."""
    return [
        replace(
            task,
            folder=study.ledger.point(point.name, task.fold, task.seed),
            config=point.config,
            setting=point.name,
        )
        for task in study.tasks(point.value)
    ]


def outcome_of(study: Study, point: Point) -> PointOutcome:
    """The score of a point, from the ledger."""
    tasks, criterion = tasks_of(study, point), study.criterion
    scores: dict[int, list[float]] = {}
    for task in tasks:
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            return PointOutcome(point, None)
        counts = Counts.of(study.ledger.confusions(task.folder))
        scores.setdefault(task.fold, []).append(counts.score(criterion))
    return PointOutcome(point, tuple(float(np.mean(scores[fold])) for fold in sorted(scores)))


def choose_without(folds: Sequence[Sequence[float] | None], left_out: int) -> int | None:
    """Index of the setting with the best mean over the other folds; None if no setting has a score.

    >>> choose_without([(0.9, 0.1, 0.2), (0.3, 0.4, 0.4), None], left_out=0)
    1
    >>> choose_without([(0.9, 0.1, 0.2), (0.3, 0.4, 0.4), None], left_out=2)
    0
    """
    return best_of([None if one is None else float(np.mean(np.delete(np.asarray(one), left_out))) for one in folds])


def strength_at(study: Study, point: Point) -> StrengthRecord:
    """The strength of a point in every unit, at the point's learning rate."""
    return strength_of(point.config, point.value, study.pool_images, size=study.size)


END = 0.03  # share of a range, at each side, that counts as its end


def joint_record(study: Study, dimensions: Sequence[Dimension], outcomes: Sequence[PointOutcome]) -> JointSearch:
    """The content of search.json: dimensions, and every point with its scores."""
    return JointSearch(
        study.config.search.sampler,
        tuple(
            JointDimension(
                one.name, one.label, one.is_log, one.choices, None if one.choices else (one.low, one.high), one.default
            )
            for one in dimensions
        ),
        tuple(
            JointPoint(
                one.point.number,
                one.point.name,
                strength_at(study, one.point),
                one.point.config.optimizer.lr,
                one.point.values,
                one.folds,
                one.score,
            )
            for one in outcomes
        ),
    )


def told_of(study: Study, outcomes: Sequence[PointOutcome], verdict: Verdict, none: float) -> dict[str, Any]:
    """The best values of the other searched parameters, and the verdict with these as configured."""
    acting = [one for one in verdict.settings if one.mean is not None and not one.strength.is_none]
    best = max(acting, key=lambda one: one.mean or 0.0).strength.value if acting else none
    name = regularization_name(verdict.strength.axis)
    return {
        "searched": study.config.search.joint,
        "points": len(outcomes),
        "best": _values_at(study, outcomes, best),
        "none": _values_at(study, outcomes, none),
        "at_ends": [
            *_at_ends(study, _values_at(study, outcomes, best), "at the best strength"),
            *_at_ends(study, _values_at(study, outcomes, none), f"without {name}"),
        ],
        "none_gain": _none_gain(study, outcomes, none),
        "as_configured": _as_configured(study, outcomes),
    }


def _at_ends(study: Study, values: Mapping[str, Value], where: str) -> list[str]:
    """The values that lie at an end of their range, beyond which nothing was tried."""
    found = []
    for one in dimensions_of(study.config):
        value = values.get(one.name)
        if one.choices or value is None or isinstance(value, str):
            continue
        low, high, at = (math.log(x) if one.is_log else x for x in (one.low, one.high, value))
        share = (at - low) / (high - low)
        if share > 1 - END or (share < END and value > 0):
            found.append(f"{one.name} {where} ({value:g})")
    return found


def _none_gain(study: Study, outcomes: Sequence[PointOutcome], none: float) -> float | None:
    """The gain of searched over configured values without decay; each fold's values were chosen by the other folds."""
    own = [one.folds for one in outcomes if one.point.value == none]
    chosen = [choose_without(own, fold) for fold in range(len(study.folds.folds))]
    if own[0] is None or any(index is None for index in chosen):
        return None
    gains = [
        folds[fold] - own[0][fold]
        for fold, index in enumerate(chosen)
        if index is not None and (folds := own[index]) is not None
    ]
    return float(np.mean(gains))


def _as_configured(study: Study, outcomes: Sequence[PointOutcome]) -> dict[str, Any] | None:
    """The decision between the strengths that were tried with the other parameters as configured."""
    default = {one.name: one.rounded(one.default) for one in dimensions_of(study.config)}
    found: dict[float, Candidate] = {}
    for one in outcomes:
        if all(default[name] == value for name, value in one.point.values.items()) and one.point.value not in found:
            found[one.point.value] = candidate_from(study, strength_at(study, one.point), tasks_of(study, one.point))
    if len([one for one in found.values() if one.counts is not None]) < 2:
        return None
    decision = decide_of(study, list(found.values()))
    return {
        "kind": decision.kind,
        "best": decision.settings[decision.best].strength,
        "best_difference": decision.best_difference,
    }


def _values_at(study: Study, outcomes: Sequence[PointOutcome], value: float) -> dict[str, Value]:
    name = study.name_of(value)
    return next((one.point.values for one in outcomes if one.point.name == name), {})
