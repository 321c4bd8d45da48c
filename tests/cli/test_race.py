"""The race through the command line: any number of workers, budgets, damage, and the whole grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Said
from shapes import write_shapes
from tuning import tune

GRID = [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]


def _tune(data: Path, run: Path, *more: str, workers: int = 0, code: int | None = 0) -> Said:
    return tune(data, run, GRID, *more, workers=workers, code=code)


def _found(run: Path) -> dict[str, Any]:
    """The verdict without what it cost."""
    verdict = json.loads((run / "verdict.json").read_text())
    del verdict["cost"], verdict["advice"]
    return dict(verdict)


def _trials(run: Path) -> set[str]:
    return {path.parent.relative_to(run / "trials").as_posix() for path in run.glob("trials/*/*/trial.json")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("race") / "shapes", n_images=12, test_images=0)


@pytest.fixture(scope="module")
def raced(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished race in this process."""
    run = tmp_path_factory.mktemp("raced") / "run"
    _tune(data, run)
    return run


def test_a_race_trains_part_of_the_grid_and_says_who_left(raced: Path) -> None:
    verdict = _found(raced)
    assert len(_trials(raced)) < len(GRID) * 3
    assert verdict["evidence"]["trials_of_plan"] == len(_trials(raced))
    reasons = [setting["dropped"] for setting in verdict["settings"] if setting["dropped"]]
    assert reasons
    assert all(reason.startswith("race: ") for reason in reasons)


def test_a_budget_stops_early_and_two_workers_without_it_go_on_to_what_this_process_found(
    data: Path, raced: Path, tmp_path: Path
) -> None:
    _tune(data, tmp_path / "run", "--budget", "3trials")
    assert len(_trials(tmp_path / "run")) == 3
    assert _found(tmp_path / "run")["evidence"]["trials_of_plan"] == 3
    _tune(data, tmp_path / "run", workers=2)
    assert _trials(tmp_path / "run") >= _trials(raced)  # work ahead may have been for nothing
    assert _found(tmp_path / "run") == _found(raced)


def test_a_damaged_trial_is_trained_again_and_told(data: Path, raced: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(raced, run)
    damaged = min(_trials(run))
    (run / "trials" / damaged / "trial.json").write_text("{")
    (run / "trials" / "notes" / "mine").mkdir(parents=True)
    done = _tune(data, run)
    assert f"trials/{damaged} is damaged and is trained again" in done.out
    assert "kept: trials/notes/mine" in done.out
    assert _found(run) == _found(raced)


def test_without_the_race_the_whole_grid_is_trained(data: Path, tmp_path: Path) -> None:
    short = ("--race", "off", "--folds", "2", "--set", "search.grid=[0,0.2,0.8]", "--epochs", "1")
    _tune(data, tmp_path / "run", *short, code=None)
    verdict = _found(tmp_path / "run")
    assert all(setting["dropped"] is None for setting in verdict["settings"])
    assert len(_trials(tmp_path / "run")) == 2 * len(verdict["settings"])
    assert verdict["evidence"]["trials_of_plan"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "1trials"], "--budget 1trials is too small: the search begins with 3 trials"),
        (["--budget", "soon"], "--budget takes a time or a number of trainings"),
        (["--race", "maybe"], "--race takes on or off; saw 'maybe'"),
        (["--set", "search.criterion=classes", "--set", "search.criterion_classes=[brigth]"], "Did you mean 'bright'?"),
    ],
)
def test_bad_options_are_told_before_anything_is_written(
    data: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = _tune(data, tmp_path / "run", *options, code=2)
    assert said in done.err + done.out
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()
