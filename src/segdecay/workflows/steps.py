"""The steps of the main path, one function each; tune.py, train.py and compare.py call them in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from segdecay import decay
from segdecay.config.schema import RunConfig, Task
from segdecay.data import Dataset
from segdecay.data.checks.findings import CheckReport, Finding
from segdecay.data.records import data_record, folds_record
from segdecay.data.splits.folds import FoldPlan
from segdecay.decay.groups import group_multipliers
from segdecay.errors import ConfigError, DataError, gather
from segdecay.execution import Event
from segdecay.inference.bundle import write_bundle
from segdecay.metrics.criteria import Criterion
from segdecay.models.zoo import CLASSIFIERS, check_model_task
from segdecay.runs.facts import PartitionRecord, PartitionRow
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import Verdict
from segdecay.search.costs import seconds_of_trial
from segdecay.search.study import Study, race_of
from segdecay.training.class_weights import check_learnable, check_weight_list, loss_to_paste
from segdecay.training.optim import FUSED, constructor_text, example_optimizer, import_text, learning_rates
from segdecay.training.preflight import Preflight
from segdecay.training.setup import axis_for, count_steps, multipliers_of, strength_of
from segdecay.utils.files import read_json, write_json
from segdecay.workflows.export import card_of

SURELY = 0.5  # of an estimated time: what is below it does not suffice
REFIT_FOLD = -1  # the fold number with which a final training draws its seeds


class Watcher(Protocol):
    """Who is told how a run goes."""

    def say(self, line: str) -> None:
        """One line for a person."""

    def plan(self, study: Study, grid: Sequence[float], preflight: Preflight | None, refits: int, workers: int) -> None:
        """Before the first trial: what will be run, and how long it may take."""

    def begin(self, criterion: Criterion, trainings: int, finished: int, workers: int) -> None:
        """Before the first trial, where a plan was said already."""

    def event(self, event: Event) -> None:
        """A trial started, moved, finished or failed."""


def fitted_to_task(config: RunConfig, task: Task) -> RunConfig:
    """The configuration with the network that the task needs, where none was asked for.

    Raises:
        ConfigError: a network that cannot do the task was asked for.
    """
    if task == "classification" and "name" not in config.model.model_fields_set:
        model = config.model.model_copy(update={"name": next(iter(CLASSIFIERS))})
        config = config.model_copy(update={"model": model})
    gather(ConfigError, check_model_task(config.model.name, task))
    return config


def refuse_warnings(config: RunConfig, findings: Sequence[Finding], watcher: Watcher) -> None:
    """Say every warning; under `strict` they are errors.

    Raises:
        DataError: strict, and there are warnings.
    """
    warnings = [finding.message for finding in findings if finding.level == "warning"]
    if config.search.strict:
        gather(DataError, warnings, headline="Under --strict these warnings stop the run:" if warnings else "")
    for message in warnings:
        watcher.say(f"warning: {message}")


def refuse_unlearnable(
    config: RunConfig, dataset: Dataset, trainings: Sequence[Sequence[int]], watcher: Watcher
) -> None:
    """Refuse class weights that do not fit the classes, and classes that a training (its images) does not hold.

    Raises:
        ConfigError: naming all; under allow_missing classes without a pixel are warnings.
    """
    faults, lacking = check_weight_list(config.loss, dataset.classes), check_learnable(config.loss, dataset, trainings)
    if config.search.allow_missing:
        say_all([f"warning: {line}" for line in lacking], watcher)
        lacking = []
    gather(ConfigError, [*faults, *lacking])


def refuse_small_budget(study: Study, preflight: Preflight, workers: int, budget_s: float | None) -> None:
    """Refuse a time in which not even the first fold can be trained.

    The preflight's step is an estimate, so only what is surely too little is refused.

    Raises:
        ConfigError: with the time that the first fold takes.
    """
    if budget_s is None or not study.config.search.race or study.config.search.joint:
        return
    race, values = race_of(study)
    trials = [study.tasks(values[setting])[0] for setting in race.coarse]
    left = sum(study.ledger.record(task.folder) is None for task in trials)
    one_s = seconds_of_trial(study, preflight.seconds_a_batch)
    first_s = one_s * math.ceil(left / workers)
    if left and budget_s < SURELY * first_s:
        raise ConfigError(
            f"--budget {budget_s:g}s is below one fold: the search begins with {len(trials)} trainings, {left} of them "
            f"left, of about {one_s:.0f} s each, {workers} at a time. Give at least {math.ceil(first_s)}s, "
            "or fewer epochs or smaller images."
        )


def say_all(lines: Sequence[str], watcher: Watcher) -> None:
    """Say every line."""
    for line in lines:
        watcher.say(line)


def pool_of(dataset: Dataset) -> tuple[int, ...]:
    """The images that folds are made of and a refit trains on: everything but the test part."""
    return dataset.part("train", "val")


def ship(
    run: Path, config: RunConfig, dataset: Dataset, record: TrialRecord, folder: Path, verdict: Verdict | None = None
) -> None:
    """Make the bundle from a final training; verdict: of the search before it."""
    write_bundle(
        run / "model",
        (folder / "model.safetensors").read_bytes(),
        card_of(config, dataset, record, read_json(run / "data.json"), verdict),
    )


def paste_of(config: RunConfig, verdict: Verdict, preflight: Preflight, n_images: int) -> str:
    """Lines for the user's own training at the taken strength, for a training on the whole pool; λ has three digits."""
    strength = strength_of(config, verdict.strength.value, n_images, size=preflight.size)
    has_lambda = axis_for(config.decay, config.optimizer).has_lambda
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, n_images))
    name = config.optimizer.name
    options: dict[str, Any] = {"momentum": config.optimizer.momentum} if name == "sgd" else {}
    options |= {"betas": config.optimizer.betas} if name in ("adam", "adamw") else {}
    is_known = name in FUSED
    return decay.paste_lines(
        config.decay.regularizer,
        name if is_known else example_optimizer(config.optimizer),
        float(f"{strength.lambda_ or 0.0:.3g}") if has_lambda else strength.value,
        config.optimizer.lr,
        options={**options, **config.optimizer.options},
        construct=None if is_known else partial(constructor_text, config.optimizer),
        imports="torch" if is_known else import_text(config.optimizer),
        partition=preflight.partition,
        multipliers=multipliers_of(config.decay),
        learning_rates=rates,
        regularizer_options=config.decay.options,
        loss=loss_to_paste(config.loss),
    )


def write_facts(
    run: Path,
    config: RunConfig,
    dataset: Dataset,
    checks: CheckReport,
    folds: FoldPlan | None,
    preflight: Preflight | None,
) -> None:
    """What the run rests on, before any training; without a preflight the model, and so its groups, are not known."""
    write_json(run / "data.json", data_record(dataset, checks))
    if folds is not None:
        write_json(run / "folds.json", folds_record(folds, dataset))
    rows = preflight.partition.rows if preflight is not None else ()
    multipliers = group_multipliers(preflight.partition, multipliers_of(config.decay)) if preflight is not None else {}
    write_json(
        run / "partition.json",
        PartitionRecord(
            tuple(
                PartitionRow(row.name, row.shape, row.module, row.group, row.reason, multipliers[row.group])
                for row in rows
            )
        ),
    )


def value_of(config: RunConfig, n_images: int, size: Callable[[], float | None] = lambda: None) -> float:
    """The axis value that `train` was asked for, by value or by λ; `size` is asked where λ depends on it.

    Raises:
        ConfigError: neither or both were given, or λ where there is none.
    """
    value, lambda_ = config.decay.value, config.decay.lambda_
    axis = axis_for(config.decay, config.optimizer)
    if config.decay.regularizer == "none" and value is None and lambda_ is None:
        return axis.none
    if (value is None) == (lambda_ is None):
        seen = "both" if value is not None else "neither"
        raise ConfigError(f"train needs one strength: --lambda, or --strength on the axis ({axis.name}); saw {seen}.")
    if value is not None:
        return value
    if not axis.has_lambda:
        raise ConfigError(
            f"decay.regularizer={config.decay.regularizer} has no λ: {axis.reason} Give --strength on the axis "
            f"({axis.name})."
        )
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, n_images))
    return axis.with_size(size()).from_lambda(lambda_ or 0.0, rates)
