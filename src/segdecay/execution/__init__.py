"""Executors of trials: this process, local processes, Ray, several devices for one training."""

from segdecay.execution.base import Event, Executor, Source, source_of
from segdecay.execution.devices import default_workers, find_devices, spread_over
from segdecay.execution.inline import InlineExecutor
from segdecay.execution.local import LocalExecutor
from segdecay.execution.outcome import Outcome
from segdecay.execution.retries import Attempts, Patience
from segdecay.execution.run_task import work_on

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
