"""Every executor keeps the contract."""

from __future__ import annotations

from segdecay.execution import Executor, InlineExecutor, LocalExecutor
from segdecay.testing import ExecutorContract, WorkersContract


class TestInline(ExecutorContract):
    def build(self, workers: int) -> Executor:
        del workers  # it has one
        return InlineExecutor()


class TestLocal(WorkersContract):
    def build(self, workers: int) -> Executor:
        return LocalExecutor(workers, ["cpu"])
