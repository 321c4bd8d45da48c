"""The interface of executors, and the events of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from segdecay.training.setup import TrialTask


@dataclass(frozen=True)
class Event:
    """An event of a trial.

    "started", "progress" (an epoch ended), "again" (it will be started once more, with the reason),
    "finished" or "failed".
    """

    kind: str
    task: TrialTask
    epoch: int = 0
    reason: str | None = None


Listener = Callable[[Event], None]
Source = Callable[[], TrialTask | None]  # called whenever a worker is free; None: nothing to do now


class Executor(Protocol):
    """Runs trials; results are in their folders, events report progress (segdecay.testing.ExecutorContract)."""

    @property
    def workers(self) -> int:
        """Number of trials at a time, as far as known now."""

    def expect(self, trial_s: float) -> None:
        """Set the expected time of a trial, which bounds the silence of workers before a trial has ended; optional."""

    def run(self, tasks: Sequence[TrialTask] | Source, on_event: Listener) -> None:
        """Run tasks until the source has none and none is running; a failed trial is an event.

        On an exception from `on_event` or the source, and on Ctrl-C, the running trials write checkpoints.

        Raises:
            DiskFullError: as soon as one trial finds the disk full.
        """


def source_of(tasks: Sequence[TrialTask] | Source) -> Source:
    """A list of tasks as a source, in order."""
    if callable(tasks):
        return tasks
    left = iter(tasks)
    return lambda: next(left, None)
