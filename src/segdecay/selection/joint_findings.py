"""What a joint search found, for search.json and the verdict. Knows points and their scores; trains nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segdecay.records import Verdict
from segdecay.selection.dimensions import Dimension, Value, dimensions_of
from segdecay.selection.joint_points import Outcome, choose_without, strength_at, tasks_of
from segdecay.selection.scoring import Candidate
from segdecay.selection.study import Study, candidate_from, decide_of

END = 0.03  # share of a range from which a value lies at its end


def search_facts(study: Study, dimensions: Sequence[Dimension], outcomes: Sequence[Outcome]) -> dict[str, Any]:
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
                "strength": strength_at(study, one.trial),
                "lr": one.trial.config.optimizer.lr,
                "values": one.trial.values,
                "folds": one.folds,
                "score": one.score,
            }
            for one in outcomes
        ],
    }


def told_of(study: Study, outcomes: Sequence[Outcome], verdict: Verdict, none: float) -> dict[str, Any]:
    """What was found beside the strengths, and what the strengths alone would have said, all else as configured."""
    acting = [one for one in verdict.settings if one.mean is not None and not one.strength.is_none]
    best = max(acting, key=lambda one: one.mean or 0.0).strength.value if acting else none
    return {
        "searched": study.config.search.joint,
        "trials": len(outcomes),
        "best": _values_at(study, outcomes, best),
        "none": _values_at(study, outcomes, none),
        "at_ends": [
            *_at_ends(study, _values_at(study, outcomes, best), "the best strength"),
            *_at_ends(study, _values_at(study, outcomes, none), "none"),
        ],
        "none_gain": _none_gain(study, outcomes, none),
        "as_configured": _as_configured(study, outcomes),
    }


def _at_ends(study: Study, values: Mapping[str, Value], whose: str) -> list[str]:
    """Which values lie at an end of their range, beyond which nothing was tried."""
    found = []
    for one in dimensions_of(study.config):
        value = values.get(one.name)
        if one.choices or value is None or isinstance(value, str):
            continue
        low, high, at = (math.log(x) if one.is_log else x for x in (one.low, one.high, value))
        share = (at - low) / (high - low)
        if share > 1 - END or (share < END and value > 0):
            found.append(f"{one.name} of {whose} ({value:g})")
    return found


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
            found[one.trial.value] = candidate_from(study, strength_at(study, one.trial), tasks_of(study, one.trial))
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
