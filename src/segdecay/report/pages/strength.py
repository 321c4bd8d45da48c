"""The panels of a run: score, difference and gap against strength, learning curves, the joint search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segdecay.report.facts.run import Run, Training
from segdecay.report.facts.tables import ClassCurve, values_like_best
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
    others, alike = other_tools(run), values_like_best(run)
    shown = dict(zip(figures.strength_places(verdict, others), values, strict=True))
    places = dict(zip(positions(values), values, strict=True))
    confidence = verdict.evidence.get("confidence")
    level = f"{100 * float(confidence):g} % " if confidence else ""
    return {
        "paired": build_panel(
            "no-decay-and-chosen",
            "",
            PAIRED_UNTOLD if verdict.kind == "undertrained" else PAIRED.format(level),
            figures.paired_figure(verdict),
        ),
        "score": build_panel(
            "score-against-strength",
            "",
            f"Blue: mean over the folds ± one standard error; grey: each fold; hollow: trained on fewer folds;"
            f" {axis} on a logarithmic axis."
            + (" Orange ticks: values of weight_decay that other tools fix." if others else ""),
            figures.score_figure(verdict, alike, others),
            score_svg(verdict),
            places=shown,
        ),
        "difference": build_panel(
            "difference-to-none",
            f"Difference from {names.none}",
            f"Paired over the same folds and images; told apart from {names.none} where the interval leaves out 0.",
            figures.difference_figure(verdict),
            places=places,
        ),
        "gap": build_panel(
            "train-against-validation",
            "By strength",
            "The shaded gap is what was learnt of the training images alone; where both lines fall, the regularization"
            " is too strong.",
            figures.gap_figure(verdict),
            places=places,
        ),
        "classes": build_panel(
            "classes-against-strength",
            "All strengths in numbers",
            f"{names.class_score} minus {names.class_score} with {names.none}, in percentage points, over the folds"
            " that both have; purple is higher, orange lower.",
            classes_figure(verdict, run.data, class_lines),
        ),
    }


ADAM_VALUES = ((0.01, "0.01, AdamW's default"), (0.05, "0.05"))
SGD_VALUES = ((3e-5, "3e-5"), (1e-4, "1e-4"), (5e-4, "5e-4"))


def other_tools(run: Run) -> tuple[tuple[float, str], ...]:
    """The weight_decay that recipes for this optimizer commonly fix, as (total decay D in this run, label).

    λ and D are proportional for one optimizer and schedule, so the ratio of a recorded strength converts them.
    """
    known = [item.strength for item in run.verdict.settings] if run.verdict else []
    ratio = next((one.value / one.lambda_ for one in known if one.axis == "total_decay" and one.lambda_), None)
    if ratio is None or run.regularizer not in ("decoupled", "l2"):
        return ()
    name = run.optimizer.lower()
    values = ADAM_VALUES if name.startswith("adam") else SGD_VALUES if name.startswith("sgd") else ()
    return tuple((ratio * value, label) for value, label in values)


def curve_pairs(run: Run) -> Sequence[CurvePair]:
    """The learning curves without decay and of the compared setting, on shared axes."""
    shown = [*run.zero, *run.compared]
    losses, scores = curves.loss_limits(shown), curves.score_limits(shown)
    pairs = []
    for key, trainings in shown_settings(run):
        title = key[:1].upper() + key[1:]
        objective = build_panel(
            f"objective-{key.replace(' ', '-')}",
            f"Loss, {key}",
            "Thick: mean over folds; thin: each fold; logarithmic, so values of 0 are not drawn.",
            curves.objective_figure(trainings, run.regularizer, losses),
        )
        learning = build_panel(
            f"learning-{key.replace(' ', '-')}",
            title,
            "A trial counts with its last epoch, not its best.",
            curves.learning_figure(trainings, scores),
        )
        pairs.append(CurvePair(title, objective, learning if curves.is_scored(trainings) else None))
    return pairs


def page_names(run: Run) -> PageNames:
    """The names of the page of a run."""
    return PageNames(run.data.task, none_name(run.verdict.axis) if run.verdict else "no decay")


def title_of(verdict: Verdict) -> str:
    """The kind of a verdict as people read it."""
    if is_short(verdict):
        return f"No {verdict.kind_of_axis} scored best so far"
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


def lead_sentence(verdict: Verdict, trainings: Sequence[Training]) -> tuple[str, str]:
    """The conclusion, and the evidence that the first sentence names after it.

    Where no decay scored best while the networks still improved, the conclusion is bound to the length of training.
    """
    said, _, evidence = verdict.headline.partition("; ")
    if is_short(verdict) and trainings:
        epochs = trainings[0].record.epochs
        length = f"{epochs} epoch{'s' if epochs != 1 else ''}"
        said = f"For trainings of {length} only: {said[:1].lower()}{said[1:]}"
    return said.removesuffix("."), evidence


def is_short(verdict: Verdict) -> bool:
    """Whether no decay scored best while the networks still improved at the end."""
    return verdict.kind == "zero" and any(one.code == "still_rising" for one in verdict.cautions)


PAIRED = (
    "Validation score of both settings, a thin line per fold (a fold's images were not trained on); right, the mean "
    "difference with its {0}interval, which leaves out 0 if the settings are told apart."
)
PAIRED_UNTOLD = (
    "Validation score of both settings, a thin line per fold (a fold's images were not trained on). Their difference "
    "is left out: networks that have not learned tell nothing about decay."
)
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
