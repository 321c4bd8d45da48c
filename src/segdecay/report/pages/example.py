"""The page of the worked example: both recipes, the findings of the audit, the search over λ and its verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from segdecay.errors import RunError
from segdecay.report.facts.example import AuditNote, ClassRecall, Example, RecallDifference
from segdecay.report.facts.read import read_run
from segdecay.report.facts.tables import hex_colour
from segdecay.report.figures.score import BLUE, VERMILION, axis_style, base_layout
from segdecay.report.pages.panel import Panel, build_panel, render_page
from segdecay.report.pages.strength import strength_panels, title_of
from segdecay.report.text.format import interval, label, score
from segdecay.report.text.glossary import PageNames
from segdecay.runs.read import read_record
from segdecay.utils.files import write_bytes

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
RIGHT, ARTICLE = "done right", "as articles write it"


@dataclass(frozen=True)
class ExampleLine:
    """One class of both recipes."""

    name: str
    colour: str
    images: int
    right: ClassRecall
    article: ClassRecall
    difference: RecallDifference | None


def build_example_report(folder: Path) -> Path:
    """Write FOLDER/report.html from the example.json that `segdecay example` left there.

    Raises:
        RunError: a file is missing or damaged; all faults are listed.
    """
    path = folder / "report.html"
    write_bytes(path, render_example(folder).encode("utf-8", errors="replace"))
    return path


def render_example(folder: Path) -> str:
    """The page as HTML text.

    Raises:
        RunError: a file is missing or damaged, or example.json names a search that lies elsewhere.
    """
    found = read_record(folder / "example.json", Example)
    if not PLAIN_NAME.fullmatch(found.search.run):
        raise RunError(f"{folder / 'example.json'}: the search '{found.search.run}' must be a folder inside {folder}.")
    run = read_run(folder / found.search.run)
    if run.verdict is None:
        raise RunError(f"{folder / found.search.run} has no verdict. Run the command of the example again.")
    lines = example_lines(found)
    context: Mapping[str, Any] = {
        "found": found,
        "run": run,
        "verdict": run.verdict,
        "names": PageNames("classification"),
        "written_by": run.environment.segdecay,
        "verdict_title": title_of(run.verdict),
        "lines": lines,
        "findings": merged_findings(found.article.audit.findings),
        "panel_classes": _class_panel(lines, found.confidence),
        "panel_score": strength_panels(run.verdict, run)["score"],
    }
    return render_page("example.html.j2", context)


def example_lines(found: Example) -> tuple[ExampleLine, ...]:
    """One line per class, in the order of the data."""
    differences = {item.name: item for item in found.classes}
    colours = dict(zip(found.data.classes, map(hex_colour, found.data.palette), strict=True))
    return tuple(
        ExampleLine(right.name, colours[right.name], right.images, right, article, differences.get(right.name))
        for right, article in zip(found.recipe.classes, found.article.classes, strict=True)
        if right.name in colours
    )


def merged_findings(findings: tuple[AuditNote, ...]) -> tuple[AuditNote, ...]:
    """One finding per code, with the messages joined.

    >>> one = AuditNote("x", "wrong", "First.", "Do this.")
    >>> merged_findings((one, AuditNote("x", "wrong", "Second.", "Do this.")))[0].message
    'First. Second.'
    """
    merged: dict[str, AuditNote] = {}
    for finding in findings:
        before = merged.get(finding.code)
        message = finding.message if before is None else f"{before.message} {finding.message}"
        merged[finding.code] = AuditNote(finding.code, finding.level, message, finding.advice)
    return tuple(merged.values())


def _class_panel(lines: tuple[ExampleLine, ...], confidence: float) -> Panel:
    """Recall of every class under both recipes, with intervals."""
    figure = go.Figure(layout=base_layout(110 + 30 * len(lines)))
    for name, colour, shift, rows in (
        (RIGHT, BLUE, -0.14, [line.right for line in lines]),
        (ARTICLE, VERMILION, 0.14, [line.article for line in lines]),
    ):
        known = [(place + shift, row) for place, row in enumerate(rows) if row.recall is not None]
        figure.add_scatter(
            x=[row.recall for _, row in known],
            y=[place for place, _ in known],
            name=name,
            mode="markers",
            marker={"size": 9, "color": colour},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_reach(row, 1) for _, row in known],
                "arrayminus": [_reach(row, 0) for _, row in known],
                "width": 4,
                "thickness": 2,
            },
            hoverinfo="text",
            text=[
                f"{label(row.name, 60)}, {name}<br>{score(row.recall)} ({interval(row.interval)})" for _, row in known
            ],
        )
    figure.update_layout(
        xaxis=axis_style(title="recall", range=[0, 1.02]),
        yaxis=axis_style(
            tickvals=list(range(len(lines))),
            ticktext=[label(line.name) for line in lines],
            range=[len(lines) - 0.4, -0.6],
            showgrid=False,
        ),
    )
    caption = f"Recall on clean test images. Bars: {100 * confidence:g} % intervals over images, for each class alone."
    return build_panel("both-recipes", "Every class under both recipes", caption, figure, words="iou interval")


def _reach(row: ClassRecall, end: int) -> float:
    """The length of an interval to one side of the recall."""
    return 0.0 if row.interval is None or row.recall is None else abs(row.interval[end] - row.recall)
