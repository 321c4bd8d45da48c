"""Sentences of a joint search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Interval
from segdecay.search.sentences import regularization_name, show_interval, show_strength, verdict_title


def show_values(values: Mapping[str, float | str]) -> str:
    """The values of the parameters searched together with the strength.

    >>> show_values({"lr": 0.00256, "class_weights": "median"}), show_values({})
    ('lr = 0.00256, class_weights = median', 'no other values')
    """
    shown = [f"{name} = {value}" if isinstance(value, str) else f"{name} = {value:g}" for name, value in values.items()]
    return ", ".join(shown) or "no other values"


def joint_sentence(told: Mapping[str, Any], kind: str, axis: str = "total_decay") -> str:
    """The values at the best strength and without decay, their gain, and the verdict on the strengths alone.

    >>> told = {"searched": ("lr",), "points": 6, "best": {"lr": 0.003}, "none": {"lr": 0.01}, "none_gain": 0.02,
    ...         "as_configured": None}
    >>> joint_sentence(told, "flat")
    'Searched together over 6 points: lr = 0.003 at the best strength; lr = 0.01 without weight decay (gain +0.020).'
    """
    sentence = f"Searched together over {told['points']} points: {show_values(told['best'])} at the best strength"
    if told["none"]:
        gain = told["none_gain"]
        gained = "" if gain is None else f" (gain {gain:+.3f})"
        sentence += f"; {show_values(told['none'])} without {regularization_name(axis)}{gained}"
    sentence += "."
    if told.get("at_ends"):
        sentence += f" At the end of its range: {', '.join(told['at_ends'])}; widen it under search.ranges."
    alone = told["as_configured"]
    if alone is None:
        return sentence
    best: StrengthRecord = alone["best"]
    changes = "does not change" if alone["kind"] == kind else "changes"
    return (
        f"{sentence} With the other values as configured, the verdict on the strengths alone is "
        f'"{verdict_title(alone["kind"], best.axis)}"{_difference(best, alone["best_difference"])}: searching '
        f"{', '.join(told['searched'])} {changes} it."
    )


def _difference(best: StrengthRecord, found: Interval | None) -> str:
    if found is None or found.interval is None or best.is_none:
        return ""
    return f" ({show_strength(best)}: {show_interval(found)})"
