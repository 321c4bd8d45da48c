"""The part of the page about a joint search: its points, what they say beside the strengths alone, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segdecay.report.joint_facts import JointFacts, TrialFacts
from segdecay.report.joint_figure import has_iso_lines, joint_figure
from segdecay.report.panel import Panel, build_panel
from segdecay.report.words import axis_symbol, difference, interval, number
from segdecay.selection.joint_words import show_values

ISO = (
    "Every point was trained on all folds. Along a dotted line learning rate times λ is the same: one step shrinks a "
    "weight by as much. Scores that change along a line are owed to the learning rate, scores that change across lines "
    "at one learning rate to decay. Ringed: the best with decay, and the best without, in the row of none."
)
PLAIN = "Every point was trained on all folds. Ringed: the best with it, and the best without, in the row of none."


@dataclass(frozen=True)
class JointSection:
    """What the page shows of a joint search."""

    panel: Panel
    lines: tuple[str, ...]
    trials: tuple[TrialFacts, ...]  # best first
    names: tuple[str, ...]
    symbol: str


def joint_section(facts: JointFacts | None, told: Mapping[str, Any] | None) -> JointSection | None:
    """The section; None for a run that searched strengths alone."""
    if facts is None or told is None or not facts.trials:
        return None
    title = "Learning rate and λ" if has_iso_lines(facts) else "Points of the search"
    panel = build_panel("joint-search", title, ISO if has_iso_lines(facts) else PLAIN, joint_figure(facts))
    ranked = sorted(facts.trials, key=lambda one: (one.score is None, -(one.score or 0.0), one.number))
    names = tuple(one.name for one in facts.dimensions)
    return JointSection(panel, _lines(facts, told), tuple(ranked), names, axis_symbol(facts.trials[0].strength.axis))


def _lines(facts: JointFacts, told: Mapping[str, Any]) -> tuple[str, ...]:
    without = sum(one.strength.is_none for one in facts.trials)
    searched = ", ".join(one.label for one in facts.dimensions)
    made = f"{len(facts.trials)} points, {without} of them without decay, proposed by Optuna ({facts.sampler})"
    lines = [
        f"Searched beside the strength: {searched}; {made}.",
        f"At the best strength: {show_values(told['best'])}. At none: {show_values(told['none'])}.",
    ]
    if told.get("none_gain") is not None:
        lines.append(
            f"Without decay these values are worth {difference(told['none_gain'])} over what was configured, each "
            "fold's chosen by the others: what decay seems to bring, but a learning rate brings, is in this number."
        )
    alone = told.get("as_configured")
    if alone:
        found = alone.get("best_difference") or {}
        said = (
            f": {axis_symbol(alone['best']['axis'])} = {number(alone['best']['value'])}, "
            f"{difference(found.get('mean'))} ({interval(found.get('interval'), signed=True)})"
            if found.get("mean") is not None
            else ""
        )
        lines.append(f"The strengths alone, all else as configured, would have said {alone['kind']}{said}.")
    return tuple(lines)
