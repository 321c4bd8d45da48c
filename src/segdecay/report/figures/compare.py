"""Figures of a comparison: ranking, pairs, classes, and every arm over its axis."""

from __future__ import annotations

import plotly.graph_objects as go

from segdecay.report.figures.classes import DIVERGING
from segdecay.report.figures.score import BLUE, GREY, VERMILION, axis_style, base_layout
from segdecay.report.text.format import difference, interval, label, number, score
from segdecay.runs.comparison import ComparedArm, ComparedPair, Comparison

ROW, COLUMN = 30, 44  # px: size of a field that holds a number
NAMES = 180  # px for the names at the left


def ranking_figure(found: Comparison) -> go.Figure:
    """Every arm with its interval and letters, the best at the top; folds as small points."""
    arms = found.arms
    figure = go.Figure(layout=base_layout(110 + ROW * len(arms), showlegend=False))
    figure.add_scatter(
        x=[value for arm in arms for value in arm.folds],
        y=[place for place, arm in enumerate(arms) for _ in arm.folds],
        name="folds",
        mode="markers",
        marker={"size": 5, "color": GREY},
        opacity=0.7,
        hoverinfo="skip",
    )
    best = set(arms[0].letters)
    figure.add_scatter(
        x=[arm.mean for arm in arms],
        y=list(range(len(arms))),
        name="mean",
        mode="markers",
        marker={"size": 11, "color": [BLUE if best & set(arm.letters) else VERMILION for arm in arms]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [0.0 if arm.interval is None else arm.interval[1] - arm.mean for arm in arms],
            "arrayminus": [0.0 if arm.interval is None else arm.mean - arm.interval[0] for arm in arms],
            "width": 4,
            "thickness": 2,
            "color": GREY,
        },
        hoverinfo="text",
        text=[f"{arm.label}<br>{score(arm.mean)} ({interval(arm.interval)})" for arm in arms],
    )
    figure.update_layout(
        margin={"t": 14},
        xaxis=axis_style(title=found.criterion),
        yaxis=axis_style(
            tickvals=list(range(len(arms))),
            ticktext=[f"{arm.label} · {arm.letters}" for arm in arms],
            range=[len(arms) - 0.4, -0.6],
            showgrid=False,
        ),
    )
    return figure


def pairs_figure(found: Comparison) -> go.Figure:
    """Row minus column, in percentage points, for every pair of arms; bold where they are told apart."""
    names = [arm.name for arm in found.arms]
    cells = {(pair.first, pair.second): (pair.difference, pair) for pair in found.pairs}
    cells |= {(pair.second, pair.first): (-pair.difference, pair) for pair in found.pairs}
    grid = [[cells.get((one, other)) for other in names] for one in names]
    largest = max((abs(cell[0]) for row in grid for cell in row if cell), default=0.0) or 0.01
    figure = go.Figure(layout=base_layout(130 + ROW * len(names)))
    figure.add_heatmap(
        x=list(range(len(names))),
        y=list(range(len(names))),
        z=[[None if cell is None else 100 * cell[0] for cell in row] for row in grid],
        zmin=-100 * largest,
        zmax=100 * largest,
        colorscale=DIVERGING,
        showscale=False,
        xgap=2,
        ygap=2,
        text=[["" if cell is None else _points(cell[0], bold=cell[1].told_apart) for cell in row] for row in grid],
        texttemplate="%{text}",
        textfont={"size": 12},
        hoverinfo="text",
        hovertext=[
            [
                ""
                if cell is None
                else f"{row.label} minus {column.label}<br>{difference(cell[0])} ("
                f"{interval(_turned(cell[1], row), signed=True)}), adjusted p {number(cell[1].p_holm)}"
                for column, cell in zip(found.arms, line, strict=True)
            ]
            for row, line in zip(found.arms, grid, strict=True)
        ],
    )
    figure.update_layout(
        margin={"t": 14},
        xaxis=axis_style(
            tickvals=list(range(len(names))), ticktext=[arm.label for arm in found.arms], showgrid=False, tickangle=-40
        ),
        yaxis=axis_style(
            tickvals=list(range(len(names))),
            ticktext=[arm.label for arm in found.arms],
            autorange="reversed",
            showgrid=False,
        ),
    )
    return figure


def least_px(columns: int) -> int:
    """The width below which the numbers of neighbouring fields would overlap."""
    return NAMES + COLUMN * columns


def classes_figure(found: Comparison) -> go.Figure:
    """Every class (rows) of every arm (columns) minus no decay, in percentage points; bold where told apart."""
    arms = [arm for arm in found.arms if arm.name != "none"]
    lines = [[arm.classes[row] for arm in arms] for row in range(len(found.classes))]
    largest = max((abs(one.difference or 0.0) for line in lines for one in line), default=0.0) or 0.01
    names = [label(name) for name in found.classes]
    figure = go.Figure(layout=base_layout(130 + ROW * len(names)))
    figure.add_heatmap(
        x=list(range(len(arms))),
        y=list(range(len(names))),
        z=[[None if one.difference is None else 100 * one.difference for one in line] for line in lines],
        zmin=-100 * largest,
        zmax=100 * largest,
        colorscale=DIVERGING,
        showscale=False,
        xgap=2,
        ygap=2,
        text=[
            ["" if one.difference is None else _points(one.difference, bold=one.told_apart) for one in line]
            for line in lines
        ],
        texttemplate="%{text}",
        textfont={"size": 12},
        hoverinfo="text",
        hovertext=[
            [
                f"{label(one.name, 60)}, {arm.label}<br>{score(one.score)}, from no decay {difference(one.difference)} "
                f"({interval(one.interval, signed=True)}), adjusted p {number(one.p_holm)}"
                for arm, one in zip(arms, line, strict=True)
            ]
            for line in lines
        ],
    )
    figure.update_layout(
        margin={"t": 14},
        xaxis=axis_style(
            tickvals=list(range(len(arms))), ticktext=[arm.label for arm in arms], showgrid=False, tickangle=-40
        ),
        yaxis=axis_style(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False),
    )
    return figure


def curve_figure(found: Comparison, arm: ComparedArm) -> go.Figure:
    """One arm over its axis, no decay at the left, with every fold and the number of folds that chose each value."""
    known = [one for one in arm.strengths if one.folds is not None]
    figure = go.Figure(layout=base_layout(250, showlegend=False))
    places = [one.shown for one in known]
    for fold in range(found.folds):
        figure.add_scatter(
            x=places,
            y=[one.folds[fold] for one in known if one.folds],
            name=f"fold {fold + 1}",
            mode="lines+markers",
            line={"width": 1.2, "color": GREY},
            marker={"size": 4, "color": GREY},
            opacity=0.7,
        )
    figure.add_scatter(
        x=places,
        y=[one.mean for one in known],
        name="mean",
        mode="lines+markers",
        line={"width": 2.4, "color": BLUE},
        marker={"size": 8, "color": BLUE},
    )
    figure.update_layout(
        margin={"t": 14},
        xaxis=axis_style(type="category", title=arm.unit or ""),
        yaxis=axis_style(title=found.criterion),
    )
    return figure


def _turned(pair: ComparedPair, row: ComparedArm) -> tuple[float, float] | None:
    if pair.interval is None or pair.first == row.name:
        return pair.interval
    return -pair.interval[1], -pair.interval[0]


def _points(value: float | None, *, bold: bool) -> str:
    if value is None:
        return ""
    text = f"{100 * value:+.1f}"
    text = "0.0" if float(text) == 0 else text.replace("-", "−")
    return f"<b>{text}</b>" if bold else text
