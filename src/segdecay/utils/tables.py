"""Rows of results as a pandas table, or as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segdecay.errors import need

if TYPE_CHECKING:
    import pandas as pd


def data_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One line a row; columns are the keys, in the order in which they first occur.

    Raises:
        MissingPartError: pandas is not installed.
    """
    frame: pd.DataFrame = need("pandas", extra="pandas").DataFrame([dict(row) for row in rows])
    return frame


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of HTML; texts are escaped, numbers have three digits, None is n/a.

    >>> html_table(["class", "IoU"], [["<b>", 0.5]])
    '<table><tr><th>class</th><th>IoU</th></tr><tr><td>&lt;b&gt;</td><td>0.500</td></tr></table>'
    """
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in header)]
    lines += ["".join(f"<td>{html.escape(_shown(value))}</td>" for value in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def html_list(lines: Iterable[str]) -> str:
    """A list of HTML, empty where there is no line.

    >>> html_list(["a < b"]), html_list([])
    ('<ul><li>a &lt; b</li></ul>', '')
    """
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _shown(value: object) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
