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
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call
from drivers import kill_when, write_driver
from safetensors.torch import load_file
from shapes import write_shapes

SETTINGS = ["search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
            "training.epochs=6", "training.batch_size=4", "optimizer.lr=0.02"]  # fmt: skip
QUICK = ["--workers", "0", "--device", "cpu", *(word for pair in SETTINGS for word in ("--set", pair))]


def _command(data: Path, run: Path, driver: Path) -> list[str]:
    return [sys.executable, str(driver), str(data), str(run), *SETTINGS]


def _finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    return values


def _same(one: Path, other: Path) -> bool:
    left, right = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _finished(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob("**/trial.json")}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data, and a run on it that nobody disturbed, by the command in this process."""
    folder = tmp_path_factory.mktemp("kill")
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        call("tune", data, "--out", folder / "run", *QUICK)
    return data, folder / "run"


@pytest.fixture
def killed(unbroken: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[list[str], Path]:
    """The command on a fresh run in a worker of its own, with a checkpoint after every step; and that run."""
    data, _ = unbroken
    monkeypatch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))
    return _command(data, tmp_path / "run", write_driver(tmp_path, "tune")), tmp_path / "run"


def _a_trial_runs(run: Path) -> bool:
    return any(run.glob("trials/*/*/checkpoint/state.safetensors")) and any(run.glob("trials/*/*/trial.json"))


def _something_is_half_written(run: Path) -> bool:
    return any(run.glob("trials/**/.*.part"))


def _a_refit_runs(run: Path) -> bool:
    return any(run.glob("refit/*/checkpoint/state.safetensors"))


def _the_report_is_next(run: Path) -> bool:
    return (run / "model" / "model.json").exists()


def _ready(moment: Callable[[Path], bool], run: Path, _seconds: float) -> bool:
    return moment(run)


MOMENTS: tuple[tuple[Callable[[Path], bool], Callable[[int, int], None]], ...] = (
    (_something_is_half_written, os.killpg),  # driver and worker
    (_a_trial_runs, os.kill),  # the driver alone: its worker ends by itself
    (_a_refit_runs, os.killpg),
    (_the_report_is_next, os.killpg),
)


def test_kills_at_named_moments_of_one_search_lose_nothing(
    killed: tuple[list[str], Path], unbroken: tuple[Path, Path]
) -> None:
    command, run = killed
    expected, finished = unbroken[1], dict[Path, int]()
    for moment, kill in MOMENTS:
        has_come = partial(_ready, moment, run)
        assert kill_when(command, has_come, kill=kill), f"the run ended before {moment.__name__}"
        assert finished.items() <= _finished(run).items()  # no finished trial ran twice
        finished = _finished(run)
    _finish(command)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert finished.items() <= _finished(run).items()
    assert (run / "report.html").exists()
    assert not list(run.rglob(".*.part"))
    assert not list(run.rglob("checkpoint"))


@pytest.mark.soak
def test_kills_at_six_random_moments_lose_nothing(
    killed: tuple[list[str], Path], unbroken: tuple[Path, Path], tmp_path: Path
) -> None:
    command, run = killed
    expected, draw = unbroken[1], random.Random(20)
    start = time.monotonic()
    _finish([*command[:3], str(tmp_path / "timed"), *SETTINGS])
    duration = time.monotonic() - start
    finished: dict[Path, int] = {}
    landed = 0
    while landed < 6:
        moment = draw.uniform(0.1, 0.6) * duration
        if kill_when(command, lambda seconds, moment=moment: seconds >= moment):  # type: ignore[misc]
            landed += 1
            assert finished.items() <= _finished(run).items()
            finished = _finished(run)
        else:  # it ended first, after kills that it survived; the kills that are left meet a fresh run
            assert _verdict(run) == _verdict(expected)
            assert _same(run, expected)
            shutil.rmtree(run)
            finished = {}
    _finish(command)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert finished.items() <= _finished(run).items()


def test_the_same_command_on_a_finished_run_trains_nothing(unbroken: tuple[Path, Path]) -> None:
    data, run = unbroken
    before, verdict = _finished(run), _verdict(run)
    assert "4 of them finished" in call("tune", data, "--out", run, *QUICK).out
    assert _finished(run) == before
    assert _verdict(run) == verdict
