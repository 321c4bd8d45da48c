"""Worker processes: start, signals, and the connection to the driver."""

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
    """A function that sends JSON lines to the driver; sets `asked` if the driver asks to stop, and ends with it."""

    def watch() -> None:
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone; the checkpoint stays
        asked.set()

    def say(values: dict[str, Any]) -> None:
        try:
            connection.send_bytes(json.dumps(values).encode())
        except OSError:
            os._exit(1)  # the driver is gone, before the watching thread noticed

    threading.Thread(target=watch, daemon=True).start()
    return say


def settle_signals(asked: threading.Event) -> None:
    """Ignore signals to the process group, which the driver handles; on SIGTERM to this process, write a checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: asked.set())
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def worker_context() -> BaseContext:
    """A context that forks workers from a server that has imported torch but never used it; on other systems, spawn.

    The server also imports the modules of segdecay that the driver has imported; for the command line this saves 25 ms
    per trial.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    of_driver = sorted(name for name in sys.modules if name.startswith("segdecay."))
    context.set_forkserver_preload(["segdecay.execution.forkserver", "segdecay.training.dispatch", *of_driver])
    return context
