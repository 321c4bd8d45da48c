"""Figures of classes: the gain or loss of each class at every strength, as a heat map and as small pictures."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from markupsafe import Markup

from segdecay.data.records import DataRecord
from segdecay.report.facts.tables import ClassCurve, ClassLine, ClassPoint
from segdecay.report.figures.score import (
    BLUE,
    ORANGE,
    axis_style,
    base_layout,
    csv_text,
    padded,
    positions,
    short,
    ticks,
)
from segdecay.report.text.format import (
    axis_symbol,
    axis_title,
    difference,
    interval,
    label,
    minus,
    number,
    score,
    visible,
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


WIDTH, HEIGHT = 250, 150  # px
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 10, 24
SOFT, HAIR, PAPER = "var(--soft,#5c636b)", "var(--hair,#d9dce0)", "var(--card,#ffffff)"
FEW = 7  # number of strengths up to which each is labelled
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
    """One picture per class, all on the same axes."""
    limits = _limits(curves)
    return tuple(_multiple(verdict, curve, line, limits, measure) for curve, line in zip(curves, lines, strict=True))


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
    picture = Markup(_svg(verdict, curve, f"{measure} of {line.name}", limits))  # noqa: S704  # all texts are escaped
    return Multiple(line, picture, score(curve.none), gain)


def _svg(verdict: Verdict, curve: ClassCurve, name: str, limits: tuple[float, float]) -> str:
    none = verdict.none.strength.value if verdict.none else 0.0
    places = positions([none, *(point.value for point in curve.points)])
    left, right = padded(places, 0.08)
    low, high = limits

    def x(place: float) -> float:
        return round(LEFT + (place - left) / (right - left) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    rows = [f"{number(point.value)}: {difference(point.difference)}" for point in curve.points]
    against = f"{none_name(verdict.axis)} ({score(curve.none)})"
    words = f"{name}, difference from {against} by {axis_symbol(verdict.axis)}: {'; '.join(rows)}"
    style = 'font-family="system-ui, sans-serif" font-size="10.5"'
    size, words = f"0 0 {WIDTH} {HEIGHT}", html.escape(visible(words))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="{words}" {style}>']
    for value in ticks(low, high, 4):
        parts.append(f'<path d="M{LEFT} {y(value)}H{WIDTH - RIGHT}" style="stroke:{HAIR}"/>')
        parts.append(_text(LEFT - 5, y(value) + 3.5, minus(f"{value:+.2g}") if value else "0", "end"))
    parts += _axis(verdict, curve, [x(place) for place in places])
    if curve.none is None:
        parts.append(_text(WIDTH / 2, HEIGHT / 2, "in no validation image", "middle"))
        return "".join([*parts, "</svg>"])
    style = f'style="stroke:{SOFT}" stroke-width="1.3" stroke-dasharray="2 3"'
    parts.append(f'<path d="M{LEFT} {y(0)}H{WIDTH - RIGHT}" {style}/>')
    known = [
        (x(place), point) for place, point in zip(places[1:], curve.points, strict=True) if point.difference is not None
    ]
    line = "".join(f"L{at} {y(point.difference or 0.0)}" for at, point in known)
    parts.append(f'<path d="M{x(places[0])} {y(0)}{line}" stroke="{BLUE}" fill="none"/>')
    parts.append(f'<circle cx="{x(places[0])}" cy="{y(0)}" r="3" style="fill:{SOFT}"/>')
    for at, point in known:
        parts += _point(at, point, y)
    return "".join([*parts, "</svg>"])


def _axis(verdict: Verdict, curve: ClassCurve, at: Sequence[float]) -> list[str]:
    """Labels of the strengths, and a mark at the compared one."""
    parts = [_text(at[0], HEIGHT - 8, number(verdict.none.strength.value if verdict.none else 0.0), "middle")]
    is_named = len(curve.points) <= FEW
    compared = verdict.compared.strength.value if verdict.compared else None
    for index, (place, point) in enumerate(zip(at[1:], curve.points, strict=True)):
        if is_named or index % 2 == len(curve.points) % 2 or point.value == compared:
            parts.append(_text(place, HEIGHT - 8, number(point.value), "middle"))
        if point.value == compared:
            parts.append(
                f'<path d="M{place} {TOP}V{HEIGHT - BOTTOM}" stroke="{ORANGE}" stroke-width="1.3"'
                ' stroke-dasharray="2 3"/>'
            )
    return parts


def _point(at: float, point: ClassPoint, y: Callable[[float], float]) -> list[str]:
    parts = []
    if point.interval is not None:
        low, high = (y(bound) for bound in point.interval)
        parts.append(f'<path d="M{at} {low}V{high}M{at - 3} {low}h6M{at - 3} {high}h6" stroke="{BLUE}" fill="none"/>')
    fill = BLUE if point.is_told_apart else PAPER
    place = f'cx="{at}" cy="{y(point.difference or 0.0)}" r="3.2"'
    parts.append(f'<circle {place} style="fill:{fill}" stroke="{BLUE}" stroke-width="1.6"/>')
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" style="fill:{SOFT}">{html.escape(text)}</text>'
