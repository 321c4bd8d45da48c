"""The main path, in the order in which things happen: data, folds, cells, verdict, refit, bundle, report.

Knows every room by its front door; computes nothing itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from segdecay.config import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.deploy.ensemble import load_predictor
from segdecay.deploy.loaded import Model
from segdecay.errors import ConfigError, RunError, gather
from segdecay.execution import Execution, build_executor
from segdecay.preparing import estimate, plan_search, prepare
from segdecay.records import CellRecord, Verdict, write_json
from segdecay.refits import REFIT_FOLD, cost_with, refit, scores_on_test
from segdecay.report import build_report
from segdecay.runs import check_folder, check_same, check_same_mean, open_run, write_environment
from segdecay.selection.costs import count_cells
from segdecay.selection.examples import write_examples
from segdecay.selection.executors import Event, find_devices, spread_over
from segdecay.selection.honest import honest_score, with_honest
from segdecay.selection.joint import run_joint
from segdecay.selection.ledger import Ledger, setting_name
from segdecay.selection.study import Study, criterion_of, grid_of, known_cells, run_study
from segdecay.steps import (
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
from segdecay.training.preflight import start_notes, try_cell
from segdecay.training.setup import CellTask, axis_for, initial_size
from segdecay.training.weighting import loss_in_words

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
    damaged = study.ledger.forget_damaged(known_cells(study), ships=study.own is None)
    say_all([f"warning: {line}" for line in damaged], watcher)


def tune(config: RunConfig, run: Path, execution: Execution, watcher: Watcher) -> Tuned:
    """Choose λ by cross-validation, refit, ship and report; the same call on the same `run` goes on.

    Raises:
        SegdecayError: anything a user can act on; nothing that was finished is lost.
    """
    found = prepare(config, run, execution, watcher)
    config, study, checks, held, trial = found.config, found.study, found.checks, found.held, found.trial
    dataset, grid, workers = study.dataset, grid_of(study), study.executor.workers
    refuse_small_budget(study, trial, workers, execution.budget_s)

    with open_run(run, config, "tune", wait=execution.wait, say=watcher.say) as opened:
        opened.room_bytes = trial.room_bytes(workers, refits=2)
        clear_ledger(study, watcher)
        write_facts(run, config, dataset, checks, study.folds, trial)
        write_environment(run, execution.command, found.devices, workers, count_cells(study, grid).most)
        watcher.plan(study, grid, trial, found.refits, workers)
        if execution.budget_s is not None:
            study.budget = replace(study.budget, stop_at=time.monotonic() + execution.budget_s)
        verdict, decision = run_joint(study) if config.search.joint else run_study(study)
        write_examples(study, decision, run / "examples")
        taken = study.config_at(verdict.strength.value)
        verdict = replace(verdict, paste=paste_of(taken, verdict, trial, len(pool_of(dataset))))
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
    record: CellRecord
    report: Path
    model: Path

    def load(self, *, model: str | None = None, device: str = "cpu") -> Model:
        """The model, ready to predict; arguments as in `Tuned.load`."""
        return Model(load_predictor([self.model], model=model, device=device))


def _training_task(
    config: RunConfig, dataset: Dataset, folder: Path, device: str, checkpoint_every_s: float
) -> CellTask:
    """The training part at the strength that was given; val is scored where there is one."""
    indices = dataset.part("train")
    value = value_of(config, len(indices), lambda: initial_size(config, dataset))
    return CellTask(
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
        trial = try_cell(task)
        if spread is not None:
            task = replace(task, spread=replace(spread, has_idle=trial.has_idle))
        opened.room_bytes = trial.room_bytes(1, refits=1)
        say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, trial)], watcher)
        write_facts(run, config, dataset, checks, None, trial)
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
