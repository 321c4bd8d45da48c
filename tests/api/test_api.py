"""`segdecay.tune`, `train` and `load` are the commands, called from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command
from paths import TESTS
from PIL import Image
from safetensors.torch import load_file
from shapes import write_shapes

import segdecay
from segdecay.config.schema import to_plain
from segdecay.errors import ConfigError, DataError, RunError

KEYS: dict[str, Any] = {
    "model.width": 4,
    "model.depth": 2,
    "training.batch_size": 4,
    "optimizer.lr": 0.01,
    "search.resamples": 200,
}


def as_options(keys: dict[str, Any]) -> list[str]:
    return [part for key, value in keys.items() for part in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> segdecay.Trained:
    folder = tmp_path_factory.mktemp("trained")
    shapes = write_shapes(folder / "shapes")
    return segdecay.train(
        shapes, out=folder / "run", lambda_=0.1, epochs=2, set=KEYS, workers=0, device="cpu", quiet=True
    )


def test_importing_segdecay_imports_no_torch_and_names_are_found() -> None:
    code = (
        "import sys, segdecay; print({'torch', 'sklearn', 'pydantic'} & {*sys.modules});"
        "print(set(segdecay.__all__) <= {*dir(segdecay)})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "set()\nTrue\n", done.stderr
    assert [name for name in segdecay.__all__ if not hasattr(segdecay, name)] == []


def test_the_public_names() -> None:
    assert segdecay.__all__ == [
        "Axis", "Callback", "Model", "Setting", "Trained", "Tuned", "UserData", "UserFold", "__version__", "audit",
        "check", "compare", "confusion", "estimate", "evaluate", "export", "load", "lr", "plot", "predict", "report",
        "strength", "train", "tune",
    ]  # fmt: skip
    with pytest.raises(AttributeError, match="has no attribute 'tuen'"):
        segdecay.tuen  # noqa: B018


def test_tune_in_python_is_tune_on_the_command_line(shapes: Path, tmp_path: Path, segdecay_command: Command) -> None:
    options = ["--epochs", "2", "--folds", "2", "--device", "cpu", "--workers", "0", "--set", "search.grid=[0,2]"]
    segdecay_command("tune", shapes, "--out", tmp_path / "typed", *options, *as_options(KEYS))
    called = segdecay.tune(
        shapes, out=tmp_path / "called", grid=[0, 2], folds=2, epochs=2, set=KEYS, workers=0, device="cpu", quiet=True
    )
    typed = json.loads((tmp_path / "typed" / "verdict.json").read_text(encoding="utf-8"))
    own = json.loads((called.run / "verdict.json").read_text(encoding="utf-8"))
    for one in (typed, own):
        del one["cost"]["seconds"]
        one["advice"] = [line["text"] for line in one["advice"]]  # commands and times differ
    assert own == typed
    assert (called.run / "run.yaml").read_text() == (tmp_path / "typed" / "run.yaml").read_text()
    assert called.model is not None
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (called.run, tmp_path / "typed"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    image = shapes / "images" / "all00.png"
    np.testing.assert_array_equal(called.load().predict(image), segdecay.load(tmp_path / "typed").predict(image))


@pytest.fixture(name="segdecay_command")
def _command(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("segdecay")


def test_train_returns_its_record_and_model(trained: segdecay.Trained, shapes: Path) -> None:
    assert trained.record.status == "finished"
    assert trained.record.strength.lambda_ == pytest.approx(0.1)
    assert trained.report.is_file()
    pixels = np.asarray(Image.open(shapes / "images" / "all00.png"))
    model = segdecay.load(trained.run, device="cpu")
    assert model.classes == ("ground", "bright", "dark")
    mask = model.predict(pixels)
    assert mask.shape == (16, 16)
    assert mask.dtype == np.uint8
    shares = model.probabilities(pixels)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=0), mask)
    np.testing.assert_array_equal(trained.load().predict(shapes / "images" / "all00.png"), mask)
    assert model.predict(np.tile(pixels, (6, 6, 1)), tile=64).shape == (96, 96)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 8, 3)), r"saw float64 \(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), r"\(H, W, 3\) of uint8; saw uint8 \(8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "One image at a time"),
        (np.zeros((0, 8, 3), np.uint8), "saw uint8"),
        ("nowhere.png", "nowhere.png cannot be read"),
    ],
)
def test_what_cannot_be_predicted_is_told(trained: segdecay.Trained, image: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        trained.load().predict(image)


def test_a_configuration_is_a_mapping_a_file_or_an_object(tmp_path: Path) -> None:
    from segdecay.config.schema import parse_config, to_yaml
    from segdecay.workflows.request import config_from_keywords

    values = {"data": {"path": "digits"}, "training": {"epochs": 7}}
    config = parse_config(values)
    (tmp_path / "c.yaml").write_text("command: tune\n" + to_yaml(config), encoding="utf-8")
    for given in (values, config, tmp_path / "c.yaml", str(tmp_path / "c.yaml")):
        built = config_from_keywords(
            None, given, {"search.race": False, "search.grid": (0, 3.0)}, {"seed": 4, "x": None}
        )
        assert (built.training.epochs, built.search.race, built.search.grid, built.seed) == (7, False, (0, 3), 4)
    assert values == {"data": {"path": "digits"}, "training": {"epochs": 7}}  # a caller's mapping is left alone
    assert to_plain(config_from_keywords("other", values, None, {}))["data"]["path"] == "other"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": None}, "data= is needed"),
        ({"set": 3}, "set= takes a mapping"),
        ({"set": {"training.epoch": 3}}, "Did you mean 'epochs'"),
        ({"set": {"training.epochs": 0, "model.name": "unett-tiny"}}, "(?s)training.epochs.*unett-tiny"),
        ({"set": {"seed.x": 3}, "config": {"seed": 1}}, "seed.x: 'seed' is a value, not a section"),
        ({"budget": "soon"}, "--budget takes"),
        ({"axis": ("decoupled", "adamw")}, "axis= is only for a user function, train="),
        ({"data": segdecay.UserData(["a", "b"], ["x", "y"])}, "UserData only describes images"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        segdecay.tune(**{"data": "digits", "out": tmp_path / "run", "workers": 0, "quiet": True, **options})
    assert not (tmp_path / "run").exists()


def test_arms_in_one_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arms= takes a sequence of names, as in \['none', 'l1'\]; saw 'none,l1'"):
        segdecay.compare("digits", arms="none,l1", out=tmp_path / "run", workers=0, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_of_an_own_function_has_no_model_to_load(tmp_path: Path) -> None:
    import user_training

    done = user_training.tune(user_training.peak, tmp_path / "run")
    with pytest.raises(RunError, match="which keeps its own models"):
        done.load()
    with pytest.raises(RunError, match="which keeps its own models"):
        segdecay.load(tmp_path / "run")
    with pytest.raises(RunError, match="neither a run nor a model"):
        segdecay.load(tmp_path)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import user_training
done = user_training.tune(user_training.peak, {run!r}, workers=2, quiet=False)
"""


def test_a_script_without_a_guard_trains_in_its_own_process_and_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS / "helpers"), run=str(tmp_path / "run")), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert 'script.py has no `if __name__ == "__main__":`' in done.stdout
    assert "smoothing = 0.2" in done.stdout


def test_several_devices_need_a_guarded_script(shapes: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segdecay.workflows.calling.main_reason", lambda: "train.py has no guard")
        with pytest.raises(ConfigError, match=r"devices=2: train\.py has no guard\. Put the call below that line"):
            segdecay.train(shapes, out=tmp_path / "run", devices=2, lambda_=0.01, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_worker_that_imports_the_script_is_told() -> None:
    import multiprocessing

    from segdecay.workflows.calling import refuse_worker

    refuse_worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
        with pytest.raises(ConfigError, match="A worker imports this script"):
            refuse_worker()
