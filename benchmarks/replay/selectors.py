"""Selectors without a library: the full grid, one split, and nine trials with an additive model.

`race` is our own, adapted in replay/race.py; those of others stand in replay/peers.py.
"""

from __future__ import annotations

import numpy as np

from replay.records import F64
from replay.replaying import Outcome, Replay

NINE = 9
FOLD_PENALTY = 0.2  # ridge on fold effects in units of (trial noise / fold effect)²: .012² / .03², rounded up
WIDTH_OCTAVES = 2.5  # of the weights of the local parabola
NONE_OCTAVES = 2.0  # how far none stands below the weakest strength


def full_grid(replay: Replay) -> Outcome:
    """Every trial; the best mean over folds."""
    scores = [[replay.trial(v, f) for f in range(replay.n_folds)] for v in range(len(replay.values))]
    return Outcome(int(np.argmax(np.mean(scores, axis=1))))


def one_split(replay: Replay) -> Outcome:
    """Strengths on one split, in random order until the budget ends; the best. What most people do."""
    random = np.random.Generator(np.random.PCG64(replay.repeat.number))
    scores: dict[int, float] = {}
    for v in random.permutation(len(replay.values)).tolist():
        if replay.affords(v, 0):
            scores[v] = replay.trial(v, 0)
    return Outcome(max(sorted(scores), key=lambda v: scores[v]))


def octaves(values: tuple[float, ...]) -> F64:
    """Strengths as log2; none stands NONE_OCTAVES below the weakest."""
    positive = np.log2([value for value in values if value > 0])
    return np.array([positive.min() - NONE_OCTAVES if value == 0 else np.log2(value) for value in values])


def additive_curve(trials: dict[tuple[int, int], float], x: F64, around: float) -> F64:
    """(V,) level of every setting from score = curve(x) + fold, with a parabola weighted around a position."""
    settings = np.array([setting for setting, _ in trials])
    folds = sorted({fold for _, fold in trials})
    near = x - around
    shape = np.stack([np.ones_like(near), near, near**2], axis=1)
    by_fold = np.array([[float(fold == own) for own in folds] for _, fold in trials])
    design = np.hstack([shape[settings], by_fold])
    weights = np.exp(-0.5 * (near[settings] / WIDTH_OCTAVES) ** 2) + 1e-3
    ridge = np.diag([0.0, 1e-6, 1e-6, *[FOLD_PENALTY] * len(folds)])
    score = np.array(list(trials.values()))
    left = design.T @ (weights[:, None] * design) + ridge
    found = np.linalg.solve(left, design.T @ (weights * (score - score.mean())))
    return np.asarray(shape @ found[:3])


def _smooth_best(trials: dict[tuple[int, int], float], x: F64) -> F64:
    """The curve around where it is highest, found in three rounds from the best setting seen."""
    tried = sorted({setting for setting, _ in trials})
    means = [np.mean([score for (setting, _), score in trials.items() if setting == one]) for one in tried]
    around = x[tried[int(np.argmax(means))]]
    curve = additive_curve(trials, x, around)
    for _ in range(2):
        curve = additive_curve(trials, x, x[int(np.argmax(curve))])
    return curve


def nine_trials(replay: Replay) -> Outcome:
    """Every second strength on one fold, then pairs of the best two by the additive model on further folds."""
    x = octaves(replay.values)
    trials = {(v, 0): replay.trial(v, 0) for v in range(0, len(x), 2)}
    fold = 1
    while len(trials) < NINE:
        best = np.argsort(-_smooth_best(trials, x), kind="stable")
        at = fold % replay.n_folds
        fresh = [int(v) for v in best if (int(v), at) not in trials]
        for setting in fresh[: min(2, NINE - len(trials))]:
            trials[setting, at] = replay.trial(setting, at)
        fold += 1
    curve = _smooth_best(trials, x)
    tried = sorted({setting for setting, _ in trials})
    return Outcome(max(tried, key=lambda setting: curve[setting]))
