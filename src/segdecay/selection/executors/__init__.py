"""Who runs cells: this process, processes of this machine."""

from segdecay.selection.executors.attempts import Attempts
from segdecay.selection.executors.base import Event, Executor, Source, source_of
from segdecay.selection.executors.devices import default_workers, find_devices, spread_over
from segdecay.selection.executors.inline import InlineExecutor
from segdecay.selection.executors.local import LocalExecutor
from segdecay.selection.executors.patience import Patience
from segdecay.selection.executors.working import Outcome, work_on

__all__ = [
    "Attempts",
    "Event",
    "Executor",
    "InlineExecutor",
    "LocalExecutor",
    "Outcome",
    "Patience",
    "Source",
    "default_workers",
    "find_devices",
    "source_of",
    "spread_over",
    "work_on",
]
