"""Pictures as SVG text, drawn without a browser: for a README, for print, and for table cells."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.figures.score import BLUE, ORANGE, VERMILION, mark_of, padded, positions, ticks
from segdecay.report.text.format import axis_title, difference, interval, none_mark, number, score, visible
from segdecay.runs.verdict import Limits, Verdict
from segdecay.search.sentences import none_name

INK, SOFT, HAIR, PAPER = "#22262b", "#5c636b", "#d9dce0", "#ffffff"
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
LEFT, RIGHT, TOP, BOTTOM = 66, 20, 78, 66  # px around the drawing area


@dataclass(frozen=True)
class Frame:
    """Maps values to pixels of a drawing area with its origin at the top left."""

    width: int
    height: int
    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return round(LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.up
        return round(TOP + (high - value) / (high - low) * (self.height - TOP - BOTTOM), 1)


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
    at = positions([item.strength.value for item in verdict.settings])
    spread = [
        item.mean + sign * (item.standard_error or 0.0)
        for item in verdict.settings
        for sign in (-1, 1)
        if item.mean is not None
    ]
    folds = [value for item in verdict.settings for value in item.folds]
    frame = Frame(width, height, padded(at, 0.07), padded([*spread, *folds], 0.1))
    heading = visible(title or f"{_criterion(verdict)} against strength of weight decay ({verdict.regularizer})")
    style = f'width="{width}" height="{height}" font-family="{FONT}" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {style}>',
        f"<title>{html.escape(heading)}</title><desc>{html.escape(_words(verdict))}</desc>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        _text(LEFT, 24, heading, size=16, weight=600, anchor="start"),
        _text(LEFT, 43, "thick: mean over folds ± one standard error; thin: each fold", anchor="start", colour=SOFT),
        *_grid(frame, verdict, at),
        *_names(frame, verdict, at),
        *_fold_lines(frame, verdict, at),
        *_means(frame, verdict, at),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


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


def _words(verdict: Verdict) -> str:
    """The picture as text, for screen readers."""
    rows = [f"{number(item.strength.value)}: {score(item.mean)}" for item in verdict.settings]
    return visible(f"Mean by {axis_title(verdict.axis)}: {'; '.join(rows)}. {verdict.sentence}")


def _criterion(verdict: Verdict) -> str:
    return "Validation mIoU" if verdict.criterion == "miou" else verdict.criterion


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: int = 400, anchor: str = "middle", colour: str = INK
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x}" y="{y}" {style}>{html.escape(text)}</text>'


def _grid(frame: Frame, verdict: Verdict, at: Sequence[float]) -> list[str]:
    parts = []
    marks = ticks(*frame.up)
    digits = next(
        digits for digits in (1, 2, 3, 6) if all(round(value, digits) == value for value in marks) or digits == 6
    )
    for value in marks:
        y = frame.y(value)
        parts.append(f'<path d="M{LEFT} {y}H{frame.width - RIGHT}" stroke="{HAIR}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:.{digits}f}", anchor="end", colour=SOFT))
    bottom = frame.height - BOTTOM
    for x, item in zip(at, verdict.settings, strict=True):
        parts.append(_text(frame.x(x), bottom + 20, number(item.strength.value)))
        if item.strength.lambda_ is not None and verdict.axis != "lambda":
            parts.append(_text(frame.x(x), bottom + 37, f"λ {number(item.strength.lambda_, 2)}", size=11, colour=SOFT))
    weak = none_mark(verdict.none.strength.value if verdict.none else None)
    middle = (LEFT + frame.width - RIGHT) / 2
    parts.append(
        _text(middle, bottom + 57, f"{axis_title(verdict.axis)}, logarithmic; {weak} at the left", colour=SOFT)
    )
    return parts


def _names(frame: Frame, verdict: Verdict, at: Sequence[float]) -> list[str]:
    parts = []
    for x, item in zip(at, verdict.settings, strict=True):
        is_chosen = item.strength.value == verdict.strength.value
        words = [none_name(verdict.axis)] if item.is_none else []
        words += ["chosen"] if is_chosen and not item.is_none else []
        if not words:
            continue
        colour = ORANGE if is_chosen else SOFT
        line = (
            f'M{frame.x(x)} {TOP}V{frame.height - BOTTOM}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="2 4'
        )
        parts.append(f'<path d="{line}"/>')
        parts.append(_text(frame.x(x), TOP - 8, ", ".join(words), weight=600 if is_chosen else 400))
    return parts


def _fold_lines(frame: Frame, verdict: Verdict, at: Sequence[float]) -> list[str]:
    parts = []
    for fold in range(max((len(item.folds) for item in verdict.settings), default=0)):
        scores = [item.folds[fold] if fold < len(item.folds) else None for item in verdict.settings]
        kept = [None if item.dropped else value for item, value in zip(verdict.settings, scores, strict=True)]
        parts += _line(frame, at, kept, 'stroke="#a3a9b0" stroke-width="1"')
        parts += [
            f'<circle cx="{frame.x(x)}" cy="{frame.y(value)}" r="2" fill="#a3a9b0"/>'
            for x, value in zip(at, scores, strict=True)
            if value is not None
        ]
    return parts


def _means(frame: Frame, verdict: Verdict, at: Sequence[float]) -> list[str]:
    means = [item.mean for item in verdict.settings]
    known = [(place, mean) for place, mean in zip(at, means, strict=True) if mean is not None]
    style = f'stroke="{BLUE}" stroke-width="2.5"'
    parts = _line(frame, [place for place, _ in known], [mean for _, mean in known], style)
    bottom = frame.height - BOTTOM
    for place, item in zip(at, verdict.settings, strict=True):
        x = frame.x(place)
        if item.mean is None:
            if mark_of(item) == "dropped":
                cross = f"M{x - 5} {bottom - 13}l10 10m0 -10l-10 10"
                parts.append(f'<path d="{cross}" stroke="{VERMILION}" stroke-width="2.5"/>')
            parts.append(_text(x, bottom - 20, mark_of(item), size=11, colour=SOFT))
            continue
        error = item.standard_error or 0.0
        low, high = frame.y(item.mean - error), frame.y(item.mean + error)
        bar = f"M{x} {low}V{high}M{x - 5} {low}h10M{x - 5} {high}h10"
        parts.append(f'<path d="{bar}" stroke="{BLUE}" stroke-width="2" fill="none"/>')
        parts.append(f'<circle cx="{x}" cy="{frame.y(item.mean)}" r="5.5" fill="{BLUE}"/>')
    return parts


def _line(frame: Frame, at: Sequence[float], values: Sequence[float | None], style: str) -> list[str]:
    """Paths through the known values, interrupted at missing ones."""
    paths: list[str] = []
    is_open = False
    for x, value in zip(at, values, strict=True):
        if value is None:
            is_open = False
            continue
        point = f"{frame.x(x)} {frame.y(value)}"
        if is_open:
            paths[-1] += f"L{point}"
        else:
            paths.append(f"M{point}")
        is_open = True
    return [f'<path d="{path}" {style} fill="none"/>' for path in paths]
