"""`segdecay compare` as a user types it, on a very small comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import call

from segdecay.errors import RunError
from segdecay.report import build_report

QUICK = ["--strengths", "1", "--folds", "3", "--epochs", "2", "--workers", "0", "--device", "cpu"]
for _pair in ("search.resamples=100", "model.width=2", "model.depth=1", "training.batch_size=64", "data.size=[24,24]"):
    QUICK += ["--set", _pair]
ARMS = "none,decoupled,class_weights,early_stopping"


def test_a_comparison_shares_none_and_goes_on_after_a_lost_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    said = call(capsys, "compare", "digits", "--arms", ARMS, *QUICK, "--out", run, "--json")
    found = json.loads(said.out)
    kept = json.loads((run / "comparison.json").read_text())
    assert kept == found
    assert found["cost"]["cells"] == 3 * 4  # none and one strength of three arms, in three folds
    assert {arm["cost"]["trainings"] for arm in found["arms"]} == {3}
    assert len(found["pairs"]) == 6
    folders = sorted((run / "cells").iterdir())
    cells = {cell.name for folder in folders for cell in folder.iterdir()}
    assert (len(folders), cells) == (4, {"0-0", "1-0", "2-0"})
    records = [json.loads(path.read_text()) for path in run.glob("cells/*/*/cell.json")]
    for fold in range(3):  # the same images for every arm
        assert len({tuple(one["validation"]["support"]) for one in records if one["fold"] == fold}) == 1

    (folders[0] / "1-0" / "cell.json").unlink()
    before = (folders[1] / "0-0" / "cell.json").read_bytes()
    again = call(capsys, "compare", "digits", "--arms", ARMS, *QUICK, "--out", run)
    assert "11 of them finished" in again.out
    assert [arm["mean"] for arm in json.loads((run / "comparison.json").read_text())["arms"]] == [
        arm["mean"] for arm in found["arms"]
    ]
    assert (folders[1] / "0-0" / "cell.json").read_bytes() == before

    page = build_report(run).read_text()
    for part in ("Every two arms", "early stopping", "cannot be told apart", "Gap, sparsity and cost"):
        assert part in page
    refusal = call(capsys, "compare", "digits", "--arms", "none,l1", *QUICK, "--out", run, code=2)
    assert "compare.arms" in refusal.err
    (run / "comparison.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        build_report(run)


def test_faults_are_told_before_any_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    said = call(capsys, "compare", "digits", "--arms", "none,l2_sp,dropot", *QUICK, "--out", run, code=2)
    assert "Did you mean 'dropout'?" in said.err
    assert "l2_sp: pulls" in said.err
    more: list[str | Path] = ["--arms", "none,early_stopping", *QUICK, "--strengths", "3", "--out", run]
    assert "different lengths" in call(capsys, "compare", "digits", *more, code=2).err
    assert not run.exists()
