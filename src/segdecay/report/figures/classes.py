"""Figures of classes: the gain or loss of each class at every strength, as a heat map and as small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from markupsafe import Markup

from segdecay.data.records import DataRecord
from segdecay.report.facts.tables import ClassCurve, ClassLine
from segdecay.report.figures.score import (
    axis_style,
    base_layout,
    csv_text,
    padded,
    short,
)
from segdecay.report.figures.svg import class_svg
from segdecay.report.text.format import (
    axis_title,
    difference,
    interval,
    label,
    number,
    score,
)
from segdecay.report.text.glossary import PageNames
from segdecay.runs.verdict import Verdict
from segdecay.search.sentences import none_name

# Diverging and safe for colour-blind readers: ColorBrewer's PuOr, orange below and purple above.
DIVERGING = [[0.0, "#b35806"], [0.25, "#f1a340"], [0.5, "#f4f4f4"], [0.75, "#998ec3"], [1.0, "#542788"]]


def classes_figure(verdict: Verdict, data: DataRecord, curves: Sequence[ClassCurve] = ()) -> go.Figure:
    """Every class (rows) at every strength (columns): score minus score without decay, in percentage points.

    curves: the same differences over the folds that a setting shares with no decay, if known.
    """
    measure, without = PageNames(data.task).class_score, none_name(verdict.axis)
    settings = [item for item in verdict.settings if not item.is_none and item.classes]
    none = verdict.none.classes if verdict.none and verdict.none.classes else (None,) * len(data.classes)
    changes = [[_minus(item.classes[row], none[row]) for item in settings] for row in range(len(data.classes))]
    if curves:
        found = [{point.value: point.difference for point in curve.points} for curve in curves]
        changes = [[line.get(item.strength.value) for item in settings] for line in found]
    largest = max((abs(value) for line in changes for value in line if value is not None), default=0.0) or 0.01
    names = [label(name) for name in data.classes]
    figure = go.Figure(layout=base_layout(92 + 30 * len(names)))
    figure.add_heatmap(
        x=[number(item.strength.value) for item in settings],
        y=list(range(len(names))),
        z=[[None if value is None else 100 * value for value in line] for line in changes],
        zmin=-100 * largest,
        zmax=100 * largest,
        colorscale=DIVERGING,
        showscale=False,
        xgap=2,
        ygap=2,
        text=[["" if value is None else _points(value) for value in line] for line in changes],
        texttemplate="%{text}",
        textfont={"size": 12},
        hoverinfo="text",
        hovertext=[
            [
                f"{label(name, 60)}<br>{short(verdict, item)}<br>"
                f"{measure} {score(item.classes[row])}, {without} {score(none[row])}"
                for item in settings
            ]
            for row, name in enumerate(data.classes)
        ],
    )
    figure.update_layout(
        margin={"t": 30},
        xaxis=axis_style(type="category", title=axis_title(verdict.axis), showgrid=False),
        yaxis=axis_style(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False),
    )
    return figure


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None or not math.isfinite(one - other) else one - other


def _points(value: float) -> str:
    """A difference in percentage points: 0.0123 is "+1.2"."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


LEAST_SPAN = 0.01  # IoU; a smaller range would make negligible differences look large


@dataclass(frozen=True)
class Multiple:
    """One class: its picture and the text below it."""

    line: ClassLine
    picture: Markup
    none: str  # score without decay
    gain: str  # difference at the compared strength, with its interval


def build_multiples(
    verdict: Verdict, curves: Sequence[ClassCurve], lines: Sequence[ClassLine], measure: str = "IoU"
) -> tuple[Multiple, ...]:
    """One picture per class, on axes of its own."""
    return tuple(
        _multiple(verdict, curve, line, _limits([curve]), measure) for curve, line in zip(curves, lines, strict=True)
    )


def multiples_csv(verdict: Verdict, curves: Sequence[ClassCurve], names: Sequence[str], measure: str = "IoU") -> str:
    """One line per class and strength: score, difference from no decay and its interval."""
    none, without = verdict.none.strength.value if verdict.none else 0.0, none_name(verdict.axis)
    rows: list[tuple[object, ...]] = []
    for curve in curves:
        rows.append((names[curve.index], none, curve.none, 0.0, None, None))
        for point in curve.points:
            low, high = point.interval or (None, None)
            rows.append((names[curve.index], point.value, None, point.difference, low, high))
    return csv_text(("class", verdict.axis, f"{measure}, {without}", f"difference from {without}", "low", "high"), rows)


def _limits(curves: Sequence[ClassCurve]) -> tuple[float, float]:
    """The range of all differences and intervals, at least LEAST_SPAN to both sides."""
    points = [point for curve in curves for point in curve.points]
    ends = [bound for point in points for bound in point.interval or ()]
    return padded([-LEAST_SPAN, LEAST_SPAN, *(point.difference for point in points), *ends], 0.05)


def _multiple(
    verdict: Verdict, curve: ClassCurve, line: ClassLine, limits: tuple[float, float], measure: str
) -> Multiple:
    shown = next((p for p in curve.points if verdict.compared and p.value == verdict.compared.strength.value), None)
    gain = difference(shown.difference) if shown else "n/a"
    if shown is not None and shown.interval is not None:
        gain += f" ({interval(shown.interval, signed=True)})"
    picture = Markup(class_svg(verdict, curve, f"{measure} of {line.name}", limits))  # noqa: S704  # all texts are escaped
    return Multiple(line, picture, score(curve.none), gain)
