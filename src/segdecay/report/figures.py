"""Figures about strength: facts of a run in, plotly figures out. Pure: no files, no clocks.

Every text that comes from data is escaped, since plotly reads some HTML in labels. Texts take the page's colours from
its style sheet, backgrounds are transparent: the same figure serves light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from segdecay.records import RACED_OUT
from segdecay.report.scale import BLUE, GREY, ORANGE, VERMILION, padded, positions
from segdecay.report.verdict_facts import Setting, Verdict, is_none, mark_of
from segdecay.report.words import axis_symbol, axis_title, difference, interval, label, number, score

GRID = "rgba(128,128,128,0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MANY = 6  # settings above which a tick shows the axis value only
THIN_OPACITY = 0.7


def base_layout(height: int, **more: object) -> go.Layout:
    """What all figures share: no background, no dragging (a page must scroll under a finger), no template."""
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
    """A calm axis: hair lines, no frame, not to be dragged."""
    return {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "ticks": "",
        "automargin": True,
        **more,
    }


def score_figure(verdict: Verdict) -> go.Figure:
    """Score against strength: mean with one standard error, every fold, the settings that matter by name."""
    settings = verdict.settings
    at = positions([item.strength.value for item in settings])
    figure = go.Figure(layout=base_layout(310, xaxis=_strength_axis(verdict), showlegend=False))
    for fold in range(max((len(item.folds) for item in settings), default=0)):
        scores = [item.folds[fold] if fold < len(item.folds) else None for item in settings]
        figure.add_scatter(
            x=at,
            y=[None if item.dropped else value for item, value in zip(settings, scores, strict=True)],
            name=f"fold {fold + 1}",
            mode="lines+markers",
            line={"width": 1.2, "color": GREY},
            marker={"size": 4, "color": GREY},
            opacity=THIN_OPACITY,
            hoverinfo="text",
            text=[f"fold {fold + 1}: {score(value)}" for value in scores],
        )
    hollow = [verdict.kind == "flat" and item.strength.value in verdict.indistinguishable for item in settings]
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
            "symbol": ["circle-open" if is_hollow else "circle" for is_hollow in hollow],
            "line": {"width": 2.5, "color": BLUE},
        },
        hoverinfo="text",
        text=[_hover(verdict, item) for item in settings],
    )
    low, high = padded(_all_scores(settings), 0.1)
    _mark_dropped(figure, verdict, at, low + 0.05 * (high - low))
    figure.update_layout(yaxis=axis_style(range=[low, high], title=_criterion(verdict)))
    _mark_names(figure, verdict, dict(zip((item.strength.value for item in settings), at, strict=True)))
    return figure


def difference_figure(verdict: Verdict) -> go.Figure:
    """The paired difference to none of every strength, with its interval: what the verdict rests on."""
    at = positions([item.strength.value for item in verdict.settings])
    rows = [(x, item, item.difference) for x, item in zip(at, verdict.settings, strict=True)]
    known = [(x, item, found) for x, item, found in rows if found is not None and found.mean is not None]
    figure = go.Figure(layout=base_layout(320, xaxis=_strength_axis(verdict), showlegend=False))
    means = [found.mean or 0.0 for _, _, found in known]
    bounds = [found.interval or (mean, mean) for (_, _, found), mean in zip(known, means, strict=True)]
    figure.add_scatter(
        x=[x for x, _, _ in known],
        y=means,
        name="difference to none, interval",
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
    figure.update_layout(yaxis=axis_style(range=[low, high], tickformat="+.3f", title="difference to none"))
    figure.add_hline(y=0, line={"color": GREY, "width": 1.5, "dash": "dot"})
    return figure


def gap_figure(verdict: Verdict) -> go.Figure:
    """Train and validation score against strength; the shaded distance is the gap."""
    every = positions([item.strength.value for item in verdict.settings])
    # a point that is missing in a filled line would shade what is not the gap
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
            fillcolor="rgba(128,128,128,0.13)",
            hoverinfo="text",
            text=[
                f"{short(verdict, item)}<br>{name} {score(value)}, gap {difference(item.gap)}"
                for item, value in zip(settings, scores, strict=True)
            ],
        )
    figure.update_layout(yaxis=axis_style(title=_criterion(verdict)))
    return figure


def _strength_axis(verdict: Verdict) -> dict[str, object]:
    """A horizontal axis whose ticks are the settings, λ below the axis value where there is room."""
    values = [item.strength.value for item in verdict.settings]
    at = positions(values)
    texts = []
    for item in verdict.settings:
        below = item.strength.lambda_ if verdict.axis != "lambda" and len(values) <= MANY else None
        second = "" if below is None else f"<br>λ {number(below, 2)}"
        texts.append(number(item.strength.value) + second)
    left, right = padded(at, 0.07)
    title = html.escape(axis_title(verdict.axis))
    return axis_style(tickvals=list(at), ticktext=texts, range=[left, right], title=title, showgrid=False)


def _mark_names(figure: go.Figure, verdict: Verdict, at: dict[float, float]) -> None:
    """Dotted lines with the names none, chosen and one-SE above the figure."""
    names: dict[float, list[str]] = {}
    if verdict.none:
        names.setdefault(verdict.none.strength.value, []).append("none")
    if not is_none(verdict.strength):
        names.setdefault(verdict.strength.value, []).append("chosen")
    if verdict.one_se:
        names.setdefault(verdict.one_se.value, []).append("one-SE")
    for value, words in names.items():
        if value not in at:
            continue
        is_chosen = value == verdict.strength.value
        figure.add_vline(x=at[value], line={"color": ORANGE if is_chosen else GREY, "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=at[value],
            y=1.0 if words != ["one-SE"] else 0.93,
            yref="paper",
            yanchor="bottom" if words != ["one-SE"] else "top",
            text=f"<b>{', '.join(words)}</b>" if is_chosen else ", ".join(words),
            showarrow=False,
        )


def _mark_dropped(figure: go.Figure, verdict: Verdict, at: Sequence[float], low: float) -> None:
    """A cross at the bottom where something went wrong, "not tried" where the race saw no need; finished folds."""
    dropped = [(x, item) for x, item in zip(at, verdict.settings, strict=True) if item.dropped is not None]
    is_raced = [(item.dropped or "").startswith(RACED_OUT) for _, item in dropped]
    if not dropped:
        return
    finished = [(x, value) for x, item in dropped for value in item.folds]
    figure.add_scatter(
        x=[x for x, _ in finished],
        y=[value for _, value in finished],
        name="finished folds of a dropped setting",
        mode="markers",
        marker={"symbol": "circle-open", "size": 6, "color": GREY},
        hoverinfo="text",
        text=[f"dropped setting: {score(value)}" for _, value in finished],
    )
    figure.add_scatter(
        x=[x for x, _ in dropped],
        y=[low] * len(dropped),
        name="place of a mark, not a score",
        mode="markers+text",
        marker={"symbol": "x", "size": 11, "color": VERMILION, "opacity": [0 if raced else 1 for raced in is_raced]},
        cliponaxis=False,
        text=[mark_of(item) for _, item in dropped],
        textposition="top center",
        hoverinfo="text",
        hovertext=[f"{short(verdict, item)}<br>{label(item.dropped or '', 80)}" for _, item in dropped],
    )


def _all_scores(settings: Sequence[Setting]) -> list[float | None]:
    found: list[float | None] = []
    for item in settings:
        found += item.folds
        if item.mean is not None:
            found += [item.mean - (item.standard_error or 0), item.mean + (item.standard_error or 0)]
    return found


def short(verdict: Verdict, item: Setting) -> str:
    """A setting as "D = 4", escaped for a label."""
    return html.escape(f"{axis_symbol(verdict.axis)} = {number(item.strength.value)}")


def _hover(verdict: Verdict, item: Setting) -> str:
    lines = [f"{short(verdict, item)}: {score(item.mean)} ± {score(item.standard_error)}"]
    if item.strength.lambda_ is not None and verdict.axis != "lambda":
        lines.append(f"λ = {number(item.strength.lambda_)}")
    if item.strength.timescale_epochs is not None:
        lines.append(f"τ = {number(item.strength.timescale_epochs)} epochs")
    return "<br>".join(lines)


def _criterion(verdict: Verdict) -> str:
    return html.escape({"miou": "mIoU (selection score)"}.get(verdict.criterion, verdict.criterion))
