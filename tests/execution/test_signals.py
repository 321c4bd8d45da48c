"""What stops a run waits while a worker is started."""

from __future__ import annotations

import signal

import pytest

from segdecay.execution.local import signals_wait


def test_ctrl_c_waits_until_what_was_begun_is_done() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def begin() -> None:
        with signals_wait():
            signal.raise_signal(signal.SIGINT)
            done.append("begun")

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert done == ["begun"]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_wait():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
