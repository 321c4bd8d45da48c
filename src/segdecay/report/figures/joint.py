"""The figure of a joint search: learning rate against λ, with lines of constant ηλ."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from segdecay.report.figures.score import GREY, ORANGE, axis_style, base_layout
from segdecay.report.text.format import axis_symbol, axis_title, number, score
from segdecay.runs.joint import JointDimension, JointPoint, JointSearch
from segdecay.search.joint.sentences import show_values
from segdecay.search.sentences import none_name

SCALE = "Cividis"  # readable with colour blindness and in grey
ALIKE = 1.02  # largest ratio of two products ηλ that count as equal, since values are rounded
LABEL_PX = 36  # between the plane and its colour scale, for the labels of lines


@dataclass(frozen=True)
class IsoLine:
    """A line of constant ηλ: log10 λ at both ends of the range of log10 learning rates."""

    value: float  # on the strength's axis
    product: float  # ηλ
    ends: tuple[float, float]
    left: float
    right: float


def has_iso_lines(facts: JointSearch) -> bool:
    """Whether the learning rate was searched and every strength has a λ."""
    acting = [one for one in facts.points if not one.strength.is_none]
    return (
        any(one.name == "lr" for one in facts.dimensions)
        and bool(acting)
        and all(one.strength.lambda_ for one in acting)
    )


def joint_figure(facts: JointSearch) -> go.Figure:
    """Every point by the first searched dimension and its strength, coloured by score; no decay is the lowest row."""
    in_plane = has_iso_lines(facts)
    first = next((one for one in facts.dimensions if one.name == "lr"), facts.dimensions[0])
    lines = _iso_lines(facts, first) if in_plane else []
    heights = _heights(facts, [line.right for line in lines], in_plane=in_plane)
    shown = [(one, x) for one in facts.points if (x := _across(one, first)) is not None]
    figure = go.Figure(layout=base_layout(420, showlegend=False))
    figure.update_layout(margin={"r": 64 + LABEL_PX})
    _add_points(figure, shown, heights)
    none_at = min(heights.values())
    ticks = _ticks([height for height in heights.values() if height > none_at or not _has_none(facts)])
    axis = facts.points[0].strength.axis
    title = "λ" if in_plane else html.escape(axis_title(axis))
    figure.update_layout(
        xaxis=_x_axis(first),
        yaxis=axis_style(
            title=title,
            tickvals=[*([none_at] if _has_none(facts) else []), *ticks],
            ticktext=[*([none_name(axis)] if _has_none(facts) else []), *(number(10**tick) for tick in ticks)],
        ),
    )
    _add_iso_lines(figure, lines, axis_symbol(axis))
    return figure


def _has_none(facts: JointSearch) -> bool:
    return any(one.strength.is_none for one in facts.points)


def _across(point: JointPoint, dimension: JointDimension) -> float | None:
    """The horizontal position of a point; the default where a point without decay has no such value."""
    value = point.values.get(dimension.name, dimension.default)
    if isinstance(value, str):
        return float(dimension.choices.index(value)) if value in dimension.choices else None
    return math.log10(value) if dimension.is_log and value > 0 else float(value)


def _heights(facts: JointSearch, ends: Sequence[float], *, in_plane: bool) -> dict[str, float]:
    """Heights by the names of points: log10 of λ or of the axis value; no decay lies below the others and the lines.

    ends: the lowest heights of the lines.
    """
    values = {
        one.name: math.log10(one.strength.lambda_ if in_plane and one.strength.lambda_ else one.strength.value)
        for one in facts.points
        if not one.strength.is_none
    }
    low, high = min(values.values(), default=0.0), max(values.values(), default=1.0)
    none_at = min([low, *ends]) - max(0.35, 0.15 * (high - low))
    return {one.name: values.get(one.name, none_at) for one in facts.points}


def _ticks(heights: Sequence[float]) -> list[float]:
    if not heights:
        return []
    low, high = math.floor(min(heights)), math.ceil(max(heights))
    steps = (0.0,) if high - low > 2 else (0.0, math.log10(2), math.log10(5))
    ticks = [decade + step for decade in range(low, high + 1) for step in steps]
    return [tick for tick in ticks if min(heights) - 0.5 <= tick <= max(heights) + 0.5]


def _x_axis(dimension: JointDimension) -> dict[str, object]:
    title = html.escape(dimension.label)
    if dimension.choices:
        return axis_style(title=title, tickvals=list(range(len(dimension.choices))), ticktext=list(dimension.choices))
    if not dimension.is_log or dimension.range is None:
        return axis_style(title=title)
    low, high = (math.log10(bound) for bound in dimension.range)
    marks = [low + i * (high - low) / 4 for i in range(5)]
    margin = 0.06 * (high - low)
    return axis_style(
        title=title,
        tickvals=marks,
        ticktext=[number(10**mark, 2) for mark in marks],
        range=[low - margin, high + margin],
    )


def _add_points(figure: go.Figure, shown: Sequence[tuple[JointPoint, float]], heights: dict[str, float]) -> None:
    scored = [(one, x) for one, x in shown if one.score is not None]
    failed = [(one, x) for one, x in shown if one.score is None]
    best = {
        max((one for one, _ in group), key=lambda one: one.score or 0.0).name
        for group in ([p for p in scored if p[0].strength.is_none], [p for p in scored if not p[0].strength.is_none])
        if group
    }
    figure.add_scatter(
        x=[x for _, x in scored],
        y=[heights[one.name] for one, _ in scored],
        name="score",
        mode="markers",
        marker={
            "size": 13,
            "color": [one.score for one, _ in scored],
            "colorscale": SCALE,
            "showscale": True,
            "colorbar": {"thickness": 10, "title": {"text": "score"}, "outlinewidth": 0, "xpad": LABEL_PX},
            "line": {
                "width": [3 if one.name in best else 0.5 for one, _ in scored],
                "color": [ORANGE if one.name in best else GREY for one, _ in scored],
            },
        },
        hoverinfo="text",
        text=[_hover(one) for one, _ in scored],
    )
    if failed:
        figure.add_scatter(
            x=[x for _, x in failed],
            y=[heights[one.name] for one, _ in failed],
            name="failed or diverged",
            mode="markers",
            marker={"size": 10, "symbol": "x", "color": GREY},
            hoverinfo="text",
            text=[_hover(one) for one, _ in failed],
        )


def _hover(point: JointPoint) -> str:
    strength = f"{axis_symbol(point.strength.axis)} = {number(point.strength.value)}"
    return html.escape(f"{strength}, {show_values(point.values)}: {score(point.score)}")


def _iso_lines(facts: JointSearch, lr: JointDimension) -> list[IsoLine]:
    """One line for every axis value with a constant ηλ; along it, a step shrinks a weight by the same factor."""
    if lr.range is None:
        return []
    low, high = (math.log10(bound) for bound in lr.range)
    return [
        IsoLine(value, product, (low, high), math.log10(product) - low, math.log10(product) - high)
        for value, product in iso_products(facts.points).items()
    ]


def _add_iso_lines(figure: go.Figure, lines: Sequence[IsoLine], symbol: str) -> None:
    """The lines, each labelled right of its end, where no line crosses the label."""
    for line in lines:
        figure.add_scatter(
            x=list(line.ends),
            y=[line.left, line.right],
            name=f"ηλ = {number(line.product)}",
            mode="lines",
            line={"width": 1, "color": GREY, "dash": "dot"},
            hoverinfo="skip",
        )
        figure.add_annotation(
            x=line.ends[1],
            y=line.right,
            text=html.escape(f"{symbol} = {number(line.value)}"),
            showarrow=False,
            xanchor="left",
            xshift=3,
            font={"size": 10},
        )


def iso_products(points: Sequence[JointPoint]) -> dict[float, float]:
    """Axis value to peak learning rate × λ, for axis values whose points all agree."""
    found: dict[float, list[float]] = {}
    for one in points:
        if one.strength.lambda_ and not one.strength.is_none:
            found.setdefault(one.strength.value, []).append(one.lr * one.strength.lambda_)
    return {value: products[0] for value, products in sorted(found.items()) if max(products) <= ALIKE * min(products)}
