"""Figures as panels of a page (JSON, caption, CSV), and the rendering of a page from its template."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segdecay.report.figures.score import figure_csv
from segdecay.report.figures.svg import difference_bar
from segdecay.report.text import format as words


@dataclass(frozen=True)
class Panel:
    """A figure on the page, with its caption and its data."""

    key: str  # id in the page and file name of an export
    title: str  # empty if a heading of the page is the title
    caption: str
    json: Markup
    csv: Markup
    height: int  # px
    fallback: Markup | None = None  # a picture for print and for browsers without scripts
    least_px: int = 0  # in a narrower window the figure is scrolled, not squeezed


def build_panel(
    key: str,
    title: str,
    caption: str,
    figure: Any,
    fallback: str | None = None,
    *,
    places: Mapping[float, float] | None = None,
    least_px: int = 0,
) -> Panel:
    """A plotly figure as a panel.

    places: as `figure_csv`; least_px: width below which the figure is
    scrolled.
    """
    height = int(figure.layout.height)
    picture = None if fallback is None else Markup(fallback)  # noqa: S704  # score_svg escapes its texts
    table = json_text(figure_csv(figure, places))
    return Panel(key, title, caption, figure_json(figure), table, height, picture, least_px)


def figure_json(figure: Any) -> Markup:
    """A plotly figure as JSON that cannot end the script element it stands in."""
    return _harmless(figure.to_json(engine="json"))


def json_text(text: str) -> Markup:
    r"""A text as a JSON string that cannot end the script element it stands in.

    >>> str(json_text("</script>"))
    '"\\u003c/script\\u003e"'
    """
    return _harmless(json.dumps(text, ensure_ascii=False))


def _harmless(text: str) -> Markup:
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  # all markup is escaped


TEMPLATES = Path(__file__).parent / "templates"
MACROS = ("panel", "exports", "copyable", "name", "swatch", "fold")


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page as HTML text; `context` holds the template's variables, with the `PageNames` under "names"."""
    library, script = get_plotlyjs().strip(), _text("page.js")
    environment = _environment()
    macros = environment.get_template("macros.html.j2").module
    frame = {
        "csp": _content_security(library, script),
        "style": Markup(_text("page.css")),  # noqa: S704  # our own file
        "library": _packed(library),
        "script": Markup(script),  # noqa: S704  # our own file
        **{name: getattr(macros, name) for name in MACROS},
    }
    return environment.get_template(template).render({**frame, **context})


@cache
def _environment() -> jinja2.Environment:
    """With the templates compiled once a process."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_filters())
    return environment


@cache
def _packed(text: str) -> str:
    """A text as gzip in base64, which the page unpacks when it is shown: a third of its size."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _filters() -> Mapping[str, Any]:
    plain = (
        words.number,
        words.score,
        words.difference,
        words.interval,
        words.count,
        words.percent,
        words.duration,
        words.moment,
        words.visible,
        words.axis_title,
        words.axis_symbol,
        words.rows_of,
        words.text_of,
    )
    return {function.__name__: function for function in plain} | {
        "bar": lambda line, largest: Markup(difference_bar(line.difference, line.interval, largest)),  # noqa: S704
    }


def _content_security(*scripts: str) -> str:
    """The page may load nothing and run only these scripts, so that no text from the data can run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
