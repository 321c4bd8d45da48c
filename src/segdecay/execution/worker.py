"""The body of a worker process, which runs one trial."""

from __future__ import annotations

import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from segdecay.execution.process import line_to_driver, settle_signals
from segdecay.execution.run_task import work_on
from segdecay.training.setup import TrialTask

OOM_SCORE = "500"  # of 1000, so that the kernel kills a worker before the driver if memory runs out


def work(task: TrialTask, connection: Connection) -> None:
    """Body of a worker process: run the trial, and send its outcome as one JSON line."""
    asked = threading.Event()
    settle_signals(asked)
    _raise_oom_score()
    say = line_to_driver(connection, asked)
    say({"began": True})  # it has imported the script and unpacked its task
    outcome = work_on(task, asked.is_set, lambda epoch, _epochs: say({"epoch": epoch}))
    say(asdict(outcome))


def _raise_oom_score() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    except OSError:
        return  # another system, or not permitted: the kernel then chooses by size
