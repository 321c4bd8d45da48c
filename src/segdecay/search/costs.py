"""What a search will cost, as far as it is known beforehand. Knows studies and races; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segdecay.search.joint.search import count_trials
from segdecay.search.study import Study, race_of
from segdecay.training.preflight import PAGE_BYTES, Preflight
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


@dataclass(frozen=True)
class Estimate:
    """What a search will cost, beforehand; times rest on a few trial steps, disk on what is written uncompressed.

    cells: of the search, at least and at most, of its whole grid, and for an honest score; seconds and bytes likewise.
    """

    cells: CellCount
    finished: int
    refits: int
    workers: int
    seconds_a_cell: float
    seconds_least: float
    seconds_most: float
    disk_bytes: int  # in the run's folder at most, at any time
    kept_bytes: int  # in the run's folder at the end
    cache_bytes: int  # the decoded data, which all runs share


RECORD_BYTES = 60_000  # of a cell: cell.json, curve and matrices; those of many classes and images take more


def estimate_of(study: Study, grid: Sequence[float], trial: Preflight, refits: int, workers: int) -> Estimate:
    """The cost of a search that has been tried for a few steps."""
    count = count_cells(study, grid)
    finished = sum(study.ledger.record(task.folder) is not None for value in grid for task in study.tasks(value))
    cell_s = seconds_of_cell(study, trial.seconds_a_batch)
    pool = len(study.dataset.part("train", "val")) / max(1, study.fold_images)  # a refit sees every image of the pool

    def seconds(cells: int) -> float:
        rounds = -(-max(0, cells - finished) // workers)
        return cell_s * rounds + cell_s * pool * -(-refits // workers)

    sizes = [item.height * item.width for item in study.dataset.items]
    scored = max(sum(sizes[i] for i in fold.validation) for fold in study.folds.folds)
    classes, images = len(study.dataset.classes), max(len(fold.validation) for fold in study.folds.folds)
    record = RECORD_BYTES + 8 * classes * classes * images
    cells = count.most + count.honest
    weights = trial.checkpoint_bytes // 3
    kept = cells * record + (refits + 1) * weights + PAGE_BYTES
    return Estimate(
        count,
        finished,
        refits,
        workers,
        cell_s,
        seconds(count.least),
        seconds(cells),
        kept + cells * scored + trial.room_bytes(workers, refits),
        kept,
        sum(path.stat().st_size for path in study.dataset.root.iterdir() if path.is_file()),
    )


def _count(study: Study, n_strengths: int, blocks: int) -> tuple[int, int, int]:
    """Cells of a search over so many blocks: at least, at most, and of the whole grid."""
    whole = n_strengths * blocks
    if not study.config.search.race:
        return whole, whole, whole
    race = replace(race_of(study)[0], blocks=blocks)
    return min(whole, race.cells_at_least), min(whole, race.cells_at_most), whole
