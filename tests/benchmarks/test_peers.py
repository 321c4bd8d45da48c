"""What replays others' selectors and the race: they pay for what they look at, and stop where the budget ends."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorded_grids import BENCHMARKS, noiseless, open_replay


def _peers() -> dict[str, Any]:
    pytest.importorskip("optuna")
    found: dict[str, Any] = importlib.import_module("replay.peers").PEERS
    return found


@pytest.mark.parametrize("budget", [50.0, 130.0])
def test_optuna_never_looks_at_more_than_it_can_pay(monkeypatch: pytest.MonkeyPatch, budget: float) -> None:
    grid, _ = noiseless(monkeypatch)
    for selector in _peers().values():
        replay = open_replay(grid, budget=budget)
        selector(replay)
        assert 0 < replay.used <= budget


def test_optuna_over_folds_finds_a_clear_peak_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, best = noiseless(monkeypatch)
    peers = _peers()
    for name in ("TPE + MedianPruner over folds", "TPE + WilcoxonPruner on folds"):
        first, second = (open_replay(grid) for _ in range(2))
        assert peers[name](first).chosen == peers[name](second).chosen == best
        assert first.paid == second.paid


def test_optuna_spends_on_what_scores_high(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, best = noiseless(monkeypatch)
    spent = {0: 0, best: 0}
    for number in range(6):
        replay = open_replay(grid, number=number)
        _peers()["TPE + MedianPruner over folds"](replay)
        for setting in spent:
            spent[setting] += len(replay.finished.get(setting, ()))
    assert spent[best] > spent[0]


@pytest.mark.parametrize("name", ["TPE + MedianPruner, one split", "TPE + Hyperband, one split"])
def test_optuna_on_one_split_stops_trainings_early(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    grid, _ = noiseless(monkeypatch)
    replay = open_replay(grid)
    _peers()[name](replay)
    assert {fold for _, fold in replay.paid} == {0}
    assert any(epochs < replay.epochs for epochs in replay.paid.values())
    assert replay.finished


def test_the_race_pays_for_what_its_plan_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("segdecay.search.race")
    grid, best = noiseless(monkeypatch)
    replay = open_replay(grid)
    assert importlib.import_module("replay.race").race(replay).chosen == best
    assert set(replay.paid.values()) == {grid.shape[3]}
    assert replay.used <= 0.2 * len(grid.values) * grid.shape[1] * grid.shape[3]


@pytest.mark.soak
def test_the_grid_by_lightning_and_optuna_trains_and_extrapolates(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    script = BENCHMARKS / "peers" / "optuna_grid.py"
    command = [sys.executable, str(script), "--work", str(tmp_path), "--epochs", "1", "--trials", "2", "--folds", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["trials"], found["trained"], found["extrapolated"]) == (18, 2, True)
    assert found["seconds"] > 16 * found["seconds_a_trial"][1]
    assert 0 < found["miou"] < 1
