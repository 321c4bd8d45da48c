"""The section of confusion matrices: none beside the compared setting, and the largest mistakes by name.

Facts of a run in, panels and rows out. Knows nothing of files or HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.confusion_figure import (
    MOST,
    NUMBERED,
    Mistake,
    confusion_figure,
    largest_mistakes,
    shown_classes,
)
from segdecay.report.facts import Run
from segdecay.report.kept import shared_folds, total_of
from segdecay.report.panel import Panel, build_panel
from segdecay.report.strength_page import compared_word
from segdecay.report.words import count
from segdecay.training.counts import I64

CAPTION = (
    "Rows are the truth, columns the prediction; a field is the share of the row's true pixels, darker for more (by its"
    " square root, so that small mistakes show). The diagonal is the recall of each class."
)


@dataclass(frozen=True)
class ConfusionSection:
    """What the page shows of who is taken for whom."""

    titles: tuple[str, ...]
    panels: tuple[Panel, ...]
    mistakes: tuple[Mistake, ...]
    note: str  # which folds, and which classes
    is_wide: bool


def confusion_section(run: Run) -> ConfusionSection | None:
    """The matrices of none and of the compared setting over the folds that both have; None where nothing was scored."""
    if not run.kept:
        return None
    if run.verdict is None:
        value = run.compared[0].record.strength.value
        whole = total_of(run.kept[value], [cell.fold for cell in run.kept[value]])
        return build_confusions(("validation",), (whole,), run.data.classes, "All validation images.")
    none, compared = run.verdict.none, run.verdict.compared
    pairs = [("none", none), (compared_word(run.verdict), compared)]
    known = [
        (title, run.kept[item.strength.value]) for title, item in pairs if item and item.strength.value in run.kept
    ]
    if not known:
        return None
    folds = shared_folds(known[0][1], known[-1][1])
    if not folds:
        return None
    matrices = tuple(total_of(cells, folds) for _, cells in known)
    note = f"All validation images of fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    note += ", which both settings have." if len(known) > 1 else "."
    return build_confusions(tuple(title for title, _ in known), matrices, run.data.classes, note)


def build_confusions(
    titles: tuple[str, ...], matrices: tuple[I64, ...], names: Sequence[str], note: str
) -> ConfusionSection:
    """A figure a matrix, on the same classes."""
    kept = shown_classes(matrices)
    if len(names) > len(kept):
        note += f" Of {count(len(names))} classes the {MOST} with the most wrong pixels are drawn."
    panels = tuple(
        build_panel(
            f"confusion-{title.replace(' ', '-')}",
            f"Confusion matrix, {title}",
            CAPTION + (" Numbers are per cent." if len(kept) <= NUMBERED else " Hover for the number."),
            confusion_figure(matrix, names, kept),
            words="confusion recall",
        )
        for title, matrix in zip(titles, matrices, strict=True)
    )
    return ConfusionSection(titles, panels, largest_mistakes(matrices), note, len(kept) > NUMBERED)
