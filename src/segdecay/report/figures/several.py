"""Several runs in one figure: score against strength, and score over epochs, a colour a run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from segdecay.errors import ConfigError, gather
from segdecay.report.facts.run import Training
from segdecay.report.figures.curves import FEW, mean_curve
from segdecay.report.figures.score import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    axis_style,
    base_layout,
    padded,
    positions,
)
from segdecay.report.text.format import axis_title, number, score
from segdecay.runs.verdict import Verdict

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#cc79a7", "#56b4e9", GREY)  # Okabe and Ito, 2008
DASHES = ("solid", "dash", "dot", "dashdot")


def several_scores_figure(verdicts: Mapping[str, Verdict]) -> go.Figure:
    """Mean and standard error of every run against strength, on one axis.

    Args:
        verdicts: name of a run to its verdict.

    Raises:
        ConfigError: the runs have different axes or criteria; both are listed.
    """
    kinds = {name: f"{one.axis} by {one.criterion}" for name, one in verdicts.items()}
    faults = [f"{name}: {kind}" for name, kind in kinds.items()] if len({*kinds.values()}) > 1 else []
    gather(ConfigError, faults, "One figure needs one axis and one criterion:" if faults else "")
    first = next(iter(verdicts.values()))
    values = sorted({item.strength.value for one in verdicts.values() for item in one.settings})
    at = dict(zip(values, positions(values), strict=True))
    axis = axis_style(
        tickvals=list(at.values()),
        ticktext=[number(value) for value in values],
        range=list(padded(list(at.values()), 0.07)),
        title=html.escape(axis_title(first.axis)),
        showgrid=False,
    )
    figure = go.Figure(layout=base_layout(330, xaxis=axis))
    for place, (name, verdict) in enumerate(verdicts.items()):
        known = [item for item in verdict.settings if item.mean is not None]
        colour = COLOURS[place % len(COLOURS)]
        figure.add_scatter(
            x=[at[item.strength.value] for item in known],
            y=[item.mean for item in known],
            name=html.escape(name),
            mode="lines+markers",
            line={"width": 2.5, "color": colour, "dash": DASHES[place // len(COLOURS) % len(DASHES)]},
            marker={"size": 8, "color": colour},
            error_y={"type": "data", "array": [item.standard_error or 0.0 for item in known], "thickness": 2},
            hoverinfo="text",
            text=[f"{html.escape(name)}<br>{number(item.strength.value)}: {score(item.mean)}" for item in known],
        )
    title = "mIoU (selection score)" if first.criterion == "miou" else html.escape(first.criterion)
    figure.update_layout(yaxis=axis_style(title=title))
    return figure


def several_curves_figure(runs: Mapping[str, Sequence[Training]]) -> go.Figure:
    """The validation score of every run over epochs, mean over its trials; the train score where none was validated.

    Args:
        runs: name of a run to its trainings at the compared strength.
    """
    figure = go.Figure(layout=base_layout(330, xaxis=axis_style(title="epoch", showgrid=False)))
    for place, (name, trainings) in enumerate(runs.items()):
        rows = [{r.epoch: r.validation_score for r in one.curve if r.validation_score is not None} for one in trainings]
        part = "validation"
        if not all(rows):
            rows = [{r.epoch: r.train_score for r in one.curve if r.train_score is not None} for one in trainings]
            part = "train"
        mean = mean_curve([{epoch: float(value) for epoch, value in row.items()} for row in rows]) if all(rows) else {}
        colour = COLOURS[place % len(COLOURS)]
        figure.add_scatter(
            x=list(mean),
            y=list(mean.values()),
            name=f"{html.escape(name)}, {part}",
            mode="lines" if len(mean) > FEW else "lines+markers",
            line={"width": 2.5, "color": colour, "dash": DASHES[place // len(COLOURS) % len(DASHES)]},
            marker={"size": 7, "color": colour},
        )
    figure.update_layout(yaxis=axis_style(title="score"))
    return figure
