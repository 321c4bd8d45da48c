"""A figure as the page holds it: JSON that cannot end its script element, with a title, a caption and its numbers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segdecay.report.figures.score import figure_csv
from segdecay.report.figures.svg import difference_bar
from segdecay.report.text import format as words
from segdecay.report.text.glossary import MASKS, Word, words_of


@dataclass(frozen=True)
class Panel:
    """A figure on the page: its JSON, what it shows and how to read it."""

    key: str  # id in the page and file name of an export
    title: str  # empty where a heading of the page already says it
    caption: str
    json: Markup
    csv: Markup
    height: int  # px
    words: tuple[Word, ...] = ()  # of the caption, explained where it stands
    fallback: Markup | None = None  # a picture for print and for readers without scripts
    least_px: int = 0  # in a narrower window the figure is scrolled, not squeezed


def build_panel(
    key: str,
    title: str,
    caption: str,
    figure: Any,
    fallback: str | None = None,
    *,
    words: str = "",
    places: Mapping[float, float] | None = None,
    least_px: int = 0,
) -> Panel:
    """A plotly figure as a panel.

    words: keys of the glossary, with spaces between; places: as `figure_csv`; least_px: width below which it is
    scrolled.
    """
    height = int(figure.layout.height)
    picture = None if fallback is None else Markup(fallback)  # noqa: S704  # score_svg escapes its texts
    table = json_text(figure_csv(figure, places))
    return Panel(key, title, caption, figure_json(figure), table, height, words_of(words), picture, least_px)


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
    return Markup(text)  # noqa: S704  # no markup is left in it


TEMPLATES = Path(__file__).parent / "templates"
MACROS = ("panel", "exports", "copyable", "name", "swatch", "term", "terms")


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page as HTML text; `context` is what the template names beside style, scripts and security policy."""
    library, script = get_plotlyjs().strip(), _text("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_filters())
    wording = context.get("wording", MASKS)
    environment.globals.update(say=wording.say, own_terms=wording.terms)
    macros = environment.get_template("macros.html.j2").module
    environment.globals.update({name: getattr(macros, name) for name in MACROS}, words_of=words_of)
    frame = {
        "glossary": wording.glossary(),
        "wording": wording,
        "csp": _content_security(library, script),
        "style": Markup(_text("page.css")),  # noqa: S704  # our own file
        "library": Markup(library),  # noqa: S704  # plotly's own file
        "script": Markup(script),  # noqa: S704  # our own file
    }
    return environment.get_template(template).render({**frame, **context})


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
    """Nothing may be loaded, and only these scripts may run: what comes from data never can."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
