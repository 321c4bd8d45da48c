"""The process of one cell. Knows its task and the line to its driver; nothing of other cells."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from segdecay.selection.executors.working import work_on
from segdecay.training.setup import CellTask

FIRST_TO_GO = "500"  # of 1000: where memory ends, the system kills a worker rather than its driver


def work(task: CellTask, connection: Connection) -> None:
    """Body of a worker process: train, and say in one JSON line how it ended."""
    asked = threading.Event()
    settle_signals(asked)
    _offer_to_the_memory_killer()
    say = line_to_driver(connection, asked)
    outcome = work_on(task, asked.is_set, lambda epoch, _epochs: say({"epoch": epoch}))
    say(asdict(outcome))


def line_to_driver(connection: Connection, asked: threading.Event) -> Callable[[dict[str, Any]], None]:
    """Says something to the driver, as one JSON line. Its word asks to stop; when it is gone, this process ends."""

    def watch() -> None:
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # nobody waits for this cell, its checkpoint stays
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


def _offer_to_the_memory_killer() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO, encoding="ascii")
    except OSError:
        return  # another system, or not permitted: then it chooses by size


def worker_context() -> BaseContext:
    """Processes forked from a small server that has imported torch but never used it; fresh ones elsewhere.

    The server imports what the driver has of this package as well: a worker imports the script that began the run,
    which for the command line took 25 ms a cell.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    of_driver = sorted(name for name in sys.modules if name.startswith("segdecay."))
    context.set_forkserver_preload([f"{__package__}.server", "segdecay.training.running", *of_driver])
    return context
