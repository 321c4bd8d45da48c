"""Contract tests for executors, losses, regularizers and data sources: subclass one in a test module."""

from segdecay.testing.executor_contract import ExecutorContract, WorkersContract
from segdecay.testing.loss_contract import LossContract
from segdecay.testing.regularizer_contract import RegularizerContract
from segdecay.testing.source_contract import SourceContract

__all__ = ["ExecutorContract", "LossContract", "RegularizerContract", "SourceContract", "WorkersContract"]
