"""Results as HTML for a notebook: the verdict first, then the figure, then what limits it."""

from __future__ import annotations

import html
from pathlib import Path

from segdecay.report import score_svg
from segdecay.report.text.format import difference, interval
from segdecay.runs.comparison import Comparison
from segdecay.runs.evaluation import Evaluation
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import Verdict
from segdecay.search.sentences import verdict_title
from segdecay.utils.tables import html_list, html_table
from segdecay.workflows.frames import trained_class_rows


def title_of(verdict: Verdict) -> str:
    """The verdict in words."""
    none = None if verdict.none is None else verdict.none.strength.value
    return verdict_title(verdict.kind, verdict.axis, none)


def search_html(verdict: Verdict, report: Path) -> str:
    """Verdict, score against strength, cautions."""
    return _block(
        title_of(verdict), verdict.sentence, score_svg(verdict), [one.sentence for one in verdict.cautions], report
    )


def comparison_html(found: Comparison, report: Path) -> str:
    """The sentence and the arms, the best first."""
    rows = [(arm.name, arm.letters, arm.mean, interval(arm.interval), difference(arm.gap)) for arm in found.arms]
    table = html_table(["arm", "letters", found.criterion, f"{found.confidence:.0%} interval", "gap"], rows)
    cautions = [] if found.training is None or found.training.is_enough else [found.training.reason or ""]
    return _block("Comparison of regularizers", found.sentence, table, cautions, report)


def training_html(record: TrialRecord, classes: tuple[str, ...], sentence: str, report: Path) -> str:
    """Scores of a single training."""
    score = "recall" if record.extra.get("task") == "classification" else "iou"
    rows = [
        (row["class"], row[f"validation_{score}"], row[f"train_{score}"]) for row in trained_class_rows(record, classes)
    ]
    name = "recall" if score == "recall" else "IoU"
    table = html_table(["class", f"validation {name}", f"train {name}"], rows)
    return _block("One training", sentence, table, [], report)


def evaluation_html(found: Evaluation, sentence: str, report: Path | None) -> str:
    """Scores of every class with their intervals."""
    of_images = found.task == "classification"
    rows = [
        (row.name, f"{row.support:,}", score.mean, interval(score.interval), row.precision, row.recall)
        for row in found.classes
        for score in (row.by_recall if of_images else row.iou,)
    ]
    header = ["class", "images" if of_images else "pixels", "recall" if of_images else "IoU"]
    table = html_table([*header, f"{found.confidence:.0%} interval", "precision", "recall"], rows)
    return _block("Evaluation", sentence, table, found.warnings, report)


def _block(title: str, sentence: str, figure: str, cautions: list[str] | tuple[str, ...], report: Path | None) -> str:
    """A block of HTML. figure: HTML whose texts are escaped already."""
    end = "" if report is None else f"<p>report: <code>{html.escape(str(report))}</code></p>"
    head = f"<h4>{html.escape(title)}</h4><p>{html.escape(sentence)}</p>"
    limits = f"<p>Cautions</p>{html_list(cautions)}" if cautions else ""
    return f'<div class="segdecay">{head}{figure}{limits}{end}</div>'
