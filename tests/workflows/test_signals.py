"""A whole search that is told to stop, met by a second driver, or run under a clock that jumps: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shapes import write_shapes

from segdecay.runs.lock import read_holder

SETTINGS = ("search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
            "training.epochs=12", "training.batch_size=4", "optimizer.lr=0.01")  # fmt: skip
WITHIN_S = 600.0  # or it hangs: a guard, no measurement
# Every process of a command sees a clock that jumps by up to a year at each look; durations must not notice.
JUMPING = """
import random, time
_draw, _time, _ns = random.Random(1), time.time, time.time_ns
YEAR_S = 365 * 86400
time.time = lambda: _time() + _draw.uniform(-YEAR_S, YEAR_S)
time.time_ns = lambda: _ns() + int(_draw.uniform(-YEAR_S, YEAR_S) * 1e9)
"""
NO_LOCKS = "import fcntl\nfcntl.flock = lambda _handle, _operation: None\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("signals") / "shapes", n_images=12)


def _command(data: Path, run: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "segdecay.cli.main", "tune", str(data), "--out", str(run), "--device", "cpu"]
    return [*command, *(word for one in SETTINGS for word in ("--set", one)), *more]


def _environment(data: Path, code: str = "") -> dict[str, str]:
    """With `code` run at the start of every Python process."""
    paths = [os.environ.get("PYTHONPATH", "")]
    if code:
        folder = data.parent / f"code{abs(hash(code))}"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
        paths.insert(0, str(folder))
    joined = os.pathsep.join(filter(None, paths))
    return {**os.environ, "PYTHONPATH": joined, "SEGDECAY_CACHE": str(data.parent / "cache")}


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def _wait_until(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - start < WITHIN_S
        time.sleep(0.005)


def _finish(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    return values


def _result(run: Path) -> tuple[dict[str, Any], bytes]:
    return _verdict(run), (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def expected(data: Path) -> tuple[dict[str, Any], bytes]:
    """What an undisturbed run finds."""
    run = data.parent / "undisturbed"
    _finish(_command(data, run, "--workers", "2"), _environment(data))
    return _result(run)


@pytest.mark.parametrize(
    ("name", "to_all", "workers", "after_trials"),
    [("SIGINT", True, 2, 0), ("SIGTERM", False, 2, 1), ("SIGTERM", True, 1, 2), ("SIGHUP", True, 2, 1),
     ("SIGUSR1", False, 1, 0), ("SIGINT", True, 0, 1)],
)  # fmt: skip
def test_a_signal_stops_with_130_and_the_same_command_goes_on(
    name: str, to_all: bool, workers: int, after_trials: int, data: Path, tmp_path: Path,
    expected: tuple[dict[str, Any], bytes],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    command, environment = _command(data, run, "--workers", str(workers)), _environment(data)
    process = _start(command, environment)
    _wait_until(
        process, lambda: len(list(run.glob("trials/*/*/trial.json"))) >= after_trials and any(run.glob("trials/*/*"))
    )
    sent = time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, getattr(signal, name))
    _, said = process.communicate(timeout=WITHIN_S)
    print(f"{name}: {time.monotonic() - sent:.1f} s until all had stopped")  # with -s
    assert process.returncode == 130, said
    assert "interrupted. Finished trials are kept; the same command resumes." in said
    assert "Traceback" not in said
    assert not (run / ".lease.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in run.glob("trials/*/*/trial.json")}
    assert len(finished) < 4
    _finish(command, environment)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert _result(run) == expected


def test_signals_that_come_while_the_process_ends_leave_its_exit_code(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = _start(_command(data, run, "--workers", "1", "--epochs", "100000"), _environment(data))
    _wait_until(process, lambda: any(run.glob("trials/*/*")))
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert any("interrupted." in line for line in iter(process.stderr.readline, ""))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130, said
    assert said == ""


@pytest.mark.parametrize("code", ["", NO_LOCKS])
def test_a_second_driver_is_refused_or_waits_until_the_first_has_gone(code: str, data: Path, tmp_path: Path) -> None:
    run, environment = tmp_path / "run", _environment(data, code)
    command = _command(data, run, "--workers", "1", "--epochs", "100000")
    first = _start(command, environment)
    _wait_until(first, lambda: any(run.glob("trials/*/*")))
    waiting = _start([*command, "--wait"], environment)
    second = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=WITHIN_S, check=False)
    assert second.returncode == 2, second.stdout
    assert f"Another segdecay works on {run} (process {first.pid} on " in second.stderr
    assert "--wait" in second.stderr
    assert "Traceback" not in second.stderr
    assert waiting.stdout is not None
    assert any("waiting for it" in line for line in iter(waiting.stdout.readline, ""))
    holder = read_holder(run / ".lease.json")
    assert holder is not None
    assert holder.pid == first.pid
    for process, heir in ((first, waiting.pid), (waiting, None)):
        process.terminate()
        _, wrong = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 130, wrong
        if heir is not None:
            _wait_until(waiting, lambda: (now := read_holder(run / ".lease.json")) is not None and now.pid == heir)  # noqa: B023
    assert not (run / ".lease.json").exists()


def test_a_clock_that_jumps_by_years_changes_nothing(
    data: Path, tmp_path: Path, expected: tuple[dict[str, Any], bytes]
) -> None:
    run = tmp_path / "run"
    said = _finish(_command(data, run, "--workers", "2", "--budget", "10m"), _environment(data, JUMPING))
    assert _result(run) == expected
    assert "again" not in said
    for path in run.glob("trials/*/*/trial.json"):
        assert 0 <= json.loads(path.read_text(encoding="utf-8"))["seconds"] < 200
