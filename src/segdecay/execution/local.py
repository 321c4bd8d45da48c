"""Runs every trial in a separate process of this machine: one thread each on a CPU, else one process per GPU.

If a worker dies, only its trial is affected; a worker that is silent for too long is ended. Workers end when the driver
ends.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from segdecay.execution.base import Listener, Source
from segdecay.execution.outcome import Outcome
from segdecay.execution.process import worker_context
from segdecay.execution.retries import Attempts, AwakeClock, Patience
from segdecay.execution.worker import work
from segdecay.training.setup import TrialTask

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


@contextmanager
def signals_wait() -> Iterator[None]:
    """Delay signals that stop this process until the block ends; no effect outside the main thread."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: Any) -> None:
        came.append(number)

    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) is not None:  # None: set by other code, which cannot be given back
                before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


STOP_WITHIN_S = 15.0  # for all workers together; schedulers kill about 30 s after they ask
LOOK_EVERY_S = 1.0
NOT_IMPORTED = 1  # the exit code of a worker that could not unpack its task; one that lacked memory is killed by 9
CANNOT_IMPORT = (
    "it could not import the script, or the module of a function that was given (its own message is above). Put them "
    "into a file in this folder or an installed package, or train in this process, with workers=0 (--workers 0)."
)
SERVER_GONE = 255  # the exit code that multiprocessing gives a worker whose fork server has died


@dataclass
class _Running:
    process: Any
    connection: Connection
    task: TrialTask
    slot: str
    since: float  # on the monotonic clock
    heard: float  # awake seconds at its last message
    outcome: Outcome | None = None
    has_begun: bool = False  # it has unpacked its task; before, it imports the script and the user's modules

    def kill(self) -> None:
        """Kill the process; its open connection shows that the process id is still its own."""
        if not self.connection.closed:
            try:
                os.kill(self.process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            except ProcessLookupError:
                return


class LocalExecutor:
    """Runs up to `workers` trials at a time on this machine, each in a separate process."""

    def __init__(self, workers: int, devices: Sequence[str], patience: Patience | None = None) -> None:
        self._slots = [devices[i % len(devices)] for i in range(workers)]
        self._context = worker_context()
        self.work: Callable[[TrialTask, Connection], None] = work  # the body of a worker
        self._patience = patience or Patience()
        self._clock = AwakeClock(time.monotonic())

    @property
    def workers(self) -> int:
        """The configured number of workers."""
        return len(self._slots)

    def expect(self, trial_s: float) -> None:
        """Set the expected time of a trial, which bounds the silence of workers before a trial has ended."""
        self._patience.estimate_s = trial_s

    def run(self, tasks: Sequence[TrialTask] | Source, on_event: Listener) -> None:
        """Run every task; on Ctrl-C or a full disk the running ones write checkpoints first."""
        attempts = Attempts(tasks, on_event, len(self._slots))
        free, running = list(reversed(self._slots)), dict[int, _Running]()
        self._clock.last = time.monotonic()
        try:
            while True:
                while free and (task := attempts.start(len(running))) is not None:
                    with signals_wait():  # a worker that receives a part of its task prints a traceback
                        started = self._start(task, free.pop())
                        running[started.process.sentinel] = started
                if not running:
                    return
                for one in self._wait(running, attempts):
                    del running[one.process.sentinel]
                    free.append(one.slot)
                    attempts.conclude(one.task, self._outcome(one))
        finally:
            _stop(list(running.values()))

    def _start(self, task: TrialTask, slot: str) -> _Running:
        ours, theirs = self._context.Pipe()
        on_slot = replace(task, device=slot, trials_on_device=self._slots.count(slot))
        process = self._context.Process(target=self.work, args=(on_slot, theirs), daemon=False)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        now = time.monotonic()
        return _Running(process, ours, task, slot, now, self._clock.look(now))

    def _wait(self, running: dict[int, _Running], attempts: Attempts) -> list[_Running]:
        """Handle messages of workers, end those that are silent for too long, and return those that have ended."""
        by_connection = {id(one.connection): one for one in running.values() if not one.connection.closed}
        ready = wait([*running, *(one.connection for one in by_connection.values())], timeout=LOOK_EVERY_S)
        for item in ready:
            if isinstance(item, Connection):
                self._listen(by_connection[id(item)], attempts)
        self._end_silent(list(running.values()))
        ended = [one for sentinel, one in running.items() if sentinel in ready]
        for one in ended:
            self._listen_to_the_end(one, attempts)
        return ended

    def _listen(self, one: _Running, attempts: Attempts) -> None:
        try:
            said = json.loads(one.connection.recv_bytes())
        except (EOFError, OSError):
            one.connection.close()
            return
        one.heard = self._clock.look(time.monotonic())
        if "began" in said:
            one.has_begun = True
        elif "epoch" in said:
            attempts.progress(one.task, said["epoch"])
        else:
            one.outcome = Outcome(**said)

    def _listen_to_the_end(self, one: _Running, attempts: Attempts) -> None:
        """Read until the connection closes: if the fork server died, a running worker looks ended but still writes."""
        while not one.connection.closed:
            if one.connection.poll(LOOK_EVERY_S):
                self._listen(one, attempts)
            elif one.process.exitcode == SERVER_GONE:
                one.kill()
            else:
                one.connection.close()
        one.process.join()

    def _end_silent(self, running: Sequence[_Running]) -> None:
        awake, bound = self._clock.look(time.monotonic()), self._patience.bound_s
        for one in running:
            if bound is not None and one.outcome is None and awake - one.heard > bound:
                reason = f"no epoch ended for {awake - one.heard:.1f} s, over {self._patience.words()}: it hung"
                one.outcome = Outcome("hung", reason)
                one.kill()

    def _outcome(self, one: _Running) -> Outcome:
        if one.outcome is None:
            code = one.process.exitcode
            if code == NOT_IMPORTED and not one.has_begun:
                return Outcome("failed", f"its worker ended before it began: {CANNOT_IMPORT}")
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            return Outcome("killed", f"its process was {how}")
        if one.outcome.kind == "finished":
            self._patience.note(time.monotonic() - one.since)
        return one.outcome


def _stop(left: Sequence[_Running]) -> None:
    """Ask workers to write checkpoints and end; kill those that do not in time, or all at a second Ctrl-C."""
    deadline = time.monotonic() + STOP_WITHIN_S
    try:
        for one in left:
            _ask_to_stop(one.connection)
        while (open_ := [one.connection for one in left if not one.connection.closed]) and (
            rest := deadline - time.monotonic()
        ) > 0:
            for connection in wait(open_, timeout=rest):
                _drop_words(connection)  # type: ignore[arg-type]
    finally:
        for one in left:
            one.kill()
            one.connection.close()
            one.process.join()


def _ask_to_stop(connection: Connection) -> None:
    if not connection.closed:
        try:
            connection.send_bytes(b"stop")
        except OSError:  # the worker has just ended
            connection.close()


def _drop_words(connection: Connection) -> None:
    try:
        connection.recv_bytes()
    except (EOFError, OSError):
        connection.close()
