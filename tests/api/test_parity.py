"""The commands and their Python functions take the same options, and give the same results."""

from __future__ import annotations

import importlib
import inspect
import json
import keyword
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from commands import Command, call
from shapes import write_shapes
from small_search import SmallSearch

import segdecay
from segdecay.cli.main import app
from segdecay.errors import ConfigError, DataError, ModelError, RunError

COMMANDS: dict[str, Any] = {
    "audit": segdecay.audit,
    "check": segdecay.check,
    "compare": segdecay.compare,
    "evaluate": segdecay.evaluate,
    "export": segdecay.export,
    "lr": segdecay.lr,
    "predict": segdecay.predict,
    "report": segdecay.report,
    "strength": segdecay.strength,
    "train": segdecay.train,
    "tune": segdecay.tune,
}
OF_TERMINALS = {"json", "by_parameter"}  # how the result is printed
OF_FILES = {"cache"}  # $SEGDECAY_CACHE on the command line
OBJECTS = {"groups", "classes", "callbacks"}  # of a Dataset, and functions
ONLY_IN_PYTHON = {"tune": {"train", "axis", "grid", *OBJECTS}, "train": OBJECTS, "compare": OBJECTS}
ONLY_ON_THE_COMMAND_LINE = {
    "tune": {"estimate"},  # segdecay.estimate
    "strength": set[str](),
}
QUICK: dict[str, Any] = {
    "model.width": 4, "model.depth": 2, "training.batch_size": 4, "optimizer.lr": 0.02, "training.epochs": 6,
}  # fmt: skip


def _options(name: str) -> set[str]:
    """The options of a command, spelled as keywords."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    found = set()
    for parameter in command.params:
        longest = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
        found.add(f"{longest}_" if keyword.iskeyword(longest) else longest)
    return found - OF_TERMINALS - ONLY_ON_THE_COMMAND_LINE.get(name, set())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_takes_the_options_of_its_command(name: str) -> None:
    keywords = set(inspect.signature(COMMANDS[name]).parameters) - OF_FILES - ONLY_IN_PYTHON.get(name, set())
    assert keywords == _options(name) - ({"quiet"} if name == "strength" else set())


def test_every_function_is_a_public_name() -> None:
    assert {*COMMANDS, "load", "estimate"} <= {*segdecay.__all__}


def test_check_finds_what_the_command_finds(small_search: SmallSearch, tmp_path: Path) -> None:
    data = small_search.data
    found = segdecay.check(data, folds=3, size=(16, 16), quiet=True)
    said = call("check", data, "--folds", 3, "--size", "16x16", "--json")
    assert json.loads(said.out) == json.loads(json.dumps(found.to_dict()))
    assert not found.is_wrong
    assert found.folds is not None
    assert len(found.folds.folds) == 3
    with pytest.raises(ConfigError, match="--size takes HxW"):
        segdecay.check(data, size=(16, 16, 3), quiet=True)
    with pytest.raises(DataError, match="nowhere"):
        segdecay.check(tmp_path / "nowhere", quiet=True)


def test_faults_of_files_are_findings(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=6)
    min((data / "masks").iterdir()).write_bytes(b"no image")
    found = segdecay.check(data, quiet=True)
    assert found.is_wrong
    assert found.dataset is None
    assert call("check", data, "--json", code=1).out == json.dumps(found.to_dict(), ensure_ascii=False) + "\n"


def test_evaluate_scores_as_the_command_does(small_search: SmallSearch, tmp_path: Path) -> None:
    data, run = small_search.data, small_search.run
    found = segdecay.evaluate(run, data, out=tmp_path / "scores", quiet=True)
    said = json.loads(call("evaluate", run, data, "--json").out)
    assert found.evaluation.data.part == "test"
    assert said["miou"]["mean"] == found.evaluation.miou.mean
    assert found.report is not None
    assert found.report.is_file()
    assert segdecay.evaluate(run, data, part="train", quiet=True).out is None


def test_predict_writes_what_the_command_writes(
    small_search: SmallSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = small_search.data, small_search.run
    monkeypatch.chdir(tmp_path)
    found = segdecay.predict(run, data / "images" / "test", save="mask", quiet=True)
    assert found.out == Path("predicted/run")
    assert len(found.images) == 4
    said = call("predict", run / "model", data / "images" / "test", "--save", "mask", "--json")
    rows = json.loads(said.out)["images"]
    assert [row["pixels"] for row in rows] == [row["pixels"] for row in found.to_dict()["images"]]
    assert {path.name for path in Path("predicted").iterdir()} == {"run"}  # of the run, and of its model folder
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = segdecay.predict(run, [tmp_path / "broken.png"], out="other", quiet=True)
    assert [row.image.name for row in broken.failed] == ["broken.png"]


def test_strength_and_report_are_the_commands(small_search: SmallSearch) -> None:
    found = segdecay.strength(images=367, epochs=100, lr=0.001, lambda_=0.05, to=["torch-adamw"])
    typed = ("--images", 367, "--epochs", 100, "--lr", 0.001, "--lambda", 0.05, "--to", "torch-adamw")
    assert json.loads(call("strength", *typed, "--json").out)["total_decay"] == found.total_decay
    with pytest.raises(ConfigError, match=r"(?s)number of training images is needed.*One strength is needed"):
        segdecay.strength()
    page = small_search.run / "report.html"
    page.unlink()
    assert segdecay.report(str(small_search.run)) == page
    assert page.is_file()
    assert importlib.import_module("segdecay.report").read_verdict(page.parent).kind  # it stays a package, too
    with pytest.raises(RunError, match="not the folder of a run"):
        segdecay.report(small_search.data)


def test_audit_takes_a_tuple_a_function_or_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    (tmp_path / "own_training.py").write_text(
        "import torch\ndef build():\n    net = torch.nn.Linear(3, 2)\n"
        "    return net, torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found: list[Any] = [
        segdecay.audit(given, epochs=2, steps_per_epoch=5)
        for given in ((net, optimizer), lambda: (net, optimizer), "own_training:build")
    ]
    assert [one.rows[0].total_decay for one in found] == pytest.approx([2 * 5 * 1e-3 * 0.1] * 3)
    typed = call("audit", "own_training:build", "--epochs", 2, "--steps-per-epoch", 5, "--json", code=None)
    assert json.loads(typed.out)["parameters"] == json.loads(json.dumps(found[2].to_dict()["parameters"]))
    with pytest.raises(ModelError, match="the optimizer is a Linear"):
        segdecay.audit((net, net))


def test_an_estimate_is_that_of_the_command(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=12)
    options: dict[str, Any] = {"folds": 2, "race": "off", "set": QUICK, "grid": [0, 2], "workers": 0, "quiet": True}
    found = segdecay.estimate(data, out=tmp_path / "run", **options)
    assert (found.trials.whole, found.finished) == (4, 0)
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="unexpected keyword argument 'fold'"):
        segdecay.estimate(data, fold=3)
    with pytest.raises(ConfigError, match="how long train= takes"):
        segdecay.estimate(data, train=lambda *_: 0)


@pytest.mark.parametrize(
    ("call_it", "said"),
    [
        (lambda: segdecay.tune("digits", race="maybe", quiet=True), "--race takes on or off; saw 'maybe'"),
        (lambda: segdecay.tune("digits", size="big", quiet=True), "--size takes HxW"),
        (lambda: segdecay.tune("digits", search=["lr", "hed"], quiet=True), "hed"),
        (lambda: segdecay.tune("digits", cache_limit="much", workers=0, quiet=True), "much"),
        (lambda: segdecay.train("digits", model="unett", quiet=True), "unett"),
    ],
)
def test_keywords_are_parsed_as_options_are(call_it: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call_it()


def test_version_and_module(segdecay_version: str, segdecay: Command) -> None:
    assert segdecay("--version").out == f"segdecay {segdecay_version}\n"
    done = subprocess.run(
        [sys.executable, "-m", "segdecay", "-h"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Usage: segdecay [OPTIONS] COMMAND" in done.stdout
    assert "--install-completion" in done.stdout


@pytest.fixture
def segdecay_version() -> str:
    import segdecay as package

    assert package.__version__.count(".") >= 2
    return package.__version__
