"""One trial worked on, wherever that is: it always ends with an outcome of plain values that can be sent.

Knows a task and how it may end; nothing of who waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from segdecay.execution.outcome import Outcome, outcome_of
from segdecay.training.setup import TrialTask


def work_on(task: TrialTask, stop: Callable[[], bool], report: Callable[[int, int], None]) -> Outcome:
    """Train a trial, or go on with it, to one of the first five outcomes.

    Args:
        task: what to train.
        stop: asked after every step; True keeps the state and interrupts.
        report: told (finished epochs, all epochs).
    """
    from segdecay.training.dispatch import Interrupted, run_task

    if task.spread is not None:
        from segdecay.execution.ddp import run_spread

        return run_spread(task, stop, report)
    try:
        run_task(task, stop=stop, report=report)
    except Interrupted:
        return Outcome("interrupted")
    except Exception as error:  # noqa: BLE001 - whatever a trial raises is its own failure, told to the driver
        return outcome_of(error, task)
    return Outcome("finished")
