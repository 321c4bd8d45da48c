"""Who trains a cell: our loop, or the caller's function. Knows both by their front door."""

from __future__ import annotations

from collections.abc import Callable

from segdecay.runs.records import CellRecord
from segdecay.training.loop import Interrupted, run_cell
from segdecay.training.setup import CellTask
from segdecay.training.user_function import run_own_cell

__all__ = ["Interrupted", "run_task"]


def run_task(
    task: CellTask,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> CellRecord:
    """Train one cell; as `run_cell`, whoever trains it.

    Raises:
        Interrupted: `stop` said so.
        SegdecayError: what a user can act on.
    """
    if task.own is not None:
        return run_own_cell(task, task.own, stop=stop)
    return run_cell(task, stop=stop, report=report)
