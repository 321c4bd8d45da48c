"""The verdict in words. Knows a decision; nothing of how it was reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segdecay.runs.records import RACED_OUT, Strength, axis_names, kind_of
from segdecay.runs.verdict import Interval
from segdecay.search.verdict import Decision


def show_strength(strength: Strength) -> str:
    """A strength with its λ beside it.

    >>> show_strength(Strength("total_decay", 4.0, lambda_=0.5))
    'total decay D = 4 (λ = 0.5)'
    """
    beside = f" (λ = {strength.lambda_:.3g})" if strength.axis != "lambda" and strength.lambda_ is not None else ""
    return f"{axis_names(strength.axis)[0]} = {strength.value:g}{beside}"


def _signed(difference: Interval, unit: str) -> str:
    mean, interval = difference.mean or 0.0, difference.interval or (0.0, 0.0)
    return f"{mean:+.3f} {unit} (interval {interval[0]:+.3f} to {interval[1]:+.3f})"


def _looked(decision: Decision) -> str:
    counts = ((decision.n_folds, "fold"), (decision.looked_at, "strength"))
    return ", ".join(f"{n} {word}{'s' if n != 1 else ''}" for n, word in counts) + " looked at"


def sentence_of(decision: Decision, class_names: Sequence[str]) -> str:
    """One or two sentences: what was concluded, with its figures, and what else a reader must know."""
    best = decision.settings[decision.best]
    difference = decision.best_difference
    said = _core(decision, show_strength(best.strength), difference)
    if decision.n_folds == 1:
        said += " With a single fold the noise of training is not seen; more folds would tell."
    collapsed = sum(setting.collapsed for setting in decision.settings)
    if collapsed:
        said += f" {collapsed} training{'s' if collapsed > 1 else ''} collapsed to a single class."
    for title, is_scored in (("Not scored", False), ("Out", True)):
        out = [one for one in decision.settings if one.dropped and (one.mean is not None) is is_scored]
        out = [one for one in out if not (one.dropped or "").startswith(RACED_OUT)]
        if out:
            said += f" {title}: {', '.join(f'{one.strength.value:g}' for one in out)} ({out[0].dropped})."
    lost = [
        row.name
        for row in decision.classes
        if decision.taken != decision.none
        and row.difference_interval is not None
        and row.difference_interval[1] < 0
        and row.name in class_names
    ]
    if lost:
        said += f" It costs these classes: {', '.join(lost)}."
    return said


def _core(decision: Decision, best: str, difference: Interval | None) -> str:
    axis = decision.settings[decision.best].strength.axis
    kind = kind_of(axis)
    unit = replace(decision.criterion, most_loss=None).name
    alike = list(decision.indistinguishable)  # from the weakest to the strongest
    if decision.kind == "zero":
        direction = "down" if decision.settings[decision.none].strength.value > 0 else "up"
        rest = f" Strengths {direction} to {alike[-1]:g} cannot be told apart from it." if alike else ""
        return f"No {kind} scores best ({_looked(decision)}).{rest}"
    if difference is None:
        return f"{best} is chosen; training without {kind} could not be scored."
    if decision.kind == "flat":
        spread = f"from {alike[0]:g} to {alike[-1]:g}" if len(alike) > 1 else f"at {alike[0]:g}"
        subject = "The bound" if kind == "bound" else kind.capitalize()
        return (
            f"{subject} makes no difference that these data can show: the best, {best}, differs from none by "
            f"{_signed(difference, unit)}; {_looked(decision)}. Strengths {spread} cannot be told apart from none, "
            "so none is refitted."
        )
    better = f"{best} beats no {kind} by {_signed(difference, unit)}; {_looked(decision)}."
    if decision.taken != decision.best:
        taken = show_strength(decision.settings[decision.taken].strength)
        better += f" By the one-SE rule the refit takes {taken}."
    if decision.kind == "edge":
        better += " It is the strongest that was tried: the best may lie beyond; widen search.grid."
    return better
