"""The table of weight balancing: every class before and after the second stage of a training.

Facts of a run in, rows out. Knows nothing of files or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.facts import Run
from segdecay.report.gauge_facts import Stage
from segdecay.report.gauge_figures import mean
from segdecay.report.tables import hex_colour

BOTH_STAGES = 2


@dataclass(frozen=True)
class BalancingLine:
    """One class before and after the second stage, mean over the trainings."""

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
    """Every class before and after the second stage; None where there was none."""
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
