"""One training at one strength, its model and its report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.errors import RunError
from segdecay.execution import Event, find_devices, spread_over
from segdecay.execution.options import Execution, build_executor
from segdecay.inference.model import Model, load_predictor
from segdecay.report import build_report
from segdecay.runs.folder import check_folder, check_same, check_same_mean, open_run, write_environment
from segdecay.runs.records import TrialRecord
from segdecay.search.ledger import Ledger, setting_name
from segdecay.training.class_weights import loss_in_words
from segdecay.training.preflight import run_preflight, start_notes
from segdecay.training.setup import TrialTask, axis_for, initial_size
from segdecay.workflows.steps import (
    REFIT_FOLD,
    Watcher,
    fitted_to_task,
    refuse_unlearnable,
    refuse_warnings,
    say_all,
    ship,
    value_of,
    write_facts,
)


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
