"""What a recorded grid says: the difference to no decay at every strength, the verdict, and what fixed values lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grids.records import FINISHED, SCORE_KEYS, Facts, GridRecord
from segdecay.errors import RunError
from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.metrics.criteria import Criterion
from segdecay.runs.records import Scores, StrengthRecord, TrialRecord
from segdecay.runs.verdict import Limits, SettingSummary, TrainingCheck
from segdecay.search.undertrained import check_training
from segdecay.search.verdict import Candidate, by_group, class_means, decide

CONFIDENCE, RESAMPLES, SEED = 0.95, 2000, 0
FIXED = {  # λ that tools ship, by optimizer
    "adamw": ((0.01, "torch's default"), (0.05, "Mask2Former")),
    "sgd": (
        (3e-5, "nnU-Net, there with momentum .99"),
        (1e-4, "torchvision's reference for segmentation"),
        (5e-4, "mmsegmentation"),
    ),
}


@dataclass(frozen=True)
class Point:
    """A strength of a grid: its difference to no decay with the interval that covers all strengths at once."""

    value: float
    score: float | None
    train: float | None
    difference: float | None
    interval: Limits

    @property
    def is_better(self) -> bool:
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_worse(self) -> bool:
        return self.interval is not None and self.interval[1] < 0


@dataclass(frozen=True)
class FixedValue:
    """A λ that tools ship, at its place on the curve of a grid; scores between two strengths are interpolated.

    Attributes:
        value: its total decay D in this grid.
        gain: over no decay.
        loss: against the best strength of the grid, at least 0.
        is_beyond: it is stronger than every strength of the grid; gain and loss are those of the strongest.
    """

    lambda_: float
    shipped_by: str
    value: float
    gain: float
    loss: float
    is_beyond: bool


@dataclass(frozen=True)
class ClassRow:
    """A class: its share of the validation pixels, its score without decay, and the difference at one strength.

    The interval is that of a difference named beforehand: it is not adjusted for the number of classes.
    """

    name: str
    share: float
    without: float
    difference: float | None
    interval: Limits


@dataclass(frozen=True)
class Judged:
    """A grid and its verdict; points from no decay to the strongest."""

    facts: Facts
    classes: tuple[str, ...]
    seeds: int
    folds: int
    trials: int
    steps: int
    seconds: float
    kind: str
    points: tuple[Point, ...]
    best: Point  # the best mean; no decay where that is best
    check: TrainingCheck
    class_rows: tuple[ClassRow, ...]  # at `shown` and without decay
    shown: float  # the strength of `class_rows`: the best with decay
    fixed: tuple[FixedValue, ...]
    resampled: str

    @property
    def none(self) -> Point:
        return self.points[0]

    @property
    def compared(self) -> Point:
        """The strength with decay that has the best mean."""
        return next(point for point in self.points if point.value == self.shown)

    @property
    def gap(self) -> float:
        """Training minus validation score without decay."""
        return float((self.none.train or math.nan) - (self.none.score or math.nan))


def judge(record: GridRecord) -> Judged:
    """The verdict of a grid, as `segdecay tune --no-race` reaches it from the same trials.

    Raises:
        RunError: a trial without decay did not finish, so there is nothing to compare with.
    """
    if (why := record.reason_dropped(0)) is not None:
        raise RunError(f"{record.facts.name}: without decay {why}, so no difference to it is known.")
    candidates = [_candidate(record, v) for v in range(len(record.values))]
    groups = ev.known_groups([[str(one) for one in fold] for fold in record.groups])
    decision = decide(
        candidates,
        (),  # classes are compared below, also where no decay is best
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        seed=SEED,
        criterion=record.criterion,
        groups=groups,
    )
    best = decision.settings[decision.best].strength.value
    v = record.values.index(best)
    check = check_training(
        candidates[v],
        _trial_records(record, v),
        record.criterion,
        record.classes,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        seed=SEED,
        groups=groups,
    )
    points = tuple(_point(one) for one in decision.settings)
    shown = v or 1 + int(np.argmax([-math.inf if one.difference is None else one.difference for one in points[1:]]))
    n_values, n_folds, n_seeds = record.status.shape
    return Judged(
        facts=record.facts,
        classes=record.classes,
        seeds=n_seeds,
        folds=n_folds,
        trials=n_values * n_folds * n_seeds,
        steps=record.steps,
        seconds=float(record.seconds.sum()),
        kind=decision.kind if check.is_enough else "undertrained",
        points=points,
        best=points[v],
        check=check,
        class_rows=_class_rows(record, candidates[0], candidates[shown], groups),
        shown=record.values[shown],
        fixed=_fixed(record.facts, points),
        resampled=decision.resampled,
    )


def _candidate(record: GridRecord, v: int) -> Candidate:
    dropped, value = record.reason_dropped(v), record.values[v]
    strength = StrengthRecord("total_decay", value, value * record.facts.lambda_at_one)
    if dropped is not None:
        return Candidate(strength, None, dropped, None, 0)
    return Candidate(strength, [list(seeds) for seeds in record.counts[v]], None, float(np.mean(record.train[v])), 0)


def _point(setting: SettingSummary) -> Point:
    difference = setting.difference
    return Point(
        setting.strength.value,
        setting.mean,
        setting.train_mean,
        None if difference is None else difference.mean,
        None if difference is None else difference.interval,
    )


def _class_rows(
    record: GridRecord, none: Candidate, other: Candidate, groups: Sequence[Sequence[object]] | None
) -> tuple[ClassRow, ...]:
    """Every class without decay and at one strength."""
    if other.counts is None:
        return ()
    if groups is not None and ev.resampled_by(groups) == "groups":
        none, other, groups = by_group(none, groups), by_group(other, groups), None
    support = np.sum([seeds[0].support for seeds in none.trials.values()], axis=0)
    rows = []
    for index, name in enumerate(record.classes):
        only = Criterion("classes", (index,), (name,), of_recall=record.criterion.class_score == "recall")
        surface, _ = ev.surface_of(
            [none.trials, other.trials],
            ["none", "other"],
            criterion=only,
            resamples=RESAMPLES,
            seed=SEED,
            groups=groups,
        )
        found = iv.difference_estimates(surface, 0).interval(1, 1 - CONFIDENCE)
        without = class_means(none.trials, list(none.trials), only.by_class)[index]
        rows.append(ClassRow(name, float(support[index] / support.sum()), float(without), found.mean, found.interval))
    return tuple(rows)


def _trial_records(record: GridRecord, v: int) -> list[TrialRecord]:
    """The trials of a strength, all finished, as far as the check of the training reads them."""
    if not record.train_scores:
        return []
    strength = StrengthRecord("total_decay", record.values[v])
    nothing = tuple(math.nan for _ in record.classes)
    found = []
    for f, s in np.ndindex(record.status.shape[1:]):
        by_class = {name: tuple(record.train_scores[name][v, f, s].tolist()) for name in SCORE_KEYS}
        train = Scores(
            miou=float(record.train[v, f, s]),
            iou=by_class["iou"],
            dice=nothing,
            worst=math.nan,
            support=tuple(int(one) for one in by_class["support"]),
            precision=by_class["precision"],
            recall=by_class["recall"],
        )
        found.append(
            TrialRecord("", strength, f, s, FINISHED, None, train, None, record.facts.epochs, record.steps, 0.0, (0, 0))
        )
    return found


def _fixed(facts: Facts, points: Sequence[Point]) -> tuple[FixedValue, ...]:
    """The shipped λ of the grid's optimizer at their D."""
    known = [(0.0, 0.0), *((one.value, one.difference) for one in points if one.difference is not None)]
    best = max(gain for _, gain in known)
    found = []
    for lambda_, shipped_by in FIXED[facts.optimizer]:
        value = lambda_ / facts.lambda_at_one
        gain = interpolated(known, value)
        found.append(FixedValue(lambda_, shipped_by, value, gain, best - gain, value > known[-1][0]))
    return tuple(found)


def interpolated(known: Sequence[tuple[float, float]], value: float) -> float:
    """The gain at a strength between those that were trained: linear in log D, and in D below the smallest above 0.

    >>> interpolated([(0, 0.0), (1, 0.1), (4, 0.3)], 2.0), interpolated([(0, 0.0), (1, 0.1)], 0.1)
    (0.2, 0.010000000000000002)
    >>> interpolated([(0, 0.0), (1, 0.1)], 9.0)  # beyond the strongest: as there
    0.1
    """
    at, gains = [x for x, _ in known], [gain for _, gain in known]
    if value >= at[-1]:
        return gains[-1]
    upper = next(i for i, x in enumerate(at) if x > value)
    low, high = at[upper - 1], at[upper]
    share = math.log(value / low) / math.log(high / low) if low > 0 else (value - low) / (high - low)
    return gains[upper - 1] + share * (gains[upper] - gains[upper - 1])
