"""Worker processes: how they start, what they do on signals, and their connection to the driver."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any


def line_to_driver(connection: Connection, asked: threading.Event) -> Callable[[dict[str, Any]], None]:
    """Says something to the driver, as one JSON line. Its word asks to stop; when it is gone, this process ends."""

    def watch() -> None:
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # nobody waits for this trial, its checkpoint stays
        asked.set()

    def say(values: dict[str, Any]) -> None:
        try:
            connection.send_bytes(json.dumps(values).encode())
        except OSError:
            os._exit(1)  # the watch has not seen it yet

    threading.Thread(target=watch, daemon=True).start()
    return say


def settle_signals(asked: threading.Event) -> None:
    """What reaches the whole group is the driver's to answer; SIGTERM to this process alone keeps its state."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: asked.set())
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def worker_context() -> BaseContext:
    """Processes forked from a small server that has imported torch but never used it; fresh ones elsewhere.

    The server imports what the driver has of this package as well: a worker imports the script that began the run,
    which for the command line took 25 ms a trial.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    of_driver = sorted(name for name in sys.modules if name.startswith("segdecay."))
    context.set_forkserver_preload(["segdecay.execution.forkserver", "segdecay.training.dispatch", *of_driver])
    return context
