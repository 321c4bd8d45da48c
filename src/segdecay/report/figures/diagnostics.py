"""Figures of the diagnostics, without decay and with it; every value is a mean over the folds of a setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from segdecay.data.records import DataRecord
from segdecay.report.facts.run import CurveRow, DiagnosticsFacts, HeadFacts, LayerFacts, Training
from segdecay.report.figures.curves import add_line, mean_curve
from segdecay.report.figures.score import BLUE, GREEN, GREY, VERMILION, axis_style, base_layout, log_ticks, padded
from segdecay.report.text.format import label, number, percent

NAMED = 40  # number of layers up to which each is labelled
NAME_LENGTH = 34  # characters of a layer's label
SOLID, DASHED = "solid", "dash"
Part = Callable[[DiagnosticsFacts], float | None]


@dataclass(frozen=True)
class Series:
    """One setting in the figures: no decay is grey and dashed, the compared one blue and solid."""

    title: str
    is_none: bool
    trainings: tuple[Training, ...]

    @property
    def readings(self) -> list[DiagnosticsFacts]:
        """The last measurement in the first stage of every trial, in which all layers are trained."""
        found = [_readings(training) for training in self.trainings]
        return [rows[-1][1] for rows in found if rows]


def _readings(training: Training) -> list[tuple[int, DiagnosticsFacts]]:
    """Epoch and measurement, in the first stage."""
    return [(row.epoch, row.diagnostics) for row in training.curve if row.diagnostics is not None and row.stage == 1]


def layer_means(series: Series, part: Callable[[LayerFacts], float | None]) -> dict[str, float | None]:
    """The mean of a value of every layer over trials, at the last measurement; None if a trial lacks it."""
    tables = [{layer.name: part(layer) for layer in reading.layers} for reading in series.readings]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: mean([table.get(name) for table in tables]) for name in names}


def median_ratios(series: Series) -> dict[str, float | None]:
    """Every layer's ratio to equilibrium: the median over measurements, then the mean over trials."""
    found: dict[str, list[float | None]] = {}
    for training in series.trainings:
        own: dict[str, list[float]] = {}
        for _, reading in _readings(training):
            for layer in reading.layers:
                if layer.ratio is not None:
                    own.setdefault(layer.name, []).append(layer.ratio)
        for name, values in own.items():
            found.setdefault(name, []).append(median(values))
    return {name: mean(values) for name, values in found.items()}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing, or without values.

    >>> mean([1.0, 3.0]), mean([1.0, None]), mean([])
    (2.0, None, None)
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def median(values: Sequence[float]) -> float | None:
    """The median; None without values.

    >>> median([3.0, 1.0, 2.0]), median([1.0, 2.0]), median([])
    (2.0, 1.5, None)
    """
    order = sorted(values)
    return (order[(len(order) - 1) // 2] + order[len(order) // 2]) / 2 if order else None


def norms_figure(series: Sequence[Series]) -> go.Figure:
    """The norm of every layer, from the first at the top to the last."""
    tables = [layer_means(item, lambda layer: layer.norm) for item in series]
    names = list(dict.fromkeys(name for table in tables for name in table))
    at = {name: row for row, name in enumerate(names)}
    is_named = len(names) <= NAMED
    figure = go.Figure(layout=base_layout(110 + (20 if is_named else 9) * len(names)))
    for item, table in zip(series, tables, strict=True):
        shown = [(name, value) for name, value in table.items() if value]
        figure.add_scatter(
            x=[float(f"{value:.5g}") for _, value in shown],
            y=[at[name] for name, _ in shown],
            name=item.title,
            mode="markers",
            marker=_dots(item.is_none, 9),
            hoverinfo="text",
            text=[f"{label(name, 60)}<br>{label(item.title)}: ‖W‖ = {number(value)}" for name, value in shown],
        )
    known = [value for table in tables for value in table.values() if value]
    marks = log_ticks(min(known) / 1.3, max(known) * 1.3) if known else ()
    figure.update_layout(
        xaxis=axis_style(type="log", title="norm ‖W‖", tickvals=list(marks), ticktext=[number(mark) for mark in marks]),
        yaxis=axis_style(
            tickvals=list(at.values()) if is_named else [],
            ticktext=[label(name, NAME_LENGTH) for name in names] if is_named else [],
            range=[len(names) - 0.4, -0.6],
            title="" if is_named else "layers, first to last",
        ),
    )
    return figure


def equilibrium_figure(series: Sequence[Series]) -> go.Figure:
    """Measured angle per step over the angle at equilibrium: the median layer over epochs, and a line at 1."""
    figure = _over_epochs(series)
    values: list[float | None] = [1.0]
    for item in series:
        curves = [_curve(training, _median_ratio) for training in item.trainings]
        if not any(curves):
            continue
        _draw(figure, curves, item.title, GREY if item.is_none else BLUE, DASHED if item.is_none else SOLID)
        values += [value for curve in curves for value in curve.values()]
    low, high = min(value for value in values if value), max(value for value in values if value)
    marks = log_ticks(low / 1.5, high * 1.5)
    figure.add_hline(y=1, line={"color": GREEN, "width": 1.5, "dash": "dot"})
    scale = {"tickvals": list(marks), "ticktext": [number(mark) for mark in marks]}
    figure.update_layout(
        yaxis=axis_style(
            type="log", title="angle / equilibrium", range=[math.log10(low / 1.5), math.log10(high * 1.5)], **scale
        )
    )
    return figure


def sparsity_figure(series: Sequence[Series]) -> go.Figure | None:
    """Exact zeros over epochs: weights, whole channels, activations; None where all of them are 0 all the time."""
    parts: tuple[tuple[str, str, Part], ...] = (
        ("zero weights", BLUE, zero_share),
        (
            "zero channels",
            VERMILION,
            lambda reading: _share((one.zero_channels, one.channels) for one in reading.layers),
        ),
        ("dead activations", GREEN, lambda reading: _share((one.dead, one.channels) for one in reading.activations)),
    )
    figure = _over_epochs(series)
    top = 0.0
    for item in series:
        for name, colour, part in parts:
            curves = [_curve(training, part) for training in item.trainings]
            if not any(curves):
                continue
            top = max(top, *(value for curve in curves for value in curve.values()))
            title = name if len(series) == 1 else f"{name}, {item.title}"
            _draw(figure, curves, title, colour, DASHED if item.is_none else SOLID)
    figure.update_layout(yaxis=axis_style(title="share", tickformat=".2~%", range=[-0.03 * top, 1.08 * top]))
    return figure if top > 0 else None


def head_figure(series: Sequence[Series], data: DataRecord) -> go.Figure | None:
    """Norms of the head's rows against class frequency; None where rows are not classes or frequencies unknown."""
    figure = go.Figure(layout=base_layout(360))
    units = "images" if data.task == "classification" else "pixels"
    shares: dict[int, float] = {}
    for item in series:
        rows = row_means(item, len(data.classes))
        logs = class_logs(item, len(data.classes))
        points = [
            (index, math.exp(log), norm)
            for index, (log, norm) in enumerate(zip(logs, rows, strict=True))
            if log is not None and norm is not None
        ]
        shares |= {index: share for index, share, _ in points}
        rank = mean_spearman(item, len(data.classes))
        figure.add_scatter(
            x=[share for _, share, _ in points],
            y=[float(f"{norm:.5g}") for _, _, norm in points],
            name=item.title if rank is None else f"{item.title}, Spearman {number(rank, 2)}",
            mode="markers",
            marker=_dots(item.is_none, 10),
            hoverinfo="text",
            text=[
                f"{label(data.classes[index], 60)}, {percent(share)} of the {units}<br>"
                f"{label(item.title)}: ‖w‖ = {number(norm)}"
                for index, share, norm in points
            ],
        )
    if not shares:
        return None
    marks = log_ticks(min(shares.values()) / 1.5, min(max(shares.values()) * 1.5, 1.5))
    _, high = padded([value for trace in figure.data for value in trace.y])
    figure.update_layout(
        xaxis=axis_style(
            type="log",
            title=f"share of the training {units} (logarithmic)",
            tickvals=list(marks),
            ticktext=[percent(mark) for mark in marks],
        ),
        yaxis=axis_style(title="row norm ‖w‖ of the class", range=[0, high * 1.05]),
    )
    return figure


def row_means(series: Series, classes: int) -> list[float | None]:
    """The mean row norm of every class at the last reading; None where the head has no row a class."""
    heads = [_class_rows(reading, classes) for reading in series.readings]
    found = [head.row_norms for head in heads if head is not None]
    return [mean([rows[index] for rows in found]) for index in range(classes)]


def class_logs(series: Series, classes: int) -> list[float | None]:
    """The mean logarithm of every class's share of the training pixels."""
    found = [item.extras.log_frequencies for item in series.trainings if len(item.extras.log_frequencies) == classes]
    return [mean([logs[index] for logs in found]) for index in range(classes)]


def mean_spearman(series: Series, classes: int) -> float | None:
    """The mean over trainings of the rank correlation of row norms with class frequency."""
    heads = [_class_rows(reading, classes) for reading in series.readings]
    return mean([None if head is None else head.spearman for head in heads])


def zero_share(reading: DiagnosticsFacts) -> float | None:
    """The share of all layers' weights that is exactly zero."""
    sizes = {group.group: (group.numbers, group.zeros) for group in reading.groups}
    groups = [sizes[name] for name in dict.fromkeys(layer.group for layer in reading.layers) if name in sizes]
    total = sum(numbers for numbers, _ in groups)
    return sum(numbers * (zeros or 0.0) for numbers, zeros in groups) / total if total else None


def _dots(is_none: bool, size: int) -> dict[str, object]:
    """Hollow and grey without decay, filled and blue with it."""
    return {"size": size, "color": GREY if is_none else BLUE, "symbol": "circle-open" if is_none else "circle"}


def _class_rows(reading: DiagnosticsFacts, classes: int) -> HeadFacts | None:
    return next((head for head in reversed(reading.head) if len(head.row_norms) == classes), None)


def _share(counts: Iterable[tuple[int, int]]) -> float | None:
    """The sum of the first numbers over the sum of the second; None if that is 0."""
    parts, wholes = np.array([*counts, (0, 0)]).sum(axis=0).tolist()
    return parts / wholes if wholes else None


def _median_ratio(reading: DiagnosticsFacts) -> float | None:
    return median([layer.ratio for layer in reading.layers if layer.ratio])


def _curve(training: Training, part: Part) -> dict[int, float]:
    return {epoch: value for epoch, reading in _readings(training) if (value := part(reading)) is not None}


def _draw(figure: go.Figure, curves: Sequence[dict[int, float]], name: str, colour: str, dash: str) -> None:
    """A thin line per trial and a thick one for their mean."""
    known = [curve for curve in curves if curve]
    for curve in known if len(known) > 1 else []:
        add_line(figure, curve, name, colour, dash, width=1.0)
    add_line(figure, mean_curve(known), name, colour, dash, width=2.5)


def _over_epochs(series: Sequence[Series]) -> go.Figure:
    rows: list[CurveRow] = [row for item in series for training in item.trainings for row in training.curve]
    last = max((row.epoch for row in rows if row.diagnostics is not None and row.stage == 1), default=1)
    return go.Figure(layout=base_layout(330, xaxis=axis_style(title="epoch", showgrid=False, range=[0, last * 1.04])))
