"""The page of a run: report.html, one self-contained file."""

from __future__ import annotations

from pathlib import Path

from segdecay.report.facts.read import read_run
from segdecay.report.facts.run import Run
from segdecay.report.facts.tables import class_curves, class_table, findings_by_level, group_lines
from segdecay.report.figures.classes import build_multiples, multiples_csv
from segdecay.report.pages.classes import balancing_table, confusion_section
from segdecay.report.pages.compare import build_compare_report
from segdecay.report.pages.diagnostics import diagnostics_section
from segdecay.report.pages.evaluation import build_evaluation_report
from segdecay.report.pages.images import read_label_sheets, read_sheets
from segdecay.report.pages.panel import json_text, render_page
from segdecay.report.pages.strength import (
    compared_word,
    curve_pairs,
    is_short,
    joint_section,
    lead_sentence,
    page_names,
    regularizer_text,
    shown_settings,
    strength_panels,
    title_of,
)
from segdecay.training.dead_classes import tolls
from segdecay.utils.files import write_bytes

METHOD = ("statistic", "resampled", "resamples", "rule", "confidence", "fold method", "folds", "seeds", "selection")
SAID = ("best", "best difference", "strengths looked at", "trials of plan", "trials needed")  # said above
INTERVALS = "interval of the paired difference"
ONE_INTERVAL = "interval of the paired difference, for the compared strength only"  # records do not hold groups


def build_report(run: Path) -> Path:
    """Write RUN/report.html from the records and examples in RUN: a run, or the folder of an evaluation.

    Returns:
        The path of the page.

    Raises:
        RunError: RUN is neither a finished run of `tune` or `train` nor the folder of an `evaluate`, or one of its
            files is missing or damaged.
    """
    if not (run / "run.yaml").is_file() and (run / "evaluation.json").is_file():
        return build_evaluation_report(run)
    if (run / "comparison.json").is_file():
        return build_compare_report(run)
    path = run / "report.html"
    write_bytes(path, render(read_run(run)).encode("utf-8", errors="replace"))
    return path


def render(run: Run) -> str:
    """The page as HTML text."""
    verdict, curves, names = run.verdict, class_curves(run), page_names(run)
    classes, measure = class_table(run, curves), names.class_score
    context = {
        "run": run,
        "names": names,
        "label_sheets": read_label_sheets(run),
        "written_by": run.environment.segdecay,
        "verdict": verdict,
        "lead": lead_sentence(verdict, run.zero) if verdict else ("", ""),
        "is_short": bool(verdict and is_short(verdict)),
        "verdict_title": title_of(verdict) if verdict else "",
        "compared": compared_word(verdict) if verdict else "",
        "regularizer_text": regularizer_text(run.regularizer),
        "sheets": read_sheets(run.folder / "examples", run.examples.cases, run.data.palette),
        "shown": run.examples.shown or (verdict.strength if verdict else None),
        "classes": classes,
        "died": tolls(run.trials or tuple(training.record for training in run.compared)),
        "multiples": build_multiples(verdict, curves, classes.lines, measure) if verdict and curves else (),
        "multiples_csv": json_text(multiples_csv(verdict, curves, run.data.classes, measure)) if verdict else "",
        "interval_note": INTERVALS if verdict and verdict.evidence.get("resampled") != "groups" else ONE_INTERVAL,
        "method_words": METHOD,
        "said_words": SAID,
        "confusion": confusion_section(run),
        "groups": group_lines(run.partition),
        "findings": findings_by_level(run.data.findings),
        "panels": strength_panels(verdict, run, curves),
        "curve_pairs": curve_pairs(run),
        "diagnostics": diagnostics_section(run, shown_settings(run)),
        "balancing": balancing_table(run),
        "joint": joint_section(run.joint, verdict.evidence.get("joint") if verdict else None),
    }
    return render_page("page.html.j2", context)
