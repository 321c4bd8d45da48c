"""A search whose trials a user's function trains: what it needs beside the built-in search."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset
from segdecay.data.checks.findings import CheckReport, class_rows
from segdecay.data.records import folds_record
from segdecay.data.splits.folds import make_plan
from segdecay.data.user_data import UserData
from segdecay.errors import ConfigError, gather
from segdecay.execution import find_devices
from segdecay.execution.options import Execution
from segdecay.runs.examples import Examples
from segdecay.runs.folder import check_folder
from segdecay.search.bias_correction import check_honest
from segdecay.search.examples import write_examples
from segdecay.search.study import Study
from segdecay.search.verdict import Decision
from segdecay.training.setup import axis_for
from segdecay.training.user_api import Function, UserFunction, name_of
from segdecay.training.user_function import TRUTH, truth_pixels
from segdecay.utils.files import read_json, write_json
from segdecay.workflows.prepare import Prepared, plan_search
from segdecay.workflows.steps import Watcher
from segdecay.workflows.workers import executor_for

SOURCE, TRANSFORM_SOURCE = "user_function.json", "user_transform.json"


@dataclass(frozen=True)
class UserSearch:
    """Who trains, and on what. data: described; None where the configuration names data that we read."""

    function: Function
    data: UserData | None = None


def check_user_function(config: RunConfig, execution: Execution) -> list[str]:
    """What has no meaning where the caller's function trains."""
    faults = []
    if axis_for(config.decay, config.optimizer).name == "relative_shrinkage":
        faults.append(
            f"decay.regularizer={config.decay.regularizer} is tuned relative to the size of the model's weights, "
            "and train= does not show its model. Give an axis of your own, as in "
            "axis=Axis('lambda_l1', [1e-5, 1e-4, 1e-3])."
        )
    if config.search.joint:
        faults.append(
            f"search.joint={list(config.search.joint)}: train= is searched along one axis. Leave it out, or search one "
            "after the other."
        )
    if execution.keep_fold_models:
        faults.append("keep_fold_models: train= keeps its own models, for example in fold.folder. Leave it out.")
    return faults


def prepare_user_function(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, search: UserSearch
) -> Prepared:
    """Check a search whose trials a user's function trains.

    Raises:
        SegdecayError: whatever is wrong with it.
    """
    has_time_budget = execution.budget_s is not None
    gather(
        ConfigError, [*check_user_function(config, execution), *check_honest(config, has_time_budget=has_time_budget)]
    )
    check_folder(run, config, "tune")
    devices = find_devices(execution.device)
    dataset, checks = _data(config, run, execution, search)
    user = UserFunction(
        search.function, tuple(item.name for item in dataset.items), dataset.classes, search.data is not None
    )
    executor = executor_for(name_of(search.function), user, search.function, execution, devices, watcher)
    study, held = plan_search(config, run, execution, watcher, dataset, checks, executor)
    study.user = user
    return Prepared(config, study, checks, held, None, devices)


def write_user_facts(run: Path, study: Study, decision: Decision, search: UserSearch) -> None:
    """Write what is known only after the trials: pixels of every class, and examples where images can be read."""
    if search.data is None:
        write_examples(study, decision, run / "examples")
        return
    if search.data.counts is None:
        _write_truth(run, study)
    (run / "examples").mkdir(exist_ok=True)
    write_json(run / "examples" / "examples.json", Examples())


def _data(config: RunConfig, run: Path, execution: Execution, search: UserSearch) -> tuple[Dataset, CheckReport]:
    if search.data is not None:
        return search.data.dataset(run)
    return load_dataset(config.data, cache=execution.cache)


def check_source(run: Path, function: Callable[..., Any], watcher: Watcher, file: str = SOURCE) -> None:
    """Say so where a run goes on with a function that was edited: its trials are then of two different trainings."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return
    digest = hashlib.sha256(source.encode()).hexdigest()
    path = run / file
    if not path.exists():
        write_json(path, {"function": name_of(function), "source_sha256": digest})
    elif read_json(path).get("source_sha256") != digest:
        watcher.say(
            f"warning: {name_of(function)} was edited since the first training of {run}; finished trainings are kept. "
            "Choose another out= if the edit changes what is trained."
        )


def _write_truth(run: Path, study: Study) -> None:
    """Say how much there is of each class, which nobody said beforehand: as far as trainings have counted it."""
    dataset, plan = study.dataset, study.folds
    counts = np.zeros((len(dataset.items), len(dataset.classes)), np.int64)
    for number, fold in enumerate(plan.folds):
        for index, row in zip(fold.validation, truth_pixels(run / TRUTH / f"{number}.json"), strict=False):
            counts[index] = row
    known = replace(dataset, counts=tuple(tuple(int(count) for count in row) for row in counts))
    rows = [asdict(row) for row in class_rows(dataset.classes, counts, dataset.items)]
    write_json(run / "data.json", {**read_json(run / "data.json"), "class_rows": rows})
    write_json(run / "folds.json", folds_record(make_plan(plan.method, plan.folds, known), known))
