"""Runs one trial in any process, and turns every ending into an outcome of plain values."""

from __future__ import annotations

from collections.abc import Callable

from segdecay.execution.outcome import Outcome, outcome_of
from segdecay.training.setup import TrialTask


def work_on(task: TrialTask, stop: Callable[[], bool], report: Callable[[int, int], None]) -> Outcome:
    """Train or resume a trial; returns one of the first five outcomes.

    Args:
        task: the trial.
        stop: called after every step; True writes a checkpoint and interrupts the trial.
        report: called with (finished epochs, all epochs).
    """
    from segdecay.training.dispatch import Interrupted, run_task

    if task.spread is not None:
        from segdecay.execution.ddp import run_spread

        return run_spread(task, stop, report)
    try:
        run_task(task, stop=stop, report=report)
    except Interrupted:
        return Outcome("interrupted")
    except Exception as error:  # noqa: BLE001 - any error of a trial is reported to the driver as its failure
        return outcome_of(error, task)
    return Outcome("finished")
