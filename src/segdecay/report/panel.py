"""A figure as the page holds it: JSON that cannot end its script element, with a title and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Panel:
    """A figure on the page: its JSON, what it shows and how to read it."""

    key: str  # id in the page and file name of an export
    title: str  # empty where a heading of the page already says it
    caption: str
    json: Markup
    height: int  # px
    fallback: Markup | None = None  # a picture for print and for readers without scripts


def build_panel(key: str, title: str, caption: str, figure: Any, fallback: str | None = None) -> Panel:
    """A plotly figure as a panel."""
    height = int(figure.layout.height)
    picture = None if fallback is None else Markup(fallback)  # noqa: S704  # score_svg escapes its texts
    return Panel(key, title, caption, figure_json(figure), height, picture)


def figure_json(figure: Any) -> Markup:
    """A plotly figure as JSON that cannot end the script element it stands in."""
    text: str = figure.to_json(engine="json")
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  # no markup is left in it
