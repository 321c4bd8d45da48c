"""Where trainings run that carry a function of the user's: in worker processes, if it can be sent to them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segdecay.data.transforms.user import UserTransform
from segdecay.execution import Executor, InlineExecutor
from segdecay.execution.options import Execution, build_executor
from segdecay.workflows.steps import Watcher


def workers_reason(sent: Any, function: Any) -> str | None:
    """Why a function, and the object that carries it, cannot be sent to processes of their own; None where it can."""
    try:
        pickle.dumps(sent)
    except Exception as error:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return f"it cannot be pickled ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if getattr(function, "__module__", None) == "__main__" and not (file and Path(file).is_file()):
        return "it was typed into a session that other processes cannot import"
    return None


def executor_for(
    name: str,
    sent: Any,
    function: Any,
    execution: Execution,
    devices: Sequence[str],
    watcher: Watcher,
    *,
    at_most: int | None = None,
) -> Executor:
    """Worker processes where a user's function can be sent to them; this process, with the reason, where it cannot.

    Raises:
        ConfigError, MissingPartError, RunError: as `build_executor`.
    """
    reason = None if execution.workers == 0 or function is None else workers_reason(sent, function)
    if reason is None:
        return build_executor(execution, list(devices), at_most=at_most)
    watcher.say(f"Trainings run in this process, one after the other, because of {name}: {reason}.")
    return InlineExecutor()


def executor_of(
    transform: UserTransform | None,
    execution: Execution,
    devices: Sequence[str],
    watcher: Watcher,
    *,
    at_most: int | None = None,
) -> Executor:
    """As `executor_for`, for trainings that a user's transform is sent along with; None: without one."""
    name, function = ("", None) if transform is None else (transform.name, transform.function)
    return executor_for(name, transform, function, execution, devices, watcher, at_most=at_most)
