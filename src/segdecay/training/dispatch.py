"""Dispatches a trial to the built-in loop or to the user's function."""

from __future__ import annotations

from collections.abc import Callable

from segdecay.runs.records import TrialRecord
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.setup import TrialTask
from segdecay.training.user_function import run_user_trial

__all__ = ["Interrupted", "run_task"]


def run_task(
    task: TrialTask,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> TrialRecord:
    """Train one trial; arguments as in `run_trial`.

    Raises:
        Interrupted: `stop` returned True.
        SegdecayError: an error that the user can correct.
    """
    if task.user is not None:
        return run_user_trial(task, task.user, stop=stop)
    return run_trial(task, stop=stop, report=report)
