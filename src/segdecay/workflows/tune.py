"""The main path, in the order in which things happen: data, folds, trials, verdict, refit, bundle, report.

Knows every room by its front door; computes nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.data.checks.findings import CheckReport
from segdecay.data.splits.folds import Fold, check_folds, plan_folds
from segdecay.errors import ConfigError, RunError, gather
from segdecay.execution import Event, Executor, find_devices, spread_over
from segdecay.execution.options import Execution, build_executor
from segdecay.inference.model import Model, load_predictor
from segdecay.metrics.criteria import Criterion, build_criterion
from segdecay.report import build_report
from segdecay.runs.folder import check_folder, check_same, check_same_mean, open_run, write_environment
from segdecay.runs.records import TrialRecord, Verdict
from segdecay.search.bias_correction import check_honest, hold_out, honest_score, validate_nested, with_honest
from segdecay.search.costs import Estimate, count_trials, estimate_of, seconds_of_trial
from segdecay.search.examples import write_examples
from segdecay.search.joint.search import run_joint
from segdecay.search.ledger import Ledger, setting_name
from segdecay.search.race_runner import Budget
from segdecay.search.study import Study, criterion_of, grid_of, known_trials, race_of, run_study
from segdecay.training.class_weights import loss_in_words
from segdecay.training.preflight import Preflight, run_preflight, start_notes
from segdecay.training.setup import TrialTask, axis_for, initial_size
from segdecay.utils.files import write_json
from segdecay.workflows.steps import (
    Watcher,
    check_names,
    fitted_to_task,
    paste_of,
    pool_of,
    refuse_small_budget,
    refuse_unlearnable,
    refuse_warnings,
    say_all,
    ship,
    value_of,
    write_facts,
)


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


@dataclass(frozen=True)
class Prepared:
    """A search that was checked and tried for a few steps; nothing is written yet."""

    config: RunConfig
    study: Study
    checks: CheckReport
    held: Fold | None
    preflight: Preflight
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
    preflight = run_preflight(replace(study.tasks(grid_of(study)[-1])[0], device=devices[0]))
    study.size = preflight.size
    study.executor.expect(seconds_of_trial(study, preflight.seconds_a_batch))
    say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, preflight)], watcher)
    return Prepared(config, study, checks, held, preflight, devices)


def estimate(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Estimate:
    """Trials, time and disk of a search, beforehand: nothing is trained but a few steps on a throw-away model, nothing
    written to `run`.

    Raises:
        SegdecayError: whatever would stop the search before its first trial.
    """
    found = prepare(config, run, execution, watcher)
    study = found.study
    return estimate_of(study, grid_of(study), found.preflight, found.refits, study.executor.workers)


REFIT_FOLD = -1  # the number that a final training draws its seeds with


def refit(study: Study, verdict: Verdict, *, none: float) -> dict[str, TrialRecord]:
    """Train on the whole pool at the taken axis value, and at none when there is a test part to compare on.

    The test part is scored once, after the last step of each.

    Raises:
        DiskFullError: there is no room for one.
        RunError: a refit failed or diverged.
    """
    test = study.dataset.part("test")
    values = {"chosen": verdict.strength.value}
    if test and verdict.strength.value != none:
        values["zero"] = none
    tasks = {role: _refit_task(study, role, value, test) for role, value in values.items()}
    for task in tasks.values():  # a trial that failed before may have changed the verdict
        study.ledger.forget_other_setting(task.folder, task.setting)
    failures: dict[Path, str] = {}

    def note(event: Event) -> None:
        if event.kind == "failed":
            failures[event.task.folder] = event.reason or "failed"
        study.on_event(event)

    missing = [task for task in tasks.values() if study.ledger.record(task.folder) is None]
    if missing:
        study.executor.run(missing, note)
    records: dict[str, TrialRecord] = {}
    for role, task in tasks.items():
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            raise RunError(_refit_failed(values[role], record, failures.get(task.folder, "unfinished"), study))
        records[role] = record
    return records


def _refit_failed(value: float, record: TrialRecord | None, failure: str, study: Study) -> str:
    if record is None:
        remedy = "Remove the cause and run the same command again: only the refit is left to do."
    else:
        remedy = "Train at a neighbouring strength, or lower optimizer.lr in a new run."
    reason = failure if record is None else record.reason
    return f"The refit at {value:g} did not succeed: {reason}. The verdict is in {study.ledger.run}. {remedy}"


def _refit_task(study: Study, role: str, value: float, test: tuple[int, ...]) -> TrialTask:
    return TrialTask(
        folder=study.ledger.refit(role),
        dataset=study.dataset.root,
        config=study.config_at(value),
        setting=study.name_of(value),
        value=value,
        fold=REFIT_FOLD,
        seed=study.config.search.seeds[0],
        train=pool_of(study.dataset),
        scored=test,
        keep_model=True,
        is_refit=True,
        scores_on_the_way=0,
        checkpoint_every_s=study.checkpoint_every_s,
        user=study.user,
    )


def scores_on_test(refits: dict[str, TrialRecord], dataset: Dataset, criterion: Criterion) -> dict[str, Any] | None:
    """The test scores of the refits by their names; none's are those of "chosen" when none was taken.

    `score` is by the criterion, and `classes` by what it scores classes with.
    """
    if not dataset.part("test"):
        return None
    scores = {}
    for role in ("chosen", "zero"):
        found = refits.get(role, refits["chosen"]).validation
        if found is not None:
            own = found.recall if criterion.by_class.class_score == "recall" else found.iou
            scores[role] = {
                "miou": found.miou,
                "iou": dict(zip(dataset.classes, found.iou, strict=True)),
                "score": criterion.of_record(found),
                "classes": dict(zip(dataset.classes, own, strict=True)),
            }
    return scores


def cost_with(cost: dict[str, Any], refits: Sequence[TrialRecord]) -> dict[str, Any]:
    """The cost of a search with that of its refits added."""
    return {
        "trials": cost["trials"],
        "refits": len(refits),
        "epochs": cost["epochs"] + sum(record.epochs for record in refits),
        "seconds": round(cost["seconds"] + sum(record.seconds for record in refits), 1),
    }


__all__ = ["Execution", "Trained", "Tuned", "estimate", "plan_search", "train", "tune"]


@dataclass(frozen=True)
class Tuned:
    """What `tune` returns."""

    run: Path
    verdict: Verdict
    report: Path
    model: Path | None  # None: trained by the caller's function, which keeps what it likes

    def load(self, *, model: str | None = None, device: str = "cpu") -> Model:
        """The refitted model, ready to predict.

        Args:
            model: for a model of your own code, the same package.module:build again.
            device: where to put it.

        Raises:
            RunError: the caller's function trained: it keeps its own models.
        """
        if self.model is None:
            raise RunError(f"{self.run} was trained by a function of your own, which keeps its own models.")
        return Model(load_predictor([self.model], model=model, device=device))


def clear_ledger(study: Study, watcher: Watcher) -> None:
    """Refuse a run of other data or folds; remove what a kill or damage left.

    Raises:
        RunError: the fingerprints differ.
    """
    run = study.ledger.run
    check_same(run, "data.json", "fingerprint", study.dataset.fingerprint, "data")
    check_same_mean(run, study.dataset.exclude_from_mean)
    check_same(run, "folds.json", "fingerprint", study.folds.fingerprint, "folds")
    study.ledger.forget_leftovers()
    damaged = study.ledger.forget_damaged(known_trials(study), ships=study.user is None)
    say_all([f"warning: {line}" for line in damaged], watcher)


def tune(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Tuned:
    """Choose λ by cross-validation, refit, ship and report; the same call on the same `run` goes on.

    Raises:
        SegdecayError: anything a user can act on; nothing that was finished is lost.
    """
    found = prepare(config, run, execution, watcher)
    config, study, checks, held, preflight = found.config, found.study, found.checks, found.held, found.preflight
    dataset, grid, workers = study.dataset, grid_of(study), study.executor.workers
    refuse_small_budget(study, preflight, workers, execution.budget_s)

    with open_run(run, config, "tune", wait=execution.wait, say=watcher.say) as opened:
        opened.room_bytes = preflight.room_bytes(workers, refits=2)
        clear_ledger(study, watcher)
        write_facts(run, config, dataset, checks, study.folds, preflight)
        write_environment(run, execution.command, found.devices, workers, count_trials(study, grid).most)
        watcher.plan(study, grid, preflight, found.refits, workers)
        if execution.budget_s is not None:
            study.budget = replace(study.budget, stop_at=time.monotonic() + execution.budget_s)
        verdict, decision = run_joint(study) if config.search.joint else run_study(study)
        write_examples(study, decision, run / "examples")
        taken = study.config_at(verdict.strength.value)
        verdict = replace(verdict, paste=paste_of(taken, verdict, preflight, len(pool_of(dataset))))
        write_json(run / "verdict.json", verdict)
        watcher.say(verdict.sentence)
        study.ledger.forget_models(but=setting_name(verdict.strength.axis, verdict.strength.value))

        verdict = with_honest(verdict, honest_score(study, verdict.strength, held, watcher.say))
        write_json(run / "verdict.json", verdict)

        refits = refit(study, verdict, none=grid[0])
        verdict = replace(
            verdict,
            test=scores_on_test(refits, dataset, criterion_of(study)),
            cost=cost_with(verdict.cost, list(refits.values())),
        )
        write_json(run / "verdict.json", verdict)
        ship(run, taken, dataset, refits["chosen"], study.ledger.refit("chosen"), verdict)
        return Tuned(run, verdict, build_report(run), run / "model")


@dataclass(frozen=True)
class Trained:
    """What `train` returns."""

    run: Path
    record: TrialRecord
    report: Path
    model: Path

    def load(self, *, model: str | None = None, device: str = "cpu") -> Model:
        """The model, ready to predict; arguments as in `Tuned.load`."""
        return Model(load_predictor([self.model], model=model, device=device))


def _training_task(
    config: RunConfig, dataset: Dataset, folder: Path, device: str, checkpoint_every_s: float
) -> TrialTask:
    """The training part at the strength that was given; val is scored where there is one."""
    indices = dataset.part("train")
    value = value_of(config, len(indices), lambda: initial_size(config, dataset))
    return TrialTask(
        folder=folder,
        dataset=dataset.root,
        config=config,
        setting=setting_name(axis_for(config.decay, config.optimizer).name, value),
        value=value,
        fold=REFIT_FOLD,
        seed=config.search.seeds[0],
        train=indices,
        scored=dataset.part("val"),
        device=device,
        keep_model=True,
        is_refit=True,
        checkpoint_every_s=checkpoint_every_s,
    )


def train(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Trained:
    """Train one setting on the training part; the val part, where there is one, is scored at the end.

    Raises:
        SegdecayError: anything a user can act on.
    """
    gather(ConfigError, check_names(config))
    config = fitted_to_task(config, task_of(config.data))
    check_folder(run, config, "train")
    devices = find_devices(execution.device)
    spread = spread_over(devices, execution.devices)
    dataset, checks = load_dataset(config.data, cache=execution.cache, cache_limit=execution.cache_limit)
    refuse_warnings(config, checks.findings, watcher)
    refuse_unlearnable(config, dataset, [dataset.part("train")], watcher)
    with open_run(run, config, "train", wait=execution.wait, say=watcher.say) as opened:
        check_same(run, "data.json", "fingerprint", dataset.fingerprint, "data")
        check_same_mean(run, dataset.exclude_from_mean)
        ledger = Ledger(run)
        ledger.forget_leftovers()
        task = _training_task(config, dataset, ledger.refit("chosen"), devices[0], execution.checkpoint_every_s)
        task = replace(task, spread=spread)
        preflight = run_preflight(task)
        if spread is not None:
            task = replace(task, spread=replace(spread, has_idle=preflight.has_idle))
        opened.room_bytes = preflight.room_bytes(1, refits=1)
        say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, preflight)], watcher)
        write_facts(run, config, dataset, checks, None, preflight)
        write_environment(run, execution.command, list(spread.devices) if spread else devices[:1], 1, 1)
        failures: list[str] = []

        def note(event: Event) -> None:
            if event.kind == "failed":
                failures.append(event.reason or "failed")
            watcher.event(event)

        if ledger.record(task.folder) is None:
            build_executor(execution, devices[:1], at_most=1).run([task], note)
        record = ledger.record(task.folder)
        if record is None or record.status != "finished":
            reason = failures[0] if record is None and failures else record.reason if record else "unfinished"
            raise RunError(f"The training did not succeed: {reason}.")
        ship(run, config, dataset, record, task.folder)
        return Trained(run, record, build_report(run), run / "model")
