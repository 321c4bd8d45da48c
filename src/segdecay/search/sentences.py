"""The verdict of a search in words: its title, and the sentence with its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from segdecay.runs.records import RACED_OUT, StrengthRecord, axis_names, kind_of
from segdecay.runs.verdict import FIRST_SENTENCE, Interval, TrainingCheck
from segdecay.search.verdict import Decision

REGULARIZATION = {"decay": "weight decay", "bound": "the bound"}  # other kinds read as they are: dropout


def regularization_name(axis: str) -> str:
    """The quantity on an axis, for sentences.

    >>> regularization_name("lambda"), regularization_name("max_norm"), regularization_name("label_smoothing")
    ('weight decay', 'the bound', 'label smoothing')
    """
    return REGULARIZATION.get(kind_of(axis), kind_of(axis))


def none_name(axis: str) -> str:
    """The name of the setting without regularization, for tables and figures.

    >>> none_name("total_decay"), none_name("kappa_factor"), none_name("dropout")
    ('no decay', 'no bound', 'no dropout')
    """
    return f"no {kind_of(axis)}"


def verdict_title(kind: str, axis: str, none: float | None = None) -> str:
    """The kind of a verdict in words.

    Args:
        kind: "chosen", "zero", "flat", "edge" or "undertrained".
        axis: the searched axis.
        none: the value on the axis without regularization, if known; if infinite, smaller values are stronger.

    >>> verdict_title("chosen", "total_decay"), verdict_title("zero", "lambda"), verdict_title("flat", "dropout")
    ('Weight decay helps', 'Train without weight decay', 'No difference found')
    >>> verdict_title("edge", "dropout"), verdict_title("edge", "max_norm")
    ('Best value is the largest tried', 'Best value is the smallest tried')
    """
    name = regularization_name(axis)
    less_is_stronger = kind_of(axis) == "bound" if none is None else math.isinf(none)
    end = "smallest" if less_is_stronger else "largest"
    return {
        "chosen": f"{name[:1].upper()}{name[1:]} helps",
        "zero": f"Train without {name}",
        "flat": "No difference found",
        "edge": f"Best value is the {end} tried",
        "undertrained": "Not trained enough to tell",
    }[kind]


def show_strength(strength: StrengthRecord) -> str:
    """A strength with its λ in brackets.

    >>> show_strength(StrengthRecord("total_decay", 4.0, lambda_=0.5))
    'total decay D = 4 (λ = 0.5)'
    """
    beside = f" (λ = {strength.lambda_:.3g})" if strength.axis != "lambda" and strength.lambda_ is not None else ""
    return f"{axis_names(strength.axis)[0]} = {strength.value:g}{beside}"


def show_interval(difference: Interval, unit: str = "") -> str:
    """A difference with its interval.

    >>> show_interval(Interval(0.01, 0.004, (0.002, 0.018)), "mIoU")
    '+0.010 mIoU (interval +0.002 to +0.018)'
    """
    mean, interval = difference.mean or 0.0, difference.interval or (0.0, 0.0)
    return f"{mean:+.3f}{unit and f' {unit}'} (interval {interval[0]:+.3f} to {interval[1]:+.3f})"


def _evidence(decision: Decision, recipe: str) -> str:
    """What was compared, and by which trainings."""
    counts = ((decision.n_folds, "fold"), (decision.looked_at, "strength"))
    compared = ", ".join(f"{n} {word}{'s' if n != 1 else ''}" for n, word in counts) + " compared"
    return f"{compared}, {recipe}" if recipe else compared


def recipe_of(epochs: int, rate: float | None) -> str:
    """Length and learning rate of the trainings, for a sentence.

    >>> recipe_of(80, 0.003), recipe_of(1, None)
    ('80 epochs at learning rate 0.003', '1 epoch')
    """
    length = f"{epochs} epoch{'s' if epochs != 1 else ''}"
    return length if rate is None else f"{length} at learning rate {rate:g}"


def with_length(sentence: str, epochs: int) -> str:
    """The sentences of a verdict over trainings that still improved at their end: after the first, for what it holds.

    >>> with_length("D = 4 beats no decay. These classes score lower: a.", 20)[:79]
    'D = 4 beats no decay. The networks still improved at the end, so this holds for'
    """
    first = FIRST_SENTENCE.split(sentence, maxsplit=1)[0]
    length = f"{epochs} epoch{'s' if epochs != 1 else ''}"
    return f"{first} The networks still improved at the end, so this holds for {length} only.{sentence[len(first) :]}"


def sentence_of(
    decision: Decision, class_names: Sequence[str], training: TrainingCheck | None = None, recipe: str = ""
) -> str:
    """The conclusion with its figures and its limits: a single fold, collapsed trainings, classes that score lower.

    The first sentence says what was found, by how much, on what evidence and under which recipe (`recipe_of`; empty
    where a user's function trains).
    """
    if decision.kind == "undertrained" and training is not None:
        name = regularization_name(decision.settings[decision.best].strength.axis)
        reason = training.reason or "no setting learned anything"
        return f"{reason[:1].upper()}{reason[1:]}. So this search does not show whether {name} helps."
    best = decision.settings[decision.best]
    difference = decision.best_difference
    sentence = _conclusion(decision, show_strength(best.strength), difference, recipe)
    if decision.n_folds == 1:
        sentence += " A single fold does not show the noise of training; use more folds."
    collapsed = sum(setting.collapsed for setting in decision.settings)
    if collapsed:
        sentence += f" {collapsed} training{'s' if collapsed > 1 else ''} collapsed to a single class."
    for title, is_scored in (("Not scored", False), ("Excluded", True)):
        out = [one for one in decision.settings if one.dropped and (one.mean is not None) is is_scored]
        out = [one for one in out if not (one.dropped or "").startswith(RACED_OUT)]
        if out:
            sentence += f" {title}: {', '.join(f'{one.strength.value:g}' for one in out)} ({out[0].dropped})."
    lost = [
        row.name
        for row in decision.classes
        if decision.taken != decision.none
        and row.difference_interval is not None
        and row.difference_interval[1] < 0
        and row.name in class_names
    ]
    if lost:
        sentence += f" These classes score lower with it: {', '.join(lost)}."
    return sentence


def _conclusion(decision: Decision, best: str, difference: Interval | None, recipe: str) -> str:
    axis = decision.settings[decision.best].strength.axis
    name, none = regularization_name(axis), none_name(axis)
    unit, evidence = replace(decision.criterion, most_loss=None).name, _evidence(decision, recipe)
    if decision.kind == "zero":
        return _best_without(decision, name, unit, evidence)
    if difference is None:
        return f"{best} is chosen; training without {name} could not be scored."
    if decision.kind == "flat":
        alike = list(decision.indistinguishable)  # from the weakest to the strongest
        strengths = f"Strengths from {alike[0]:g} to {alike[-1]:g}" if len(alike) > 1 else f"Strength {alike[0]:g}"
        return (
            f"{name[:1].upper()}{name[1:]} makes no difference that these data can show: the best strength, {best}, "
            f"differs from {none} by {show_interval(difference, unit)}; {evidence}. {strengths} cannot be told apart "
            f"from {none}, so the refit trains without {name}. A difference outside the interval is unlikely; a "
            "smaller one is possible."
        )
    better = f"{best} beats {none} by {show_interval(difference, unit)}; {evidence}."
    if decision.taken != decision.best:
        taken = show_strength(decision.settings[decision.taken].strength)
        better += f" By the one-SE rule the refit takes {taken}."
    if decision.kind == "edge":
        better += " It is the strongest value tried, so the best may lie beyond it: widen search.grid."
    return better


def _best_without(decision: Decision, name: str, unit: str, evidence: str) -> str:
    """The conclusion where no strength scored better than training without."""
    others = [
        one
        for one in decision.settings
        if one is not decision.settings[decision.none] and one.mean is not None and one.difference is not None
    ]
    nearest = max(
        others, key=lambda one: one.difference.mean or -math.inf if one.difference else -math.inf, default=None
    )
    beside = ""
    if nearest is not None and nearest.difference is not None:
        differs = show_interval(nearest.difference, unit)
        beside = f"; the next best, {show_strength(nearest.strength)}, differs from it by {differs}"
    rest, alike = "", list(decision.indistinguishable)
    if alike:
        direction = "down" if decision.settings[decision.none].strength.value > 0 else "up"
        rest = f" Strengths {direction} to {alike[-1]:g} cannot be told apart from it."
    return f"Training without {name} scored best{beside}; {evidence}.{rest}"
