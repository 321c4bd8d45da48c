"""Clocks that jump by up to a year at each look, in this process and in workers."""

from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection

import pytest

from segdecay.execution.worker import work
from segdecay.training.setup import TrialTask

YEAR_S = 365 * 86400


def let_clocks_jump(patch: pytest.MonkeyPatch) -> None:
    """What tells the time of day jumps; what measures durations does not."""
    draw, seconds, nanoseconds = random.Random(1), time.time, time.time_ns
    patch.setattr(time, "time", lambda: seconds() + draw.uniform(-YEAR_S, YEAR_S))
    patch.setattr(time, "time_ns", lambda: nanoseconds() + int(draw.uniform(-YEAR_S, YEAR_S) * 1e9))


def work_under_jumping_clocks(task: TrialTask, connection: Connection) -> None:
    """The body of a worker process."""
    with pytest.MonkeyPatch.context() as patch:
        let_clocks_jump(patch)
        work(task, connection)
