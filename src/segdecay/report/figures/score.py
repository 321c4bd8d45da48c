"""Figures about strength, and the helpers that all figures share: CSV, ticks, layout.

Texts from data are escaped, since plotly interprets some HTML in labels. Text colours come from the page's style sheet
and backgrounds are transparent, so that a figure fits light and dark pages.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from segdecay.report.text.format import axis_symbol, axis_title, difference, interval, label, number, score
from segdecay.runs.records import RACED_OUT
from segdecay.runs.verdict import Interval, SettingSummary, Verdict
from segdecay.search.sentences import none_name

TAG = re.compile(r"<br>.*|<[^>]*>", re.DOTALL)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a text that begins with one of these


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV; missing values are empty, and texts are quoted so that none runs as a formula.

    >>> csv_text(("class", "IoU"), [("=sum(1)", 0.5), ("road", None)])
    "class,IoU\r\n'=sum(1),0.5\r\nroad,\r\n"
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def figure_csv(figure: go.Figure, places: Mapping[float, float] | None = None) -> str:
    """All traces of a figure, one line per point (series, label, x, y, ends of error bars) or field of a heat map.

    places: position on the horizontal axis to the value shown there, if they differ.
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
    across = trace.error_x.array is not None  # horizontal bars: classes are rows
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
    """Tick value to tick label."""
    return {place: plain(str(text)) for place, text in zip(axis.tickvals or (), axis.ticktext or (), strict=True)}


# Colours for colour-blind readers (Okabe and Ito, 2008), with a lighter blue for dark pages.
BLUE = "#1f83c1"
VERMILION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
GREY = "#80868e"


def positions(values: Sequence[float]) -> tuple[float, ...]:
    """Base-10 logarithms of positive strengths; 0 is placed one typical step left of the smallest.

    With inf (no bound) among them, smaller is stronger: inf is leftmost, then the others from large to small.

    >>> positions([0, 1, 10, 100])
    (-1.0, 0.0, 1.0, 2.0)
    >>> positions([0])
    (0.0,)
    >>> positions([math.inf, 10, 1])
    (-2.0, -1.0, 0.0)
    """
    sign = -1 if any(math.isinf(value) for value in values) else 1
    at = {value: sign * math.log10(value) + 0.0 for value in values if 0 < value < math.inf}
    logs = sorted(at.values())
    if not logs:
        return tuple(0.0 for _ in values)
    steps = [after - before for before, after in itertools.pairwise(logs)]
    left = logs[0] - (statistics.median(steps) if steps else 1.0)
    return tuple(at.get(value, left) for value in values)


def padded(values: Sequence[float | None], share: float = 0.08) -> tuple[float, float]:
    """A range that holds all values with a margin, also for a single value.

    >>> padded([0.2, None, 0.4], share=0.1) == (0.18, 0.42000000000000004)
    True
    >>> padded([None])
    (0.0, 1.0)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = share * (high - low) or max(abs(high) * share, 0.01)
    return low - air, high + air


def log_ticks(low: float, high: float, at_most: int = 7) -> tuple[float, ...]:
    """Round positive numbers inside a range, for a logarithmic axis: 1, 2, 5 per decade, or 1 if these are too many.

    >>> log_ticks(0.3, 30)
    (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    >>> log_ticks(0.001, 50)
    (0.001, 0.01, 0.1, 1.0, 10.0)
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= at_most:
            break
    return tuple(found)


def ticks(low: float, high: float, at_most: int = 6) -> tuple[float, ...]:
    """Round numbers inside a range.

    >>> ticks(0.21, 0.48)
    (0.25, 0.3, 0.35, 0.4, 0.45)
    """
    raw = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


GRID = "rgba(128,128,128,0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
THIN_OPACITY = 0.7
BAND = "rgba(31,131,193,0.12)"
DIFFERENCE_AT = 1.75  # place of the difference, right of both settings
OTHERS_REACH = 16  # a fixed value of another tool is drawn to scale down to this part of the least strength


def base_layout(height: int, **more: object) -> go.Layout:
    """The layout of all figures: no background, no template, no dragging (so that touch scrolls the page)."""
    return go.Layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 52, "r": 14, "t": 34, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": GREY},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        dragmode=False,
        hovermode="closest",
        hoverlabel={"bgcolor": "#22262b", "bordercolor": "#22262b", "font": {"color": "#ffffff", "family": FONT}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        **more,
    )


def axis_style(**more: object) -> dict[str, object]:
    """The style of an axis: thin lines, no frame, no dragging."""
    return {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "ticks": "",
        "automargin": True,
        **more,
    }


def score_figure(verdict: Verdict, alike: Sequence[float] = (), others: Sequence[tuple[float, str]] = ()) -> go.Figure:
    """Score against strength: every fold, the mean with one standard error, and names of the main settings.

    Args:
        verdict: of a search.
        alike: axis values that cannot be told from the best, drawn as a band.
        others: fixed values of other tools as (value on the axis, label), drawn as ticks.
    """
    settings = verdict.settings
    at = strength_places(verdict, others)
    figure = go.Figure(layout=base_layout(380, xaxis=_strength_axis(verdict, at), showlegend=False))
    whole = max((_n_folds(item) for item in settings), default=0)
    _add_folds(figure, settings, at, width=1.2, size=4)
    figure.add_scatter(
        x=at,
        y=[item.mean for item in settings],
        name="mean, one standard error",
        error_y={
            "type": "data",
            "array": [item.standard_error or 0.0 for item in settings],
            "width": 5,
            "thickness": 2,
        },
        mode="lines+markers",
        connectgaps=True,
        line={"width": 2.5, "color": BLUE},
        marker={
            "size": 10,
            "color": BLUE,
            "symbol": ["circle" if _n_folds(item) == whole else "circle-open" for item in settings],
            "line": {"width": 2.5, "color": BLUE},
        },
        hoverinfo="text",
        text=[_hover(verdict, item, whole) for item in settings],
    )
    low, high = padded(_all_scores(settings), 0.12)
    _mark_dropped(figure, verdict, at, low + 0.05 * (high - low))
    figure.update_layout(yaxis=axis_style(range=[low, high], title=_criterion(verdict)))
    placed = dict(zip((item.strength.value for item in settings), at, strict=True))
    _mark_band(figure, [placed[value] for value in alike if value in placed], at)
    _mark_others(figure, verdict, others, at)
    _mark_names(figure, verdict, placed)
    if verdict.has_lambda:
        next(trace for trace in figure.data if trace.name.startswith("mean")).xaxis = "x2"
        texts = ["" if one is None else number(one, 2) for one in (item.strength.lambda_ for item in settings)]
        second = {"tickvals": list(at), "ticktext": texts, "range": list(figure.layout.xaxis.range), "showgrid": False}
        title = {"text": "λ, the weight_decay of the optimizer", "standoff": 6}
        figure.update_layout(margin={"t": 56}, xaxis2=axis_style(overlaying="x", side="top", title=title, **second))
    return figure


def _n_folds(item: SettingSummary) -> int:
    return sum(value is not None for value in item.folds)


def strength_places(verdict: Verdict, others: Sequence[tuple[float, str]] = ()) -> tuple[float, ...]:
    """Positions of all settings; no decay is left of `others` too, as far as these are drawn to scale."""
    values = [item.strength.value for item in verdict.settings]
    at = positions(values)
    drawn = [math.log10(value) for value, _ in others if value >= _least_drawn(values)]
    left = min((place - 0.3 for place in drawn), default=math.inf)
    return tuple(min(place, left) if item.is_none else place for place, item in zip(at, verdict.settings, strict=True))


def _least_drawn(values: Sequence[float]) -> float:
    """The value of other tools from which it is drawn to scale; smaller ones would squeeze the strengths."""
    return min((value for value in values if value > 0), default=math.inf) / OTHERS_REACH


def _mark_band(figure: go.Figure, places: Sequence[float], at: Sequence[float]) -> None:
    """The range of the settings that cannot be told from the best."""
    if not places:
        return
    ordered = sorted(at)
    half = min((after - before for before, after in itertools.pairwise(ordered) if after > before), default=1.0) / 3
    figure.add_vrect(
        x0=min(places) - half, x1=max(places) + half, fillcolor=BAND, line_width=0, layer="below",
        name="not told from the best",
    )  # fmt: skip
    figure.add_annotation(
        x=(min(places) + max(places)) / 2, y=0.0, yref="paper", yanchor="bottom", text="not told from the best",
        showarrow=False,
    )  # fmt: skip


def _mark_others(figure: go.Figure, verdict: Verdict, others: Sequence[tuple[float, str]], at: Sequence[float]) -> None:
    """Ticks at the fixed values of other tools; those too small to be drawn to scale stand together beside 0."""
    if not others or not at:
        return
    least = _least_drawn([item.strength.value for item in verdict.settings])
    none = next((place for place, item in zip(at, verdict.settings, strict=True) if item.is_none), min(at))
    small = [name for value, name in others if value < least]
    marks = [(math.log10(value), name) for value, name in others if value >= least]
    if small:
        marks.insert(0, (none + 0.12, ", ".join(small)))
    for place, name in marks:
        line = {"color": VERMILION, "width": 2}
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=0.05, yref="y domain", line=line)
        figure.add_annotation(
            x=place, y=0.06, yref="y domain", yanchor="bottom", textangle=-90, text=html.escape(name), showarrow=False,
            font={"size": 11},
        )  # fmt: skip


def paired_figure(verdict: Verdict) -> go.Figure:
    """No decay against the compared setting, a line per fold, beside their paired difference with its interval.

    Of networks that are not trained enough the difference means nothing: in its place stands the score of a prediction
    without any training.
    """
    none, compared = verdict.none, verdict.compared
    name = "chosen" if not verdict.strength.is_none else f"best with {verdict.kind_of_axis}"
    figure = go.Figure(layout=base_layout(340, showlegend=False))
    both = [item for item in (none, compared) if item is not None]
    _add_folds(figure, both, list(range(len(both))), width=1.4, size=6)
    means = [item.mean for item in both]
    figure.add_scatter(
        x=list(range(len(both))),
        y=means,
        name="mean",
        mode="lines+markers+text",
        line={"width": 3.5, "color": BLUE},
        marker={"size": 13, "color": BLUE},
        hoverinfo="text",
        text=[f"<b>{score(mean)}</b>" for mean in means],
        textposition=["middle left", "middle right"][: len(both)],
        textfont={"size": 14},
    )
    is_enough = verdict.kind != "undertrained"
    found = compared.difference if compared and is_enough else None
    base = none.mean if none else None
    ends: list[float | None] = []
    if found is not None and found.mean is not None and base is not None:
        bounds = found.interval or (found.mean, found.mean)
        ends = [base + bounds[0], base + bounds[1], base]
        _add_difference(figure, found.mean, bounds, _told(f"{name} minus {none_name(verdict.axis)}", found))
    known = [value for item in both for value in item.folds]
    trivial = verdict.training.trivial_score if verdict.training is not None and not is_enough else None
    low, high = padded([*known, *means, *ends, trivial], 0.1)
    texts = [none_name(verdict.axis), name if verdict.strength.is_none else f"<b>{name}</b>", "difference"]
    shown = [0, 1, DIFFERENCE_AT][: len(both) + bool(ends)]
    across = axis_style(tickvals=shown, ticktext=texts[: len(shown)], range=[-0.6, 2.25 if ends else 1.6])
    figure.update_layout(
        margin={"t": 12, "b": 34, "r": 20},
        xaxis=across | {"showgrid": False, "tickfont": {"size": 13}},
        yaxis=axis_style(range=[low, high], title=_criterion(verdict)),
    )
    if trivial is not None:
        figure.add_hline(
            y=trivial,
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            annotation={"text": f"without any training: {score(trivial)}", "xanchor": "right", "font": {"size": 13}},
        )
    if ends and base is not None:
        _add_difference_axis(figure, base, low, high)
    return figure


def _add_folds(
    figure: go.Figure, settings: Sequence[SettingSummary], at: Sequence[float], *, width: float, size: int
) -> None:
    """A thin line for every fold, through the settings that were trained on it."""
    for fold in range(max((len(item.folds) for item in settings), default=0)):
        scores = [item.folds[fold] if fold < len(item.folds) else None for item in settings]
        figure.add_scatter(
            x=at,
            y=scores,
            name=f"fold {fold + 1}",
            mode="lines+markers",
            connectgaps=True,
            line={"width": width, "color": GREY},
            marker={"size": size, "color": GREY},
            opacity=THIN_OPACITY,
            hoverinfo="text",
            text=[f"fold {fold + 1}: {score(value)}" for value in scores],
        )


def _add_difference(figure: go.Figure, mean: float, bounds: tuple[float, float], text: str) -> None:
    """The paired difference with its interval, on the second axis."""
    figure.add_scatter(
        x=[DIFFERENCE_AT],
        y=[mean],
        yaxis="y2",
        name="difference, interval",
        mode="markers",
        marker={"size": 13, "color": VERMILION, "symbol": "diamond"},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [bounds[1] - mean],
            "arrayminus": [mean - bounds[0]],
            "width": 9,
            "thickness": 3,
        },
        hoverinfo="text",
        text=[text],
    )


def _add_difference_axis(figure: go.Figure, base: float, low: float, high: float) -> None:
    """The axis of differences at the right, whose 0 is the score of no decay."""
    span = (low - base, high - base)
    marks = ticks(*span)
    second = {"tickvals": list(marks), "ticktext": [difference(mark) for mark in marks], "showgrid": False}
    figure.update_layout(yaxis2=axis_style(overlaying="y", side="right", range=list(span), **second))
    figure.add_shape(type="line", x0=0, x1=2.25, y0=base, y1=base, line={"color": GREY, "width": 1.5, "dash": "dot"})


def _told(what: str, found: Interval) -> str:
    return f"{what}: {difference(found.mean)} ({interval(found.interval, signed=True)})"


def difference_figure(verdict: Verdict) -> go.Figure:
    """The paired difference of every strength from no decay, with its interval, on which the verdict rests."""
    at, without = positions([item.strength.value for item in verdict.settings]), none_name(verdict.axis)
    rows = [(x, item, item.difference) for x, item in zip(at, verdict.settings, strict=True)]
    known = [(x, item, found) for x, item, found in rows if found is not None and found.mean is not None]
    figure = go.Figure(layout=base_layout(320, xaxis=_strength_axis(verdict), showlegend=False))
    means = [found.mean or 0.0 for _, _, found in known]
    bounds = [found.interval or (mean, mean) for (_, _, found), mean in zip(known, means, strict=True)]
    figure.add_scatter(
        x=[x for x, _, _ in known],
        y=means,
        name=f"difference from {without}, interval",
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - mean for (_, high), mean in zip(bounds, means, strict=True)],
            "arrayminus": [mean - low for (low, _), mean in zip(bounds, means, strict=True)],
            "width": 5,
            "thickness": 2,
        },
        mode="markers",
        marker={"size": 10, "color": BLUE},
        hoverinfo="text",
        text=[
            f"{short(verdict, item)}<br>{difference(found.mean)} ({interval(found.interval, signed=True)})"
            for _, item, found in known
        ],
    )
    low, high = padded([0.0, *means, *(bound for pair in bounds for bound in pair)])
    figure.update_layout(yaxis=axis_style(range=[low, high], tickformat="+.3f", title=f"difference from {without}"))
    figure.add_hline(y=0, line={"color": GREY, "width": 1.5, "dash": "dot"})
    return figure


def gap_figure(verdict: Verdict) -> go.Figure:
    """Train and validation score against strength; the shaded distance is the gap."""
    every = positions([item.strength.value for item in verdict.settings])
    # with a missing point, the filled line would shade more than the gap
    known = [i for i, item in enumerate(verdict.settings) if item.mean is not None and item.train_mean is not None]
    settings, at = [verdict.settings[i] for i in known], [every[i] for i in known]
    figure = go.Figure(layout=base_layout(320, xaxis=_strength_axis(verdict)))
    lines = (
        ("validation", BLUE, "solid", [item.mean for item in settings], None),
        ("train", VERMILION, "dash", [item.train_mean for item in settings], "tonexty"),
    )
    for name, colour, dash, scores, fill in lines:
        figure.add_scatter(
            x=at,
            y=scores,
            name=name,
            mode="lines+markers",
            line={"width": 2.5, "color": colour, "dash": dash},
            marker={"size": 8},
            fill=fill,
            fillcolor="rgba(213,94,0,0.14)",
            hoverinfo="text",
            text=[
                f"{short(verdict, item)}<br>{name} {score(value)}, gap {difference(item.gap)}"
                for item, value in zip(settings, scores, strict=True)
            ],
        )
    figure.update_layout(yaxis=axis_style(title=_criterion(verdict)))
    return figure


def _strength_axis(verdict: Verdict, at: Sequence[float] | None = None) -> dict[str, object]:
    """A horizontal axis whose ticks are the settings."""
    values = [item.strength.value for item in verdict.settings]
    at = positions(values) if at is None else at
    texts = [number(value) for value in values]
    left, right = padded(at, 0.07)
    title = html.escape(axis_title(verdict.axis))
    return axis_style(tickvals=list(at), ticktext=texts, range=[left, right], title=title, showgrid=False)


def _mark_names(figure: go.Figure, verdict: Verdict, at: dict[float, float]) -> None:
    """Dotted lines labelled "no decay", "chosen" and "one-SE"."""
    names: dict[float, list[str]] = {}
    if verdict.none:
        names.setdefault(verdict.none.strength.value, []).append(none_name(verdict.axis))
    if not verdict.strength.is_none:
        names.setdefault(verdict.strength.value, []).append("chosen")
    if verdict.one_se is not None:
        names.setdefault(verdict.one_se.value, []).append("one-SE")
    for value, words in names.items():
        if value not in at:
            continue
        is_chosen = value == verdict.strength.value
        figure.add_vline(x=at[value], line={"color": ORANGE if is_chosen else GREY, "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=at[value],
            y=1.0,
            yref="paper",
            yanchor="top",
            xanchor="left",
            xshift=4,
            text=f"<b>{', '.join(words)}</b>" if is_chosen else ", ".join(words),
            showarrow=False,
        )


def _mark_dropped(figure: go.Figure, verdict: Verdict, at: Sequence[float], low: float) -> None:
    """A cross at the bottom for dropped settings, "not tried" for those that the race left out."""
    dropped = [(x, item) for x, item in zip(at, verdict.settings, strict=True) if item.dropped is not None]
    is_raced = [(item.dropped or "").startswith(RACED_OUT) for _, item in dropped]
    if not dropped:
        return
    figure.add_scatter(
        x=[x for x, _ in dropped],
        y=[low] * len(dropped),
        name="position of a mark, not a score",
        mode="markers+text",
        marker={"symbol": "x", "size": 11, "color": VERMILION, "opacity": [0 if raced else 1 for raced in is_raced]},
        cliponaxis=False,
        text=[mark_of(item) for _, item in dropped],
        textposition="top center",
        hoverinfo="text",
        hovertext=[f"{short(verdict, item)}<br>{label(item.dropped or '', 80)}" for _, item in dropped],
    )


def _all_scores(settings: Sequence[SettingSummary]) -> list[float | None]:
    found: list[float | None] = []
    for item in settings:
        found += item.folds
        if item.mean is not None:
            found += [item.mean - (item.standard_error or 0), item.mean + (item.standard_error or 0)]
    return found


def short(verdict: Verdict, item: SettingSummary) -> str:
    """A setting as "D = 4", escaped for a label."""
    return html.escape(f"{axis_symbol(verdict.axis)} = {number(item.strength.value)}")


def _hover(verdict: Verdict, item: SettingSummary, whole: int) -> str:
    lines = [f"{short(verdict, item)}: {score(item.mean)} ± {score(item.standard_error)}"]
    if item.strength.lambda_ is not None and verdict.axis != "lambda":
        lines.append(f"λ = {number(item.strength.lambda_)}")
    if item.strength.timescale_epochs is not None:
        lines.append(f"τ = {number(item.strength.timescale_epochs)} epochs")
    if _n_folds(item) < whole:
        reason = label((item.dropped or "").removeprefix(RACED_OUT), 60)
        lines.append(f"{_n_folds(item)} of {whole} folds{reason and f': {reason}'}")
    return "<br>".join(lines)


def _criterion(verdict: Verdict) -> str:
    return html.escape({"miou": "mIoU (selection score)"}.get(verdict.criterion, verdict.criterion))


def mark_of(item: SettingSummary) -> str:
    """What stands at the foot of a setting that is out: nothing where the race kept its score."""
    if not (item.dropped or "").startswith(RACED_OUT):
        return "dropped"
    return "not tried" if item.mean is None else ""
