"""`tune --estimate`: trials, time and disk beforehand, from the count that the search uses itself; nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from commands import Command
from shapes import small_config, write_shapes

from segdecay.config.schema import to_yaml
from segdecay.utils.yaml import read_yaml


def _asked(segdecay: Command, data: Path, run: Path, *more: str, code: int = 0) -> Any:
    config = run.with_suffix(".yaml")
    config.write_text(to_yaml(small_config(data, search={"grid": [0, 2], "race": False})))
    options = ["--config", config, "--out", run, "--device", "cpu", "--workers", "0", *more]
    return segdecay("tune", data, *options, code=code)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_estimate_says_what_the_search_then_does(segdecay: Command, tmp_path: Path) -> None:
    data, run = write_shapes(tmp_path / "shapes", n_images=12, test_images=4), tmp_path / "run"
    found = json.loads(_asked(segdecay, data, run, "--estimate", "--json").out)
    assert not run.exists()
    assert found["trials"] == {"least": 6, "most": 6, "whole": 6, "honest": 0}
    assert (found["finished"], found["refits"], found["workers"]) == (0, 2, 1)
    assert 0 < found["seconds_a_trial"] * 6 < found["seconds_most"]
    _asked(segdecay, data, run, "--quiet")
    assert len(list(run.glob("trials/*/*/trial.json"))) == 6
    assert _size(run) - (run / "report.html").stat().st_size < found["kept_bytes"] <= found["disk_bytes"]
    again = json.loads(_asked(segdecay, data, run, "--estimate", "--json").out)
    assert again["finished"] == 6
    assert again["seconds_most"] < found["seconds_most"] * 10  # refits alone
    assert read_yaml(run / "run.yaml")["command"] == "tune"


def test_an_estimate_in_words_trains_nothing(segdecay: Command, tmp_path: Path) -> None:
    data, run = write_shapes(tmp_path / "shapes", n_images=12), tmp_path / "run"
    said = _asked(segdecay, data, run, "--estimate").out
    assert "trials: 6, then up to 1 refit, 1 at a time" in said
    assert "from a few steps timed on this machine" in said
    assert "Nothing was trained, and nothing was written to the run's folder." in said
    assert not run.exists()


def test_what_would_stop_the_search_stops_its_estimate(segdecay: Command, tmp_path: Path) -> None:
    data, run = write_shapes(tmp_path / "shapes", n_images=12), tmp_path / "run"
    assert "Did you mean" in _asked(segdecay, data, run, "--estimate", "--decay", "decouple", code=2).err
