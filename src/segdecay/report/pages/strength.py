"""The panels of a run: score, difference and gap against strength, learning curves, the joint search."""

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
from segdecay.report.text.glossary import PageNames
from segdecay.runs.joint import JointPoint, JointSearch
from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Verdict
from segdecay.search.joint.sentences import show_values
from segdecay.search.sentences import none_name, regularization_name, verdict_title


@dataclass(frozen=True)
class CurvePair:
    """The learning curves of one setting."""

    title: str
    objective: Panel
    learning: Panel | None  # None if no score was taken during training


def regularizer_text(regularizer: str) -> str:
    """The relation of the regularizer to the objective, in a sentence."""
    if curves.is_minimised(regularizer):
        return "The training minimises L = L_original + λR."
    if regularizer == "user function":
        return "Trained by a user function, whose objective is not recorded."
    if not curves.has_penalty(regularizer):
        return f"The regularizer {regularizer} adds no penalty λR: the training minimises L_original alone."
    return f"The regularizer {regularizer} acts on the weights, not the gradient: λR is shown, not minimised."


def strength_panels(verdict: Verdict | None, run: Run, class_lines: Sequence[ClassCurve] = ()) -> Mapping[str, Panel]:
    """The figures about strength, by name; empty for a single training."""
    if verdict is None:
        return {}
    axis = words.axis_title(verdict.axis)
    names = page_names(run)
    values = [item.strength.value for item in verdict.settings]
    places = dict(zip(positions(values), values, strict=True))
    return {
        "score": build_panel(
            "score-against-strength",
            "",
            f"x: {axis}, log scale, stronger to the right; leftmost: {names.none}. Thick: mean over the folds ± one"
            " standard error; thin: each fold. One-SE: strongest within one paired standard error of the best."
            + (f" Hollow: not told apart from {names.none}." if verdict.kind == "flat" else ""),
            figures.score_figure(verdict),
            score_svg(verdict),
            words="selection-score fold standard-error one-se",
            places=places,
        ),
        "difference": build_panel(
            "difference-to-none",
            f"Difference from {names.none}",
            "Paired over the same folds and images, with intervals. A setting is told apart from"
            f" {names.none} if its interval does not cross the dotted line.",
            figures.difference_figure(verdict),
            words="paired interval none",
            places=places,
        ),
        "gap": build_panel(
            "train-against-validation",
            "Train against validation",
            "The shaded distance is the generalisation gap, which should shrink with strength. Where both lines fall,"
            " the regularization is too strong.",
            figures.gap_figure(verdict),
            words="gap miou",
            places=places,
        ),
        "classes": build_panel(
            "classes-against-strength",
            "The same in numbers",
            f"Rows are classes, columns strengths. Numbers: {names.class_score} minus {names.class_score} with"
            f" {names.none}, in percentage points, over the folds that both have; purple is higher, orange lower.",
            classes_figure(verdict, run.data, class_lines),
            words="iou none",
        ),
    }


def curve_pairs(run: Run) -> Sequence[CurvePair]:
    """The learning curves without decay and of the compared setting, on shared axes."""
    shown = [*run.zero, *run.compared]
    losses, scores = curves.loss_limits(shown), curves.score_limits(shown)
    pairs = []
    for key, trainings in shown_settings(run):
        title = _curve_title(key, trainings[0].record.strength)
        objective = curves.objective_figure(trainings, run.regularizer, losses)
        learning = curves.learning_figure(trainings, scores)
        pairs.append(
            CurvePair(
                title,
                build_panel(
                    f"objective-{key.replace(' ', '-')}",
                    f"Objective, {title}",
                    "Loss over epochs, log scale; thick: mean over folds, thin: each fold. Values of 0 are not drawn.",
                    objective,
                    words="objective epoch fold",
                ),
                None
                if not curves.is_scored(trainings)
                else build_panel(
                    f"learning-{key.replace(' ', '-')}",
                    f"Score, {title}",
                    "Score over epochs. A trial counts with its last epoch, not its best.",
                    learning,
                    words="miou trial",
                ),
            )
        )
    return pairs


def page_names(run: Run) -> PageNames:
    """The names of the page of a run."""
    return PageNames(run.data.task, none_name(run.verdict.axis) if run.verdict else "no decay")


def title_of(verdict: Verdict) -> str:
    """The kind of a verdict as people read it."""
    return verdict_title(verdict.kind, verdict.axis, verdict.none.strength.value if verdict.none else None)


def compared_word(verdict: Verdict) -> str:
    """The name of the setting that is compared with no decay."""
    return f"best with {verdict.kind_of_axis}" if verdict.strength.is_none else "chosen"


def shown_settings(run: Run) -> Sequence[tuple[str, tuple[Training, ...]]]:
    """The settings with shown trainings, by name; the first is no decay, if there was a search."""
    if run.verdict is None:
        return [("training", run.compared)]
    both = [(none_name(run.verdict.axis), run.zero), (compared_word(run.verdict), run.compared)]
    return [(key, trainings) for key, trainings in both if trainings]


def _curve_title(key: str, strength: StrengthRecord) -> str:
    value = f"{words.axis_symbol(strength.axis)} = {words.number(strength.value)}"
    return value if key == "training" else f"{key}, {value}"


def first_words(verdict: Verdict) -> str:
    """Keys of the terms on the first screen."""
    keys = "strength total-decay" if verdict.axis == "total_decay" else "strength"
    keys += " lambda" if verdict.axis == "lambda" or verdict.has_lambda else ""
    keys += " tau" if verdict.has_timescale else ""
    return f"{keys} regularizer none miou selection-score test-score interval paired refit trial"


ISO = (
    "Every point was trained on all folds. Along a dotted line learning rate × λ is constant, so that one step shrinks "
    "a weight by the same factor. Changes along a line are due to the learning rate, changes across lines at one "
    "learning rate to decay. Ringed: the best point with decay, and the best without (lowest row)."
)
PLAIN = "Every point was trained on all folds. Ringed: the best point with {0}, and the best without (lowest row)."


@dataclass(frozen=True)
class JointSection:
    """The section of a joint search."""

    panel: Panel
    lines: tuple[str, ...]
    points: tuple[JointPoint, ...]  # best first
    names: tuple[str, ...]
    symbol: str


def joint_section(facts: JointSearch | None, told: Mapping[str, Any] | None) -> JointSection | None:
    """The section of a joint search; None for a run that searched strengths alone."""
    if facts is None or told is None or not facts.points:
        return None
    title = "Learning rate and λ" if has_iso_lines(facts) else "Points of the search"
    axis = facts.points[0].strength.axis
    caption = ISO if has_iso_lines(facts) else PLAIN.format(regularization_name(axis))
    panel = build_panel("joint-search", title, caption, joint_figure(facts))
    ranked = sorted(facts.points, key=lambda one: (one.score is None, -(one.score or 0.0), one.number))
    names = tuple(one.name for one in facts.dimensions)
    return JointSection(panel, _lines(facts, told, axis), tuple(ranked), names, axis_symbol(axis))


def _lines(facts: JointSearch, told: Mapping[str, Any], axis: str) -> tuple[str, ...]:
    without = sum(one.strength.is_none for one in facts.points)
    searched = ", ".join(one.label for one in facts.dimensions)
    name = regularization_name(axis)
    made = f"{len(facts.points)} points, {without} of them without {name}, proposed by Optuna ({facts.sampler})"
    lines = [
        f"Searched together with the strength: {searched}; {made}.",
        f"At the best strength: {show_values(told['best'])}. Without {name}: {show_values(told['none'])}.",
    ]
    if told.get("none_gain") is not None:
        lines.append(
            f"Without {name}, the searched values gain {difference(told['none_gain'])} over the configured ones; in "
            "every fold they were chosen by the other folds. A search over strengths alone may credit this gain to "
            f"{name}."
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
        title = verdict_title(alone["kind"], axis)
        lines.append(f'With all else as configured, the verdict on the strengths alone is "{title}"{said}.')
    return tuple(lines)
