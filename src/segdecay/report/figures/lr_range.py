"""The picture of a learning-rate range test: loss against rate, without decay and at a middle strength."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segdecay.report.figures.score import BLUE, ORANGE, ticks
from segdecay.report.figures.svg import HAIR, INK, PAPER, SOFT, THIN, Frame
from segdecay.runs.records import StrengthRecord, axis_names
from segdecay.training.lr_range import RangeCurve, Suggestion

ABOVE = 1.5  # times the first loss: what lies higher is cut off, since a diverging loss would flatten the rest


def range_svg(
    curves: Sequence[RangeCurve],
    found: Suggestion,
    configured: float,
    strength: StrengthRecord | None,
    *,
    width: int = 760,
    height: int = 440,
) -> str:
    """A whole SVG document: thin the loss of every batch, thick its running mean, dotted the rates that are named.

    Args:
        curves: without decay, then at a strength.
        found: what the first curve suggests.
        configured: the configured rate.
        strength: of the second curve.
        width, height: of the picture, px.
    """
    first, last = curves[0].rates[0], max(curve.rates[-1] for curve in curves)
    top = ABOVE * max(curve.losses[0] for curve in curves)
    known = [mean for curve in curves for mean in curve.smooth if mean <= top] or [0.0, 1.0]
    low, high = min(known), max(known)
    air = 0.08 * (high - low) or 0.1
    across = (math.log10(first), math.log10(last) if last > first else math.log10(first) + 1)
    frame = Frame(width, height, across, (low - air, high + air), (66, 20, 84, 56), 13, SOFT, HAIR)
    heading = "Training loss against learning rate"
    parts = [
        *frame.open(f"Range test of the learning rate: {found.reason}.", heading),
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        frame.text(frame.left, 24, heading, size=16, bold=True, anchor="start", colour=INK),
        frame.text(
            frame.left, 43, "thick: running mean; thin: every batch; the rate rises with every step", anchor="start"
        ),
        *frame.rows(marks := ticks(*frame.up), [f"{mark:g}" for mark in marks]),
    ]
    powers = range(math.ceil(across[0]), math.floor(across[1]) + 1)
    parts += [frame.text(frame.x(power), frame.bottom + 20, f"{10.0**power:g}", colour=INK) for power in powers]
    parts.append(frame.text((frame.left + frame.right) / 2, frame.bottom + 44, "learning rate, logarithmic"))
    colours = (BLUE, ORANGE)
    for curve in curves:
        parts += frame.line(_places(curve), [_inside(loss, frame) for loss in curve.losses], THIN, 0.7)
    names = ["without decay", *([] if strength is None else [f"{axis_names(strength.axis)[1]} = {strength.value:g}"])]
    for index, (curve, name) in enumerate(zip(curves, names, strict=False)):
        parts += frame.line(_places(curve), [_inside(mean, frame) for mean in curve.smooth], colours[index], 2.5)
        y = frame.bottom - 12 - 18 * (len(names) - 1 - index)
        parts.append(frame.text(frame.left + 10, y, name, anchor="start", colour=colours[index], bold=True))
    for rate, name, level in ((configured, "configured", 0), (found.rate, "suggested", 15)):
        if rate is not None and first <= rate <= last:
            x = frame.x(math.log10(rate))
            parts.append(frame.mark(x, ORANGE if name == "suggested" else SOFT))
            parts.append(frame.text(x, frame.top - 4 - level, f"{name} {rate:g}", bold=name == "suggested", colour=INK))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _places(curve: RangeCurve) -> list[float]:
    return [math.log10(rate) for rate in curve.rates]


def _inside(value: float, frame: Frame) -> float | None:
    """A loss, or None where it lies outside the picture."""
    return value if math.isfinite(value) and frame.up[0] <= value <= frame.up[1] else None
