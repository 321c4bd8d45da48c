"""`kill -9` of a search over an own function: the same call again trains what is missing, once, and ends the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import user_training
from drivers import kill_when
from paths import TESTS

from segdecay.utils.files import read_json

HERE = TESTS / "helpers"


def verdict(run: Path) -> dict[str, Any]:
    return {key: value for key, value in read_json(run / "verdict.json").items() if key != "cost"}


def finished(run: Path) -> set[Path]:
    return {path.parent.relative_to(run) for path in run.glob("trials/*/*/trial.json")}


def test_a_killed_search_over_an_own_function_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(user_training.CALLS, str(tmp_path / "calls"))
    run, command = tmp_path / "run", [sys.executable, str(HERE / "own_driver.py"), str(tmp_path / "run")]
    assert kill_when(command, lambda _: len(finished(run)) >= 3)
    before = finished(run)
    assert 3 <= len(before) < 12
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "chosen 0.2\n"
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    assert len(calls) == 12
    again = [call for call, count in calls.items() if count > 1]
    assert len(again) <= 1  # the one that was killed
    kept = {f"{path.parts[1]} {path.parts[2].replace('-', ' ')}" for path in before}
    assert not kept & {*again}
    monkeypatch.delenv(user_training.CALLS)
    user_training.tune(user_training.peak, tmp_path / "unbroken", set={"search.race": False})
    assert verdict(run) == verdict(tmp_path / "unbroken")
