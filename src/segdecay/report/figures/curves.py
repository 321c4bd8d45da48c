"""Learning curves of one setting: thin lines are single trials, thick ones their mean where every trial has a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from segdecay.report.facts.run import CurveRow, Training
from segdecay.report.figures.score import BLUE, GREEN, GREY, THIN_OPACITY, VERMILION, axis_style, base_layout, log_ticks
from segdecay.report.text.format import label
from segdecay.training.dead_classes import deaths_of

AT_MOST = 300  # points of a line; a screen cannot show more
GAP = "rgba(213,94,0,0.14)"
FEW = 12  # number of points up to which each has a marker
MINIMISED = ("l2", "l1", "elastic_net")  # for every optimizer that they allow
WITHOUT_PENALTY = ("none", "max_norm", "cpr", "dropout", "user function")  # bounds, and those inside the model
Part = Callable[[CurveRow], float | None]
Line = tuple[str, str, str, Part]  # name, colour, dash, value


def is_minimised(regularizer: str) -> bool:
    """Whether training with the regularizer minimises the penalty of its curve.

    >>> is_minimised("l2"), is_minimised("decoupled")
    (True, False)
    """
    return regularizer in MINIMISED


def has_penalty(regularizer: str) -> bool:
    """Whether the regularizer has a penalty λR.

    >>> has_penalty("decoupled"), has_penalty("max_norm")
    (True, False)
    """
    return regularizer not in WITHOUT_PENALTY


def objective_figure(trainings: Sequence[Training], regularizer: str, limits: tuple[float, float] | None) -> go.Figure:
    """Both terms of the objective, their sum and the validation loss, on a logarithmic axis.

    Where λR is shown but not minimised it has a panel of its own below, and no sum is drawn.
    """
    is_apart = not is_minimised(regularizer)
    note = " (shown, not minimised)" if is_apart else ""
    lines: tuple[Line, ...] = (
        ("L<sub>original</sub>", BLUE, "solid", lambda row: row.loss),
        (f"λR{note}", VERMILION, "dash", lambda row: row.penalty),
        ("L = L<sub>original</sub> + λR", GREY, "dot", lambda row: row.objective),
        ("validation loss", GREEN, "dashdot", lambda row: row.validation_loss),
    )
    if not has_penalty(regularizer):
        lines = (lines[0], lines[3])
    elif is_apart:
        lines = (lines[0], lines[1], lines[3])
    figure = _figure(trainings, lines, keep=lambda value: value > 0)
    scale = {}
    if limits is not None:
        marks = log_ticks(*limits)
        texts = [f"{value:g}" for value in marks]
        scale = {"range": [math.log10(value) for value in limits], "tickvals": list(marks), "ticktext": texts}
    figure.update_layout(yaxis=axis_style(type="log", title="loss", **scale))
    penalties = [trace for trace in figure.data if trace.name.startswith("λR")]
    if is_apart and penalties:
        for trace in penalties:
            trace.yaxis = "y2"
        below = axis_style(title="λR", domain=[0, 0.26], rangemode="tozero", nticks=4)
        figure.update_layout(yaxis2=below, height=380, xaxis={"anchor": "y2"})
        figure.update_layout(yaxis={"domain": [0.36, 1]})
    return figure


def learning_figure(trainings: Sequence[Training], limits: tuple[float, float] | None) -> go.Figure:
    """Scores (mIoU or balanced accuracy) on validation and on unaugmented training images, over epochs."""
    of_labels = any(row.train_balanced_accuracy is not None for training in trainings for row in training.curve)
    name = "balanced accuracy" if of_labels else "mIoU"
    lines: tuple[Line, ...] = (
        (f"validation {name}", BLUE, "solid", lambda row: row.validation_score),
        (f"train {name}", VERMILION, "dash", lambda row: row.train_score),
    )
    figure = _figure(trainings, lines, keep=lambda _: True)
    _shade_gap(figure, trainings)
    figure.update_layout(yaxis=axis_style(title=name, range=None if limits is None else list(limits)))
    _mark_deaths(figure, trainings)
    return figure


def _shade_gap(figure: go.Figure, trainings: Sequence[Training]) -> None:
    """The area between train and validation score; a bar where both are known at a single epoch, such as the last."""
    parts: tuple[Part, ...] = (lambda row: row.validation_score, lambda row: row.train_score)
    low, high = (mean_curve([_values(one, part, lambda _: True) for one in trainings]) for part in parts)
    shared = sorted(set(low) & set(high))
    if not shared:
        return
    right = float(shared[-1])
    xs = [0.97 * right, right] if len(shared) == 1 else [float(epoch) for epoch in shared]
    ends = [shared[0], shared[0]] if len(shared) == 1 else shared
    figure.add_scatter(
        x=[*xs, *reversed(xs)],
        y=[*(high[epoch] for epoch in ends), *(low[epoch] for epoch in reversed(ends))],
        name="gap",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=GAP,
        hoverinfo="skip",
    )


def _mark_deaths(figure: go.Figure, trainings: Sequence[Training]) -> None:
    """A cross on the validation score at the epoch from which a class has a score of 0 to the end."""
    marks = [
        (death.epoch, row.validation_score, f"{label(death.name, 60)} died, {training.label}")
        for training in trainings
        for death in deaths_of(training.record)
        for row in training.curve
        if row.epoch == death.epoch and row.validation_score is not None
    ]
    if not marks:
        return
    epochs, scores, texts = zip(*marks, strict=True)
    figure.add_scatter(
        x=epochs,
        y=scores,
        name="a class died",
        mode="markers",
        marker={"symbol": "x", "size": 11, "color": VERMILION},
        text=texts,
        hoverinfo="text",
    )


def is_scored(trainings: Sequence[Training]) -> bool:
    """Whether any validation score was taken."""
    return any(row.validation_score is not None for training in trainings for row in training.curve)


def loss_limits(trainings: Sequence[Training]) -> tuple[float, float] | None:
    """The range of all losses of these trainings, so that figures side by side share an axis."""
    values = [
        value
        for training in trainings
        for row in training.curve
        for value in (row.loss, row.penalty, row.objective, row.validation_loss)
        if value is not None and value > 0
    ]
    return (min(values) / 1.25, max(values) * 1.25) if values else None


def score_limits(trainings: Sequence[Training]) -> tuple[float, float] | None:
    """The range of all scores of these trainings."""
    values = [
        value
        for training in trainings
        for row in training.curve
        for value in (row.validation_score, row.train_score)
        if value is not None
    ]
    return (0.0, max(values) * 1.08 + 0.01) if values else None


def _figure(trainings: Sequence[Training], lines: Sequence[Line], keep: Callable[[float], bool]) -> go.Figure:
    last = max((row.epoch for training in trainings for row in training.curve), default=1)
    figure = go.Figure(
        layout=base_layout(
            330,
            xaxis=axis_style(title="epoch", showgrid=False, range=[0, last * 1.02], dtick=1 if last <= FEW else None),
        )
    )
    for name, colour, dash, of in lines:
        curves = [_values(training, of, keep) for training in trainings]
        if not any(curves):
            continue
        for training, curve in zip(trainings, curves, strict=True):
            if len(trainings) > 1:
                add_line(figure, curve, f"{name}, {training.label}", colour, dash, width=1.0)
        add_line(figure, mean_curve(curves), name, colour, dash, width=2.5)
    return figure


def _values(training: Training, of: Part, keep: Callable[[float], bool]) -> dict[int, float]:
    """Epoch to value, thinned to AT_MOST points including the last epoch."""
    known = {row.epoch: value for row in training.curve if (value := of(row)) is not None and keep(value)}
    epochs = sorted(known)
    stride = max(1, math.ceil(len(epochs) / AT_MOST))
    return {epoch: known[epoch] for epoch in {*epochs[::stride], *epochs[-1:]}}


def mean_curve(curves: Sequence[dict[int, float]]) -> dict[int, float]:
    """The mean at the epochs that all trials have.

    >>> mean_curve([{0: 1.0, 1: 3.0}, {0: 2.0}])
    {0: 1.5}
    """
    shared = set(curves[0]).intersection(*curves[1:])
    return {epoch: sum(curve[epoch] for curve in curves) / len(curves) for epoch in sorted(shared)}


def add_line(figure: go.Figure, curve: dict[int, float], name: str, colour: str, dash: str, *, width: float) -> None:
    """One line over epochs; below a width of 2 without an entry in the legend."""
    is_thin = width < 2
    epochs = sorted(curve)
    figure.add_scatter(
        x=epochs,
        y=[float(f"{curve[epoch]:.5g}") for epoch in epochs],
        name=name,
        mode="lines" if len(epochs) > FEW else "lines+markers",
        marker={"size": 4 if is_thin else 7, "color": colour},
        line={"width": width, "color": colour, "dash": "solid" if is_thin else dash},
        opacity=THIN_OPACITY if is_thin else 1.0,
        showlegend=not is_thin,
        hoverinfo="skip" if is_thin else "x+y+name",
        hoverlabel={"namelength": -1},
    )
