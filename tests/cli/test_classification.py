"""Images with one label each through the commands: init, check, tune, report, predict, evaluate, and refusals."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import Command
from label_data import NAMES, write_cifar_binary, write_class_folders
from shapes import write_shapes
from verdict_keys import assert_documented

from segdecay.cli.main import run as run_cli

QUICK = ["--epochs", "3", "--device", "cpu", "--workers", "0", "--folds", "3"]
for _pair in ("search.grid=[0,1]", "search.resamples=200", "training.batch_size=6", "optimizer.lr=0.003",
              "augment.pad=1", "search.race=false"):  # fmt: skip
    QUICK += ["--set", _pair]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Class folders with the dataset.yaml that init guessed, and a finished search on them."""
    folder = tmp_path_factory.mktemp("labels")
    data = write_class_folders(folder / "animals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        for words in (["init", data, "--write"], ["tune", data, "--out", folder / "run", *QUICK]):
            patch.setattr(sys, "argv", ["segdecay", *map(str, words)])
            with pytest.raises(SystemExit) as ended:
                run_cli()
            assert not ended.value.code
    return data, folder / "run"


def test_check_counts_images_by_class_and_fold(tuned: tuple[Path, Path], segdecay: Command) -> None:
    said = segdecay("check", tuned[0], "--folds", "3")
    assert "images: test 6, train 18" in said.out
    assert "Validation images by fold" in said.out
    assert "pixels" not in said.out
    assert "nothing is wrong" in said.out


def test_check_tells_faults_and_exits_with_1(tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path) -> None:
    data = shutil.copytree(tuned[0], tmp_path / "data")
    shutil.copytree(data / "train" / "cat", data / "train" / "catt")
    said = segdecay("check", data, code=1)
    assert "'catt', which is no class" in " ".join(said.out.split())


def test_a_search_ends_with_a_verdict_in_balanced_accuracy(tuned: tuple[Path, Path]) -> None:
    verdict = json.loads((tuned[1] / "verdict.json").read_text())
    assert_documented(verdict)
    assert (verdict["criterion"], verdict["task"]) == ("balanced accuracy", "classification")
    assert verdict["kind"] in {"chosen", "zero", "flat", "edge"}
    assert [row["name"] for row in verdict["classes"]] == list(NAMES)
    assert [row["support"] for row in verdict["classes"]] == [6, 6, 6]
    test = verdict["test"]["chosen"]
    assert set(test["classes"]) == set(NAMES)
    assert test["score"] == pytest.approx(sum(test["classes"].values()) / 3)
    none = next(row for row in verdict["settings"] if row["strength"]["value"] == 0)
    assert none["gap"] == pytest.approx(none["train_mean"] - none["mean"])
    trials = [
        json.loads(path.read_text()) for path in sorted((tuned[1] / "trials" / "total_decay=0").glob("*/trial.json"))
    ]
    assert none["train_mean"] == pytest.approx(np.mean([np.mean(trial["train"]["recall"]) for trial in trials]))


def test_a_model_that_learned_brightness_is_better_than_guessing(tuned: tuple[Path, Path]) -> None:
    verdict = json.loads((tuned[1] / "verdict.json").read_text())
    assert verdict["test"]["zero"]["score"] > 0.6


def test_the_run_names_its_network_and_its_task(tuned: tuple[Path, Path]) -> None:
    asked = yaml.safe_load((tuned[1] / "run.yaml").read_text())
    card = json.loads((tuned[1] / "model" / "model.json").read_text())
    assert asked["model"]["name"] == "small-cnn"
    assert (card["task"], card["model"]["name"], card["miou"]) == ("classification", "small-cnn", None)
    assert card["balanced_accuracy"] is not None
    readme = (tuned[1] / "model" / "README.md").read_text()
    assert "# Classification model" in readme
    assert "recall on test" in readme
    assert "IoU" not in readme
    assert "pixel" not in readme


def _own_words(page: str) -> str:
    """A page without its library, its style, its scripts and its pictures."""
    for part in (r'<script type="text/plain".*?</script>', r"<style>.*?</style>", r"<script>.*?</script>"):
        page = re.sub(part, "", page, flags=re.DOTALL)
    return re.sub(r"data:image[^\"')]*", "", page)


def test_the_report_says_nothing_of_masks(tuned: tuple[Path, Path], segdecay: Command) -> None:
    segdecay("report", tuned[1])
    words = _own_words((tuned[1] / "report.html").read_text())
    found = re.findall(r"\b(?:m?IoU|[Pp]ixels?|[Mm]asks?|Dice)\b", words)
    assert found == []
    for said in ("balanced accuracy", "recall, no decay", "Validation images of every class", "truth <bdi>cat</bdi>"):
        assert said in words, said


def test_the_same_command_goes_on_and_another_task_is_told(
    tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path
) -> None:
    again = segdecay("tune", tuned[0], "--out", tuned[1], *QUICK, "--quiet")
    assert "test balanced accuracy of the refits" in again.out
    for words, said in (
        (["tune", tuned[0], "--model", "unet-tiny"], "gives a mask, but these data have one label per image"),
        (["tune", write_shapes(tmp_path / "s"), "--model", "small-cnn"], "gives one label per image"),
        (["tune", tuned[0], "--set", "search.criterion=miou"], "miou scores masks"),
    ):
        assert said in segdecay(*words, "--out", tmp_path / "run", code=2).err
    assert not (tmp_path / "run").exists()


def test_predict_writes_a_table_of_labels_and_probabilities(
    tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path
) -> None:
    said = segdecay("predict", tuned[1], tuned[0] / "test", "--out", tmp_path / "out")
    assert "6 images labelled" in said.out
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").open()))
    assert len(rows) == 6
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in NAMES}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(shares, key=lambda name: shares[name])
    right = [Path(row["image"]).parent.name == row["label"] for row in rows]
    verdict = json.loads((tuned[1] / "verdict.json").read_text())
    assert sum(right) / 6 == pytest.approx(verdict["test"]["chosen"]["score"])
    card = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["label"] for row in card["images"]] == [row["label"] for row in rows]


def test_a_broken_image_does_not_stop_the_others_and_mask_options_are_refused(
    tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path
) -> None:
    images = shutil.copytree(tuned[0] / "test" / "cat", tmp_path / "images")
    (images / "broken.png").write_bytes(b"no image")
    said = segdecay("predict", tuned[1], images, "--out", tmp_path / "out", "--json", code=1)
    assert len(json.loads(said.out)["images"]) == 2
    assert "broken.png" in said.err
    refused = segdecay("predict", tuned[1], images, "--out", tmp_path / "o", "--save", "coco", "--tile", "64", code=2)
    assert "--save coco: this model gives one label per image" in refused.err
    assert "--tile 64" in refused.err
    assert not (tmp_path / "o").exists()


def test_evaluate_scores_labels_with_intervals(tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path) -> None:
    said = segdecay("evaluate", tuned[1], tuned[0], "--out", tmp_path / "e", "--json")
    found = json.loads(said.out)
    verdict = json.loads((tuned[1] / "verdict.json").read_text())
    assert found["task"] == "classification"
    assert found["balanced_accuracy"]["mean"] == pytest.approx(verdict["test"]["chosen"]["score"])
    assert found["accuracy"] == pytest.approx(found["balanced_accuracy"]["mean"])  # two images of every class
    words = _own_words((tmp_path / "e" / "report.html").read_text())
    assert re.findall(r"\b(?:m?IoU|[Pp]ixels?|[Mm]asks?|Dice)\b", words) == []
    assert "This model reaches balanced accuracy" in words
    shown = segdecay("evaluate", tuned[1], tuned[0])
    assert "accuracy" in shown.out
    assert "recall" in shown.out


def test_a_model_of_labels_is_not_scored_on_masks(tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path) -> None:
    said = segdecay("evaluate", tuned[1], write_shapes(tmp_path / "s"), code=2)
    assert "The model gives one label per image; shapes" not in said.err
    assert "has masks" in said.err


def test_a_card_of_another_task_than_its_network_is_refused(
    tuned: tuple[Path, Path], segdecay: Command, tmp_path: Path
) -> None:
    model = shutil.copytree(tuned[1] / "model", tmp_path / "model")
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "task": "segmentation"}))
    said = segdecay("predict", model, tuned[0] / "test", "--out", tmp_path / "out", code=2)
    assert "gives one label per image" in said.err


def test_train_on_cifar_with_a_network_of_the_users_own(
    segdecay: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def build(in_channels, classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    data = f"cifar10:{write_cifar_binary(tmp_path / 'cifar')}"
    words = ["--epochs", "1", "--workers", "0", "--lambda", "0.01", "--model", "own_net:build"]
    said = segdecay("train", data, "--out", tmp_path / "run", *words)
    assert "train balanced accuracy" in said.out
    labelled = segdecay(
        "predict", tmp_path / "run", tmp_path / "none.png", "--out", tmp_path / "o", "--model", "own_net:build", code=2
    )
    assert "none.png does not exist" in labelled.err
