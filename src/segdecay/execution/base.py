"""What an executor is, and what it tells of trials. Knows tasks; nothing of processes, statistics or pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from segdecay.training.setup import TrialTask


@dataclass(frozen=True)
class Event:
    """What happened to a trial.

    "started", "progress" (an epoch ended), "again" (it is tried once more, for a reason; it starts again later),
    "finished" or "failed".
    """

    kind: str
    task: TrialTask
    epoch: int = 0
    reason: str | None = None


Listener = Callable[[Event], None]
Source = Callable[[], TrialTask | None]  # asked whenever a worker is free; None: nothing to do now


class Executor(Protocol):
    """Runs trials; results are in their folders, events tell how it goes (segdecay.testing.ExecutorContract)."""

    @property
    def workers(self) -> int:
        """How many trials it runs at a time, as far as it knows now."""

    def expect(self, trial_s: float) -> None:
        """What a trial should take, from the preflight: until one has ended, a hang is told by it. May do nothing."""

    def run(self, tasks: Sequence[TrialTask] | Source, on_event: Listener) -> None:
        """Run tasks to their end, until a source has none and none is running; a failed trial is an event.

        An exception from `on_event` or from the source, Ctrl-C among them, lets the running trials keep their state.

        Raises:
            DiskFullError: as soon as one trial finds no room, so that the others need not find out too.
        """


def source_of(tasks: Sequence[TrialTask] | Source) -> Source:
    """A list of tasks as a source that gives them in their order."""
    if callable(tasks):
        return tasks
    left = iter(tasks)
    return lambda: next(left, None)
