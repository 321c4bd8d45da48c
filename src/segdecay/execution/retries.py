"""Which trial is tried next, which once more, and which is given up: the same for every executor.

A trial goes on from its checkpoint, so a second try repeats little. One that may have lacked memory is tried again
alone, when nothing runs beside it. Knows tasks and outcomes; nothing of processes.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segdecay.errors import DiskFullError
from segdecay.execution.base import Event, Listener, Source, source_of
from segdecay.execution.outcome import Outcome, what_to_lower
from segdecay.training.setup import TrialTask

TRIES = {
    "memory": 2,
    "killed": 2,
    "hung": 2,
    "interrupted": 2,
    "lost": 10,
}  # a machine that goes is not the trial's fault
ALONE = ("memory", "killed")  # the system kills a process of its choice where memory ends


class Attempts:
    """The trials of one `Executor.run`: those of the source, and those that are tried once more."""

    def __init__(self, tasks: Sequence[TrialTask] | Source, on_event: Listener, workers: int) -> None:
        self._source, self._on_event, self._workers = source_of(tasks), on_event, workers
        self._again: deque[TrialTask] = deque()
        self._alone: deque[TrialTask] = deque()
        self._holds: Path | None = None  # the folder of the trial that runs alone
        self._tries: dict[tuple[Path, str], int] = {}

    def start(self, running: int) -> TrialTask | None:
        """The trial to start now beside so many running ones, already announced; None: none now."""
        if self._holds is not None or (self._alone and running):
            return None
        if self._alone:
            task = self._alone.popleft()
            self._holds = task.folder
        else:
            found = self._again.popleft() if self._again else self._source()
            if found is None:
                return None
            task = found
        self._on_event(Event("started", task))
        return task

    def progress(self, task: TrialTask, epoch: int) -> None:
        """Tell that an epoch ended."""
        self._on_event(Event("progress", task, epoch))

    def conclude(self, task: TrialTask, outcome: Outcome) -> None:
        """Take note of how a try ended, and tell.

        Raises:
            DiskFullError: there was no room.
        """
        if self._holds == task.folder:
            self._holds = None
        if outcome.kind == "finished":
            self._on_event(Event("finished", task))
        elif outcome.kind == "full":
            raise DiskFullError(outcome.path)
        elif outcome.kind == "failed":
            self._on_event(Event("failed", task, reason=outcome.reason))
        else:
            self._try_again(task, outcome)

    def _try_again(self, task: TrialTask, outcome: Outcome) -> None:
        tries = self._tries[task.folder, outcome.kind] = self._tries.get((task.folder, outcome.kind), 0) + 1
        if tries >= TRIES[outcome.kind]:
            self._on_event(Event("failed", task, reason=self._given_up(task, outcome, tries)))
            return
        alone = outcome.kind in ALONE
        (self._alone if alone else self._again).append(task)
        how = ", alone" if alone and self._workers > 1 else ""
        self._on_event(Event("again", task, reason=f"{_what_happened(outcome)}; it is tried once more{how}"))

    def _given_up(self, task: TrialTask, outcome: Outcome, tries: int) -> str:
        times = f"{_what_happened(outcome)}, {tries} times"
        if outcome.kind == "memory":
            return f"{times}, the last time alone: {what_to_lower(task, self._workers)}"
        if outcome.kind == "killed":
            return f"{times}: often too little memory; {what_to_lower(task, self._workers)}"
        return times


def _what_happened(outcome: Outcome) -> str:
    if outcome.kind == "memory":
        return f"out of memory ({outcome.reason})"
    return outcome.reason or outcome.kind


MEDIANS = 5.0  # trials of median length that a worker may be silent
ESTIMATES = 20.0  # before any trial has ended: of the time that the preflight promises for a trial
LEAST_S = 300.0  # silent for less is never hung: starting, compiling and scoring take their time
LONGEST_LOOK_S = 5.0  # between two looks at the clock; a driver that slept longer was itself stopped


@dataclass
class Patience:
    """The bound on silence, from the trials that have ended.

    Args:
        estimate_s: of a trial, from the preflight; None: no bound until a trial has ended.
        least_s: the bound is never below.

    >>> patience = Patience(estimate_s=60.0)
    >>> patience.bound_s
    1200.0
    >>> patience.note(100.0)
    >>> patience.bound_s
    500.0
    """

    estimate_s: float | None = None
    least_s: float = LEAST_S
    _took: list[float] = field(default_factory=list)

    def note(self, seconds: float) -> None:
        """A trial has finished, after so many seconds."""
        self._took.append(seconds)

    @property
    def bound_s(self) -> float | None:
        """Seconds that a worker may be silent; None: any time."""
        if self._took:
            return max(self.least_s, MEDIANS * statistics.median(self._took))
        return None if self.estimate_s is None else max(self.least_s, ESTIMATES * self.estimate_s)

    def words(self) -> str:
        """Where the bound comes from."""
        if self._took:
            return f"{MEDIANS:g} times the median training of {statistics.median(self._took):.1f} s"
        return f"{ESTIMATES:g} times the {self.estimate_s or 0:.1f} s that a training was expected to take"


@dataclass
class AwakeClock:
    """Seconds in which the driver itself was running, from looks at the monotonic clock.

    A driver that was stopped (Ctrl-Z, a suspended machine) has heard nothing of its workers meanwhile: such time does
    not count.

    >>> clock = AwakeClock(10.0)
    >>> clock.look(11.0), clock.look(5000.0)
    (1.0, 6.0)
    """

    last: float  # of the monotonic clock
    awake_s: float = 0.0

    def look(self, now: float) -> float:
        """The awake seconds until now."""
        self.awake_s += min(max(0.0, now - self.last), LONGEST_LOOK_S)
        self.last = now
        return self.awake_s
