"""The command line as a user types it: outputs, exit codes, and every fault in one message. One process serves all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import call
from PIL import Image
from shapes import write_shapes

QUICK = ["--epochs", "6", "--device", "cpu", "--workers", "0"]
for _pair in ("search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
              "training.batch_size=4", "optimizer.lr=0.02"):  # fmt: skip
    QUICK += ["--set", _pair]


COMMANDS = ("init", "check", "tune", "train", "predict", "evaluate", "report", "regularizers", "strength", "audit")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Data with a test part, a finished run on it, and what was printed."""
    folder = tmp_path_factory.mktemp("cli")
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        said = call("tune", data, "--out", folder / "run", *QUICK)
    return data, folder / "run", said.out


def test_help_in_a_new_process_imports_nothing_heavy_and_lists_every_command() -> None:
    code = (
        "import sys\nimport segdecay.cli.main\n"
        "try:\n    segdecay.cli.main.run()\n"
        "finally:\n    print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert [name for name in COMMANDS if name not in done.stdout] == []


def test_a_fault_of_the_options_is_told_before_torch_is_imported() -> None:
    commands = ("tune", "train", "compare")
    code = (
        "import sys\nfrom segdecay.cli.main import app\nfrom segdecay.errors import ConfigError\n"
        f"for command in {commands}:\n    try:\n"
        "        app([command, 'digits', '--size', 'big'], standalone_mode=False)\n"
        "    except ConfigError as error:\n        print(command, error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*commands]
    for line in lines:
        assert "--size takes HxW in pixels" in line
        assert line.endswith("False")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    assert "Example: segdecay" in call(name, "--help").out


def test_tune_leaves_the_files_of_a_run(tuned: tuple[Path, Path, str]) -> None:
    _, run, said = tuned
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "run.yaml", "environment.json", "data.json", "folds.json", "partition.json", "verdict.json", "report.html",
        "examples/examples.json", "model/model.safetensors", "model/model.json", "refit/chosen/trial.json",
        "trials/total_decay=0/0-0/trial.json", "trials/total_decay=2/1-0/confusion.npz",
        "trials/total_decay=2/1-0/curve.jsonl",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".pkl", ".pt", ".pth", ".part"))]
    assert "lines to paste" in said
    assert "report:" in said


def test_the_verdict_has_the_keys_that_others_read(tuned: tuple[Path, Path, str]) -> None:
    verdict: dict[str, Any] = json.loads((tuned[1] / "verdict.json").read_text())
    assert {
        "schema_version", "kind", "criterion", "regularizer", "strength", "one_se", "selection", "zero", "settings",
        "classes", "seeds", "honest", "test", "cost", "training", "advice", "cautions",
    } <= verdict.keys()  # fmt: skip
    assert verdict["kind"] in ("chosen", "zero", "flat", "edge")
    assert verdict["training"]["is_enough"]
    strength_keys = {"axis", "value", "lambda", "timescale_epochs", "total_decay"}
    assert verdict["strength"].keys() == strength_keys
    assert verdict["one_se"].keys() == strength_keys
    assert verdict["selection"].keys() == {"mean", "standard_error", "interval"}
    assert verdict["zero"].keys() == {"mean", "standard_error", "difference_interval"}
    for setting in verdict["settings"]:
        assert {"strength", "folds", "mean", "standard_error", "dropped"} <= setting.keys()
        assert len(setting["folds"]) == 2
    assert [row["name"] for row in verdict["classes"]] == ["ground", "bright", "dark"]
    assert all(row["support"] > 0 for row in verdict["classes"])
    assert {"chosen", "zero"} == verdict["test"].keys()
    assert verdict["test"]["chosen"]["iou"].keys() == {"ground", "bright", "dark"}
    assert verdict["cost"]["trials"] >= 4


def test_folds_share_no_group_and_are_kept_by_name(tuned: tuple[Path, Path, str]) -> None:
    data, run, _ = tuned
    groups = dict(line.split(",") for line in (data / "groups.csv").read_text().splitlines()[1:])
    for fold in json.loads((run / "folds.json").read_text())["folds"]:
        train, validation = ({groups[Path(name).name] for name in fold[part]} for part in ("train", "validation"))
        assert train
        assert validation
        assert not train & validation


def test_another_configuration_on_the_run_says_what_differs(tuned: tuple[Path, Path, str]) -> None:
    data, run, _ = tuned
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    error = call("tune", data, "--out", run, *QUICK, "--set", "optimizer.lr=0.03", code=2).err
    assert "optimizer.lr: 0.02 → 0.03" in error
    assert "Choose another --out" in error
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_workers_and_quiet_do_not_make_another_run(tuned: tuple[Path, Path, str]) -> None:
    data, run, _ = tuned
    said = call("tune", data, "--out", run, *QUICK, "--workers", "1", "--quiet").out
    assert "report:" in said


def test_changed_data_on_the_run_is_an_error(tuned: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, run, _ = tuned
    path = next((data / "images" / "train").iterdir())
    kept = path.read_bytes()
    try:
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        error = call("tune", data, "--out", run, *QUICK, code=2).err
    finally:
        path.write_bytes(kept)
    assert "was made from other data" in error
    assert tmp_path.exists()


def test_json_is_all_that_stands_on_standard_output(tuned: tuple[Path, Path, str]) -> None:
    data, run, _ = tuned
    assert json.loads(call("tune", data, "--out", run, *QUICK, "--json").out)["kind"]
    assert json.loads(call("check", data, "--json").out)["images"] == {"train": 12, "test": 4}
    assert "decoupled" in json.loads(call("regularizers", "--json").out)
    assert json.loads(call("report", run, "--json").out)["report"].endswith("report.html")


def test_predict_writes_masks_and_overlays_at_the_size_of_the_input(
    tuned: tuple[Path, Path, str], tmp_path: Path
) -> None:
    data, run, _ = tuned
    odd = tmp_path / "odd.png"
    Image.fromarray(np.full((37, 23, 3), 120, dtype=np.uint8)).save(odd)
    call("predict", run, odd, data / "images" / "test", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "masks" / "odd.png") as mask:
        assert mask.size == (23, 37)
        assert mask.mode == "P"
        assert np.asarray(mask).max() < 3
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 5
    with Image.open(tmp_path / "out" / "overlays" / "odd.png") as overlay:
        assert overlay.size == (23, 37)


def test_predict_works_without_the_data_and_from_the_model_folder_alone(
    tuned: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, _ = tuned
    shutil.copytree(run / "model", tmp_path / "model")
    image = next((data / "images" / "test").iterdir())
    monkeypatch.chdir(tmp_path)
    said = call("predict", tmp_path / "model", image, "--out", tmp_path / "out", "--json").out
    assert sum(json.loads(said)["images"][0]["pixels"].values()) == 256


def test_predict_faults_are_told_together(tuned: tuple[Path, Path, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = call("predict", tuned[1], tmp_path / "none.png", tmp_path / "empty", "--out", tmp_path / "out", code=2).err
    assert "none.png does not exist" in error
    assert "empty holds no image" in error
    assert not (tmp_path / "out").exists()


def test_a_hostile_model_file_is_refused(tuned: tuple[Path, Path, str], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tuned[1] / "model", model)
    (model / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    error = call("predict", model, tuned[0], "--out", tmp_path / "out", code=2).err
    assert "its hash is not the one in model.json" in error
    card = json.loads((tuned[1] / "model" / "model.json").read_text())
    card["model"]["name"] = "os:system"
    (model / "model.json").write_text(json.dumps(card))
    shutil.copy(tuned[1] / "model" / "model.safetensors", model)
    error = call("predict", model, tuned[0], "--out", tmp_path / "out", code=2).err
    assert "a bundle holds no code" in error


def test_train_makes_a_model_and_a_report(tuned: tuple[Path, Path, str], tmp_path: Path) -> None:
    said = call("train", tuned[0], "--decay", "decoupled", "--lambda", "0.01", "--out", tmp_path / "run", *QUICK).out
    assert "train mIoU" in said
    trial = json.loads((tmp_path / "run" / "refit" / "chosen" / "trial.json").read_text())
    assert trial["strength"]["lambda"] == pytest.approx(0.01)
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "model" / "model.json").exists()


def test_train_without_a_strength_says_what_it_needs(tuned: tuple[Path, Path, str], tmp_path: Path) -> None:
    error = call("train", tuned[0], "--out", tmp_path / "run", *QUICK, code=2).err
    assert "--lambda" in error
    assert "saw neither" in error


def test_regularizers_prints_formulas_and_one_in_full() -> None:
    said = call("regularizers").out
    for name in ("none", "l2", "decoupled"):
        assert name in said
    assert "Minimises" in call("regularizers", "l2").out
    assert "Did you mean 'decoupled'" in call("regularizers", "decoupld", code=2).err


def test_all_faults_of_a_command_are_in_one_message(shapes: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"traning": {"epochs": 3}, "optimizer": {"lr": -1}, "schedule": {"name": "cosin"}})
    )
    error = call("tune", shapes, "--config", config, "--decay", "decoupld", "--out", tmp_path / "run", code=2).err
    assert "Did you mean 'training'" in error
    assert "optimizer.lr" in error
    assert "Did you mean 'cosine'" in error
    assert "Did you mean 'decoupled'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "nowhere"], "nowhere"),
        (["tune", "digit"], "Did you mean 'digits'"),
        (["tune", "digits", "--size", "big"], "--size takes HxW"),
        (["tune", "digits", "--set", "search.grid"], "--set takes key.path=value"),
        (["tune", "digits", "--set", "search.grid=[-1]"], "each at least 0"),
        (["tune", "digits", "--set", "search.grid=[0,1e9]"], "ηλ ≥ 1"),
        (["tune", "digits", "--folds", "50"], "12"),
        (["tune", "digits", "--model", "unet-tny"], "Did you mean 'unet-tiny'"),
        (["tune", "digits", "--device", "cuda:77"], "cuda:77: not found"),
        (["report", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.png", "--out", "o"], "neither a run nor a model"),
    ],
)
def test_bad_input_is_one_clear_message_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments, code=2)
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_and_a_folder_that_is_no_run_are_refused(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in call("tune", tmp_path / "empty", "--out", tmp_path / "run", code=2).err
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("mine")
    error = call("tune", shapes, "--out", other, *QUICK, code=2).err
    assert "is not empty and not a run" in error
    assert [path.name for path in other.iterdir()] == ["chapter.txt"]


def test_a_mask_out_of_range_stops_before_training(shapes: Path, tmp_path: Path) -> None:
    path = min((shapes / "masks").iterdir())
    mask = np.asarray(Image.open(path)).copy()
    mask[:2, :2] = 7
    Image.fromarray(mask).save(path)
    done = call("tune", shapes, "--out", tmp_path / "run", *QUICK, code=2)
    assert path.name in done.err
    assert "7" in done.err
    assert not (tmp_path / "run").exists()
    assert path.name in call("check", shapes, code=1).out


def test_strict_turns_warnings_into_an_error(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "leak", n_images=12, test_images=4)
    rows = (data / "groups.csv").read_text().replace("testg0", "traing0")
    (data / "groups.csv").write_text(rows)
    assert "warning" in call("check", data, "--folds", "2").out
    call("check", data, "--folds", "2", "--strict", code=1)
    error = call("tune", data, "--out", tmp_path / "run", *QUICK, "--strict", code=2).err
    assert "--strict" in error
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(shapes: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere but into a file
        (tmp_path / "file").write_text("")
        error = call("tune", shapes, "--out", tmp_path / "file" / "run", *QUICK, code=2).err
    else:
        (tmp_path / "file").mkdir(mode=0o500)
        error = call("tune", shapes, "--out", tmp_path / "file" / "run", *QUICK, code=2).err
    assert "cannot be written" in error
    assert "Choose another --out" in error


def test_init_guesses_a_description_that_check_accepts(shapes: Path) -> None:
    done = call("init", shapes)
    assert yaml.safe_load(done.out)["groups"] == "groups.csv"
    assert "# groups.csv gives" in done.out
    call("init", shapes, "--write")
    assert (shapes / "dataset.yaml").exists()
    assert "ground" in call("check", shapes, "--folds", "3").out
    assert "exists" in call("init", shapes, "--write", code=2).err


def test_a_diverged_training_drops_its_strength_and_the_refit_follows(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=12)
    command: list[str | Path] = ["tune", data, "--out", tmp_path / "run", *QUICK, "--quiet"]
    call(*command)
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    other = next(s for s in verdict["settings"] if s["strength"]["value"] == 2.0)
    assert other["mean"] is not None
    # what a trial writes when its loss is no number any more
    path = tmp_path / "run" / "trials" / "total_decay=2" / "0-0" / "trial.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "diverged", "reason": "the loss became nan", "validation": None}))
    said = call(*command).out
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    by_value = {setting["strength"]["value"]: setting for setting in verdict["settings"]}
    assert by_value[2.0]["mean"] is None
    assert by_value[2.0]["dropped"] == "diverged in 1 of 1 training: the loss became nan"
    assert by_value[0.0]["mean"] is not None
    assert verdict["strength"]["value"] == 0.0
    assert json.loads((tmp_path / "run" / "refit" / "chosen" / "trial.json").read_text())["strength"]["value"] == 0.0
    assert "Not scored: 2" in said
    assert "the loss became nan" in (tmp_path / "run" / "report.html").read_text()


def test_when_every_strength_diverges_the_reasons_are_listed(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=12)
    settings = ("optimizer.name=sgd", "optimizer.lr=1e30", "training.clip_norm=null", "search.grid=[0,1e-3]")
    error = call(
        "tune",
        data,
        "--out",
        tmp_path / "run",
        *QUICK,
        *(word for pair in settings for word in ("--set", pair)),
        code=2,
    ).err
    assert "No strength could be scored" in error
    assert "the loss became" in error
