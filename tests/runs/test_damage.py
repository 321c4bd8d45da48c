"""A finished run whose files were damaged afterwards: what can be had again is made again, the rest is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from listener import Listener
from shapes import small_config, write_shapes

from segdecay.config.schema import RunConfig
from segdecay.errors import RunError
from segdecay.execution.options import Execution
from segdecay.runs.folder import check_same, write_environment
from segdecay.search.ledger import Ledger
from segdecay.utils.files import read_json
from segdecay.workflows.tune import tune

HERE = Execution(workers=0, device="cpu")


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit_seconds(path: Path) -> None:
    path.write_text(json.dumps({**read_json(path), "seconds": None}))


def _make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A finished run and what it was asked for."""
    folder = tmp_path_factory.mktemp("damage")
    config = small_config(
        write_shapes(folder / "shapes", n_images=12, test_images=4),
        search={"folds": 2},
        training={"epochs": 8},
        optimizer={"lr": 0.02},
    )
    return config, tune(config, folder / "run", HERE, Listener()).run


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", _halve),
        ("model.safetensors", _remove),
        ("trial.json", _make_binary),
        ("trial.json", _edit_seconds),
    ],
)
def test_a_damaged_refit_is_trained_again_and_ships_the_same_bytes(
    name: str, damage: Callable[[Path], None], finished: tuple[RunConfig, Path], tmp_path: Path
) -> None:
    config, whole = finished
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    damage(run / "refit" / "chosen" / name)
    _halve(run / "environment.json")
    watcher = Listener()
    tune(config, run, HERE, watcher)
    assert [event.task.folder for event in watcher.events if event.kind == "started"] == [run / "refit" / "chosen"]
    shipped = Path("model") / "model.safetensors"
    assert (run / shipped).read_bytes() == (whole / shipped).read_bytes()
    assert read_json(run / "environment.json")["device"] == "cpu"


def test_a_sound_run_loses_nothing(finished: tuple[RunConfig, Path]) -> None:
    _, run = finished
    trials = set(run.glob("trials/*/*"))
    assert Ledger(run).forget_damaged(trials, ships=True) == []
    assert set(run.glob("trials/*/*")) == trials
    assert (run / "refit" / "chosen" / "trial.json").exists()


def test_weights_that_the_caller_keeps_are_not_missed(finished: tuple[RunConfig, Path], tmp_path: Path) -> None:
    _, whole = finished
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "refit" / "chosen" / "model.safetensors").unlink()
    assert Ledger(run).forget_damaged(set(run.glob("trials/*/*"))) == []


@pytest.mark.parametrize("content", ["null", "[]", "{", "{}"])
def test_a_damaged_fact_is_named_with_its_remedy(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(RunError, match=r"data\.json is damaged: .*Choose another --out"):
        check_same(tmp_path, "data.json", "fingerprint", "f", "data")


def test_the_environment_of_the_first_start_is_kept(tmp_path: Path) -> None:
    for workers in (1, 2):
        write_environment(tmp_path, "tune", ["cpu"], workers, 4)
    assert json.loads((tmp_path / "environment.json").read_text())["workers"] == 1
