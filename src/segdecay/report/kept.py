"""Reads the matrices that cells kept: what classes scored in every fold, and which were taken for which.

Files of a run in, counts out. Knows nothing of figures or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdecay.errors import RunError
from segdecay.records import CellRecord
from segdecay.report.verdict_facts import Verdict
from segdecay.selection.evidence import Counts
from segdecay.training.counts import I64, read_counts


@dataclass(frozen=True)
class KeptCell:
    """Counts of one scored training: `total` is the confusion matrix (C, C) of all its images."""

    fold: int
    counts: Counts
    total: I64


Kept = Mapping[float, tuple[KeptCell, ...]]  # by the setting's value on the axis


def read_kept(folders: Sequence[tuple[Path, CellRecord]], classes: int) -> Kept:
    """The counts of every training with validation images, by setting.

    Raises:
        RunError: a file is missing or damaged, or has another number of classes.
    """
    found: dict[float, tuple[KeptCell, ...]] = {}
    for folder, record in folders:
        if record.validation is None:
            continue
        path = folder / "confusion.npz"
        kept = read_counts(path)
        if len(kept.total) != classes:
            raise RunError(f"{path} holds {len(kept.total)} classes; the data has {classes}. Run in a new folder.")
        cell = KeptCell(record.fold, Counts(kept.hit, kept.union, kept.true), kept.total)
        found[record.strength.value] = (*found.get(record.strength.value, ()), cell)
    return found


def of_verdict(kept: Kept, verdict: Verdict) -> Kept:
    """Without the trainings that no verdict rests on: idle workers run ahead of a race, which may never get there."""
    found: dict[float, tuple[KeptCell, ...]] = {}
    for setting in verdict.settings:
        scored = {fold for fold, score in enumerate(setting.folds or ()) if score is not None}
        cells = tuple(cell for cell in kept.get(setting.strength.value, ()) if cell.fold in scored)
        if cells:
            found[setting.strength.value] = cells
    return found


def by_fold(cells: Sequence[KeptCell]) -> dict[int, list[Counts]]:
    """Fold to seeds."""
    found: dict[int, list[Counts]] = {}
    for cell in cells:
        found.setdefault(cell.fold, []).append(cell.counts)
    return found


def shared_folds(one: Sequence[KeptCell], other: Sequence[KeptCell]) -> tuple[int, ...]:
    """The folds that both settings have: a race leaves some out."""
    return tuple(sorted({cell.fold for cell in one} & {cell.fold for cell in other}))


def total_of(cells: Sequence[KeptCell], folds: Sequence[int]) -> I64:
    """(C, C) the summed matrix of these folds."""
    return np.asarray(np.sum([cell.total for cell in cells if cell.fold in folds], axis=0))
