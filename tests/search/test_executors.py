"""The fork server and the devices of an executor; what all executors must do is in execution/test_contract.py."""

from __future__ import annotations

import importlib
import signal
import sys

import pytest

from segdecay.errors import SegdecayError
from segdecay.execution import default_workers, find_devices
from segdecay.execution import forkserver as server


def test_only_the_fork_server_ignores_signals_when_it_imports_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import segdecay"])
        importlib.reload(server)
        assert signal.getsignal(signal.SIGTERM) is before
        monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "from multiprocessing.forkserver import main; main(3)"])
        importlib.reload(server)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SegdecayError, match=r"--device cuda:99: not found. Found: cpu"):
        find_devices("cuda:99")


def test_a_cpu_has_one_worker_a_core_and_a_gpu_one_each() -> None:
    assert find_devices("cpu") == ["cpu"]
    assert default_workers(["cpu"]) >= 1
    assert default_workers(["cuda:0", "cuda:1"]) == 2
