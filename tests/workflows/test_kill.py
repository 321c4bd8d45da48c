"""`kill -9` at any moment: the same command again ends with the same verdict and bitwise the same model."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drivers import kill_when, write_driver
from safetensors.torch import load_file
from shapes import write_shapes

SETTINGS = ["search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
            "training.epochs=4", "training.batch_size=4", "optimizer.lr=0.01"]  # fmt: skip


def _command(data: Path, run: Path, driver: Path) -> list[str]:
    return [sys.executable, str(driver), str(data), str(run), *SETTINGS]


def _finish(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    return values


def _same(one: Path, other: Path) -> bool:
    left, right = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, float]:
    """Data, driver, a run that nobody disturbed, and how long it took."""
    folder = tmp_path_factory.mktemp("kill")
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    driver = write_driver(folder, "tune")
    os.environ["SEGDECAY_CACHE"] = str(folder / "cache")
    start = time.monotonic()
    _finish(_command(data, folder / "run", driver))
    return data, driver, folder / "run", time.monotonic() - start


@pytest.fixture
def setup(
    unbroken: tuple[Path, Path, Path, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[list[str], Path, Path, float]:
    """The command on a fresh run, that run, the undisturbed one, its duration."""
    data, driver, run, duration = unbroken
    monkeypatch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))
    return _command(data, tmp_path / "run", driver), tmp_path / "run", run, duration


def _a_trial_runs(run: Path) -> bool:
    return any(run.glob("trials/*/*/checkpoint/state.safetensors")) and any(run.glob("trials/*/*/trial.json"))


def _something_is_half_written(run: Path) -> bool:
    return any(run.glob("trials/**/.*.part"))


def _a_refit_runs(run: Path) -> bool:
    return any(run.glob("refit/*/checkpoint/state.safetensors"))


def _the_report_is_next(run: Path) -> bool:
    return (run / "model" / "model.json").exists()


@pytest.mark.parametrize("moment", [_a_trial_runs, _something_is_half_written, _a_refit_runs, _the_report_is_next])
def test_a_kill_at_a_named_moment_loses_nothing(
    setup: tuple[list[str], Path, Path, float], moment: Callable[[Path], bool]
) -> None:
    command, run, expected, _ = setup
    assert kill_when(command, lambda _seconds: moment(run)), "the run ended before the moment came"
    finished = {path: path.stat().st_mtime_ns for path in run.glob("**/trial.json")}
    _finish(command)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # no finished trial ran twice
    assert (run / "report.html").exists()
    assert not list(run.rglob(".*.part"))
    assert not list(run.rglob("checkpoint"))


def test_kills_at_six_random_moments_lose_nothing(setup: tuple[list[str], Path, Path, float]) -> None:
    command, run, expected, duration = setup
    draw = random.Random(20)
    finished: dict[Path, int] = {}
    landed = 0
    while landed < 6:
        moment = draw.uniform(0.1, 0.6) * duration
        if kill_when(command, lambda seconds, moment=moment: seconds >= moment):  # type: ignore[misc]
            landed += 1
            assert {path: path.stat().st_mtime_ns for path in finished} == finished
            finished = {path: path.stat().st_mtime_ns for path in run.glob("**/trial.json")}
        else:  # it ended first, after kills that it survived; the kills that are left meet a fresh run
            assert _verdict(run) == _verdict(expected)
            assert _same(run, expected)
            shutil.rmtree(run)
            finished = {}
    _finish(command)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_the_same_command_on_a_finished_run_trains_nothing(unbroken: tuple[Path, Path, Path, float]) -> None:
    data, driver, run, _ = unbroken
    before = {path: path.stat().st_mtime_ns for path in run.glob("**/trial.json")}
    verdict = _verdict(run)
    said = _finish(_command(data, run, driver))
    assert "4 of them finished" in said
    assert {path: path.stat().st_mtime_ns for path in run.glob("**/trial.json")} == before
    assert _verdict(run) == verdict
