"""Two drivers on one folder: with locks that hold nothing, after deaths, and on other machines."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shapes import small_config

from segdecay.config.schema import RunConfig
from segdecay.errors import RunError
from segdecay.runs.folder import open_run
from segdecay.runs.lock import HeldError, Holder, Lease, read_holder

HOLD = """
import sys, time
from pathlib import Path
from segdecay.runs.lock import Lease
lease = Lease(Path(sys.argv[1]), beat_s=0.1)
lease.take()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lease.json"


LONG_S = 600.0  # nothing that is right takes so long, however busy the machine is


def _lease(path: Path, watch_s: float = LONG_S) -> Lease:
    return Lease(path, beat_s=0.1, watch_s=watch_s)


def _elsewhere(path: Path, count: int = 0) -> None:
    holder = Holder("other", 1, "another kernel", "theirs", count)
    beside = path.with_name("beside")
    beside.write_text(json.dumps(dataclasses.asdict(holder)), encoding="utf-8")
    beside.replace(path)


def _lose_and_work_on(path: Path) -> None:
    _elsewhere(path)
    start = time.monotonic()
    while time.monotonic() - start < LONG_S:
        time.sleep(0.05)


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A living process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_living_holder_is_refused_by_name(path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(HeldError, match=f"process {other.pid} on"):
        _lease(path).take()
    assert read_holder(path) is not None


def test_a_holder_killed_on_this_machine_is_taken_over_at_once(path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    start = time.monotonic()
    lease = _lease(path)
    lease.take()
    assert time.monotonic() - start < LONG_S  # it did not watch a counter
    lease.release()
    assert not path.exists()


def test_a_silent_holder_of_another_machine_is_taken_over_after_a_while(path: Path) -> None:
    _elsewhere(path)
    os.utime(path, (2e9, 2e9))  # its time of modification says nothing
    said: list[str] = []
    start = time.monotonic()
    lease = _lease(path, watch_s=1.0)
    lease.take(said.append)
    assert time.monotonic() - start >= 1.0
    assert "whether another segdecay still works" in said[0]
    lease.release()


def test_a_living_holder_of_another_machine_is_refused_whatever_its_clock_says(path: Path) -> None:
    _elsewhere(path)
    os.utime(path, (0, 0))
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(0.1):
            count += 1
            _elsewhere(path, count)
            os.utime(path, (0, 0))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(HeldError, match="process 1 on other"):
            _lease(path).take()
    finally:
        ended.set()
        thread.join()


def test_a_half_written_lease_is_watched_and_then_taken(path: Path) -> None:
    path.write_text('{"host": "o', encoding="utf-8")
    lease = _lease(path, watch_s=1.0)
    lease.take()
    lease.release()


def test_a_driver_that_slept_while_another_took_over_stops(tmp_path: Path, shapes: Path) -> None:
    config: RunConfig = small_config(shapes)
    with (
        pytest.raises(RunError, match=r"process 1 on other took over .* Finished results are kept"),
        open_run(tmp_path / "run", config, "tune"),
    ):
        _lose_and_work_on(tmp_path / "run" / ".lease.json")
    left = read_holder(tmp_path / "run" / ".lease.json")
    assert left is not None
    assert left.host == "other"  # it stays theirs


def test_a_lease_goes_on_beating_and_is_removed_at_the_end(path: Path) -> None:
    lease = _lease(path)
    lease.take()
    deadline = time.monotonic() + LONG_S
    while (found := read_holder(path)) is None or found.count < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lease.release()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_of_many_that_begin_together_one_gets_it(path: Path) -> None:
    leases, winners = [_lease(path) for _ in range(8)], []

    def take(lease: Lease) -> None:
        try:
            lease.take()
            winners.append(lease)
        except HeldError:
            return

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    winners[0].release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, None])
def test_where_locks_do_nothing_or_do_not_exist_the_lease_refuses(
    number: int | None, tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_handle: int, _operation: int) -> None:
        if number is not None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    config, run = small_config(shapes), tmp_path / "run"
    with open_run(run, config, "tune"):
        refused = pytest.raises(RunError, match=r"Another segdecay works on .*process \d+ on .*--wait")
        with refused, open_run(run, config, "tune"):
            raise AssertionError("two drivers hold one run")
        said: list[str] = []
        with pytest.raises(KeyboardInterrupt), open_run(run, config, "tune", wait=True, say=_stop_when_waiting(said)):
            raise AssertionError("two drivers hold one run")
        assert "waiting for it" in said[-1]
    with open_run(run, config, "tune"):
        assert (run / "run.yaml").exists()


def _stop_when_waiting(said: list[str]) -> Callable[[str], None]:
    def say(line: str) -> None:
        said.append(line)
        if "waiting for it" in line:
            raise KeyboardInterrupt

    return say


def test_waiting_ends_with_the_other(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda _handle, _operation: None)
    config, run = small_config(shapes), tmp_path / "run"
    first = open_run(run, config, "tune")
    first.__enter__()
    timer = threading.Timer(1.0, lambda: first.__exit__(None, None, None))
    timer.start()
    start = time.monotonic()
    with open_run(run, config, "tune", wait=True):
        assert time.monotonic() - start >= 1.0
    timer.join()
