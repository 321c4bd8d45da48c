"""The process of one trial. Knows its task and the line to its driver; nothing of other trials."""

from __future__ import annotations

import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from segdecay.execution.process import line_to_driver, settle_signals
from segdecay.execution.run_task import work_on
from segdecay.training.setup import TrialTask

FIRST_TO_GO = "500"  # of 1000: where memory ends, the system kills a worker rather than its driver


def work(task: TrialTask, connection: Connection) -> None:
    """Body of a worker process: train, and say in one JSON line how it ended."""
    asked = threading.Event()
    settle_signals(asked)
    _offer_to_the_memory_killer()
    say = line_to_driver(connection, asked)
    outcome = work_on(task, asked.is_set, lambda epoch, _epochs: say({"epoch": epoch}))
    say(asdict(outcome))


def _offer_to_the_memory_killer() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO, encoding="ascii")
    except OSError:
        return  # another system, or not permitted: then it chooses by size
