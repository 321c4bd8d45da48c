"""`segdecay compare` as a user types it, on a very small comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import call

from segdecay.errors import RunError
from segdecay.report import build_report
from segdecay.search.comparison.arms import ARMS

TINY = ("search.resamples=100", "model.width=2", "model.depth=1", "training.batch_size=4", "data.size=[16,16]",
        'compare.grids={"max_norm": [0.1]}')  # a bound that so short a training reaches  # fmt: skip
QUICK = ["--strengths", "1", "--folds", "3", "--epochs", "2", "--workers", "0", "--device", "cpu"]
QUICK += [word for pair in TINY[:-1] for word in ("--set", pair)]
FOUR = "none,decoupled,class_weights,early_stopping"


def test_a_comparison_shares_none_and_goes_on_after_a_lost_trial(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = call("compare", shapes, "--arms", FOUR, *QUICK, "--out", run, "--json", code=1)  # two epochs teach nothing
    found = json.loads(said.out)
    assert not found["training"]["is_enough"]
    assert found["sentence"].startswith("Not trained enough to tell. The best setting")
    kept = json.loads((run / "comparison.json").read_text())
    assert kept == found
    assert found["cost"]["trials"] == 3 * 4  # none and one strength of three arms, in three folds
    assert {arm["cost"]["trials"] for arm in found["arms"]} == {3}
    assert len(found["pairs"]) == 6
    folders = sorted((run / "trials").iterdir())
    trials = {trial.name for folder in folders for trial in folder.iterdir()}
    assert (len(folders), trials) == (4, {"0-0", "1-0", "2-0"})
    records = [json.loads(path.read_text()) for path in run.glob("trials/*/*/trial.json")]
    for fold in range(3):  # the same images for every arm
        assert len({tuple(one["validation"]["support"]) for one in records if one["fold"] == fold}) == 1

    (folders[0] / "1-0" / "trial.json").unlink()
    before = (folders[1] / "0-0" / "trial.json").read_bytes()
    again = call("compare", shapes, "--arms", FOUR, *QUICK, "--out", run, code=1)
    assert "11 of them finished" in again.out
    assert [arm["mean"] for arm in json.loads((run / "comparison.json").read_text())["arms"]] == [
        arm["mean"] for arm in found["arms"]
    ]
    assert (folders[1] / "0-0" / "trial.json").read_bytes() == before

    page = build_report(run).read_text()
    for part in ("All pairs of arms", "early stopping", "cannot be told apart", "Gap, sparsity and cost"):
        assert part in page
    refusal = call("compare", shapes, "--arms", "none,l1", *QUICK, "--out", run, code=2)
    assert "compare.arms" in refusal.err
    (run / "comparison.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        build_report(run)


def test_faults_are_told_before_any_training(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = call("compare", shapes, "--arms", "none,l2_sp,dropot", *QUICK, "--out", run, code=2)
    assert "Did you mean 'dropout'?" in said.err
    assert "l2_sp: pulls" in said.err
    more: list[str | Path] = ["--arms", "none,early_stopping", *QUICK, "--strengths", "3", "--out", run]
    assert "different lengths" in call("compare", shapes, *more, code=2).err
    assert not run.exists()


def test_every_arm_trains_and_none_of_them_is_none_under_another_name(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arms = [name for name in ARMS if name not in ("l2_sp", "cpr")]  # these need pretrained weights, and 800 steps
    small = ["--strengths", "1", "--folds", "2", "--epochs", "4", "--workers", "0", "--device", "cpu"]
    small += [word for pair in TINY for word in ("--set", pair)]
    found = json.loads(call("compare", shapes, "--arms", ",".join(arms), *small, "--out", run, "--json", code=None).out)
    assert {arm["name"] for arm in found["arms"]} == set(arms)
    assert len(found["pairs"]) == len(arms) * (len(arms) - 1) // 2
    curves = {}
    for folder in (run / "trials").iterdir():
        assert json.loads((folder / "0-0" / "trial.json").read_text())["status"] == "finished", folder.name
        lines = [json.loads(line) for line in (folder / "0-0" / "curve.jsonl").read_text().splitlines()]
        curves[folder.name] = [(line["loss"], line["gradient_norm"]) for line in lines]
    assert len(curves) == len(arms)
    assert len({tuple(curve) for curve in curves.values()}) == len(arms)


def test_an_arm_that_cannot_act_in_so_few_steps_is_refused(shapes: Path, tmp_path: Path) -> None:
    small = [word for pair in TINY[:-1] for word in ("--set", pair)]
    more: list[str | Path] = ["--arms", "none,cpr", "--strengths", "1", "--folds", "2", "--epochs", "4", *small]
    said = call("compare", shapes, *more, "--workers", "0", "--out", tmp_path / "run", code=2)
    assert "cpr: Regularizer 'cpr' has no effect in the first 800 steps" in said.err
    assert "a training here has only 8:" in said.err
    assert not (tmp_path / "run").exists()
