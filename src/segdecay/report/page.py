"""One self-contained page about a run: facts and figures into `report.html`.

The page needs no network: plotly.js and all images lie inside it (about 5 MB, nearly all of it plotly.js), and its
content security policy forbids every request and every script but the two that this module puts there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segdecay.records import Strength, write_bytes
from segdecay.report import curves, figures, words
from segdecay.report.balancing_table import balancing_table
from segdecay.report.class_figure import classes_figure
from segdecay.report.facts import Run, Training
from segdecay.report.gauge_page import gauge_section
from segdecay.report.images import Sheet, read_sheet
from segdecay.report.panel import Panel, build_panel
from segdecay.report.picture import difference_bar, score_svg
from segdecay.report.reading import read_run
from segdecay.report.tables import class_table, findings_by_level, group_lines
from segdecay.report.verdict_facts import Verdict, is_none

HERE = Path(__file__).parent
KINDS = {
    "chosen": "a strength was chosen",
    "zero": "none is best",
    "flat": "no difference found",
    "edge": "best at the edge of the grid",
}


@dataclass(frozen=True)
class CurvePair:
    """The learning curves of one setting."""

    title: str
    objective: Panel
    learning: Panel | None  # None where nothing was scored on the way


def build_report(run: Path) -> Path:
    """Write RUN/report.html from the records and examples in RUN.

    Returns:
        The path of the page.

    Raises:
        RunError: RUN is not a finished run of `tune` or `train`, or a file in it is missing or damaged.
    """
    path = run / "report.html"
    write_bytes(path, render(read_run(run)).encode("utf-8", errors="replace"))
    return path


def render(run: Run) -> str:
    """The page as HTML text."""
    library, script = get_plotlyjs().strip(), _text("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_filters())
    context = {
        "run": run,
        "verdict": run.verdict,
        "kinds": KINDS,
        "compared": compared_word(run.verdict) if run.verdict else "",
        "policy_text": _policy(run.policy),
        "sheets": _sheets(run),
        "shown": run.examples.shown or (run.verdict.strength if run.verdict else None),
        "classes": class_table(run),
        "groups": group_lines(run.partition),
        "findings": findings_by_level(run.data.findings),
        "panels": _panels(run.verdict, run),
        "curve_pairs": _curve_pairs(run),
        "gauges": gauge_section(run, _distinct(run)),
        "balancing": balancing_table(run),
        "csp": _content_security(library, script),
        "style": Markup(_text("page.css")),  # noqa: S704  # our own file
        "library": Markup(library),  # noqa: S704  # plotly's own file
        "script": Markup(script),  # noqa: S704  # our own file
    }
    return environment.get_template("page.html.j2").render(context)


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip()


def _filters() -> Mapping[str, Any]:
    plain = (
        words.number,
        words.score,
        words.difference,
        words.interval,
        words.count,
        words.percent,
        words.duration,
        words.moment,
        words.visible,
        words.axis_title,
        words.axis_symbol,
        words.rows_of,
        words.text_of,
    )
    return {function.__name__: function for function in plain} | {
        "bar": lambda line, largest: Markup(difference_bar(line.difference, line.interval, largest)),  # noqa: S704
        "is_none": is_none,
    }


def _content_security(*scripts: str) -> str:
    """Nothing may be loaded, and only these scripts may run: what comes from data never can."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _policy(policy: str) -> str:
    """What the policy does with the objective, in a sentence."""
    if curves.is_minimised(policy):
        return "The training minimises L = L_original + λR."
    if not curves.has_penalty(policy):
        return f"The policy {policy} adds no λR: what is minimised is L_original alone."
    return f"The policy {policy} acts on the weights past the gradient: λR is shown, not minimised."


def _panels(verdict: Verdict | None, run: Run) -> Mapping[str, Panel]:
    """The figures about strength, by name; none for a run that searched nothing."""
    if verdict is None:
        return {}
    axis = words.axis_title(verdict.axis)
    weak = words.none_mark(verdict.none.strength.value if verdict.none else None)
    return {
        "score": build_panel(
            "score-against-strength",
            "",
            "Thick: mean over the folds, bars ± one standard error. Thin: each fold. Further right is stronger"
            f" ({axis}, logarithmic, {weak} placed at the left). One-SE: strongest within one paired standard error of"
            " the best." + (" Hollow: not told apart from none." if verdict.kind == "flat" else ""),
            figures.score_figure(verdict),
            score_svg(verdict),
        ),
        "difference": build_panel(
            "difference-to-none",
            "Difference to none",
            "Paired over the same folds and images, with intervals: a bar that stays clear of the dotted line tells the"
            " setting apart from none.",
            figures.difference_figure(verdict),
        ),
        "gap": build_panel(
            "train-against-validation",
            "Train against validation",
            "The shaded distance is the generalisation gap: it should shrink with strength; where both lines fall, the"
            " network is held back too hard.",
            figures.gap_figure(verdict),
        ),
        "classes": build_panel(
            "classes-against-strength",
            "What each strength gains or costs every class",
            "Rows are classes, columns strengths. Numbers are hundredths of IoU above (purple) or below (orange) none;"
            " an empty field was not available.",
            classes_figure(verdict, run.data),
        ),
    }


def _curve_pairs(run: Run) -> Sequence[CurvePair]:
    """None and the compared setting, on shared axes."""
    shown = [*run.zero, *run.compared]
    losses, scores = curves.loss_limits(shown), curves.score_limits(shown)
    pairs = []
    for key, trainings in _distinct(run):
        title = _curve_title(key, trainings[0].record.strength)
        objective = curves.objective_figure(trainings, run.policy, losses)
        learning = curves.learning_figure(trainings, scores)
        pairs.append(
            CurvePair(
                title,
                build_panel(
                    f"objective-{key.replace(' ', '-')}",
                    f"Objective, {title}",
                    "Loss over epochs, logarithmic; thick: mean over folds, thin: each fold. What is 0 is not drawn.",
                    objective,
                ),
                None
                if not curves.is_scored(trainings)
                else build_panel(
                    f"learning-{key.replace(' ', '-')}",
                    f"Score, {title}",
                    "Score over epochs; a cell is judged at its last epoch, never at its best.",
                    learning,
                ),
            )
        )
    return pairs


def compared_word(verdict: Verdict) -> str:
    """What the setting beside none is called."""
    return f"best with {verdict.kind_of_axis}" if is_none(verdict.strength) else "chosen"


def _distinct(run: Run) -> Sequence[tuple[str, tuple[Training, ...]]]:
    if run.verdict is None:
        return [("training", run.compared)]
    both = [("none", run.zero), (compared_word(run.verdict), run.compared)]
    return [(key, trainings) for key, trainings in both if trainings]


def _curve_title(key: str, strength: Strength) -> str:
    value = f"{words.axis_symbol(strength.axis)} = {words.number(strength.value)}"
    return value if key == "training" else f"{key}, {value}"


def _sheets(run: Run) -> Sequence[Sheet]:
    return [read_sheet(run.folder / "examples", example, run.data.palette) for example in run.examples.cases]
