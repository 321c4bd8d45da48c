"""Every loss through `segdecay tune`, and what is refused there before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from shapes import write_shapes
from typer.testing import CliRunner

from segdecay.cli.main import app
from segdecay.errors import ConfigError
from segdecay.runs.verdict import Kind
from segdecay.training.losses import LOSSES

QUICK = ["--epochs", "1", "--folds", "3", "--workers", "0", "--device", "cpu"]
PAIRS = ("search.grid=[0, 0.2]", "search.resamples=100", "model.width=2", "model.depth=1", "training.batch_size=6")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("losses") / "shapes", n_images=9)


def _segdecay(verb: str, data: Path, run: Path, *pairs: str, flags: tuple[str, ...] = ()) -> str:
    """What it prints; an error of ours is raised as it is."""
    words = [word for pair in (*PAIRS, *pairs) for word in ("--set", pair)]
    quick = [*QUICK, "--refit", "anyway"] if verb == "tune" else [*QUICK[:2], *QUICK[4:]]
    done = CliRunner().invoke(app, [verb, str(data), "--out", str(run), *quick, *words, *flags])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in ((0, 1) if verb == "tune" else (0,)), done.output  # 1: one epoch learns nothing
    return done.output


@pytest.mark.parametrize("name", [*LOSSES, "cross_entropy+dice+lovasz"])
def test_tune_ends_with_a_verdict_and_says_which_loss_it_was(data: Path, tmp_path: Path, name: str) -> None:
    said = _segdecay("tune", data, tmp_path, f"loss.name={name}", "loss.class_weights=median")
    words = " + ".join(LOSSES[one].words for one in name.split("+"))
    assert f"loss: {words}, class weights median" in said
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["loss"]["name"] == name
    assert json.loads((tmp_path / "verdict.json").read_text())["kind"] in get_args(Kind)
    trials: list[dict[str, Any]] = [json.loads(path.read_text()) for path in tmp_path.glob("trials/*/*/trial.json")]
    assert len(trials) >= 2
    for trial in trials:
        assert trial["status"] == "finished"
        assert trial["extra"]["stages"][0]["loss"] == words
        assert 0 < trial["validation"]["loss"] < 10
    assert f"Loss: {words}, class weights median." in (tmp_path / "model" / "README.md").read_text()
    assert f"<dd>{words}</dd>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("verb", "pairs", "said"),
    [
        ("tune", ("loss.name=dise",), "Unknown loss 'dise'"),
        ("tune", ("loss.class_weights=[1, 2]",), "lists 2 numbers; these data have 3 classes"),
        ("train", ("loss.class_weights=[1, 2]", "decay.value=0"), "in this order: ground, bright, dark."),
    ],
)
def test_a_loss_that_has_no_meaning_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, verb: str, pairs: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        _segdecay(verb, data, tmp_path / "run", *pairs)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["tune", "train"])
def test_a_class_that_no_training_holds_ends_a_run_before_any_training_unless_allowed(
    tmp_path: Path, verb: str
) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=9)
    (data / "classes.txt").write_text("ground\nbright\ndark\npole\n")
    more = ("decay.value=0",) if verb == "train" else ()
    with pytest.raises(ConfigError, match=r'class "pole" is in no training mask: .* would be infinite'):
        _segdecay(verb, data, tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()
    said = _segdecay(verb, data, tmp_path / "run", *more, flags=("--allow-missing",))
    assert 'warning: class "pole" is in no training mask' in said
    (trial, *_) = [json.loads(path.read_text()) for path in tmp_path.glob("run/**/trial.json")]
    assert trial["extra"]["stages"][0]["class_weights"][3] == 1.0
