"""Before the first cell: data, folds, what is searched over them, a few trial steps, and what it all will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from segdecay.config import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.data.checks import CheckReport
from segdecay.data.folds import Fold, check_folds
from segdecay.errors import ConfigError, gather
from segdecay.execution import Execution, build_executor
from segdecay.runs import check_folder
from segdecay.selection.costs import Estimate, estimate_of, seconds_of_cell
from segdecay.selection.criteria import build_criterion
from segdecay.selection.executors import Executor, find_devices
from segdecay.selection.honest import check_honest, hold_out, validate_nested
from segdecay.selection.ledger import Ledger
from segdecay.selection.racing import Budget
from segdecay.selection.study import Study, grid_of, race_of
from segdecay.steps import (
    Watcher,
    check_names,
    fitted_to_task,
    plan_folds,
    refuse_unlearnable,
    refuse_warnings,
    say_all,
)
from segdecay.training.preflight import Preflight, start_notes, try_cell
from segdecay.training.weighting import loss_in_words


def _plan(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, devices: list[str]
) -> tuple[Study, CheckReport, Fold | None]:
    """The data, its folds and what is searched over them; whatever is wrong with these is told here."""
    dataset, checks = load_dataset(config.data, cache=execution.cache, cache_limit=execution.cache_limit)
    executor = build_executor(execution, devices)
    study, held = plan_search(config, run, execution, watcher, dataset, checks, executor)
    refuse_unlearnable(config, dataset, [fold.train for fold in study.folds.folds], watcher)
    return study, checks, held


def plan_search(
    config: RunConfig,
    run: Path,
    execution: Execution,
    watcher: Watcher,
    dataset: Dataset,
    checks: CheckReport,
    executor: Executor,
) -> tuple[Study, Fold | None]:
    """What is searched over these data, and the fold that is held out; whoever trains its cells.

    Raises:
        DataError, ConfigError: folds, criterion or budget that cannot be; nothing is written.
    """
    build_criterion(
        config.search, dataset.classes, dataset.task, dataset.exclude_from_mean
    )  # a class that is not there is told before anything is written
    folds, held = plan_folds(dataset, config), None
    if config.search.honest == "holdout":
        folds, held = hold_out(folds, dataset)
    unfit = check_folds(folds, dataset, allow_missing=config.search.allow_missing)
    refuse_warnings(config, [*checks.findings, *unfit], watcher)

    study = Study(
        config,
        dataset,
        folds,
        Ledger(run),
        executor,
        on_event=watcher.event,
        checkpoint_every_s=execution.checkpoint_every_s,
        budget=Budget(execution.budget_cells),
        keep_models=execution.keep_fold_models,
    )
    if config.search.honest == "nested":
        validate_nested(study)
    if config.search.race and not config.search.joint:
        race_of(study)  # a budget below one fold is told before anything is written
    return study, held


@dataclass(frozen=True)
class Prepared:
    """A search that was checked and tried for a few steps; nothing is written yet."""

    config: RunConfig
    study: Study
    checks: CheckReport
    held: Fold | None
    trial: Preflight
    devices: list[str]

    @property
    def refits(self) -> int:
        """Final trainings at most: the taken strength, and none where there is a test part."""
        return 1 + bool(self.study.dataset.part("test"))


def prepare(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Prepared:
    """Check a search and try its network for a few steps.

    Raises:
        SegdecayError: whatever is wrong with it.
    """
    has_time_budget = execution.budget_s is not None
    gather(ConfigError, [*check_names(config), *check_honest(config, has_time_budget=has_time_budget)])
    config = fitted_to_task(config, task_of(config.data))
    check_folder(run, config, "tune")
    devices = find_devices(execution.device)
    study, checks, held = _plan(config, run, execution, watcher, devices)
    trial = try_cell(replace(study.tasks(grid_of(study)[-1])[0], device=devices[0]))
    study.size = trial.size
    study.executor.expect(seconds_of_cell(study, trial.seconds_a_batch))
    say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, trial)], watcher)
    return Prepared(config, study, checks, held, trial, devices)


def estimate(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Estimate:
    """Cells, time and disk of a search, beforehand: nothing is trained but a few trial steps, nothing written to `run`.

    Raises:
        SegdecayError: whatever would stop the search before its first cell.
    """
    found = prepare(config, run, execution, watcher)
    study = found.study
    return estimate_of(study, grid_of(study), found.trial, found.refits, study.executor.workers)
