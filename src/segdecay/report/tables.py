"""Rows of the report's tables where several files meet: classes, groups of parameters, findings.

Facts in, rows out. Knows nothing of files, figures or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.class_curves import ClassCurve
from segdecay.report.facts import ClassRow, Colour, Finding, Partition, Run
from segdecay.report.verdict_facts import Interval

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
    interval: Interval
    test_zero: float | None = None
    test_chosen: float | None = None
    precision: float | None = None  # these three at the compared strength, mean over its trainings
    recall: float | None = None
    boundary: float | None = None


@dataclass(frozen=True)
class ClassTable:
    """All classes, and the largest end of any interval, so that all bars share one scale."""

    lines: tuple[ClassLine, ...]
    largest: float


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
                test_zero=test.zero.of_class(name) if test else None,
                test_chosen=test.chosen.of_class(name) if test else None,
                precision=_mean_score(run, "precision", index),
                recall=_mean_score(run, "recall", index),
                boundary=_mean_score(run, "boundary_iou", index),
            )
        )
    return ClassTable(tuple(lines), _largest_difference(lines))


def _largest_difference(lines: Sequence[ClassLine]) -> float:
    ends = [abs(value) for line in lines for value in (line.difference, *(line.interval or ())) if value is not None]
    return max(ends, default=0.0)


def group_lines(partition: Partition) -> tuple[GroupLine, ...]:
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


def _class_scores(run: Run, index: int) -> tuple[float | None, float | None, Interval]:
    if run.verdict is not None:
        row, compared = run.verdict.classes[index], run.verdict.compared
        own = compared.classes[index] if compared and compared.classes else row.chosen
        return own, row.zero, row.difference_interval
    scores = run.compared[0].record.validation or run.compared[0].record.train
    known = () if scores is None else scores.recall if run.data.task == "classification" else scores.iou
    value = known[index] if index < len(known) else None
    return (None if value is None or math.isnan(value) else value), None, None
