"""Formats numbers and names for the report: sensible digits, "n/a" for missing values, no markup from data."""

from __future__ import annotations

import datetime as dt
import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from segdecay.runs.records import axis_names

MISSING = "n/a"
LABEL_LENGTH = 22  # characters of a class name that fit beside a figure on a telephone


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, without a trail of zeros.

    >>> number(0.0123456), number(16.0), number(None), number(1e-7), number(float("inf"))
    ('0.0123', '16', 'n/a', '1e-07', '∞')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return minus(text)


def score(value: float | None) -> str:
    """A score between 0 and 1 with three decimals.

    >>> score(0.46249), score(None)
    ('0.462', 'n/a')
    """
    return MISSING if value is None or not math.isfinite(value) else f"{value:.3f}"


def difference(value: float | None) -> str:
    """A difference of scores, with its sign.

    >>> difference(0.0462), difference(-0.01), difference(0.0), difference(None)
    ('+0.046', '−0.010', '0.000', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else minus(text)


def interval(bounds: Sequence[float | None] | None, *, signed: bool = False) -> str:
    """Two bounds, as scores or as signed differences.

    >>> interval((0.41, 0.472)), interval((-0.01, 0.05), signed=True), interval(None)
    ('0.410 to 0.472', '−0.010 to +0.050', 'n/a')
    """
    if bounds is None:
        return MISSING
    return " to ".join(difference(bound) if signed else score(bound) for bound in bounds)


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands.

    >>> count(1234567) == "1\u202f234\u202f567", count(None)
    (True, 'n/a')
    """
    return MISSING if value is None else f"{value:,.0f}".replace(",", "\u202f")


def percent(share: float | None) -> str:
    """A share in percent.

    >>> percent(0.1234), percent(0.00042), percent(1.0)
    ('12 %', '0.042 %', '100 %')
    """
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def duration(seconds: float | None) -> str:
    """Seconds in their two largest units.

    >>> duration(4.21), duration(252), duration(7260), duration(90000), duration(None)
    ('4.2 s', '4 min 12 s', '2 h 1 min', '1 d 1 h', 'n/a')
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(text: str) -> str:
    """A time stamp to the minute.

    >>> moment("2026-05-04T10:20:30.123+00:00"), moment("yesterday")
    ('2026-05-04 10:20', 'yesterday')
    """
    try:
        return dt.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return visible(text)


def minus(text: str) -> str:
    """A number with a typographic minus sign; the exponent keeps its hyphen.

    >>> minus("-1e-07")
    '−1e-07'
    """
    return "−" + text[1:] if text.startswith("-") else text


def visible(name: str) -> str:
    r"""A name on one line; control and direction characters become "�", so that they cannot rearrange the page.

    >>> visible("a\nb\u202ec")
    'a�b�c'
    """
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    kept = {"\u200d", "\u200c"}  # joiners belong to the spelling of several scripts
    return "".join("�" if unicodedata.category(sign) in hidden and sign not in kept else sign for sign in name)


def label(name: str, length: int = LABEL_LENGTH) -> str:
    """A name for a plotly label: shortened, and escaped, since plotly reads some HTML in labels.

    >>> label("<b>road</b>"), label("a very long name of a class")
    ('&lt;b&gt;road&lt;/b&gt;', 'a very long name of a…')
    """
    text = visible(name)
    return html.escape(text if len(text) <= length else text[: length - 1].rstrip() + "…", quote=False)


def axis_title(axis: str) -> str:
    """The name of an axis on the page.

    >>> axis_title("total_decay"), axis_title("lambda"), axis_title("max_norm")
    ('total decay D', 'λ', 'max norm c')
    """
    return axis_names(axis)[0]


def axis_symbol(axis: str) -> str:
    """The symbol of an axis.

    >>> axis_symbol("total_decay"), axis_symbol("lambda")
    ('D', 'λ')
    """
    return axis_names(axis)[1]


def none_mark(none: float | None) -> str:
    """The label of the weak end of an axis: 0, or no bound.

    >>> none_mark(0.0), none_mark(math.inf)
    ('0', 'no bound (∞)')
    """
    return "no bound (∞)" if none is not None and math.isinf(none) else "0"


LABELS = {  # of keys whose words a reader would not understand
    "trials_of_plan": "trials needed",
    "lambda_in_folds": "λ in a fold's training",
    "lambda_differs": "why it differs",
}


def rows_of(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain values as (label, text) lines, in their order.

    >>> rows_of({"p_value": 0.012, "images": {"n": 40}, "note": None})
    [('p value', '0.012'), ('images: n', '40'), ('note', 'n/a')]

    Differences and strengths take one line each:

    >>> rows_of({"gain": {"mean": 0.05, "interval": [0.01, 0.09]}, "best": {"axis": "lambda", "value": 0.5}})
    [('gain', '+0.050 (+0.010 to +0.090)'), ('best', 'λ = 0.5')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        words = prefix + LABELS.get(str(key), str(key).replace("_", " "))
        if (
            isinstance(value, Mapping)
            and not {"mean", "interval"} <= set(value)
            and not {"axis", "value"} <= set(value)
        ):
            rows += rows_of(value, f"{words}: ")
        else:
            rows.append((words, text_of(value)))
    return rows


def text_of(value: object) -> str:
    """Any plain value as text.

    >>> text_of(True), text_of([0.1, None]), text_of("as it is"), text_of(12345)
    ('yes', '0.1, n/a', 'as it is', '12\u202f345')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return minus(count(value))
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping) and {"mean", "interval"} <= set(value):
        bounds = value["interval"]
        return difference(value["mean"]) + (f" ({interval(bounds, signed=True)})" if bounds else "")
    if isinstance(value, Mapping) and {"axis", "value"} <= set(value):
        shown = "∞" if value["value"] is None else text_of(value["value"])  # no bound is null in JSON
        return f"{axis_symbol(visible(str(value['axis'])))} = {shown}"
    if isinstance(value, Mapping):
        return "; ".join(f"{words}: {text}" for words, text in rows_of(value))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(text_of(item) for item in value) or "none"
    return visible(str(value))
