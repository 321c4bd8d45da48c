"""Blocks, prose and anchors of a Markdown page."""

from __future__ import annotations

import re

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks_of(page: str, language: str | None = None) -> list[str]:
    """The content of every fenced block, or of those of one language; "" means those without a language.

    >>> blocks_of("```sh\\nls\\n```\\n\\n```\\nplain\\n```\\n", "")
    ['plain\\n']
    """
    return [content for named, content in FENCED.findall(page) if language in (None, named)]


def prose_of(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCED.sub("", page)


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings.

    >>> sorted(anchors_of("# One\\n\\n## `segdecay check`, and λ\\n"))
    ['one', 'segdecay-check-and-λ']
    """
    titles = re.findall(r"^#+ (.*)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
