"""`kill -9` at any moment: the same command again ends with the same verdict and bitwise the same model."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call
from drivers import start_run
from safetensors.torch import load_file
from shapes import write_shapes

SETTINGS = ["search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
            "training.epochs=6", "training.batch_size=4", "optimizer.lr=0.02"]  # fmt: skip
QUICK = ["--workers", "0", "--device", "cpu", *(word for pair in SETTINGS for word in ("--set", pair))]


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    values.pop("advice")  # its commands name the folder, its times are measured
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
def data(unbroken: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data, decoded where the unbroken run has left them."""
    monkeypatch.setenv("SEGDECAY_CACHE", str(unbroken[0].parent / "cache"))
    return unbroken[0]


def _a_trial_runs(run: Path) -> bool:
    return any(run.glob("trials/*/*/checkpoint/state.safetensors")) and any(run.glob("trials/*/*/trial.json"))


def _something_is_half_written(run: Path) -> bool:
    return any(run.glob("trials/**/.*.part"))


def _a_refit_runs(run: Path) -> bool:
    return any(run.glob("refit/*/checkpoint/state.safetensors"))


def _the_report_is_next(run: Path) -> bool:
    return (run / "model" / "model.json").exists()


MOMENTS: tuple[tuple[Callable[[Path], bool], int], ...] = (  # with the workers of the driver
    (_something_is_half_written, 0),  # the training dies with its driver, which it runs in
    (_a_trial_runs, 1),  # the driver dies alone: its worker ends by itself
    (_a_refit_runs, 0),
    (_the_report_is_next, 0),
)


def test_kills_at_named_moments_of_one_search_lose_nothing(
    data: Path, unbroken: tuple[Path, Path], tmp_path: Path
) -> None:
    expected, run, finished = unbroken[1], tmp_path / "run", dict[Path, int]()
    for moment, workers in MOMENTS:
        start_run(tmp_path / "said", "tune", data, run, *SETTINGS, workers=workers).kill_when(partial(moment, run))
        assert finished.items() <= _finished(run).items()  # no finished trial ran twice
        finished = _finished(run)
    call("tune", data, "--out", run, *QUICK)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert finished.items() <= _finished(run).items()
    assert (run / "report.html").exists()
    assert not list(run.rglob(".*.part"))
    assert not list(run.rglob("checkpoint"))


@pytest.mark.soak
def test_kills_at_six_random_moments_lose_nothing(data: Path, unbroken: tuple[Path, Path], tmp_path: Path) -> None:
    expected, run, draw = unbroken[1], tmp_path / "run", random.Random(20)
    begun = time.monotonic()
    assert start_run(tmp_path / "said", "tune", data, tmp_path / "timed", *SETTINGS, workers=1).ended() == 0
    duration = time.monotonic() - begun
    finished: dict[Path, int] = {}
    landed = 0
    while landed < 6:
        moment = draw.uniform(0.1, 0.6) * duration
        driver = start_run(tmp_path / "said", "tune", data, run, *SETTINGS, workers=landed % 2)
        driver.process.join(moment)
        if driver.process.is_alive():
            driver.process.kill()
            driver.ended()
            landed += 1
            assert finished.items() <= _finished(run).items()
            finished = _finished(run)
        else:  # it ended first, after kills that it survived; the kills that are left meet a fresh run
            assert driver.ended() == 0, driver.said
            assert _verdict(run) == _verdict(expected)
            assert _same(run, expected)
            shutil.rmtree(run)
            finished = {}
    call("tune", data, "--out", run, *QUICK)
    assert _verdict(run) == _verdict(expected)
    assert _same(run, expected)
    assert finished.items() <= _finished(run).items()


def test_the_same_command_on_a_finished_run_trains_nothing(unbroken: tuple[Path, Path]) -> None:
    data, run = unbroken
    before, verdict = _finished(run), _verdict(run)
    assert "4 of them finished" in call("tune", data, "--out", run, *QUICK).out
    assert _finished(run) == before
    assert _verdict(run) == verdict
