"""Commands in real processes that are forked, as workers are, from a server that has imported torch already.

Starting Python and importing torch takes seconds; such a process begins in a moment. It leads a session of its own, has
the signals of a fresh process, and its exit code and its output are those of a command in a terminal. With workers it
starts a server of its own for them, as every driver does, which takes the seconds again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.cli.main import run as run_cli
from segdecay.execution.options import Execution
from segdecay.execution.process import worker_context
from segdecay.workflows.progress import build_watcher
from segdecay.workflows.request import build_config
from segdecay.workflows.train import train
from segdecay.workflows.tune import tune

WITHIN_S = 600.0  # or it hangs: a guard, no measurement
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Driver:
    """A process that was started, and the file that takes what it prints."""

    process: Any
    output: Path

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return int(self.process.pid)

    @property
    def said(self) -> str:
        """What it has printed so far, to standard output and standard error."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def wait_until(self, ready: Callable[[], bool], every_s: float = 0.02) -> None:
        """Wait for a moment in its life; an AssertionError with its output if it ends before."""
        start = time.monotonic()
        while not ready():
            assert self.process.is_alive(), f"it ended with {self.process.exitcode}: {self.said}"
            assert time.monotonic() - start < WITHIN_S, self.said
            time.sleep(every_s)  # looking takes time from the process that is looked at

    def send(self, number: int) -> None:
        """A signal to this process alone."""
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        self.process.join(WITHIN_S)
        assert not self.process.is_alive(), self.said
        return int(self.process.exitcode)

    def kill_when(self, ready: Callable[[], bool]) -> None:
        """`kill -9` at a moment in its life."""
        self.wait_until(ready, every_s=0.004)
        self.send(signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL, self.said


def start(output: Path, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] = {}) -> Driver:
    """A process that calls a function of a module; `environment` adds to the variables of this process."""
    given = (output, {**os.environ, **environment}, function, arguments)
    process = worker_context().Process(target=_be_a_command, args=given, daemon=False)  # type: ignore[attr-defined]
    process.start()
    return Driver(process, output)


def start_command(output: Path, *words: str | Path) -> Driver:
    """A process that runs `segdecay` with these words."""
    return start(output, _run_command, *map(str, words))


def start_run(output: Path, verb: str, data: Path, run: Path, *settings: str, workers: int = 0) -> Driver:
    """A process that runs `tune` or `train`, and writes a checkpoint after every step."""
    return start(output, _run, verb, data, run, settings, workers)


def _be_a_command(
    output: Path, environment: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.setsid()
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    function(*arguments)


def _run_command(*words: str) -> None:
    sys.argv = ["segdecay", *words]
    run_cli()


def _run(verb: str, data: Path, run: Path, settings: tuple[str, ...], workers: int) -> None:
    config = build_config(str(data), None, list(settings), {})
    execution = Execution(workers=workers, device="cpu", checkpoint_every_s=0.0)
    with build_watcher(quiet=False, as_json=False) as watcher:
        command: Callable[..., Any] = tune if verb == "tune" else train
        command(config, run, execution, watcher)
