"""One training at one strength, its model and its report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.data.transforms.user import UserTransform
from segdecay.errors import ConfigError, RunError, gather
from segdecay.execution import Event, find_devices, spread_over
from segdecay.execution.options import Execution
from segdecay.inference.model import Model, load_predictor
from segdecay.report import build_report
from segdecay.runs.folder import check_folder, check_same, check_same_mean, open_run, write_environment
from segdecay.runs.read import read_values
from segdecay.runs.records import TrialRecord
from segdecay.search.ledger import Ledger, setting_name
from segdecay.training.batches import check_transform
from segdecay.training.class_weights import loss_in_words
from segdecay.training.precision import with_precision
from segdecay.training.preflight import run_preflight, start_notes
from segdecay.training.setup import TrialTask, axis_for, initial_size
from segdecay.utils.files import plain_values
from segdecay.utils.tables import data_frame
from segdecay.workflows.frames import trained_class_rows
from segdecay.workflows.notebook import training_html
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
from segdecay.workflows.user_training import TRANSFORM_SOURCE, check_source
from segdecay.workflows.workers import executor_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Trained:
    """What `train` returns; a notebook shows the scores of every class."""

    run: Path
    record: TrialRecord
    report: Path
    model: Path

    def __repr__(self) -> str:
        return f"Trained({str(self.run)!r}: {self._sentence()})"

    def _sentence(self) -> str:
        label = "balanced accuracy" if self.record.extra.get("task") == "classification" else "mIoU"
        parts = (("validation", self.record.validation), ("train", self.record.train))
        known = [(name, scores) for name, scores in parts if scores is not None]
        scores = [f"{name} {label} {s.miou if label == 'mIoU' else s.balanced_accuracy:.3f}" for name, s in known]
        return ", ".join([self.record.setting, *scores])

    def _repr_html_(self) -> str:
        return training_html(self.record, self._classes(), self._sentence(), self.report)

    def _classes(self) -> tuple[str, ...]:
        return tuple(read_values(self.run / "data.json")["classes"])

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, as trial.json has it, and the paths."""
        paths = {"run": self.run, "report": self.report, "model": self.model}
        return {**plain_values(self.record), **{name: str(path) for name, path in paths.items()}}

    def classes_dataframe(self) -> pd.DataFrame:
        """One row a class: IoU, precision and recall on validation and on training images."""
        return data_frame(trained_class_rows(self.record, self._classes()))

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


def train(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, transform: UserTransform | None = None
) -> Trained:
    """Train one setting on the training part; the val part, where there is one, is scored at the end.

    Args:
        transform: a callable of the user's that changes training images, given in Python.

    Raises:
        SegdecayError: anything a user can act on.
    """
    devices = find_devices(execution.device)
    config = with_precision(fitted_to_task(config, task_of(config.data)), devices[0])
    check_folder(run, config, "train")
    spread = spread_over(devices, execution.devices)
    dataset, checks = load_dataset(config.data, cache=execution.cache, cache_limit=execution.cache_limit)
    refuse_warnings(config, checks.findings, watcher)
    refuse_unlearnable(config, dataset, [dataset.part("train")], watcher)
    gather(ConfigError, check_transform(config.augment, dataset, dataset.part("train"), transform))
    with open_run(run, config, "train", wait=execution.wait, say=watcher.say) as opened:
        check_same(run, "data.json", "fingerprint", dataset.fingerprint, "data")
        check_same_mean(run, dataset.exclude_from_mean)
        ledger = Ledger(run)
        ledger.forget_leftovers()
        task = _training_task(config, dataset, ledger.refit("chosen"), devices[0], execution.checkpoint_every_s)
        task = replace(task, spread=spread, transform=transform)
        preflight = run_preflight(task)
        if spread is not None:
            task = replace(task, spread=replace(spread, has_idle=preflight.has_idle))
        opened.room_bytes = preflight.room_bytes(1, refits=1)
        say_all([f"loss: {loss_in_words(config.loss)}", *start_notes(config, preflight)], watcher)
        write_facts(run, config, dataset, checks, None, preflight)
        write_environment(run, execution.command, list(spread.devices) if spread else devices[:1], 1, 1)
        if transform is not None:
            check_source(run, transform.function, watcher, TRANSFORM_SOURCE)
        failures: list[str] = []

        def note(event: Event) -> None:
            if event.kind == "failed":
                failures.append(event.reason or "failed")
            watcher.event(event)

        if ledger.record(task.folder) is None:
            executor_of(transform, execution, devices[:1], watcher, at_most=1).run([task], note)
        record = ledger.record(task.folder)
        if record is None or record.status != "finished":
            reason = failures[0] if record is None and failures else record.reason if record else "unfinished"
            raise RunError(f"The training did not succeed: {reason}.")
        ship(run, config, dataset, record, task.folder)
        return Trained(run, record, build_report(run), run / "model")
