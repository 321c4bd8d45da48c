"""The sections of a page about classes: confusion matrices, the largest mistakes, weight balancing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.metrics.counts import I64
from segdecay.report.facts.run import Run, Stage, shared_folds, total_of
from segdecay.report.facts.tables import hex_colour
from segdecay.report.figures.confusion import MOST, NUMBERED, Mistake, confusion_figure, largest_mistakes, shown_classes
from segdecay.report.figures.diagnostics import mean
from segdecay.report.pages.panel import Panel, build_panel
from segdecay.report.pages.strength import compared_word, page_names
from segdecay.report.text.format import count
from segdecay.report.text.glossary import PageNames

CAPTION = (
    "Rows are the truth, columns the prediction; a field is the share of the row's {0}. The colour scale is the square"
    " root of the share, so that small mistakes are visible. The diagonal is the recall of each class."
)


@dataclass(frozen=True)
class ConfusionSection:
    """Confusion matrices and the largest mistakes."""

    titles: tuple[str, ...]
    panels: tuple[Panel, ...]
    mistakes: tuple[Mistake, ...]
    note: str  # which folds, and which classes
    is_wide: bool


def confusion_section(run: Run) -> ConfusionSection | None:
    """The matrices without decay and of the compared setting over their common folds; None if nothing was scored."""
    if not run.kept:
        return None
    if run.verdict is None:
        value = run.compared[0].record.strength.value
        whole = total_of(run.kept[value], [trial.fold for trial in run.kept[value]])
        return build_confusions(("validation",), (whole,), run.data.classes, "All validation images.", page_names(run))
    none, compared = run.verdict.none, run.verdict.compared
    pairs = [(page_names(run).none, none), (compared_word(run.verdict), compared)]
    known = [
        (title, run.kept[item.strength.value]) for title, item in pairs if item and item.strength.value in run.kept
    ]
    if not known:
        return None
    folds = shared_folds(known[0][1], known[-1][1])
    if not folds:
        return None
    matrices = tuple(total_of(trials, folds) for _, trials in known)
    note = f"All validation images of fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    note += ", which both settings have." if len(known) > 1 else "."
    return build_confusions(tuple(title for title, _ in known), matrices, run.data.classes, note, page_names(run))


def build_confusions(
    titles: tuple[str, ...], matrices: tuple[I64, ...], names: Sequence[str], note: str, page: PageNames
) -> ConfusionSection:
    """One figure per matrix, all with the same classes."""
    kept = shown_classes(matrices)
    if len(names) > len(kept):
        note += f" Of {count(len(names))} classes, the {MOST} with the most wrong {page.unit} are drawn."
    panels = tuple(
        build_panel(
            f"confusion-{title.replace(' ', '-')}",
            f"Confusion matrix, {title}",
            CAPTION.format(page.unit)
            + (" Numbers are per cent." if len(kept) <= NUMBERED else " Hover for the number."),
            confusion_figure(matrix, names, kept),
        )
        for title, matrix in zip(titles, matrices, strict=True)
    )
    return ConfusionSection(titles, panels, largest_mistakes(matrices), note, len(kept) > NUMBERED)


BOTH_STAGES = 2


@dataclass(frozen=True)
class BalancingLine:
    """One class before and after the second stage, means over the trials."""

    name: str
    colour: str
    share: float | None  # of the training pixels, geometric mean
    examples: float | None
    weight: float | None
    before: float | None  # row norm
    after: float | None
    iou_before: float | None
    iou_after: float | None


@dataclass(frozen=True)
class BalancingTable:
    """Weight balancing at the compared strength."""

    lines: tuple[BalancingLine, ...]
    epochs: int
    cap: float | None
    total_decay: float | None


def balancing_table(run: Run) -> BalancingTable | None:
    """Every class before and after the second stage; None without a second stage."""
    pairs = [
        (training, training.extras.stages[0], training.extras.stages[1])
        for training in run.compared
        if len(training.extras.stages) == BOTH_STAGES
    ]
    if not pairs:
        return None
    size = len(run.data.classes)
    lines = []
    for index, (name, colour) in enumerate(zip(run.data.classes, run.data.palette, strict=True)):
        scores = [training.record.validation for training, _, _ in pairs]
        lines.append(
            BalancingLine(
                name=name,
                colour=hex_colour(colour),
                share=_share_of([_at(t.extras.log_frequencies, index) for t, _, _ in pairs]),
                examples=mean([_at(second.examples, index) for _, _, second in pairs]),
                weight=mean([_at(second.class_weights, index) for _, _, second in pairs]),
                before=mean([_at(_rows(first, size), index) for _, first, _ in pairs]),
                after=mean([_at(_rows(second, size), index) for _, _, second in pairs]),
                iou_before=mean([_at(f.validation.iou if f.validation else (), index) for _, f, _ in pairs]),
                iou_after=mean([_at(one.iou if one else (), index) for one in scores]),
            )
        )
    return BalancingTable(
        tuple(lines),
        pairs[0][2].epochs,
        mean([next(iter(second.caps.values()), None) for _, _, second in pairs]),
        pairs[0][2].total_decay,
    )


def _share_of(logs: Sequence[float | None]) -> float | None:
    middle = mean(logs)
    return None if middle is None else math.exp(middle)


def _rows(stage: Stage, classes: int) -> Sequence[float | None]:
    return next((rows for rows in reversed(list(stage.row_norms.values())) if len(rows) == classes), ())


def _at(values: Sequence[float | None], index: int) -> float | None:
    value = values[index] if index < len(values) else None
    return None if value is None or math.isnan(value) else value  # NaN: an absent class
