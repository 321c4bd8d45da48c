"""Everything of a search that is checked and planned before its first trial; nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.data.checks.findings import CheckReport
from segdecay.data.splits.folds import Fold, check_folds, plan_folds
from segdecay.data.transforms.user import UserTransform
from segdecay.errors import ConfigError, gather
from segdecay.execution import Executor, find_devices
from segdecay.execution.options import Execution
from segdecay.metrics.criteria import build_criterion
from segdecay.runs.folder import check_folder
from segdecay.search.bias_correction import check_honest, hold_out, validate_nested
from segdecay.search.costs import seconds_of_trial
from segdecay.search.ledger import Ledger
from segdecay.search.race_runner import Budget
from segdecay.search.study import Study, grid_of, race_of
from segdecay.training.class_weights import loss_in_words
from segdecay.training.precision import with_precision
from segdecay.training.preflight import Preflight, run_preflight, start_notes
from segdecay.workflows.steps import (
    Watcher,
    fitted_to_task,
    refuse_unlearnable,
    refuse_warnings,
    say_all,
)
from segdecay.workflows.workers import executor_of


@dataclass(frozen=True)
class Prepared:
    """A search that was checked, and tried for a few steps where segdecay trains; nothing is written yet."""

    config: RunConfig
    study: Study
    checks: CheckReport
    held: Fold | None  # held out, for the bias-corrected score
    preflight: Preflight | None  # None: a user's function trains
    devices: list[str]

    @property
    def refits(self) -> int:
        """Final trainings at most: the taken strength, and no decay where there is a test part."""
        has_test = bool(self.study.dataset.part("test"))
        return (self.preflight is not None or has_test) + has_test


def prepare(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, transform: UserTransform | None = None
) -> Prepared:
    """Check a search and try its network for a few steps.

    Args:
        transform: a callable of the user's, given in Python.

    Raises:
        SegdecayError: whatever is wrong with it.
    """
    has_time_budget = execution.budget_s is not None
    gather(ConfigError, check_honest(config, has_time_budget=has_time_budget))
    devices = find_devices(execution.device)
    config = with_precision(fitted_to_task(config, task_of(config.data)), devices[0])
    check_folder(run, config, "tune")
    study, checks, held = _plan(config, run, execution, watcher, devices, transform)
    preflight = run_preflight(replace(study.tasks(grid_of(study)[-1])[0], device=devices[0]))
    study.size = preflight.size
    study.executor.expect(seconds_of_trial(study, preflight.seconds_a_batch))
    say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, preflight)], watcher)
    return Prepared(config, study, checks, held, preflight, devices)


def _plan(
    config: RunConfig,
    run: Path,
    execution: Execution,
    watcher: Watcher,
    devices: list[str],
    transform: UserTransform | None,
) -> tuple[Study, CheckReport, Fold | None]:
    """The data, its folds and what is searched over them; whatever is wrong with these is told here."""
    dataset, checks = load_dataset(config.data, cache=execution.cache, cache_limit=execution.cache_limit)
    executor = executor_of(transform, execution, devices, watcher)
    study, held = plan_search(config, run, execution, watcher, dataset, checks, executor)
    study.transform = transform
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
    """What is searched over these data, and the fold that is held out; whoever trains its trials.

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
        budget=Budget(execution.budget_trials),
        keep_models=execution.keep_fold_models,
    )
    if config.search.honest == "nested":
        validate_nested(study)
    if config.search.race and not config.search.joint:
        race_of(study)  # a budget below one fold is told before anything is written
    return study, held
