"""Confusion matrices as shares of the truth: figures, and the largest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from segdecay.metrics.counts import F64, I64
from segdecay.report.figures.score import axis_style, base_layout
from segdecay.report.text.format import label, percent

# One hue from light to dark: ColorBrewer's Blues.
LIGHT_TO_DARK = [[0.0, "#f4f4f4"], [0.25, "#c6dbef"], [0.5, "#6baed6"], [0.75, "#2171b5"], [1.0, "#08306b"]]
MOST = 40  # largest number of classes in a figure
NUMBERED = 14  # number of classes up to which fields show their number
LEAST_SHOWN = 0.005  # share of the truth below which a field shows no number
OTHERS = "other classes"
LISTED = 10  # mistakes in the table


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class that are predicted as another."""

    truth: int
    prediction: int
    shares: tuple[float, ...]  # of the true pixels, one per matrix


def shares_of_truth(matrix: I64) -> F64:
    """Every row divided by its sum; NaN for a class without true pixels.

    >>> shares_of_truth(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [nan, nan]]
    """
    total = matrix.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, matrix / total, np.nan))


def shown_classes(matrices: Sequence[I64], at_most: int = MOST) -> tuple[int, ...]:
    """The classes with the most wrong pixels (false negatives and false positives), in the order of the data."""
    wrong = sum(matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix) for matrix in matrices)
    order = np.argsort(-np.asarray(wrong), kind="stable")[:at_most]
    return tuple(sorted(int(index) for index in order))


def confusion_figure(matrix: I64, names: Sequence[str], kept: Sequence[int]) -> go.Figure:
    """Rows are the truth, columns the prediction, fields the share of the true pixels; darker by its square root."""
    shares = shares_of_truth(matrix)
    rest = [index for index in range(len(names)) if index not in set(kept)]
    shown = shares[np.ix_(kept, kept)]
    labels = [label(names[index], 16) for index in kept]
    columns = list(labels)
    if rest:
        shown = np.column_stack([shown, shares[np.ix_(kept, rest)].sum(axis=1)])
        columns.append(OTHERS)
    is_numbered = len(columns) <= NUMBERED
    field = 30 if is_numbered else 18
    figure = go.Figure(layout=base_layout(150 + field * len(kept)))
    values = [[None if np.isnan(value) else round(float(value), 5) for value in line] for line in shown]
    figure.add_heatmap(
        x=list(range(len(columns))),
        y=list(range(len(kept))),
        z=[[None if value is None else value**0.5 for value in line] for line in values],
        customdata=values,
        zmin=0,
        zmax=1,
        colorscale=LIGHT_TO_DARK,
        showscale=False,
        xgap=1,
        ygap=1,
        text=_numbers(values) if is_numbered else None,
        texttemplate="%{text}" if is_numbered else None,
        textfont={"size": 11},
        hoverinfo="text",
        hovertext=_hover_texts(values, [label(names[index], 60) for index in kept]),
    )
    ticks = {"tickfont": {"size": 11 if is_numbered else 10}, "showgrid": False}
    figure.update_layout(
        margin={"t": 10},
        xaxis=axis_style(
            tickvals=list(range(len(columns))),
            ticktext=columns,
            tickangle=-60,
            title={"text": "prediction", "standoff": 12},
            **ticks,
        ),
        yaxis=axis_style(
            tickvals=list(range(len(kept))),
            ticktext=labels,
            autorange="reversed",
            title={"text": "truth", "standoff": 14},
            **ticks,
        ),
    )
    return figure


def _numbers(values: Sequence[Sequence[float | None]]) -> list[list[str]]:
    """Per cent, for every field that is large enough."""
    return [["" if value is None or value < LEAST_SHOWN else f"{100 * value:.0f}" for value in line] for line in values]


def _hover_texts(values: Sequence[Sequence[float | None]], names: Sequence[str]) -> list[list[str]]:
    columns = [*names, OTHERS]
    return [
        [f"{row}<br>predicted as {column}: {percent(value)}" for column, value in zip(columns, line, strict=False)]
        for row, line in zip(names, values, strict=True)
    ]


def largest_mistakes(matrices: Sequence[I64], at_most: int = LISTED) -> tuple[Mistake, ...]:
    """The pairs of classes with the largest shares of mistaken pixels, over all matrices."""
    shares = [np.nan_to_num(shares_of_truth(matrix)) for matrix in matrices]
    worst = np.max(shares, axis=0) * (1 - np.eye(len(matrices[0])))
    order = np.argsort(-worst, axis=None, kind="stable")[:at_most]
    pairs = [np.unravel_index(int(place), worst.shape) for place in order]
    return tuple(
        Mistake(int(row), int(column), tuple(float(share[row, column]) for share in shares))
        for row, column in pairs
        if worst[row, column] > 0
    )
