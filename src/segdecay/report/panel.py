"""A figure as the page holds it: JSON that cannot end its script element, with a title, a caption and its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from segdecay.report.figure_data import figure_csv
from segdecay.report.glossary import Word, words_of


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
