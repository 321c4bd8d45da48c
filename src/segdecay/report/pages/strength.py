"""The figures about strength and over epochs, with their captions, for the page.

Facts of a run in, panels out. Knows nothing of files or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segdecay.report.facts.run import Run, Training
from segdecay.report.facts.tables import ClassCurve
from segdecay.report.figures import curves
from segdecay.report.figures import score as figures
from segdecay.report.figures.classes import classes_figure
from segdecay.report.figures.joint import has_iso_lines, joint_figure
from segdecay.report.figures.score import positions
from segdecay.report.figures.svg import score_svg
from segdecay.report.pages.panel import Panel, build_panel
from segdecay.report.text import format as words
from segdecay.report.text.format import axis_symbol, difference, interval, number
from segdecay.runs.joint import JointPoint, JointSearch
from segdecay.runs.records import Strength
from segdecay.runs.verdict import Verdict
from segdecay.search.joint.sentences import show_values


@dataclass(frozen=True)
class CurvePair:
    """The learning curves of one setting."""

    title: str
    objective: Panel
    learning: Panel | None  # None where nothing was scored on the way


def regularizer_text(regularizer: str) -> str:
    """What the regularizer does with the objective, in a sentence."""
    if curves.is_minimised(regularizer):
        return "The training minimises L = L_original + λR."
    if regularizer == "user function":
        return "Trained by a function of the caller's own: what it minimises is not known here."
    if not curves.has_penalty(regularizer):
        return f"The regularizer {regularizer} adds no λR: what is minimised is L_original alone."
    return f"The regularizer {regularizer} acts on the weights past the gradient: λR is shown, not minimised."


def strength_panels(verdict: Verdict | None, run: Run, class_lines: Sequence[ClassCurve] = ()) -> Mapping[str, Panel]:
    """The figures about strength, by name; none for a run that searched nothing."""
    if verdict is None:
        return {}
    axis = words.axis_title(verdict.axis)
    weak = words.none_mark(verdict.none.strength.value if verdict.none else None)
    values = [item.strength.value for item in verdict.settings]
    places = dict(zip(positions(values), values, strict=True))
    return {
        "score": build_panel(
            "score-against-strength",
            "",
            "Thick: mean over the folds, bars ± one standard error. Thin: each fold. Further right is stronger"
            f" ({axis}, logarithmic, {weak} placed at the left). One-SE: strongest within one paired standard error of"
            " the best." + (" Hollow: not told apart from none." if verdict.kind == "flat" else ""),
            figures.score_figure(verdict),
            score_svg(verdict),
            words="selection-score fold standard-error one-se",
            places=places,
        ),
        "difference": build_panel(
            "difference-to-none",
            "Difference to none",
            "Paired over the same folds and images, with intervals: a bar that stays clear of the dotted line tells the"
            " setting apart from none.",
            figures.difference_figure(verdict),
            words="paired interval none",
            places=places,
        ),
        "gap": build_panel(
            "train-against-validation",
            "Train against validation",
            "The shaded distance is the generalisation gap: it should shrink with strength; where both lines fall, the"
            " network is held back too hard.",
            figures.gap_figure(verdict),
            words="gap miou",
            places=places,
        ),
        "classes": build_panel(
            "classes-against-strength",
            "The same in numbers",
            "Rows are classes, columns strengths. Numbers are hundredths of IoU above (purple) or below (orange) none,"
            " over the folds that both have; an empty field was not available.",
            classes_figure(verdict, run.data, class_lines),
            words="iou none",
        ),
    }


def curve_pairs(run: Run) -> Sequence[CurvePair]:
    """None and the compared setting, on shared axes."""
    shown = [*run.zero, *run.compared]
    losses, scores = curves.loss_limits(shown), curves.score_limits(shown)
    pairs = []
    for key, trainings in distinct(run):
        title = _curve_title(key, trainings[0].record.strength)
        objective = curves.objective_figure(trainings, run.regularizer, losses)
        learning = curves.learning_figure(trainings, scores)
        pairs.append(
            CurvePair(
                title,
                build_panel(
                    f"objective-{key.replace(' ', '-')}",
                    f"Objective, {title}",
                    "Loss over epochs, logarithmic; thick: mean over folds, thin: each fold. What is 0 is not drawn.",
                    objective,
                    words="objective epoch fold",
                ),
                None
                if not curves.is_scored(trainings)
                else build_panel(
                    f"learning-{key.replace(' ', '-')}",
                    f"Score, {title}",
                    "Score over epochs; a trial is judged at its last epoch, never at its best.",
                    learning,
                    words="miou trial",
                ),
            )
        )
    return pairs


def compared_word(verdict: Verdict) -> str:
    """What the setting beside none is called."""
    return f"best with {verdict.kind_of_axis}" if verdict.strength.is_none else "chosen"


def distinct(run: Run) -> Sequence[tuple[str, tuple[Training, ...]]]:
    """The settings whose trainings are shown, by what they are called."""
    if run.verdict is None:
        return [("training", run.compared)]
    both = [("none", run.zero), (compared_word(run.verdict), run.compared)]
    return [(key, trainings) for key, trainings in both if trainings]


def _curve_title(key: str, strength: Strength) -> str:
    value = f"{words.axis_symbol(strength.axis)} = {words.number(strength.value)}"
    return value if key == "training" else f"{key}, {value}"


def first_words(verdict: Verdict) -> str:
    """Keys of the words on the first screen."""
    keys = "strength total-decay" if verdict.axis == "total_decay" else "strength"
    keys += " lambda" if verdict.axis == "lambda" or verdict.has_lambda else ""
    keys += " tau" if verdict.has_timescale else ""
    return f"{keys} regularizer none miou selection-score test-score interval paired refit trial"


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
    points: tuple[JointPoint, ...]  # best first
    names: tuple[str, ...]
    symbol: str


def joint_section(facts: JointSearch | None, told: Mapping[str, Any] | None) -> JointSection | None:
    """The section; None for a run that searched strengths alone."""
    if facts is None or told is None or not facts.points:
        return None
    title = "Learning rate and λ" if has_iso_lines(facts) else "Points of the search"
    panel = build_panel("joint-search", title, ISO if has_iso_lines(facts) else PLAIN, joint_figure(facts))
    ranked = sorted(facts.points, key=lambda one: (one.score is None, -(one.score or 0.0), one.number))
    names = tuple(one.name for one in facts.dimensions)
    return JointSection(panel, _lines(facts, told), tuple(ranked), names, axis_symbol(facts.points[0].strength.axis))


def _lines(facts: JointSearch, told: Mapping[str, Any]) -> tuple[str, ...]:
    without = sum(one.strength.is_none for one in facts.points)
    searched = ", ".join(one.label for one in facts.dimensions)
    made = f"{len(facts.points)} points, {without} of them without decay, proposed by Optuna ({facts.sampler})"
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
