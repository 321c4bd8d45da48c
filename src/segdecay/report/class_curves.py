"""What every strength gains or costs every class: the paired difference to none in IoU (or recall), with its interval.

Pure numpy: kept counts in, facts out. Knows nothing of files or drawings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.report.facts import Run
from segdecay.report.kept import by_fold
from segdecay.report.verdict_facts import Interval, Verdict
from segdecay.selection.criteria import Criterion
from segdecay.selection.evidence import Counts, surface_of
from segdecay.selection.intervals import difference_estimates
from segdecay.training.counts import mean_present

RESAMPLES = 500  # enough for a bar a few pixels long
SEED = 0
DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class ClassPoint:
    """One class at one strength: the mean difference to none over the folds that both have, and its interval."""

    value: float  # on the axis
    difference: float | None = None
    interval: Interval = None

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class ClassCurve:
    """One class over all strengths; `none` is its IoU at none, mean over folds."""

    index: int
    none: float | None
    points: tuple[ClassPoint, ...]


def class_curves(run: Run) -> tuple[ClassCurve, ...]:
    """Every class, in the order of the data set; empty where there is no search or none was not scored.

    The interval of the compared setting is the verdict's where it has one. Others are made in the same way with images
    as units; where the verdict resampled groups, they have none, since groups are not in the records.
    """
    verdict = run.verdict
    none = verdict.none if verdict else None
    if verdict is None or none is None or none.strength.value not in run.kept:
        return ()
    values = [item.strength.value for item in verdict.settings if not item.is_none and item.strength.value in run.kept]
    cells = [by_fold(run.kept[value]) for value in (none.strength.value, *values)]
    only = Criterion("classes", (0,), of_recall=run.data.task == "classification")  # of counts that hold one class
    return tuple(_curve(verdict, cells, values, index, only) for index in range(len(run.data.classes)))


def _curve(
    verdict: Verdict, cells: list[dict[int, list[Counts]]], values: list[float], index: int, only: Criterion
) -> ClassCurve:
    own: list[dict[int, Sequence[Counts]]] = [
        {fold: [_only(cell, index) for cell in seeds] for fold, seeds in one.items()} for one in cells
    ]
    names = ["none", *(f"{value:.12g}" for value in values)]
    surface, _ = surface_of(own, names, criterion=only, resamples=RESAMPLES, seed=SEED)
    none = float(mean_present(surface.scores[0]))
    if not math.isfinite(none):
        return ClassCurve(index, None, tuple(ClassPoint(value) for value in values))
    found = difference_estimates(surface, 0)
    compared = verdict.compared.strength.value if verdict.compared else None
    has_units = verdict.evidence.get("resampled") != "groups"
    points = []
    for row, value in enumerate(values, start=1):
        mean = float(found.means[row])
        if not math.isfinite(mean):
            points.append(ClassPoint(value))
            continue
        interval = found.interval(row, 1 - DEFAULT_CONFIDENCE).interval if has_units else None
        if value == compared:
            interval = verdict.classes[index].difference_interval or interval
        known = interval if interval is not None and bool(np.isfinite(interval).all()) else None
        points.append(ClassPoint(value, mean, known))
    return ClassCurve(index, none, tuple(points))


def _only(cell: Counts, index: int) -> Counts:
    """The counts of one class."""
    return Counts(cell.hit[:, [index]], cell.union[:, [index]], cell.true[:, [index]])
