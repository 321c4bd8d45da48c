"""The numbers of a figure as CSV, for a spreadsheet: one line a point, or a field of a heat map.

A plotly figure or rows in, text out. Knows nothing of runs or pages.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

TAG = re.compile(r"<br>.*|<[^>]*>", re.DOTALL)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a text that begins so


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV; missing values are empty, and no text can be a formula.

    >>> csv_text(("class", "IoU"), [("=sum(1)", 0.5), ("road", None)])
    "class,IoU\r\n'=sum(1),0.5\r\nroad,\r\n"
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def figure_csv(figure: go.Figure, places: Mapping[float, float] | None = None) -> str:
    """All traces of a figure, a line a point: series, label, x, y and where error bars end; or the fields of heat maps.

    places: what stands at a position of the horizontal axis, where that is not the position itself.
    """
    layout = figure.layout
    across, up = _title(layout.xaxis), _title(layout.yaxis)
    if all(trace.type == "heatmap" for trace in figure.data):
        rows = [row for trace in figure.data for row in _fields(trace, layout)]
        return csv_text((up or "row", across or "column", "value"), rows)
    rows = [row for trace in figure.data for row in _points(trace, layout, places or {})]
    return csv_text(("series", "label", across or "x", up or "y", "low", "high"), rows)


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return "'" + value
    return "" if value is None else value


def _is_number(text: str) -> bool:
    try:
        float(text.replace("−", "-"))
    except ValueError:
        return False
    return True


def _title(axis: Any) -> str:
    return plain(axis.title.text or "")


def plain(text: str) -> str:
    """A label of plotly without its markup, its first line.

    >>> plain("4<br>λ 1"), plain("L<sub>original</sub>"), plain("a &lt; b")
    ('4', 'Loriginal', 'a < b')
    """
    return html.unescape(TAG.sub("", text))


def _points(trace: Any, layout: Any, places: Mapping[float, float]) -> list[tuple[object, ...]]:
    xs = [] if trace.x is None else list(trace.x)
    ys = [] if trace.y is None else list(trace.y)
    texts = trace.text if isinstance(trace.text, tuple) else [""] * len(xs)
    across = trace.error_x.array is not None  # bars lie along x, as where classes stand in rows
    error, centres = (trace.error_x, xs) if across else (trace.error_y, ys)
    above = [None] * len(xs) if error.array is None else list(error.array)
    below = above if error.arrayminus is None else list(error.arrayminus)
    named = _ticks(layout.yaxis) if layout.yaxis.type is None else {}
    rows: list[tuple[object, ...]] = []
    for x, y, centre, text, up, down in zip(xs, ys, centres, texts, above, below, strict=True):
        low = None if centre is None or down is None else centre - down
        high = None if centre is None or up is None else centre + up
        rows.append((plain(trace.name or ""), plain(text), places.get(x, x), named.get(y, y), low, high))
    return rows


def _fields(trace: Any, layout: Any) -> list[tuple[object, ...]]:
    rows, columns = _names(trace.y, layout.yaxis), _names(trace.x, layout.xaxis)
    return [
        (row, column, value)
        for row, line in zip(rows, trace.z, strict=True)
        for column, value in zip(columns, line, strict=True)
    ]


def _names(places: Sequence[Any], axis: Any) -> list[str]:
    named = _ticks(axis)
    return [named.get(place, str(place)) for place in places]


def _ticks(axis: Any) -> dict[Any, str]:
    """What stands at each tick."""
    return {place: plain(str(text)) for place, text in zip(axis.tickvals or (), axis.ticktext or (), strict=True)}
