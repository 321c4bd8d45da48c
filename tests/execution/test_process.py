"""Signals in a worker: those of the driver's group are left to it, and SIGTERM asks for a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from segdecay.execution.process import settle_signals

TO_THE_GROUP = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*TO_THE_GROUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_to_the_group_are_left_to_the_driver() -> None:
    asked = threading.Event()
    settle_signals(asked)
    for number in TO_THE_GROUP:
        os.kill(os.getpid(), number)
    assert not asked.is_set()


def test_a_term_asks_for_a_checkpoint() -> None:
    asked = threading.Event()
    settle_signals(asked)
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked.wait(1)
