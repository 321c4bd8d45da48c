"""A whole search that is told to stop, met by a second driver, or run under a clock that jumps: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import call
from drivers import WITHIN_S, Driver, start_command
from jumping_clock import let_clocks_jump, work_under_jumping_clocks
from shapes import write_shapes

from segdecay.runs.lock import read_holder

SETTINGS = ("search.grid=[0,1,2]", "search.folds=2", "search.race=false", "search.resamples=200", "model.width=4",
            "model.depth=2", "training.epochs=12", "training.batch_size=4", "optimizer.lr=0.01")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("signals") / "shapes", n_images=12)


def _arguments(data: Path, run: Path, *more: str) -> list[str]:
    words = ["tune", str(data), "--out", str(run), "--device", "cpu"]
    return [*words, *(word for one in SETTINGS for word in ("--set", one)), *more]


@pytest.fixture(autouse=True)
def _same_cache(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    values.pop("advice")  # its commands name the folder, its times are measured
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


def _stops_and_keeps_what_is_finished(code: int, said: str, run: Path, before: dict[Path, int]) -> None:
    assert code == 130, said
    assert said.count("interrupted. Finished trials are kept; the same command resumes.") == 1, said
    assert "Traceback" not in said
    assert not (run / ".lease.json").exists()
    assert before.items() <= _finished(run).items()


WHILE_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPS: tuple[tuple[signal.Signals, int, int, tuple[int, ...]], ...] = (
    # signal, workers, trials that are finished by then, signals while it ends
    (signal.SIGTERM, 2, 1, WHILE_ENDING),
    (signal.SIGHUP, 0, 2, ()),
    (signal.SIGUSR1, 0, 3, ()),
)


def test_every_signal_stops_with_130_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, expected: tuple[dict[str, Any], bytes]
) -> None:
    run, finished = tmp_path / "run", dict[Path, int]()
    for number, workers, after_trials, more in STOPS:
        start_ns = time.time_ns()
        driver = start_command(tmp_path / number.name, *_arguments(data, run, "--workers", str(workers)))
        driver.wait_until(lambda: len(_finished(run)) >= after_trials and _trains_since(run, start_ns))  # noqa: B023
        driver.send(number)
        if more:
            _send_while_it_ends(driver, more)
        _stops_and_keeps_what_is_finished(driver.ended(), driver.said, run, finished)
        finished = _finished(run)
    call(*_arguments(data, run, "--workers", "0"))
    assert finished.items() <= _finished(run).items()
    assert _result(run) == expected


def _send_while_it_ends(driver: Driver, numbers: tuple[int, ...]) -> None:
    driver.wait_until(lambda: "interrupted." in driver.said)
    for one in numbers:
        driver.send(one)


def test_ctrl_c_in_a_terminal_which_goes_to_driver_and_workers_stops_with_130(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "segdecay.cli.main",
        *_arguments(data, run, "--workers", "2", "--epochs", "100000"),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + WITHIN_S
        while not _trains_since(run, 0):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=WITHIN_S)[1]
    finally:
        process.kill()
    _stops_and_keeps_what_is_finished(process.returncode, said, run, {})


def test_a_second_driver_is_refused_or_waits_until_the_first_has_gone(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = _arguments(data, run, "--workers", "0", "--epochs", "100000")
    first = start_command(tmp_path / "first", *words)
    first.wait_until(lambda: any(run.glob("trials/*/*")))
    waiting = start_command(tmp_path / "waiting", *words, "--wait")
    refused = call(*words, code=2).err
    assert f"Another segdecay works on {run} (process {first.pid} on " in refused
    assert "--wait" in refused
    waiting.wait_until(lambda: "waiting for it" in waiting.said)
    assert _holder(run) == first.pid
    first.send(signal.SIGTERM)
    assert first.ended() == 130, first.said
    waiting.wait_until(lambda: _holder(run) == waiting.pid)
    waiting.send(signal.SIGTERM)
    assert waiting.ended() == 130, waiting.said
    assert not (run / ".lease.json").exists()


def _holder(run: Path) -> int | None:
    """The process that holds a run."""
    holder = read_holder(run / ".lease.json")
    return holder.pid if holder else None


def test_a_clock_that_jumps_by_years_changes_nothing(
    data: Path, tmp_path: Path, expected: tuple[dict[str, Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr("segdecay.execution.local.work", work_under_jumping_clocks)
    with monkeypatch.context() as patch:
        let_clocks_jump(patch)
        said = call(*_arguments(data, run, "--workers", "2", "--budget", "10m")).out
    assert _result(run) == expected
    assert "again" not in said
    for path in run.glob("trials/*/*/trial.json"):
        assert 0 <= json.loads(path.read_text(encoding="utf-8"))["seconds"] < 200
