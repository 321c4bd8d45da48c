"""The page of an evaluation: one model, one set of masks or labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from segdecay.errors import RunError, gather
from segdecay.report.facts.tables import hex_colour, marked
from segdecay.report.figures.score import BLUE, axis_style, base_layout
from segdecay.report.pages.classes import build_confusions
from segdecay.report.pages.panel import Panel, build_panel, render_page
from segdecay.report.text.format import interval, label, score
from segdecay.report.text.glossary import PageNames
from segdecay.runs.evaluation import UNKNOWN, EvaluatedClass, EvaluatedImage, Evaluation
from segdecay.runs.read import read_record
from segdecay.utils.files import write_bytes

SHOWN_IMAGES = 500  # rows of the table; the worst come first


@dataclass(frozen=True)
class EvaluationRow:
    """One class as a table shows it."""

    name: str
    colour: str  # "#rrggbb"
    scores: EvaluatedClass


def build_evaluation_report(folder: Path) -> Path:
    """Write FOLDER/report.html from the evaluation.json that `segdecay evaluate` left there.

    Returns:
        The path of the page.

    Raises:
        RunError: evaluation.json is missing or damaged; all faults are listed.
    """
    path = folder / "report.html"
    page = render_evaluation(read_evaluation(folder))
    write_bytes(path, page.encode("utf-8", errors="replace"))
    return path


def read_evaluation(folder: Path) -> Evaluation:
    """The facts of an evaluation.

    Raises:
        RunError: evaluation.json is missing or damaged, or its matrix does not fit the number of classes.
    """
    path = folder / "evaluation.json"
    found = read_record(path, Evaluation)
    size = len(found.classes)
    faults = [] if size else ["classes: there are none"]
    if len(found.confusion) != size or any(len(row) != size for row in found.confusion):
        shape = sorted({len(row) for row in found.confusion})
        faults.append(f"confusion: {len(found.confusion)} rows of {shape} columns for {size} classes")
    gather(RunError, faults, f"{path} is damaged:")
    return found


def render_evaluation(found: Evaluation) -> str:
    """The page as HTML text."""
    rows = tuple(
        EvaluationRow(marked(item.name, found.exclude_from_mean), hex_colour(item.colour), item)
        for item in found.classes
    )
    scored = sorted(found.images, key=lambda image: (image.miou is None, image.miou or 0.0, image.name))
    matrix, names = np.asarray(found.confusion, dtype=np.int64), PageNames(found.task)
    without = f", without {', '.join(found.exclude_from_mean)}" if found.exclude_from_mean else ""
    context: Mapping[str, Any] = {
        "found": found,
        "names": names,
        "written_by": _written_by(found),
        "classes": {"lines": rows},
        "confusion": build_confusions(
            ("evaluation",), (matrix,), [item.name for item in found.classes], "All scored images.", names
        ),
        "panels": {"classes": _class_panel(found), "images": _image_panel(scored, found.task)},
        "images": scored[:SHOWN_IMAGES],
        "means": (
            (f"mean of those present{without}", found.miou, found.image_miou),
            (f"worst{without}", found.worst, found.image_worst),
            (f"weighted by true pixels{without}", found.weighted, found.image_weighted),
            (f"mean of boundary IoU{without}", found.boundary_miou, UNKNOWN),
        ),
    }
    return render_page("evaluation.html.j2", context)


def _written_by(found: Evaluation) -> str:
    made_by = found.model.made_by
    return str(made_by.get("segdecay", "")) if isinstance(made_by, Mapping) else ""


def _class_panel(found: Evaluation) -> Panel:
    """The score of every class with its interval, in the order of the data."""
    items, measure = found.classes, PageNames(found.task).class_score
    scores = [item.by_recall if found.task == "classification" else item.iou for item in items]
    at = list(range(len(items)))
    means, bounds = [one.mean for one in scores], [one.interval for one in scores]
    figure = go.Figure(layout=base_layout(90 + 26 * len(items), showlegend=False))
    figure.add_scatter(
        x=means,
        y=at,
        name=measure,
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_gap(mean, bound, 1) for mean, bound in zip(means, bounds, strict=True)],
            "arrayminus": [_gap(mean, bound, 0) for mean, bound in zip(means, bounds, strict=True)],
            "width": 4,
            "thickness": 2,
        },
        marker={"size": 9, "color": BLUE},
        hoverinfo="text",
        text=[
            f"{label(item.name, 60)}<br>{measure} {score(one.mean)} ({interval(one.interval)})"
            for item, one in zip(items, scores, strict=True)
        ],
    )
    figure.update_layout(
        margin={"t": 10},
        xaxis=axis_style(title=measure, range=[0, 1.02]),
        yaxis=axis_style(
            tickvals=at, ticktext=[label(item.name) for item in items], range=[len(items) - 0.4, -0.6], showgrid=False
        ),
    )
    caption = f"Dots: {measure} of the summed matrices. Bars: {100 * found.confidence:g} % intervals by resampling"
    caption += f" {found.resampled_by or 'images'}; they do not include the variation between trainings."
    title = f"{measure[:1].upper()}{measure[1:]} of every class"
    return build_panel("class-iou", title, caption, figure)


def _gap(mean: float | None, bounds: tuple[float, float] | None, end: int) -> float:
    """The length of an interval to one side of the mean."""
    return 0.0 if mean is None or bounds is None else abs(bounds[end] - mean)


def _image_panel(images: list[EvaluatedImage], task: str) -> Panel | None:
    """MIoU of every image, from the worst to the best; None if no image was scored."""
    if task == "classification":
        return None  # an image is right or wrong
    known = [image for image in images if image.miou is not None and math.isfinite(image.miou)]
    if not known:
        return None
    figure = go.Figure(layout=base_layout(300, showlegend=False))
    figure.add_scatter(
        x=list(range(1, len(known) + 1)),
        y=[image.miou for image in known],
        name="mIoU of an image",
        mode="markers" if len(known) < 200 else "lines",
        marker={"size": 6, "color": BLUE},
        line={"color": BLUE, "width": 2},
        hoverinfo="text",
        text=[f"{label(image.name, 60)}<br>mIoU {score(image.miou)}" for image in known],
    )
    figure.update_layout(
        margin={"t": 10},
        xaxis=axis_style(title="images, worst to best", showgrid=False),
        yaxis=axis_style(title="mIoU of the image", range=[0, 1.02]),
    )
    caption = (
        "Each image scored separately, over the classes that it holds or that are predicted in it. The mean over images"
    )
    caption += " differs from the mIoU above, which is computed from the summed pixels."
    return build_panel("image-miou", "Every image", caption, figure)
