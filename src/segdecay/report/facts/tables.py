"""Rows of the report's tables where several files meet: classes, groups of parameters, findings.

Facts in, rows out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.data.checks.findings import ClassRow, Finding
from segdecay.data.records import Colour
from segdecay.metrics.bootstrap import Counts, surface_of
from segdecay.metrics.counts import mean_present
from segdecay.metrics.criteria import METRICS, Criterion
from segdecay.metrics.intervals import difference_estimates
from segdecay.report.facts.run import Run, by_fold
from segdecay.runs.facts import PartitionRecord
from segdecay.runs.verdict import Limits, Verdict

RESAMPLES = 500  # enough for a bar a few pixels long
SEED = 0
DEFAULT_CONFIDENCE = 0.95
RARE = 0.1  # of an equal share
TWO = 2  # settings that a comparison needs


@dataclass(frozen=True)
class ClassPoint:
    """One class at one strength: the mean difference to none over the folds that both have, and its interval."""

    value: float  # on the axis
    difference: float | None = None
    interval: Limits = None

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
    trials = [by_fold(run.kept[value]) for value in (none.strength.value, *values)]
    only = Criterion("classes", (0,), of_recall=run.data.task == "classification")  # of counts that hold one class
    return tuple(_curve(verdict, trials, values, index, only) for index in range(len(run.data.classes)))


def values_like_best(run: Run) -> tuple[float, ...]:
    """Axis values whose paired difference from the best, trained on all folds, has an interval that holds 0.

    The best is among them; empty where no counts were kept or groups were resampled, which the records do not hold.
    """
    verdict = run.verdict
    if verdict is None or verdict.evidence.get("resampled") == "groups" or verdict.criterion not in METRICS:
        return ()
    settings = [item for item in verdict.settings if item.mean is not None and item.strength.value in run.kept]
    most = max((len(run.kept[item.strength.value]) for item in settings), default=0)
    whole = [item for item in settings if len(run.kept[item.strength.value]) == most and item.dropped is None]
    if not whole or len(settings) < TWO:
        return ()
    best = settings.index(max(whole, key=lambda item: item.mean or 0.0))
    values = [item.strength.value for item in settings]
    names = ["none" if item.is_none else f"{item.strength.value:.12g}" for item in settings]
    excluded = tuple(run.data.classes.index(name) for name in run.data.exclude_from_mean)
    criterion = Criterion(verdict.criterion, of_recall=run.data.task == "classification", excluded=excluded)
    trials: list[dict[int, Sequence[Counts]]] = [dict(by_fold(run.kept[value])) for value in values]
    surface, _ = surface_of(trials, names, criterion=criterion, resamples=RESAMPLES, seed=SEED)
    found = difference_estimates(surface, best)
    alike = [values[best]]
    for row, value in enumerate(values):
        bounds = found.interval(row, 1 - DEFAULT_CONFIDENCE).interval if row != best else None
        if bounds is not None and bounds[0] <= 0 <= bounds[1]:
            alike.append(value)
    return tuple(sorted(alike))


def _curve(
    verdict: Verdict, trials: list[dict[int, list[Counts]]], values: list[float], index: int, only: Criterion
) -> ClassCurve:
    own: list[dict[int, Sequence[Counts]]] = [
        {fold: [_only(trial, index) for trial in seeds] for fold, seeds in one.items()} for one in trials
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


def _only(trial: Counts, index: int) -> Counts:
    """The counts of one class."""
    return Counts(trial.hit[:, [index]], trial.union[:, [index]], trial.true[:, [index]])


LEVELS = ("wrong", "warning", "note")


@dataclass(frozen=True)
class ClassLine:
    """One class: how much of it there is, and how it fares at none and at the compared strength."""

    name: str
    colour: str  # "#rrggbb"
    support: ClassRow | None
    zero: float | None
    compared: float | None
    difference: float | None
    interval: Limits
    test_zero: float | None = None
    test_chosen: float | None = None
    precision: float | None = None  # these three at the compared strength, mean over its trainings
    recall: float | None = None
    boundary: float | None = None
    is_rare: bool = False


@dataclass(frozen=True)
class ClassTable:
    """All classes, and the largest end of any interval, so that all bars share one scale."""

    lines: tuple[ClassLine, ...]
    largest: float

    @property
    def by_difference(self) -> tuple[ClassLine, ...]:
        """From the largest gain to the largest loss; classes without a difference last, in the order of the data."""
        return tuple(sorted(self.lines, key=lambda line: math.inf if line.difference is None else -line.difference))


@dataclass(frozen=True)
class GroupLine:
    """How many parameters a group holds, and the multiplier of the strength there."""

    group: str
    tensors: int
    parameters: int
    multiplier: str


@dataclass(frozen=True)
class FindingGroup:
    """The findings of one level."""

    level: str
    findings: tuple[Finding, ...]


def hex_colour(colour: Colour) -> str:
    """A colour as CSS writes it.

    >>> hex_colour((255, 0, 16))
    '#ff0010'
    """
    return "#" + "".join(f"{part:02x}" for part in colour)


def marked(name: str, exclude_from_mean: Sequence[str]) -> str:
    """A class as tables name it: one that no mean counts is marked.

    >>> marked("sky", ("sky",)), marked("road", ("sky",))
    ('sky (not in the means)', 'road')
    """
    return f"{name} (not in the means)" if name in exclude_from_mean else name


def class_table(run: Run, curves: Sequence[ClassCurve] = ()) -> ClassTable:
    """One line a class, in the order of the data set; `curves` has the intervals that the verdict leaves out."""
    support = {row.name: row for row in run.data.class_rows}
    lines = []
    for index, (name, colour) in enumerate(zip(run.data.classes, run.data.palette, strict=True)):
        compared, zero, interval = _class_scores(run, index)
        if interval is None and curves and run.verdict and run.verdict.compared:
            value = run.verdict.compared.strength.value
            interval = next((point.interval for point in curves[index].points if point.value == value), None)
        test = run.verdict.test if run.verdict else None
        lines.append(
            ClassLine(
                name=marked(name, run.data.exclude_from_mean),
                colour=hex_colour(colour),
                support=support.get(name),
                zero=zero,
                compared=compared,
                difference=None if compared is None or zero is None else compared - zero,
                interval=interval,
                test_zero=test.zero.classes.get(name) if test else None,
                test_chosen=test.chosen.classes.get(name) if test else None,
                precision=_mean_score(run, "precision", index),
                recall=_mean_score(run, "recall", index),
                boundary=_mean_score(run, "boundary_iou", index),
                is_rare=_is_rare(support.get(name), len(run.data.classes)),
            )
        )
    return ClassTable(tuple(lines), _largest_difference(lines))


def _is_rare(support: ClassRow | None, classes: int) -> bool:
    """Whether a class that occurs has less than a tenth of what equal shares would give it."""
    return support is not None and 0 < support.share < RARE / classes


def _largest_difference(lines: Sequence[ClassLine]) -> float:
    ends = [abs(value) for line in lines for value in (line.difference, *(line.interval or ())) if value is not None]
    return max(ends, default=0.0)


def group_lines(partition: PartitionRecord) -> tuple[GroupLine, ...]:
    """One line a group, in the order in which the groups first occur."""
    lines = []
    for group in dict.fromkeys(row.group for row in partition.rows):
        rows = [row for row in partition.rows if row.group == group]
        multipliers = sorted({row.multiplier for row in rows if row.multiplier is not None})
        lines.append(
            GroupLine(
                group=group,
                tensors=len(rows),
                parameters=sum(math.prod(row.shape) for row in rows),
                multiplier=", ".join(f"{value:g}" for value in multipliers) or "n/a",
            )
        )
    return tuple(lines)


def findings_by_level(findings: Sequence[Finding]) -> tuple[FindingGroup, ...]:
    """The findings of each level that occurs, gravest first."""
    groups = (FindingGroup(level, tuple(item for item in findings if item.level == level)) for level in LEVELS)
    return tuple(group for group in groups if group.findings)


def _mean_score(run: Run, name: str, index: int) -> float | None:
    """A score of a class, mean over the trainings at the compared strength that have it."""
    found = [training.record.validation or training.record.train for training in run.compared]
    columns = [getattr(scores, name) for scores in found if scores is not None]
    values = [column[index] for column in columns if index < len(column) and math.isfinite(column[index])]
    return sum(values) / len(values) if values else None


def _class_scores(run: Run, index: int) -> tuple[float | None, float | None, Limits]:
    if run.verdict is not None:
        row, compared = run.verdict.classes[index], run.verdict.compared
        own = compared.classes[index] if compared and compared.classes else row.chosen
        return own, row.zero, row.difference_interval
    scores = run.compared[0].record.validation or run.compared[0].record.train
    known = () if scores is None else scores.recall if run.data.task == "classification" else scores.iou
    value = known[index] if index < len(known) else None
    return (None if value is None or math.isnan(value) else value), None, None
