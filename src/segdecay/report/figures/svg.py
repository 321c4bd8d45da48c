"""Charts as SVG text, drawn without a browser or script: for a README, print, small multiples and table cells."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.facts.tables import ClassCurve
from segdecay.report.figures.score import BLUE, ORANGE, VERMILION, mark_of, padded, positions, ticks
from segdecay.report.text.format import (
    axis_symbol,
    axis_title,
    difference,
    interval,
    minus,
    none_mark,
    number,
    score,
    visible,
)
from segdecay.runs.verdict import Limits, Verdict
from segdecay.search.sentences import none_name

INK, SOFT, HAIR, PAPER, THIN = "#22262b", "#5c636b", "#d9dce0", "#ffffff", "#a3a9b0"
PAGE_SOFT, PAGE_HAIR, PAGE_PAPER = f"var(--soft,{SOFT})", f"var(--hair,{HAIR})", f"var(--card,{PAPER})"
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
FEW = 7  # number of strengths up to which each is labelled in a small chart


@dataclass(frozen=True)
class Frame:
    """Maps values to pixels of a drawing area, and draws what all charts have; `size` of its texts is in px."""

    width: int
    height: int
    across: tuple[float, float]
    up: tuple[float, float]
    margins: tuple[int, int, int, int]  # px: left, right, top, bottom
    size: float
    soft: str  # colour of texts
    hair: str  # colour of the grid

    @property
    def left(self) -> int:
        return self.margins[0]

    @property
    def right(self) -> int:
        return self.width - self.margins[1]

    @property
    def top(self) -> int:
        return self.margins[2]

    @property
    def bottom(self) -> int:
        return self.height - self.margins[3]

    def x(self, value: float) -> float:
        low, high = self.across
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.up
        return round(self.top + (high - value) / (high - low) * (self.bottom - self.top), 1)

    def open(self, words: str, title: str = "") -> list[str]:
        """The element of the chart and its words for screen readers, as a label or, with a title, as a description."""
        told = f' aria-label="{html.escape(visible(words))}"' if not title else ""
        view = f'viewBox="0 0 {self.width} {self.height}" role="img"{told}'
        size = f' width="{self.width}" height="{self.height}"' if title else ""
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {view}{size} font-family="{FONT}" font-size="{self.size}">']
        if title:
            parts.append(f"<title>{html.escape(title)}</title><desc>{html.escape(visible(words))}</desc>")
        return parts

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "middle",
        colour: str = "",
        size: float = 0,
        bold: bool = False,
    ) -> str:
        more = (f' font-size="{size}"' if size else "") + (' font-weight="600"' if bold else "")
        style = f'text-anchor="{anchor}"{more} style="fill:{colour or self.soft}"'
        return f'<text x="{x}" y="{y}" {style}>{html.escape(text)}</text>'

    def rows(self, marks: Sequence[float], texts: Sequence[str]) -> list[str]:
        """Lines of the grid with their labels."""
        parts = []
        for value, text in zip(marks, texts, strict=True):
            y = self.y(value)
            parts.append(f'<path d="M{self.left} {y}H{self.right}" style="stroke:{self.hair}"/>')
            parts.append(self.text(self.left - 6, y + 0.33 * self.size, text, anchor="end"))
        return parts

    def mark(self, x: float, colour: str) -> str:
        """A dotted line at a strength."""
        place = f'd="M{x} {self.top}V{self.bottom}"'
        return f'<path {place} stroke="{colour}" stroke-width="1.5" stroke-dasharray="2 4"/>'

    def line(self, at: Sequence[float], values: Sequence[float | None], colour: str, width: float) -> list[str]:
        """Paths through the known values, interrupted at missing ones."""
        paths: list[str] = []
        is_open = False
        for x, value in zip(at, values, strict=True):
            if value is not None:
                point = f"{self.x(x)} {self.y(value)}"
                paths = [*paths[:-1], f"{paths[-1]}L{point}"] if is_open else [*paths, f"M{point}"]
            is_open = value is not None
        return [f'<path d="{path}" stroke="{colour}" stroke-width="{width}" fill="none"/>' for path in paths]

    def point(
        self, at: float, value: float, radius: float, *, ends: Limits = None, fill: str = BLUE, edge: str = BLUE
    ) -> list[str]:
        """A dot, with a bar between two ends."""
        x, wing, parts = self.x(at), round(0.9 * radius, 1), []
        if ends is not None:
            low, high = (self.y(end) for end in ends)
            bar = f"M{x} {low}V{high}M{x - wing} {low}h{2 * wing}M{x - wing} {high}h{2 * wing}"
            parts.append(f'<path d="{bar}" stroke="{edge}" stroke-width="{round(radius / 3, 1)}" fill="none"/>')
        style = f'style="fill:{fill}" stroke="{edge}" stroke-width="{round(radius / 3, 1)}"'
        return [*parts, f'<circle cx="{x}" cy="{self.y(value)}" r="{radius}" {style}/>']


def score_svg(verdict: Verdict, *, title: str | None = None, width: int = 760, height: int = 440) -> str:
    """Score against strength on a light background: mean with one standard error, every fold, names of settings.

    Args:
        verdict: what `segdecay.report.read_verdict` read.
        title: a line above the picture; None: score and regularizer.
        width: of the picture, px.
        height: of the picture, px.

    Returns:
        A whole SVG document, without scripts, links or foreign content.
    """
    settings = verdict.settings
    at = positions([item.strength.value for item in settings])
    ends = [
        None if item.mean is None else (item.mean - (item.standard_error or 0), item.mean + (item.standard_error or 0))
        for item in settings
    ]
    every = [value for item in settings for value in item.folds] + [end for pair in ends for end in pair or ()]
    frame = Frame(width, height, padded(at, 0.07), padded(every, 0.1), (66, 20, 78, 66), 13, SOFT, HAIR)
    criterion = "Validation mIoU" if verdict.criterion == "miou" else verdict.criterion
    heading = visible(title or f"{criterion} against strength of weight decay ({verdict.regularizer})")
    told = "; ".join(f"{number(item.strength.value)}: {score(item.mean)}" for item in settings)
    parts = [
        *frame.open(f"Mean by {axis_title(verdict.axis)}: {told}. {verdict.sentence}", heading),
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        frame.text(frame.left, 24, heading, size=16, bold=True, anchor="start", colour=INK),
        frame.text(
            frame.left,
            43,
            "thick: mean over folds ± one standard error (hollow: fewer folds); thin: each fold",
            anchor="start",
        ),
        *_score_axes(frame, verdict, at),
    ]
    for fold in range(max((len(item.folds) for item in settings), default=0)):
        scores = [item.folds[fold] if fold < len(item.folds) else None for item in settings]
        tried = [(x, value) for x, value in zip(at, scores, strict=True) if value is not None]
        parts += frame.line([x for x, _ in tried], [value for _, value in tried], THIN, 1)
        for x, value in zip(at, scores, strict=True):
            parts += [] if value is None else frame.point(x, value, 2, fill=THIN, edge=THIN)
    known = [(x, item.mean) for x, item in zip(at, settings, strict=True) if item.mean is not None]
    parts += frame.line([x for x, _ in known], [mean for _, mean in known], BLUE, 2.5)
    whole = max((len([value for value in item.folds if value is not None]) for item in settings), default=0)
    for x, item, pair in zip(at, settings, ends, strict=True):
        if item.mean is not None:
            is_whole = len([value for value in item.folds if value is not None]) == whole
            parts += frame.point(x, item.mean, 5.5, ends=pair, fill=BLUE if is_whole else PAPER)
            continue
        if mark_of(item) == "dropped":
            cross = f"M{frame.x(x) - 5} {frame.bottom - 13}l10 10m0 -10l-10 10"
            parts.append(f'<path d="{cross}" stroke="{VERMILION}" stroke-width="2.5"/>')
        parts.append(frame.text(frame.x(x), frame.bottom - 20, mark_of(item), size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _score_axes(frame: Frame, verdict: Verdict, at: Sequence[float]) -> list[str]:
    """The grid, strengths with λ, the title of the axis, and dotted lines at named settings."""
    marks = ticks(*frame.up)
    digits = next(count for count in (1, 2, 3, 6) if all(round(mark, count) == mark for mark in marks) or count == 6)
    parts = frame.rows(marks, [f"{value:.{digits}f}" for value in marks])
    for place, item in zip(at, verdict.settings, strict=True):
        x, is_chosen = frame.x(place), item.strength.value == verdict.strength.value
        parts.append(frame.text(x, frame.bottom + 20, number(item.strength.value), colour=INK))
        if item.strength.lambda_ is not None and verdict.axis != "lambda":
            parts.append(frame.text(x, frame.bottom + 37, f"λ {number(item.strength.lambda_, 2)}", size=11))
        if item.is_none or is_chosen:
            name = none_name(verdict.axis) if item.is_none else "chosen"
            parts.append(frame.mark(x, ORANGE if is_chosen else SOFT))
            parts.append(frame.text(x, frame.top - 8, name, bold=is_chosen, colour=INK))
    weak = none_mark(verdict.none.strength.value if verdict.none else None)
    title = f"{axis_title(verdict.axis)}, logarithmic; {weak} at the left"
    return [*parts, frame.text((frame.left + frame.right) / 2, frame.bottom + 57, title)]


def class_svg(verdict: Verdict, curve: ClassCurve, name: str, limits: tuple[float, float]) -> str:
    """Difference of one class from no decay against strength, in the colours of the page; `name`: what is measured."""
    none = verdict.none.strength.value if verdict.none else 0.0
    at = positions([none, *(point.value for point in curve.points)])
    frame = Frame(250, 150, padded(at, 0.08), limits, (38, 10, 10, 24), 10.5, PAGE_SOFT, PAGE_HAIR)
    told = "; ".join(f"{number(point.value)}: {difference(point.difference)}" for point in curve.points)
    against = f"{none_name(verdict.axis)} ({score(curve.none)})"
    parts = frame.open(f"{name}, difference from {against} by {axis_symbol(verdict.axis)}: {told}")
    marks = ticks(*limits, 4)
    parts += frame.rows(marks, [minus(f"{value:+.2g}") if value else "0" for value in marks])
    parts.append(frame.text(frame.x(at[0]), frame.height - 8, number(none)))
    compared = verdict.compared.strength.value if verdict.compared else None
    for index, (place, point) in enumerate(zip(at[1:], curve.points, strict=True)):
        if len(curve.points) <= FEW or index % 2 == len(curve.points) % 2 or point.value == compared:
            parts.append(frame.text(frame.x(place), frame.height - 8, number(point.value)))
        if point.value == compared:
            parts.append(frame.mark(frame.x(place), ORANGE))
    if curve.none is None:
        return "".join([*parts, frame.text(frame.width / 2, frame.height / 2, "in no validation image"), "</svg>"])
    zero = f'style="stroke:{PAGE_SOFT}" stroke-width="1.3" stroke-dasharray="2 3"'
    parts.append(f'<path d="M{frame.left} {frame.y(0)}H{frame.right}" {zero}/>')
    known = [
        (place, point, point.difference)
        for place, point in zip(at[1:], curve.points, strict=True)
        if point.difference is not None
    ]
    parts += frame.line([at[0], *(place for place, *_ in known)], [0.0, *(value for *_, value in known)], BLUE, 1)
    parts += frame.point(at[0], 0.0, 3, fill=PAGE_SOFT, edge="none")
    for place, point, value in known:
        parts += frame.point(place, value, 3.2, ends=point.interval, fill=BLUE if point.is_told_apart else PAGE_PAPER)
    return "".join([*parts, "</svg>"])


def difference_bar(mean: float | None, bounds: Limits, largest: float, *, width: int = 120) -> str:
    """A dot with its interval about a zero line, for a table cell; `largest` is the value at either end.

    >>> "circle" in difference_bar(0.1, (0.0, 0.2), 0.4), difference_bar(None, None, 0.4)
    (True, '')
    """
    if mean is None:
        return ""

    def x(value: float) -> float:
        return round(width / 2 * (1 + max(-1.0, min(1.0, value / (largest or 1.0))) * 0.94), 1)

    words = difference(mean) + (f" ({interval(bounds, signed=True)})" if bounds else "")
    line = "" if bounds is None else f'<path d="M{x(bounds[0])} 9H{x(bounds[1])}" class="range"/>'
    return (
        f'<svg class="bar" viewBox="0 0 {width} 18" width="{width}" height="18" role="img" aria-label="{words}">'
        f'<path d="M{width / 2} 1V17" class="nought"/>{line}<circle cx="{x(mean)}" cy="9" r="4"/></svg>'
    )
