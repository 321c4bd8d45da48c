"""The page of a comparison: ranking, pairs, classes, cost, and every arm over its own axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segdecay.report.facts.comparison import ComparedRun, better_first, read_comparison
from segdecay.report.figures import compare as figures
from segdecay.report.pages.panel import Panel, build_panel, render_page
from segdecay.report.text.glossary import PageNames
from segdecay.runs.comparison import ComparedArm, ComparedPair
from segdecay.utils.files import write_bytes


def build_compare_report(folder: Path) -> Path:
    """Write FOLDER/report.html from the comparison.json that `segdecay compare` left there.

    Raises:
        RunError: a file is missing or damaged; all faults are listed.
    """
    path = folder / "report.html"
    write_bytes(path, render_comparison(read_comparison(folder)).encode("utf-8", errors="replace"))
    return path


def render_comparison(run: ComparedRun) -> str:
    """The page as HTML text."""
    found, names = run.found, PageNames(run.found.task)
    context: Mapping[str, Any] = {
        "run": run,
        "found": found,
        "names": names,
        "written_by": run.environment.segdecay,
        "to_none": {arm.name: run.to_none(arm) for arm in found.arms},
        "told": [pair for pair in found.pairs if pair.told_apart],
        "result": {arm.name: result_text(arm, run.to_none(arm)) for arm in found.arms},
        "all_pairs": sorted((better_first(pair) for pair in found.pairs), key=lambda pair: -pair.difference),
        "labels": {arm.name: arm.label for arm in found.arms},
        "chosen": {arm.name: chosen_text(arm) for arm in found.arms},
        "ranking": build_panel(
            "ranking",
            "",
            f"Mean over the folds with its {100 * found.confidence:g} % interval, not adjusted for the number of arms; "
            "small points: folds. Arms that share a letter cannot be told apart; blue: not told apart from the best. "
            "Whether two intervals overlap does not decide: pairs are compared on the same folds and images.",
            figures.ranking_figure(found),
        ),
        "pairs": build_panel(
            "pairs",
            "",
            "Row minus column, in percentage points. Bold: told apart, by Holm's procedure over all pairs.",
            figures.pairs_figure(found),
            least_px=figures.least_px(len(found.arms)),
        ),
        "classes": build_panel(
            "classes",
            "",
            f"Arm minus no decay: {names.class_score} in percentage points. Bold: told apart, by Holm's procedure over"
            " all classes of all arms.",
            figures.classes_figure(found),
            least_px=figures.least_px(len(found.arms) - 1),
        ),
        "curves": [(arm, _curve(run, arm)) for arm in found.arms if arm.axis],
    }
    return render_page("compare.html.j2", context)


def _curve(run: ComparedRun, arm: ComparedArm) -> Panel:
    caption = f"Thick: mean over the folds; thin: each fold. Chosen by the other folds: {chosen_text(arm)}."
    return build_panel(f"arm-{arm.name}", arm.label, caption, figures.curve_figure(run.found, arm))


def result_text(arm: ComparedArm, pair: ComparedPair | None) -> str:
    """Whether an arm is told apart from no decay, or why it could not be compared; empty for no decay itself."""
    if pair is None:
        return ""
    if not any(one.folds for one in arm.strengths if one.value is not None):
        return "no strength could be scored"
    if set(arm.chosen) == {"none"}:
        return "chose no decay in every fold"
    return "told apart" if pair.told_apart else "cannot be told apart"


def chosen_text(arm: ComparedArm) -> str:
    """The strengths at which the folds were scored.

    >>> from types import SimpleNamespace
    >>> chosen_text(SimpleNamespace(chosen=("2", "none", "2"), axis="D"))
    '2 (2 folds), no decay (1 fold)'
    """
    if arm.axis is None:
        return ""
    counted = Counter(arm.chosen).most_common()
    return ", ".join(
        f"{'no decay' if value == 'none' else value} ({n} fold{'s' if n > 1 else ''})" for value, n in counted
    )
