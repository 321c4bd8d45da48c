"""Plotly figures of ours as vector graphics for papers, drawn by matplotlib: plotly's own export starts a browser.

Only what our figures use is drawn: lines, markers, error bars, filled gaps, heat maps, images, lines across, labels.
"""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import get_colorscale

from segdecay.errors import ConfigError, need, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_MM, MM_PER_INCH = 85.0, 25.4  # width of a column of most journals
FONT = "DejaVu Sans"  # comes with matplotlib
PAGE_PX = 560  # width at which the page's heights look right
SIZE_OF_PX, WIDTH_OF_PX = 0.42, 0.55  # pt of a marker and of a line on paper, per px on the page
INK, GRID = "#222222", "#d9dce0"
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", None: "-"}
MARKERS = {"circle": "o", "circle-open": "o", "x": "x", None: "o"}
DARK = 0.5  # luminance below which numbers on a field are white
STYLE: dict[str, Any] = {
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse type 3
    "svg.fonttype": "path",  # letters as outlines: looks alike where a font is missing
    "svg.hashsalt": "segdecay",  # the same file for the same figure
    "mathtext.fontset": "dejavusans",
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Paper:
    """Size of a picture in mm, and of its texts in pt; a height of None keeps the proportions of the page."""

    width_mm: float = COLUMN_MM
    height_mm: float | None = None
    font: str = FONT
    font_pt: float = 7.0


def paper_bytes(figure: go.Figure, kind: str, paper: Paper) -> bytes:
    """A figure as the content of an SVG, PDF or PNG file; the same bytes for the same figure.

    Args:
        figure: one of ours.
        kind: "svg", "pdf" or "png".
        paper: its size and font.

    Raises:
        MissingPartError: matplotlib is not installed.
        ConfigError: the font is not installed.
    """
    need("matplotlib", extra="matplotlib")
    from matplotlib import rc_context
    from matplotlib.font_manager import get_font_names

    if paper.font not in get_font_names():
        raise ConfigError(f"font: {unknown('font', paper.font, get_font_names())}")
    height = paper.height_mm or paper.width_mm * min(1.6, max(0.5, (figure.layout.height or 320) / PAGE_PX))
    file, dates = io.BytesIO(), {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    style: dict[str, Any] = STYLE | {"font.family": paper.font, "font.size": paper.font_pt}
    with warnings.catch_warnings(record=True) as heard, rc_context(cast("Any", style)):
        warnings.simplefilter("always")
        drawn = draw(figure, (paper.width_mm / MM_PER_INCH, height / MM_PER_INCH))
        drawn.savefig(file, format=kind, dpi=300, metadata=dates.get(kind))
    _warn_of_boxes([str(one.message) for one in heard], paper.font)
    return file.getvalue()


def _warn_of_boxes(messages: Sequence[str], font: str) -> None:
    """One warning for all characters that the font lacks."""
    lacking = dict.fromkeys(chr(int(code)) for text in messages for code in re.findall(r"^Glyph (\d+)", text))
    if lacking:
        text = f"{font} lacks {' '.join(lacking)}, drawn as boxes. Give font= an installed font that has them."
        warnings.warn(text, UserWarning, stacklevel=4)


def draw(figure: go.Figure, inches: tuple[float, float]) -> Figure:
    """The figure in matplotlib, on one pair of axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=inches, layout="constrained")
    axes = drawn.add_subplot()
    right: Axes | None = None  # the second vertical axis of a figure
    before: tuple[Any, Any] | None = None
    for trace in figure.data:
        if trace.type == "heatmap":
            _draw_heatmap(axes, trace)
        elif trace.yaxis == "y2":
            right = right or axes.twinx()
            _draw_scatter(right, trace, None)
        else:
            before = _draw_scatter(axes, trace, before)
    for picture in figure.layout.images:
        _draw_image(axes, picture)
    if figure.layout.images:
        axes.set_aspect("equal")
    _draw_shapes(axes, figure.layout)
    _set_axis(axes, figure.layout.xaxis, "x")
    _set_axis(axes, figure.layout.yaxis, "y")
    if right is not None:
        _set_axis(right, figure.layout.yaxis2, "y")
        right.grid(visible=False)
    for one in (axes, *([right] if right else [])):
        for side in one.spines.values():
            side.set_visible(False)
        one.tick_params(length=0, colors=INK)
    _draw_labels(axes, figure.layout)
    if figure.layout.showlegend is not False and axes.get_legend_handles_labels()[1]:
        drawn.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=INK)
    return drawn


def label_text(text: str | None) -> str:
    r"""A label of plotly for matplotlib: breaks become lines, subscripts mathematics, other markup goes.

    >>> label_text("L<sub>original</sub>"), label_text("4<br>λ 1"), label_text("a &lt; $")
    ('L$_{\\mathrm{original}}$', '4\nλ 1', 'a < \\$')
    """
    safe = (text or "").replace("$", r"\$").replace("<br>", "\n")
    safe = re.sub(r"<sub>(.*?)</sub>", r"$_{\\mathrm{\1}}$", safe)
    return html.unescape(re.sub(r"<[^>]*>", "", safe))


def _numbers(values: Any) -> Any:
    """Numbers with NaN for None; texts, of an axis of categories, as they are."""
    known = [] if values is None else list(values)
    if any(isinstance(value, str) for value in known):
        return known
    return np.asarray([np.nan if value is None else float(value) for value in known])


def _draw_scatter(axes: Axes, trace: Any, before: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """One trace; returns its points, for a fill between it and the next."""
    x, y = _numbers(trace.x), _numbers(trace.y)
    mode, opacity = trace.mode or "lines", 1.0 if trace.opacity is None else trace.opacity
    colour = trace.line.color or (trace.marker.color if isinstance(trace.marker.color, str) else INK)
    if trace.fill == "tonexty" and before is not None:
        axes.fill_between(x, y, before[1], color=GRID, alpha=0.6, linewidth=0)
    if "lines" in mode:
        width = (trace.line.width or 2) * WIDTH_OF_PX
        keep = np.isfinite(y) if trace.connectgaps and not isinstance(y, list) else slice(None)
        shown = np.asarray(x)[keep] if not isinstance(x, list) else x
        style = DASHES.get(trace.line.dash, "-")
        axes.plot(shown, y[keep], style, color=colour, linewidth=width, alpha=opacity, zorder=2)
    _draw_errors(axes, trace, x, y, colour)
    if "markers" in mode and len(x):
        _draw_markers(axes, trace, x, y, colour, opacity)
    if "text" in mode:
        for place, height, text in zip(x, y, trace.text or (), strict=False):
            axes.annotate(label_text(text), (place, height), (0, 5), textcoords="offset points", ha="center", color=INK)
    if trace.name and trace.showlegend is not False:
        line = "-" if "lines" not in mode else DASHES.get(trace.line.dash, "-")
        is_dot = "markers" in mode and "lines" not in mode
        axes.plot([], [], "o" if is_dot else line, color=colour, label=label_text(trace.name), markersize=4)
    return x, y


def _draw_errors(axes: Axes, trace: Any, x: Any, y: Any, colour: str) -> None:
    for error, name in ((trace.error_y, "yerr"), (trace.error_x, "xerr")):
        if error.array is None:
            continue
        above = _numbers(error.array)
        below = above if error.arrayminus is None else _numbers(error.arrayminus)
        width = (error.thickness or 2) * WIDTH_OF_PX
        ends: dict[str, Any] = {name: np.asarray([below, above])}
        axes.errorbar(x, y, fmt="none", ecolor=error.color or colour, elinewidth=width, capsize=2, zorder=3, **ends)


def _draw_markers(axes: Axes, trace: Any, x: Any, y: Any, colour: str, opacity: float) -> None:
    """Markers, of one kind or of a kind each; numbers as colours get a colour bar."""
    marker, count = trace.marker, len(x)
    sizes = (_each(marker.size or 6, count, float) * SIZE_OF_PX) ** 2
    if marker.color is not None and not isinstance(marker.color, str) and not isinstance(marker.color[0], str):
        values = _numbers(marker.color)
        edges, widths = _each(marker.line.color or INK, count, str), _each(marker.line.width or 0, count, float)
        options: dict[str, Any] = {"edgecolors": list(edges), "linewidths": widths * WIDTH_OF_PX, "zorder": 4}
        drawn = axes.scatter(x, y, sizes * 1.5, c=values, cmap=_colour_map(marker.colorscale), **options)
        figure = axes.get_figure()
        if figure is not None:
            figure.colorbar(drawn, ax=axes, label=label_text(marker.colorbar.title.text), fraction=0.05)
        return
    colours, symbols = _each(marker.color or colour, count, str), _each(marker.symbol or "circle", count, str)
    alphas = _each(1.0 if marker.opacity is None else marker.opacity, count, float) * opacity
    for row in range(count):
        symbol = str(symbols[row])
        face = "white" if symbol.endswith("-open") else str(colours[row])
        width = 1.2 if symbol == "x" or symbol.endswith("-open") else 0.0
        edge: dict[str, Any] = {} if symbol == "x" else {"edgecolors": str(colours[row])}
        paint = str(colours[row]) if symbol == "x" else face
        shape = MARKERS.get(symbol, "o")
        axes.scatter(
            [x[row]], [y[row]], sizes[row], color=None, c=[paint], marker=shape, alpha=float(alphas[row]),
            linewidths=width, zorder=4, **edge,
        )  # fmt: skip


def _each(value: Any, count: int, kind: type) -> Any:
    """A value for every point, whether one was given or many."""
    many = value if isinstance(value, (list, tuple, np.ndarray)) else [value] * count
    return np.asarray([kind(one) for one in many])


def _colour_map(scale: Any) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    pairs = get_colorscale(scale) if isinstance(scale, str) else scale
    stops = [(float(at), _rgb(colour) if str(colour).startswith("rgb") else to_rgb(colour)) for at, colour in pairs]
    return LinearSegmentedColormap.from_list("ours", stops)


def _rgb(text: str) -> tuple[float, float, float]:
    """The colour of a text such as "rgb(0, 34, 78)".

    >>> _rgb("rgb(0, 255, 51)")
    (0.0, 1.0, 0.2)
    """
    red, green, blue = (int(float(part)) / 255 for part in re.findall(r"[\d.]+", text)[:3])
    return red, green, blue


def _draw_heatmap(axes: Axes, trace: Any) -> None:
    """Fields with their numbers; rows and columns are named by the axes."""
    values = np.asarray([_numbers(line) for line in trace.z], float)
    rows, columns = values.shape
    drawn = axes.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=_colour_map(trace.colorscale),
        vmin=trace.zmin,
        vmax=trace.zmax,
        edgecolors="white",
        linewidth=0.8,
    )
    if trace.x is not None and len(trace.x) and isinstance(trace.x[0], str):
        axes.set_xticks(range(columns), [label_text(text) for text in trace.x])
    for row, column, text in _texts(trace):
        red, green, blue, _ = drawn.cmap(drawn.norm(values[row, column]))
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < DARK
        weight = "bold" if "<b>" in text else "normal"
        shown = label_text(text)
        axes.text(column, row, shown, ha="center", va="center", color="white" if is_dark else INK, weight=weight)


def _texts(trace: Any) -> Iterator[tuple[int, int, str]]:
    for row, line in enumerate(trace.text if trace.text is not None else ()):
        for column, text in enumerate(line):
            if text:
                yield row, column, str(text)


def _draw_image(axes: Axes, picture: Any) -> None:
    """An image of the layout, from its data URI; x and y are those of its upper left corner."""
    content = base64.b64decode(str(picture.source).partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGBA"))
    extent = (picture.x, picture.x + picture.sizex, picture.y - picture.sizey, picture.y)
    axes.imshow(pixels, extent=extent, alpha=picture.opacity, interpolation="nearest")


def _draw_shapes(axes: Axes, layout: Any) -> None:
    """Lines across the axes."""
    for shape in layout.shapes:
        style: dict[str, Any] = {
            "color": shape.line.color,
            "linewidth": (shape.line.width or 1) * WIDTH_OF_PX,
            "linestyle": DASHES.get(shape.line.dash, "-"),
            "zorder": 1,
        }
        if shape.x0 == shape.x1:
            axes.axvline(shape.x0, **style)
        else:
            axes.axhline(shape.y0, **style)


def _draw_labels(axes: Axes, layout: Any) -> None:
    """Annotations: at data, or at a share of the height where the page says so."""
    across, up = {"left": "left", "right": "right"}, {"bottom": "bottom", "top": "top"}
    for note in layout.annotations:
        is_share = note.yref is not None and ("paper" in note.yref or "domain" in note.yref)
        axes.annotate(
            label_text(note.text),
            (note.x, note.y),
            (note.xshift or 0, 0),
            xycoords=axes.get_xaxis_transform() if is_share else "data",
            textcoords="offset points",
            ha=across.get(note.xanchor, "center"),
            va=up.get(note.yanchor, "center"),
            weight="bold" if "<b>" in note.text else "normal",
            color=INK,
            annotation_clip=False,
        )


def _set_axis(axes: Axes, axis: Any, name: Literal["x", "y"]) -> None:
    """Scale, range, ticks and title; a range of a logarithmic axis is in powers of ten, as in plotly."""
    own = axes.xaxis if name == "x" else axes.yaxis
    if axis.side == "top":
        axes.xaxis.tick_top()
    is_log = axis.type == "log"
    if is_log:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        own.set_minor_locator(need("matplotlib.ticker", extra="matplotlib").NullLocator())
    if axis.range is not None:
        limits = [10**end if is_log else end for end in axis.range]
        (axes.set_xlim if name == "x" else axes.set_ylim)(*limits)
    elif axis.autorange == "reversed":
        own.set_inverted(True)
    if axis.tickvals is not None:
        texts = axis.ticktext if axis.ticktext is not None else [f"{value:g}" for value in axis.tickvals]
        is_steep = bool(axis.tickangle)
        own.set_ticks(
            list(axis.tickvals),
            [label_text(str(text)) for text in texts],
            rotation=60 if is_steep else 0,
            ha="right" if is_steep or name == "y" else "center",
        )
    elif axis.tickformat:
        own.set_major_formatter(_formatter(axis.tickformat))
    if axis.title.text:
        (axes.set_xlabel if name == "x" else axes.set_ylabel)(label_text(axis.title.text), color=INK)
    if axis.showgrid is not False:
        axes.grid(visible=True, axis=name, color=GRID, linewidth=0.5, zorder=0)
        axes.set_axisbelow(True)


def _formatter(form: str) -> Any:
    def show(value: float, _place: object) -> str:
        text = f"{100 * value:.2g} %" if form.endswith("%") else format(value, form)
        return text.replace("-", "−")

    return show
