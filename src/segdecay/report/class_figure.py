"""The figure of classes: what every strength gains or costs each of them. Pure: facts in, a plotly figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from segdecay.report.class_curves import ClassCurve
from segdecay.report.facts import Data
from segdecay.report.figures import axis_style, base_layout, short
from segdecay.report.verdict_facts import Verdict
from segdecay.report.wording import Wording
from segdecay.report.words import axis_title, label, number, score

# Diverging and safe for colour-blind readers: ColorBrewer's PuOr, orange below and purple above.
DIVERGING = [[0.0, "#b35806"], [0.25, "#f1a340"], [0.5, "#f4f4f4"], [0.75, "#998ec3"], [1.0, "#542788"]]


def classes_figure(verdict: Verdict, data: Data, curves: Sequence[ClassCurve] = ()) -> go.Figure:
    """Every class (rows) at every strength (columns): IoU minus IoU at none, in hundredths.

    curves: the same differences over the folds that a setting shares with none, where they are known.
    """
    measure = Wording(data.task).class_score
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
                f"{measure} {score(item.classes[row])}, at none {score(none[row])}"
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
    """A difference in hundredths: 0.0123 is "+1.2"."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
