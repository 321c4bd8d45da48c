"""Templates to one self-contained HTML page: its filters, its style and scripts, and the policy that forbids the rest.

The page needs no network: plotly.js and all images lie inside it, and its content security policy forbids every request
and every script but the two that this module puts there. Knows nothing of what is on the page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segdecay.report import words
from segdecay.report.glossary import words_of
from segdecay.report.picture import difference_bar
from segdecay.report.verdict_facts import is_none
from segdecay.report.wording import MASKS

HERE = Path(__file__).parent
MACROS = ("panel", "exports", "copyable", "name", "swatch", "term", "terms")


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page as HTML text; `context` is what the template names beside style, scripts and policy."""
    library, script = get_plotlyjs().strip(), _text("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
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
    return (HERE / name).read_text(encoding="utf-8").strip()


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
        "is_none": is_none,
    }


def _content_security(*scripts: str) -> str:
    """Nothing may be loaded, and only these scripts may run: what comes from data never can."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
