"""A search whose trials are trained by the caller's own function: folds, race, ledger, verdict and report are ours.

Knows every room by its front door; computes nothing itself.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset
from segdecay.data.checks.findings import CheckReport, class_rows
from segdecay.data.records import folds_record
from segdecay.data.splits.folds import make_plan
from segdecay.data.user_data import UserData
from segdecay.errors import ConfigError, gather
from segdecay.execution import Executor, InlineExecutor, default_workers, find_devices
from segdecay.execution.options import Execution, build_executor
from segdecay.report import build_report
from segdecay.runs.examples import Examples
from segdecay.runs.folder import check_folder, open_run, write_environment
from segdecay.runs.verdict import Verdict
from segdecay.search.bias_correction import check_honest, honest_score, with_honest
from segdecay.search.costs import count_trials
from segdecay.search.examples import write_examples
from segdecay.search.study import Study, criterion_of, grid_of, run_study
from segdecay.training.setup import axis_for
from segdecay.training.user_api import Function, UserFunction, name_of
from segdecay.training.user_function import TRUTH, truth_pixels
from segdecay.utils.files import read_json, write_json
from segdecay.workflows.steps import Watcher, check_names, write_facts
from segdecay.workflows.tune import Tuned, clear_ledger, cost_with, plan_search, refit, scores_on_test

SOURCE = "user_function.json"


@dataclass(frozen=True)
class UserSearch:
    """Who trains, and on what. data: described; None where the configuration names data that we read."""

    function: Function
    data: UserData | None = None


def check_user_function(config: RunConfig, execution: Execution) -> list[str]:
    """What has no meaning where the caller's function trains."""
    faults = []
    if config.decay.axis is None:
        found = check_names(config)
        if not found and axis_for(config.decay, config.optimizer).name == "relative_shrinkage":
            message = (
                f"decay.regularizer={config.decay.regularizer} is tuned relative to the size of the model's weights, "
                "and train= "
                "does not show its model. Give an axis of your own, as in axis=Axis('lambda_l1', [1e-5, 1e-4, 1e-3])."
            )
            found = [message]
        faults += found
    if config.search.joint:
        faults.append(
            f"search.joint={list(config.search.joint)}: train= is searched along one axis. Leave it out, or search one "
            "after the other."
        )
    if execution.keep_fold_models:
        faults.append("keep_fold_models: train= keeps its own models, for example in fold.folder. Leave it out.")
    return faults


def workers_reason(user: UserFunction) -> str | None:
    """Why this function cannot be sent to processes of their own; None where it can."""
    try:
        pickle.dumps(user)
    except Exception as error:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return f"it cannot be pickled ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    main = sys.modules.get("__main__")
    if getattr(user.function, "__module__", None) == "__main__" and not getattr(main, "__file__", None):
        return "it was typed into a session that other processes cannot import"
    return None


def tune_user_function(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, search: UserSearch
) -> Tuned:
    """Choose a strength by cross-validation of the caller's own training; the same call on the same `run` goes on.

    Raises:
        SegdecayError: anything a user can act on; nothing that was finished is lost.
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
    executor, workers = _executor(user, execution, devices, watcher)
    study, held = plan_search(config, run, execution, watcher, dataset, checks, executor)
    study.user, grid = user, grid_of(study)

    with open_run(run, config, "tune", wait=execution.wait, say=watcher.say):
        clear_ledger(study, watcher)
        _compare_source(run, search.function, watcher)
        write_facts(run, config, dataset, checks, study.folds, None)
        write_environment(run, execution.command, devices, workers, count_trials(study, grid).most)
        watcher.plan(study, grid, None, 2 * bool(dataset.part("test")), workers)
        if execution.budget_s is not None:
            study.budget = replace(study.budget, stop_at=time.monotonic() + execution.budget_s)
        verdict, decision = run_study(study)
        if search.data is not None and search.data.counts is None:
            _write_truth(run, study)
        if search.data is None:
            write_examples(study, decision, run / "examples")
        else:
            _no_examples(run / "examples")
        write_json(run / "verdict.json", verdict)
        watcher.say(verdict.sentence)
        verdict = with_honest(verdict, honest_score(study, verdict.strength, held, watcher.say))
        write_json(run / "verdict.json", verdict)
        verdict = _scored_on_test(study, verdict, grid[0])
        write_json(run / "verdict.json", verdict)
        return Tuned(run, verdict, build_report(run), None)


def _data(config: RunConfig, run: Path, execution: Execution, search: UserSearch) -> tuple[Dataset, CheckReport]:
    if search.data is not None:
        return search.data.dataset(run)
    return load_dataset(config.data, cache=execution.cache)


def _executor(
    user: UserFunction, execution: Execution, devices: Sequence[str], watcher: Watcher
) -> tuple[Executor, int]:
    """Processes of their own where the function can be sent there; this process, with a word why, where not."""
    workers = 1 if execution.workers == 0 else execution.workers or default_workers(devices)
    if execution.workers == 0:
        return InlineExecutor(), 1
    reason = workers_reason(user)
    if reason is None:
        return build_executor(execution, list(devices)), workers
    watcher.say(f"{name_of(user.function)} trains in this process, one fold after the other: {reason}.")
    return InlineExecutor(), 1


def _compare_source(run: Path, function: Function, watcher: Watcher) -> None:
    """Say so where a run goes on with a function that was edited: its trials are then of two different trainings."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return
    digest = hashlib.sha256(source.encode()).hexdigest()
    path = run / SOURCE
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


def _no_examples(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "examples.json", Examples())


def _scored_on_test(study: Study, verdict: Verdict, none: float) -> Verdict:
    """The verdict with the test scores of trainings on the whole pool; as it is where there is no test part."""
    if not study.dataset.part("test"):
        return verdict
    refits = refit(study, verdict, none=none)
    return replace(
        verdict,
        test=scores_on_test(refits, study.dataset, criterion_of(study)),
        cost=cost_with(verdict.cost, list(refits.values())),
    )
