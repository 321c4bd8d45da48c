"""`kill -9` of a search over an own function: the same call again trains what is missing, once, and ends the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import own_driver
import pytest
import user_training
from drivers import start

from segdecay.utils.files import read_json


def verdict(run: Path) -> dict[str, Any]:
    return {key: value for key, value in read_json(run / "verdict.json").items() if key not in {"cost", "advice"}}


def finished(run: Path) -> set[Path]:
    return {path.parent.relative_to(run) for path in run.glob("trials/*/*/trial.json")}


@pytest.mark.soak
def test_a_killed_search_over_an_own_function_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, run = tmp_path / "calls", tmp_path / "run"
    note = {user_training.CALLS: str(calls)}
    start(tmp_path / "said", own_driver.search, run, environment=note).kill_when(lambda: len(finished(run)) >= 3)
    before = finished(run)
    assert 3 <= len(before) < 12
    with monkeypatch.context() as patch:
        patch.setenv(user_training.CALLS, str(calls))
        own_driver.search(run, workers=0)
    assert capsys.readouterr().out == "chosen 0.2\n"
    counted = Counter(calls.read_text().splitlines())
    assert len(counted) == 12
    again = [call for call, count in counted.items() if count > 1]
    assert len(again) <= 1  # the one that was killed
    kept = {f"{path.parts[1]} {path.parts[2].replace('-', ' ')}" for path in before}
    assert not kept & {*again}
    user_training.tune(own_driver.slow, tmp_path / "unbroken", set={"search.race": False})
    assert verdict(run) == verdict(tmp_path / "unbroken")
