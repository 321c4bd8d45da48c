"""The figures of the atlas as SVG text: curves, best differences, and what they go with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from grids.judging import ClassRow, Judged, Point
from segdecay.report.figures.score import BLUE, ORANGE, VERMILION, padded, positions, ticks
from segdecay.report.figures.svg import HAIR, INK, PAPER, SOFT, Frame
from segdecay.report.text.format import difference, minus, number, score

PANEL, COLUMNS = (300, 196), 3  # px
MARGINS = (44, 12, 40, 34)  # of a panel, px: left, right, top, bottom
HEAD = 66  # px above the panels: title and how to read it
ROW = 26  # px, of the chart of best differences
SIZE = 11  # px, of texts


def name_of(grid: Judged) -> str:
    """The data set, and what differs from its base recipe."""
    facts = grid.facts
    data = facts.data.removesuffix("-small")
    return data if facts.change == "base" else f"{data} ({facts.change})"


def place(values: Sequence[float], value: float) -> float:
    """Where a strength lies on the axis: logarithmic from the smallest above 0 on, linear in D below it.

    >>> place([0, 1, 10], 10), place([0, 1, 10], 0), place([0, 1, 10], 0.5)
    (1.0, -1.0, -0.5)
    """
    at = positions(list(values))
    smallest = min(one for one in values if one > 0)
    if value >= smallest:
        return math.log10(value)
    left = at[list(values).index(0)]
    return left + value / smallest * (math.log10(smallest) - left)


def fill_of(point: Point) -> tuple[str, str]:
    """Fill and edge: filled where the interval of all strengths leaves out 0."""
    if point.is_better:
        return BLUE, BLUE
    if point.is_worse:
        return VERMILION, VERMILION
    return PAPER, SOFT


def sheet(width: int, height: int, title: str, how: str, told: str) -> list[str]:
    """A white sheet with its title and a line that says how to read it."""
    frame = Frame(width, height, (0, 1), (0, 1), (0, 0, 0, 0), SIZE, SOFT, HAIR)
    return [
        *frame.open(told, title),
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        frame.text(16, 26, title, anchor="start", colour=INK, size=16, bold=True),
        *(frame.text(16, 44 + 14 * i, line, anchor="start") for i, line in enumerate(how.split("\n"))),
    ]


def curves_svg(grids: Sequence[Judged]) -> str:
    """One panel a grid: the difference to no decay against D, all on one scale."""
    highest = max((p.interval[1] for g in grids for p in g.points if p.interval), default=0.0)
    limit = math.ceil(20 * max(highest, 0.02)) / 20
    rows = -(-len(grids) // COLUMNS)
    width, height = COLUMNS * PANEL[0], HEAD + rows * PANEL[1]
    title = "Difference to no decay against the total decay D, every grid"
    how = (
        "bars: intervals that cover all strengths of a grid together (95 %); filled: 0 is outside; cut at the scale, "
        "triangle: below it\norange: where AdamW's λ = 0.01 and 0.05 (SGD: 3e-5, 1e-4, 5e-4) lie in this grid"
    )
    told = "; ".join(
        f"{name_of(g)}: " + ", ".join(f"{number(p.value)}: {difference(p.difference)}" for p in g.points[1:])
        for g in grids
    )
    parts = sheet(width, height, title, how, told)
    for index, grid in enumerate(grids):
        x, y = index % COLUMNS * PANEL[0], HEAD + index // COLUMNS * PANEL[1]
        parts.append(f'<g transform="translate({x} {y})">{"".join(_panel(grid, limit))}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(grid: Judged, limit: float) -> list[str]:
    values = [point.value for point in grid.points]
    at = [place(values, value) for value in values]
    frame = Frame(*PANEL, padded(at, 0.06), (-limit, limit), MARGINS, SIZE, SOFT, HAIR)
    marks = ticks(-limit, limit, 4)
    parts = frame.rows(marks, [minus(f"{mark:+.2f}") if mark else "0" for mark in marks])
    parts.append(frame.text(frame.left, 16, name_of(grid), anchor="start", colour=INK, bold=True))
    words = f"{score(grid.none.score)} without decay, {grid.kind}"
    parts.append(frame.text(frame.left, 30, words, anchor="start"))
    for fixed in grid.fixed:
        if not fixed.is_beyond:
            x = frame.x(place(values, fixed.value))
            parts.append(f'<path d="M{x} {frame.y(0) - 6}v12" stroke="{ORANGE}" stroke-width="2.5"/>')
    for x_at, value in zip(at, values, strict=True):
        parts.append(frame.text(frame.x(x_at), frame.bottom + 15, number(value), colour=INK))
    parts.append(frame.text((frame.left + frame.right) / 2, frame.bottom + 29, "D", size=SIZE))
    zero = f'stroke="{SOFT}" stroke-width="1.3" stroke-dasharray="2 3"'
    parts.append(f'<path d="M{frame.left} {frame.y(0)}H{frame.right}" {zero}/>')
    drawn = [(x, p) for x, p in zip(at[1:], grid.points[1:], strict=True) if p.difference is not None]
    inside = [(x, p) for x, p in drawn if (p.difference or 0) >= -limit]
    parts += frame.line([at[0], *(x for x, _ in inside)], [0.0, *(p.difference for _, p in inside)], BLUE, 1)
    for x, point in drawn:
        parts += _bar(frame, x, point, limit)
    return [*parts, *frame.point(at[0], 0.0, 3, fill=SOFT, edge=SOFT)]


def _bar(frame: Frame, x: float, point: Point, limit: float) -> list[str]:
    """A strength with its interval, cut at the scale; a triangle where it lies below."""
    fill, edge = fill_of(point)
    value = point.difference or 0.0
    if value < -limit:
        left = frame.x(x)
        return [f'<path d="M{left - 4} {frame.bottom - 8}h8l-4 7z" fill="{fill}" stroke="{edge}"/>']
    ends = None if point.interval is None else (max(-limit, point.interval[0]), min(limit, point.interval[1]))
    return frame.point(x, value, 3.4, ends=ends, fill=fill, edge=edge)


def best_svg(grids: Sequence[Judged]) -> str:
    """The difference of the best strength with decay from no decay, one row a grid, largest first."""
    ordered = sorted(grids, key=lambda one: -(one.compared.difference or -math.inf))
    ends = [end for one in ordered for end in (one.compared.interval or ())]
    width, height, names = 900, HEAD + 34 + ROW * len(ordered), 300
    low, high = padded([*ends, 0.0], 0.05)
    frame = Frame(width, height, (low, high), (0, 1), (names, 110, HEAD, 34), SIZE, SOFT, HAIR)
    title = "What the best D with decay gains over no decay, with 95 % intervals"
    how = "an interval covers all strengths of its grid together, and so also the best of them\nfilled: 0 is outside"
    told = "; ".join(f"{name_of(one)}: {difference(one.compared.difference)}" for one in ordered)
    parts = sheet(width, height, title, how, told)
    for mark in ticks(low, high, 8):
        x = frame.x(mark)
        parts.append(f'<path d="M{x} {frame.top}V{frame.bottom}" style="stroke:{SOFT if mark == 0 else HAIR}"/>')
        parts.append(frame.text(x, frame.bottom + 16, minus(f"{mark:+.2f}") if mark else "0"))
    for index, grid in enumerate(ordered):
        best, y = grid.compared, HEAD + ROW * (index + 0.5)
        parts.append(frame.text(names - 12, y + 4, name_of(grid), anchor="end", colour=INK))
        if best.difference is None or best.interval is None:
            continue
        fill, edge = fill_of(best)
        a, b = (frame.x(end) for end in best.interval)
        parts.append(f'<path d="M{a} {y}H{b}M{a} {y - 4}v8M{b} {y - 4}v8" stroke="{edge}" stroke-width="1.4"/>')
        parts.append(f'<circle cx="{frame.x(best.difference)}" cy="{y}" r="4.5" fill="{fill}" stroke="{edge}"/>')
        words = f"D = {number(best.value)}: {difference(best.difference)}"
        parts.append(frame.text(frame.right + 8, y + 4, words, anchor="start", colour=INK))
    return "\n".join([*parts, "</svg>"]) + "\n"


def with_svg(grids: Sequence[Judged]) -> str:
    """The best difference against what is known from trainings without decay: training score, and gap."""
    width, height = 900, HEAD + 300
    title = "The best difference against training score and gap without decay"
    how = "one grid a data set, with the interval of the figure before; filled: 0 is outside"
    told = "; ".join(
        f"{name_of(one)}: training {score(one.none.train)}, gap {difference(one.gap)}, "
        f"{difference(one.compared.difference)}"
        for one in grids
    )
    parts = sheet(width, height, title, how, told)
    sides: tuple[tuple[str, Callable[[Judged], float]], ...] = (
        ("training score without decay", lambda one: float(one.none.train or math.nan)),
        ("training minus validation score without decay", lambda one: one.gap),
    )
    ends = [end for one in grids for end in (one.compared.interval or ())]
    for index, (words, of) in enumerate(sides):
        known = [(of(one), one) for one in grids if math.isfinite(of(one))]
        at = padded([x for x, _ in known], 0.16)
        frame = Frame(450, 300, at, padded([*ends, 0.0]), (54, 16, 6, 44), SIZE, SOFT, HAIR)
        side = [*_axes(frame, words), *(part for x, one in known for part in _labelled(frame, x, one))]
        parts.append(f'<g transform="translate({450 * index} {HEAD})">{"".join(side)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(frame: Frame, words: str) -> list[str]:
    marks = ticks(*frame.up)
    parts = frame.rows(marks, [minus(f"{mark:+.2f}") if mark else "0" for mark in marks])
    parts.append(f'<path d="M{frame.left} {frame.y(0)}H{frame.right}" stroke="{SOFT}" stroke-dasharray="2 3"/>')
    for mark in ticks(*frame.across):
        parts.append(frame.text(frame.x(mark), frame.bottom + 16, number(mark)))
    parts.append(frame.text((frame.left + frame.right) / 2, frame.bottom + 34, words))
    return parts


def _labelled(frame: Frame, x: float, grid: Judged) -> list[str]:
    best = grid.compared
    if best.difference is None:
        return []
    fill, edge = fill_of(best)
    is_left = frame.x(x) < (frame.left + frame.right) / 2
    place_px, anchor = frame.x(x) + (7 if is_left else -7), "start" if is_left else "end"
    word = frame.text(place_px, frame.y(best.difference) - 5, name_of(grid), anchor=anchor, size=9)
    return [*frame.point(x, best.difference, 3.6, ends=best.interval, fill=fill, edge=edge), word]


def classes_svg(grids: Sequence[Judged]) -> str:
    """The difference of every class at the best strength with decay, against its share of the pixels."""
    rows = [(one, grid) for grid in grids for one in grid.class_rows if one.difference is not None and one.share > 0]
    width, height = 900, HEAD + 330
    title = "Classes: difference at the best D with decay against their share of the pixels"
    how = (
        "one grid a data set; intervals of single classes, not adjusted for their number; filled: 0 is "
        "outside\nthe strength is the one with the best mean over the classes"
    )
    told = "; ".join(f"{name_of(grid)} {one.name}: {difference(one.difference)}" for one, grid in rows)
    parts = sheet(width, height, title, how, told)
    shares = [math.log10(one.share) for one, _ in rows]
    ends = [end for one, _ in rows for end in (one.interval or (one.difference or 0.0,))]
    frame = Frame(
        width, height, padded(shares, 0.04), padded([*ends, 0.0], 0.05), (54, 20, HEAD + 8, 46), SIZE, SOFT, HAIR
    )
    marks = ticks(*frame.up)
    parts += frame.rows(marks, [minus(f"{mark:+.2f}") if mark else "0" for mark in marks])
    parts.append(f'<path d="M{frame.left} {frame.y(0)}H{frame.right}" stroke="{SOFT}" stroke-dasharray="2 3"/>')
    for power in range(math.ceil(frame.across[0]), math.floor(frame.across[1]) + 1):
        parts.append(frame.text(frame.x(power), frame.bottom + 18, f"{number(100 * 10.0**power)} %"))
    parts.append(
        frame.text((frame.left + frame.right) / 2, frame.bottom + 38, "share of the validation pixels, logarithmic")
    )
    for (one, _), x in zip(rows, shares, strict=True):
        parts += frame.point(x, one.difference or 0.0, 3, ends=one.interval, **_class_colours(one))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _class_colours(row: ClassRow) -> dict[str, str]:
    if row.interval is not None and row.interval[0] > 0:
        return {"fill": BLUE, "edge": BLUE}
    if row.interval is not None and row.interval[1] < 0:
        return {"fill": VERMILION, "edge": VERMILION}
    return {"fill": PAPER, "edge": SOFT}
