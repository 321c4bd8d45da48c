"""Example images with their masks in one figure: image, truth, prediction without decay and with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from segdecay.report.figures.score import axis_style, base_layout
from segdecay.report.text.format import label

TITLES = ("image", "truth")
OPACITY = 0.65  # of a mask over its image
ROW_PX = 150
KIND_LENGTH = 18  # characters


@dataclass(frozen=True)
class ExampleRow:
    """One example: size of the image in px, and data URIs of image, truth and both predictions."""

    kind: str  # why it is shown, as in "worst"
    width: int
    height: int
    pictures: tuple[str, str, str, str]


def examples_figure(rows: Sequence[ExampleRow], none: str, compared: str) -> go.Figure:
    """A row an example; masks lie over the image, as on the page.

    Args:
        rows: at least one.
        none, compared: names of the two predictions, as in "no decay" and "chosen".
    """
    figure = go.Figure(layout=base_layout(60 + ROW_PX * len(rows), showlegend=False))
    for row, one in enumerate(rows):
        longer = max(one.width, one.height)
        across, down = 0.96 * one.width / longer, 0.96 * one.height / longer
        for column, mask in enumerate(one.pictures):
            place = {"xref": "x", "yref": "y", "x": column, "y": -row, "sizex": across, "sizey": down}
            figure.add_layout_image(source=one.pictures[0], sizing="stretch", layer="below", opacity=1.0, **place)
            if column:
                figure.add_layout_image(source=mask, sizing="stretch", layer="above", opacity=OPACITY, **place)
    across_axis = {"tickvals": [0.48 + column for column in range(4)], "ticktext": [*TITLES, none, compared]}
    down_axis = {
        "tickvals": [-row - 0.48 for row in range(len(rows))],
        "ticktext": [label(one.kind, KIND_LENGTH) for one in rows],
    }
    figure.update_layout(
        margin={"l": 10},
        xaxis=axis_style(range=[-0.02, 4], showgrid=False, side="top", **across_axis),
        yaxis=axis_style(range=[-len(rows), 0.02], showgrid=False, scaleanchor="x", **down_axis),
    )
    return figure
