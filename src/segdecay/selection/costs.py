"""What a search will cost, as far as it is known beforehand. Knows studies and races; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segdecay.selection.joint import count_trials
from segdecay.selection.study import Study, race_of
from segdecay.training.setup import count_batches, count_epochs


@dataclass(frozen=True)
class CellCount:
    """How many cells a search trains, how many the whole grid has, and how many an honest score costs at most."""

    least: int
    most: int
    whole: int
    honest: int = 0


def seconds_of_cell(study: Study, seconds_a_batch: float) -> float:
    """About how long one training of the search takes."""
    config = study.config
    return seconds_a_batch * count_batches(study.fold_images, config.training.batch_size) * count_epochs(config)


def count_cells(study: Study, grid: Sequence[float]) -> CellCount:
    """What a search will cost, as far as it is known beforehand."""
    n_folds, n_seeds = len(study.folds.folds), len(study.config.search.seeds)
    if study.config.search.joint:
        whole = sum(count_trials(study.config)) * n_folds * n_seeds
        return CellCount(whole, whole, whole)
    least, most, whole = _count(study, len(grid), n_folds * n_seeds)
    honest = n_seeds if study.config.search.honest == "holdout" else 0
    if study.config.search.honest == "nested":
        honest = n_folds * (_count(study, len(grid), (n_folds - 1) * n_seeds)[1] + n_seeds)
    return CellCount(least, most, whole, honest)


def _count(study: Study, n_strengths: int, blocks: int) -> tuple[int, int, int]:
    """Cells of a search over so many blocks: at least, at most, and of the whole grid."""
    whole = n_strengths * blocks
    if not study.config.search.race:
        return whole, whole, whole
    race = replace(race_of(study)[0], blocks=blocks)
    return min(whole, race.cells_at_least), min(whole, race.cells_at_most), whole
