"""Runs trials one after the other in this process, for debugging and tests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from segdecay.execution.base import Listener, Source
from segdecay.execution.retries import Attempts
from segdecay.execution.run_task import work_on
from segdecay.training.setup import TrialTask


class InlineExecutor:
    """Runs one trial at a time in this process; a trial that hangs blocks the run."""

    def __init__(self, device: str | None = None) -> None:
        self._device = device  # None: that of each task

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def expect(self, trial_s: float) -> None:
        """Do nothing: there is no watchdog in this executor."""

    def run(self, tasks: Sequence[TrialTask] | Source, on_event: Listener) -> None:
        """Run every task in this process; on Ctrl-C the running one writes a checkpoint."""
        attempts = Attempts(tasks, on_event, workers=1)
        while (task := attempts.start(running=0)) is not None:
            placed = replace(task, device=self._device or task.device)
            with _postponed_interrupt() as asked:

                def report(epoch: int, _epochs: int, task: TrialTask = task) -> None:
                    attempts.progress(task, epoch)

                outcome = work_on(placed, asked.is_set, report)
            if asked.is_set():
                raise KeyboardInterrupt
            attempts.conclude(task, outcome)


@contextmanager
def _postponed_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or an equivalent signal) sets; the second interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in names}

    def ask(_number: int, _frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    ours = [number for number, handler in before.items() if callable(handler)]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number in ours:
            signal.signal(number, before[number])
