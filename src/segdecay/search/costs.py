"""The cost of a search before it runs: number of trials, time, disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segdecay.search.joint.search import count_points
from segdecay.search.study import Study, race_of
from segdecay.training.preflight import PAGE_BYTES, Preflight
from segdecay.training.setup import count_batches, count_epochs


@dataclass(frozen=True)
class TrialCount:
    """The least and the largest number of trials of a search, of its whole grid, and for a bias-corrected score."""

    least: int
    most: int
    whole: int
    honest: int = 0


def seconds_of_trial(study: Study, seconds_a_batch: float) -> float:
    """Estimated seconds of one training of the search."""
    config = study.config
    return seconds_a_batch * count_batches(study.fold_images, config.training.batch_size) * count_epochs(config)


def count_trials(study: Study, grid: Sequence[float]) -> TrialCount:
    """The number of trials of a search, as far as it is known beforehand."""
    n_folds, n_seeds = len(study.folds.folds), len(study.config.search.seeds)
    if study.config.search.joint:
        whole = sum(count_points(study.config)) * n_folds * n_seeds
        return TrialCount(whole, whole, whole)
    least, most, whole = _count(study, len(grid), n_folds * n_seeds)
    honest = n_seeds if study.config.search.honest == "holdout" else 0
    if study.config.search.honest == "nested":
        honest = n_folds * (_count(study, len(grid), (n_folds - 1) * n_seeds)[1] + n_seeds)
    return TrialCount(least, most, whole, honest)


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a search.

    Times are extrapolated from a few steps of a temporary model; disk sizes are those of uncompressed files.
    """

    trials: TrialCount
    finished: int
    refits: int
    workers: int
    seconds_a_trial: float
    seconds_least: float
    seconds_most: float
    disk_bytes: int  # in the run's folder at most, at any time
    kept_bytes: int  # in the run's folder at the end
    cache_bytes: int  # the decoded data, which all runs share


RECORD_BYTES = 60_000  # of a trial: trial.json, curve and matrices; those of many classes and images take more


def estimate_of(study: Study, grid: Sequence[float], preflight: Preflight, refits: int, workers: int) -> Estimate:
    """The cost of a search, from a few timed steps."""
    count = count_trials(study, grid)
    finished = sum(study.ledger.record(task.folder) is not None for value in grid for task in study.tasks(value))
    trial_s = seconds_of_trial(study, preflight.seconds_a_batch)
    pool = len(study.dataset.part("train", "val")) / max(1, study.fold_images)  # a refit sees every image of the pool

    def seconds(trials: int) -> float:
        rounds = -(-max(0, trials - finished) // workers)
        return trial_s * rounds + trial_s * pool * -(-refits // workers)

    sizes = [item.height * item.width for item in study.dataset.items]
    scored = max(sum(sizes[i] for i in fold.validation) for fold in study.folds.folds)
    classes, images = len(study.dataset.classes), max(len(fold.validation) for fold in study.folds.folds)
    record = RECORD_BYTES + 8 * classes * classes * images
    trials = count.most + count.honest
    weights = preflight.checkpoint_bytes // 3
    kept = trials * record + (refits + 1) * weights + PAGE_BYTES
    return Estimate(
        count,
        finished,
        refits,
        workers,
        trial_s,
        seconds(count.least),
        seconds(trials),
        kept + trials * scored + preflight.room_bytes(workers, refits),
        kept,
        sum(path.stat().st_size for path in study.dataset.root.iterdir() if path.is_file()),
    )


def _count(study: Study, n_strengths: int, blocks: int) -> tuple[int, int, int]:
    """Trials of a search over `blocks` blocks: at least, at most, and of the whole grid."""
    whole = n_strengths * blocks
    if not study.config.search.race:
        return whole, whole, whole
    race = replace(race_of(study)[0], blocks=blocks)
    return min(whole, race.trials_at_least), min(whole, race.trials_at_most), whole
