"""The retry policy shared by all executors.

A trial resumes from its checkpoint, so a second attempt repeats little. A trial that may have lacked memory is tried
again while no other trial runs.
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
}  # a lost machine is not the trial's fault
ALONE = ("memory", "killed")  # a lack of memory may kill any process


class Attempts:
    """The trials of one `Executor.run`: those of the source, and those that are tried again."""

    def __init__(self, tasks: Sequence[TrialTask] | Source, on_event: Listener, workers: int) -> None:
        self._source, self._on_event, self._workers = source_of(tasks), on_event, workers
        self._again: deque[TrialTask] = deque()
        self._alone: deque[TrialTask] = deque()
        self._holds: Path | None = None  # the folder of the trial that runs alone
        self._tries: dict[tuple[Path, str], int] = {}

    def start(self, running: int) -> TrialTask | None:
        """The trial to start now, given the number of running ones; its event is sent. None: none now."""
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
        """Report that an epoch ended."""
        self._on_event(Event("progress", task, epoch))

    def conclude(self, task: TrialTask, outcome: Outcome) -> None:
        """Record the outcome of an attempt, and report it.

        Raises:
            DiskFullError: the disk is full.
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
        self._on_event(Event("again", task, reason=f"{_what_happened(outcome)}; trying again{how}"))

    def _given_up(self, task: TrialTask, outcome: Outcome, tries: int) -> str:
        times = f"{_what_happened(outcome)}, {tries} times"
        if outcome.kind == "memory":
            return f"{times}, the last time alone: {what_to_lower(task, self._workers)}"
        if outcome.kind == "killed":
            return f"{times}, often due to a lack of memory: {what_to_lower(task, self._workers)}"
        return times


def _what_happened(outcome: Outcome) -> str:
    if outcome.kind == "memory":
        return f"out of memory ({outcome.reason})"
    return outcome.reason or outcome.kind


MEDIANS = 5.0  # median trials for which a worker may be silent
ESTIMATES = 20.0  # before any trial has ended: multiple of the preflight's estimate
LEAST_S = 300.0  # lower bound, since starting, compiling and scoring take time
LONGEST_LOOK_S = 5.0  # longest time between two readings of the clock; longer means that the driver was stopped


@dataclass
class Patience:
    """The bound on silence, from the trials that have ended.

    Args:
        estimate_s: time of a trial, from the preflight; None: no bound until a trial has ended.
        least_s: lower limit of the bound.

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
        """Record the time of a finished trial."""
        self._took.append(seconds)

    @property
    def bound_s(self) -> float | None:
        """Seconds for which a worker may be silent; None: no bound."""
        if self._took:
            return max(self.least_s, MEDIANS * statistics.median(self._took))
        return None if self.estimate_s is None else max(self.least_s, ESTIMATES * self.estimate_s)

    def words(self) -> str:
        """The origin of the bound, as text."""
        if self._took:
            return f"{MEDIANS:g} times the median trial of {statistics.median(self._took):.1f} s"
        return f"{ESTIMATES:g} times the expected {self.estimate_s or 0:.1f} s of a trial"


@dataclass
class AwakeClock:
    """Seconds in which the driver was running, from readings of the monotonic clock.

    Time in which the driver was stopped (Ctrl-Z, a suspended machine) does not count, since it read no messages then.

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
