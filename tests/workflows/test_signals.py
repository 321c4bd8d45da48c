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
from commands import call
from shapes import write_shapes

from segdecay.runs.lock import read_holder

SETTINGS = ("search.grid=[0,1,2]", "search.folds=2", "search.race=false", "search.resamples=200", "model.width=4",
            "model.depth=2", "training.epochs=12", "training.batch_size=4", "optimizer.lr=0.01")  # fmt: skip
WITHIN_S = 600.0  # or it hangs: a guard, no measurement
# Every process of a command sees a clock that jumps by up to a year at each look; durations must not notice.
JUMPING = """
import random, time
_draw, _time, _ns = random.Random(1), time.time, time.time_ns
YEAR_S = 365 * 86400
time.time = lambda: _time() + _draw.uniform(-YEAR_S, YEAR_S)
time.time_ns = lambda: _ns() + int(_draw.uniform(-YEAR_S, YEAR_S) * 1e9)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("signals") / "shapes", n_images=12)


def _arguments(data: Path, run: Path, *more: str) -> list[str]:
    words = ["tune", str(data), "--out", str(run), "--device", "cpu"]
    return [*words, *(word for one in SETTINGS for word in ("--set", one)), *more]


def _command(data: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "segdecay.cli.main", *_arguments(data, run, *more)]


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
    """What an undisturbed run in this process finds."""
    run = data.parent / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))
        call(*_arguments(data, run, "--workers", "0"))
    return _result(run)


def _trains_since(run: Path, start_ns: int) -> bool:
    """Whether a trial has written something since then: the signal meets a search, not the imports before it."""
    for path in run.glob("trials/*/*/*"):
        try:
            if path.stat().st_mtime_ns > start_ns:
                return True
        except FileNotFoundError:  # replaced meanwhile
            continue
    return False


def _finished(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob("trials/*/*/trial.json")}


def _stop(process: subprocess.Popen[str], number: signal.Signals, *, to_all: bool, more: tuple[int, ...]) -> str:
    """What a driver writes to standard error from a signal to its end; `more` come while it ends."""
    (os.killpg if to_all else os.kill)(process.pid, number)
    assert process.stderr is not None
    said = ""
    if more:
        for line in iter(process.stderr.readline, ""):
            said += line
            if "interrupted." in line:
                break
        for one in more:
            process.send_signal(one)
    return said + process.communicate(timeout=WITHIN_S)[1]


WHILE_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPS: tuple[
    tuple[signal.Signals, bool, int, int, tuple[int, ...]], ...
] = (  # signal, to driver and workers, workers, trials that are finished by then, signals while it ends
    (signal.SIGINT, True, 2, 0, ()),
    (signal.SIGTERM, False, 2, 1, WHILE_ENDING),
    (signal.SIGHUP, True, 1, 2, ()),
    (signal.SIGUSR1, False, 0, 3, ()),
)


def test_every_signal_stops_with_130_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, expected: tuple[dict[str, Any], bytes]
) -> None:
    run, environment, finished = tmp_path / "run", _environment(data), dict[Path, int]()
    for number, to_all, workers, after_trials, more in STOPS:
        start_ns = time.time_ns()
        process = _start(_command(data, run, "--workers", str(workers)), environment)
        _wait_until(process, lambda: len(_finished(run)) >= after_trials and _trains_since(run, start_ns))  # noqa: B023
        said = _stop(process, number, to_all=to_all, more=more)
        assert process.returncode == 130, (number, said)
        assert said.count("interrupted. Finished trials are kept; the same command resumes.") == 1, number
        assert "Traceback" not in said
        assert not (run / ".lease.json").exists()
        assert finished.items() <= _finished(run).items()
        finished = _finished(run)
    _finish(_command(data, run, "--workers", "2"), environment)
    assert finished.items() <= _finished(run).items()
    assert _result(run) == expected


def test_a_second_driver_is_refused_or_waits_until_the_first_has_gone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))
    run, environment = tmp_path / "run", _environment(data)
    options = ("--workers", "0", "--epochs", "100000")
    first = _start(_command(data, run, *options), environment)
    _wait_until(first, lambda: any(run.glob("trials/*/*")))
    waiting = _start(_command(data, run, *options, "--wait"), environment)
    refused = call(*_arguments(data, run, *options), code=2).err
    assert f"Another segdecay works on {run} (process {first.pid} on " in refused
    assert "--wait" in refused
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
