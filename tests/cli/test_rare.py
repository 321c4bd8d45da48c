"""The two options for rare classes as a user types them, on the built-in data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Said, call
from drivers import start_run
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

QUICK = ("training.epochs=3", "training.batch_size=16", "model.width=4", "model.depth=2", "optimizer.lr=0.01")


def _train(data: str | Path, run: Path, *settings: str, code: int = 0) -> Said:
    words = [word for pair in (*QUICK, *settings) for word in ("--set", pair)]
    return call("train", data, "--lambda", "0.5", "--workers", "0", "--out", run, *words, code=code)


def _trial(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "refit" / "chosen" / "trial.json").read_text(encoding="utf-8"))
    return values


def _model(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with neither option, and the decoded data for all others."""
    folder = tmp_path_factory.mktemp("rare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        _train("digits", folder / "run")
    return folder / "run"


@pytest.fixture
def _same_cache(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(plain.parent / "cache"))


@pytest.mark.usefixtures("_same_cache")
def test_train_digits_with_balancing(plain: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _train("digits", run, "balancing.epochs=2", "balancing.count=components")
    trial, before = _trial(run), _trial(plain)
    first, second = trial["extra"]["stages"]
    assert (trial["status"], trial["epochs"], trial["steps"]) == ("finished", 5, before["steps"] * 5 // 3)
    assert first["row_norms"] == before["extra"]["stages"][0]["row_norms"]
    assert len(second["row_norms"]["head.weight"]) == 11
    digits = second["examples"][1:]
    assert sum(digits[:3]) > 2 * sum(digits[-3:])  # the tail of the data
    assert second["class_weights"][10] > second["class_weights"][1]
    moved = {name for name, value in _model(run).items() if not torch.equal(value, _model(plain)[name])}
    assert moved == {"head.weight", "head.bias"}
    lines = [json.loads(line) for line in (run / "refit" / "chosen" / "curve.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [1, 1, 1, 2, 2]
    assert (run / "report.html").exists()


@pytest.mark.usefixtures("_same_cache")
def test_train_digits_with_logit_adjustment(plain: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _train("digits", run, "loss.logit_adjustment=1.0")  # all else as in the plain run
    trial = _trial(run)
    assert trial["status"] == "finished"
    assert trial["extra"]["batches"] == 15
    shares = [math.exp(value) for value in trial["extra"]["log_frequencies"]]
    assert sum(shares) == pytest.approx(1.0)
    assert max(shares) == shares[0]
    assert not torch.equal(_model(run)["head.weight"], _model(plain)["head.weight"])
    assert (run / "report.html").exists()


@pytest.mark.usefixtures("_same_cache")
def test_both_at_once_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    said = _train("digits", tmp_path / "run", "balancing.epochs=2", "loss.logit_adjustment=1.0", code=2).err
    assert "both correct for class frequencies" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def _epoch_kept(state: Path) -> int:
    """The epoch that the checkpoint of a running trial stands in; 0 without one."""
    try:
        with safe_open(state, framework="pt") as kept:
            epoch: int = json.loads((kept.metadata() or {})["progress"])["epoch"]
    except (OSError, SafetensorError, RuntimeError):  # torch maps the name once more: by then it may be another file
        return 0
    return epoch


def test_a_kill_in_the_second_stage_is_resumed_to_the_same_model(shapes: Path, tmp_path: Path) -> None:
    pairs = ("training.epochs=2", "balancing.epochs=30", "balancing.lr=0.05")
    run, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    state = run / "refit" / "chosen" / "checkpoint" / "state.safetensors"
    driver = start_run(tmp_path / "said", "train", shapes, run, *QUICK, *pairs, "decay.lambda=0.5")
    driver.kill_when(lambda: _epoch_kept(state) >= 10)
    assert not (run / "refit" / "chosen" / "trial.json").exists()
    for folder in (run, unbroken):
        _train(shapes, folder, *pairs)
    one, other = _model(unbroken), _model(run)
    assert all(torch.equal(one[name], other[name]) for name in one)
    expected, found = _trial(unbroken), _trial(run)
    assert found["extra"] == expected["extra"]
    assert found["validation"] == expected["validation"]
