"""Signals that stop a training command: Ctrl-C, and those of schedulers and closed terminals."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import typer

from segdecay.errors import ReadingInterrupted

INTERRUPTED = 130
LIKE_CTRL_C = ("SIGTERM", "SIGHUP", "SIGUSR1")  # a scheduler's end, a closed terminal, Slurm's --signal=USR1


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let these signals stop the command like Ctrl-C, unless they are ignored as under nohup; exit with code 130.

    Signals that arrive after everything has stopped are ignored, since they would change the exit code.
    """

    def stop(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in LIKE_CTRL_C if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    is_stopped = False
    try:
        yield
    except KeyboardInterrupt as error:
        is_stopped = True
        for number in (signal.SIGINT, *numbers):
            signal.signal(number, signal.SIG_IGN)
        said = "interrupted. Finished trials are kept; the same command resumes."
        if isinstance(error, ReadingInterrupted):
            said = f"{error}: this command has trained nothing yet. The same command goes on from there."
        sys.stderr.write(f"segdecay: {said}\n")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items() if not is_stopped else ():
            signal.signal(number, handler)
