"""Counts of predictions that no training is needed for: one class everywhere, and classes drawn by their shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.counts import F64
from segdecay.metrics.criteria import Criterion

SCALE = 1_000_000  # expected counts are kept as integers, in millionths of a pixel


def constant_counts(trial: Counts, index: int) -> Counts:
    """The counts of the same images if class `index` were predicted everywhere.

    >>> constant_counts(Counts(*3 * [np.array([[3, 1]])]), 0).union.tolist()
    [[4, 1]]
    """
    hit, claimed = np.zeros_like(trial.true), np.zeros_like(trial.true)
    hit[:, index], claimed[:, index] = trial.true[:, index], trial.true.sum(axis=1)
    return Counts(hit, trial.true + claimed - hit, trial.true)


def share_counts(
    trial: Counts,
    shares: F64,  # (C,) sums to 1
) -> Counts:
    """The expected counts of the same images if every pixel's class were drawn by the shares of the classes.

    Counts are multiplied by SCALE, which changes no score.

    >>> found = share_counts(Counts(*3 * [np.array([[3, 1]])]), np.array([0.75, 0.25]))
    >>> (found.hit / SCALE).tolist(), (found.union / SCALE).tolist()
    ([[2.25, 0.25]], [[3.75, 1.75]])
    """
    hit = np.rint(trial.true * shares * SCALE).astype(np.int64)
    claimed = np.rint(trial.true.sum(axis=1, keepdims=True) * shares * SCALE).astype(np.int64)
    true = trial.true * SCALE
    return Counts(hit, true + claimed - hit, true)


def trivial_setting(
    trials: dict[int, Sequence[Counts]], criterion: Criterion
) -> tuple[str, dict[int, Sequence[Counts]]]:
    """The better trivial predictor on the validation masks of these folds: its name, and its counts by fold.

    "one class": the class that scores best if it is predicted everywhere. "class shares": every pixel's class is drawn
    by the shares of the classes in all these masks.
    """
    firsts = {fold: seeds[0] for fold, seeds in trials.items()}
    true = np.sum([trial.support for trial in firsts.values()], axis=0)
    found: list[tuple[str, dict[int, Sequence[Counts]]]] = [
        ("one class", {fold: [constant_counts(trial, index)] for fold, trial in firsts.items()})
        for index in np.flatnonzero(true).tolist()
    ]
    shares = true / max(1, true.sum())
    found.append(("class shares", {fold: [share_counts(trial, shares)] for fold, trial in firsts.items()}))
    scores = [np.nan_to_num(np.mean([seeds[0].score(criterion) for seeds in by.values()])) for _, by in found]
    return found[int(np.argmax(scores))]
