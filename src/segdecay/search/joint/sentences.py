"""Sentences of a joint search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segdecay.runs.records import Strength
from segdecay.runs.verdict import Interval
from segdecay.search.sentences import show_strength


def show_values(values: Mapping[str, float | str]) -> str:
    """Values of what was searched beside the strength.

    >>> show_values({"lr": 0.00256, "class_weights": "median"}), show_values({})
    ('lr = 0.00256, class_weights = median', 'nothing of these')
    """
    shown = [f"{name} = {value}" if isinstance(value, str) else f"{name} = {value:g}" for name, value in values.items()]
    return ", ".join(shown) or "nothing of these"


def joint_sentence(told: Mapping[str, Any], kind: str) -> str:
    """Which values go with the best strength and with none, what none gains by its own, and what strengths alone say.

    >>> told = {"searched": ("lr",), "points": 6, "best": {"lr": 0.003}, "none": {"lr": 0.01}, "none_gain": 0.02,
    ...         "as_configured": None}
    >>> joint_sentence(told, "flat")
    'Searched together over 6 points: lr = 0.003 at the best strength; lr = 0.01 at none, which gains +0.020 by it.'
    """
    said = f"Searched together over {told['points']} points: {show_values(told['best'])} at the best strength"
    if told["none"]:
        gain = told["none_gain"]
        by_own = "" if gain is None else f", which gains {gain:+.3f} by it"
        said += f"; {show_values(told['none'])} at none{by_own}"
    said += "."
    if told.get("at_ends"):
        said += f" At the end of its range: {', '.join(told['at_ends'])}; search.ranges widens it."
    alone = told["as_configured"]
    if alone is None:
        return said
    said += f" All else as configured, the strengths alone say {alone['kind']}{_difference(alone)}"
    same = alone["kind"] == kind
    return f"{said}: searching {', '.join(told['searched'])} {'keeps' if same else 'changes'} the kind of verdict."


def _difference(alone: Mapping[str, Any]) -> str:
    best, found = alone["best"], alone["best_difference"]
    if not isinstance(best, Strength) or not isinstance(found, Interval) or found.interval is None or best.is_none:
        return ""
    low, high = found.interval
    return f" ({show_strength(best)}: {found.mean:+.3f}, interval {low:+.3f} to {high:+.3f})"
