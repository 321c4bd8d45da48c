"""Callbacks of a search: functions of the caller that are told what happens, in the calling process."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.errors import ConfigError, RunError, gather
from segdecay.execution import Event
from segdecay.metrics.criteria import Criterion
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.search.study import Study
from segdecay.training.preflight import Preflight
from segdecay.training.setup import TrialTask, count_epochs
from segdecay.utils.files import read_json
from segdecay.workflows.steps import Watcher

METHODS = ("on_trial_start", "on_epoch", "on_trial_end", "on_verdict")


@dataclass(frozen=True)
class Trial:
    """Which training a callback is told of.

    Attributes:
        setting: name of its folder, as in "total_decay=4".
        value: on the axis.
        fold: from 1; 0 for a final training.
        seed: of the training.
        folder: of its records.
    """

    setting: str
    value: float
    fold: int
    seed: int
    folder: Path

    def curve(self) -> list[dict[str, Any]]:
        """A row for every epoch of a finished training, as "loss", "lr" and "validation_miou"; empty before, and for
        a training of a user's function.
        """
        path = self.folder / "curve.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


class Callback:
    """Is told what happens; override what you need. Methods run in the calling process and should be quick.

    An exception in a method is a UserWarning that names it, once, and the search goes on; with `stops = True` it stops
    the search, which the same call resumes.

    Example:
        >>> class Scores(Callback):
        ...     def on_trial_end(self, trial, record):
        ...         print(f"{trial.setting} fold {trial.fold}: {record.status}")
    """

    stops = False

    def on_trial_start(self, trial: Trial) -> None:
        """A training begins, or goes on after an interruption."""

    def on_epoch(self, trial: Trial, epoch: int, epochs: int) -> None:
        """An epoch of so many ended; its losses and scores are in `trial.curve()` when the training ends."""

    def on_trial_end(self, trial: Trial, record: TrialRecord | None) -> None:
        """A training ended. record: its scores and how it ended; None where it failed before it had any."""

    def on_verdict(self, done: Any) -> None:
        """The search or comparison ended, with what the call returns."""


def check_callbacks(callbacks: Sequence[Any]) -> list[str]:
    """Faults of what was given as callbacks."""
    if not isinstance(callbacks, (list, tuple)):
        return [f"callbacks= takes a list of segdecay.Callback; saw {callbacks!r}."]
    return [
        f"callbacks: {one!r} has none of {', '.join(METHODS)}. Derive it from segdecay.Callback, and give an object, "
        "not its class."
        for one in callbacks
        if isinstance(one, type) or not any(callable(getattr(one, name, None)) for name in METHODS)
    ]


class CallbackWatcher:
    """A watcher that tells callbacks, and passes everything on."""

    def __init__(self, watcher: Watcher, callbacks: Sequence[Any]) -> None:
        gather(ConfigError, check_callbacks(callbacks))
        self._watcher, self._callbacks, self._warned = watcher, tuple(callbacks), set[str]()

    def say(self, line: str) -> None:
        self._watcher.say(line)

    def plan(self, study: Study, grid: Sequence[float], preflight: Preflight | None, refits: int, workers: int) -> None:
        self._watcher.plan(study, grid, preflight, refits, workers)

    def begin(self, criterion: Criterion, trainings: int, finished: int, workers: int) -> None:
        self._watcher.begin(criterion, trainings, finished, workers)

    def event(self, event: Event) -> None:
        self._watcher.event(event)
        if not self._callbacks:
            return
        trial = trial_of(event.task)
        if event.kind == "started":
            self._tell("on_trial_start", lambda one: one.on_trial_start(trial))
        elif event.kind == "progress":
            epochs = count_epochs(event.task.config)
            self._tell("on_epoch", lambda one: one.on_epoch(trial, event.epoch, epochs))
        elif event.kind in ("finished", "failed"):
            path = event.task.folder / "trial.json"
            record = trial_from_json(read_json(path)) if path.is_file() else None
            self._tell("on_trial_end", lambda one: one.on_trial_end(trial, record))

    def verdict(self, done: Any) -> None:
        """Tell what the call returns."""
        self._tell("on_verdict", lambda one: one.on_verdict(done))

    def _tell(self, method: str, call: Callable[[Any], None]) -> None:
        """Call every callback that has the method.

        Raises:
            RunError: one raised an exception and is to stop the run.
        """
        for one in self._callbacks:
            if not callable(getattr(one, method, None)):
                continue
            try:
                call(one)
            except Exception as error:  # whatever a user's code raises
                name = f"{type(one).__name__}.{method}"
                said = f"callback {name} raised {type(error).__name__}: {error}"
                if getattr(one, "stops", False):
                    raise RunError(f"{said}. Finished trials are kept; the same call resumes.") from error
                if name not in self._warned:
                    self._warned.add(name)
                    warnings.warn(f"{said}. The search goes on.", UserWarning, stacklevel=2)


def trial_of(task: TrialTask) -> Trial:
    """The public facts of a task."""
    return Trial(task.setting, task.value, task.fold + 1, task.seed, task.folder)
