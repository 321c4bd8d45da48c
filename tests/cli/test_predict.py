"""`predict` and `evaluate` as a user types them: what is written, what is refused, and what a broken file does."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from commands import Command
from PIL import Image
from pycocotools.coco import COCO
from shapes import CLASSES, write_shapes

from segdecay.cli.main import run as run_cli
from segdecay.inference.model import load_predictor
from segdecay.inference.predict import Predicted, PredictionWatcher, predict_files
from segdecay.metrics.boundary import read_boundaries
from segdecay.metrics.confusion import read_confusions, scores_of

QUICK = ["--epochs", "8", "--device", "cpu", "--workers", "0", "--quiet"]
for _pair in ("search.grid=[0,2]", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=2",
              "training.batch_size=4", "optimizer.lr=0.02"):  # fmt: skip
    QUICK += ["--set", _pair]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data with a test part, and a finished run on it."""
    folder = tmp_path_factory.mktemp("predict")
    data = write_shapes(folder / "shapes", n_images=12, test_images=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        patch.setattr(sys, "argv", ["segdecay", "tune", str(data), "--out", str(folder / "run"), *QUICK])
        with pytest.raises(SystemExit) as ended:
            run_cli()
    assert not ended.value.code
    return data, folder / "run"


def _save(path: Path, height: int, width: int, bands: int = 3) -> Path:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, bands)).astype(np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", tile=(64, 64))
    else:
        Image.fromarray(pixels).save(path)
    return path


def test_every_result_that_can_be_saved_is_written(segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path) -> None:
    images = [_save(tmp_path / "a.png", 37, 23), _save(tmp_path / "b.tif", 150, 131)]
    out = tmp_path / "out"
    kinds = ["mask", "overlay", "probabilities", "confidence", "entropy", "coco"]
    segdecay("predict", tuned[1], *images, "--out", out, "--save", ",".join(kinds), "--tile", 64, "--overlap", 32)
    for name, suffix, size in (("a", ".png", (37, 23)), ("b", ".tif", (150, 131))):
        with Image.open(out / "masks" / f"{name}{suffix}") as picture:
            mask = np.asarray(picture)
        assert mask.shape == size
        with Image.open(out / "overlays" / f"{name}{suffix}") as picture:
            assert np.asarray(picture).shape == (*size, 3)
        values = tifffile.imread(out / "probabilities" / f"{name}.tif").astype(np.float64)
        assert values.shape == (*size, 3)
        confidence = tifffile.imread(out / "confidence" / f"{name}.tif")
        np.testing.assert_allclose(np.take_along_axis(values, mask[..., None].astype(int), 2)[..., 0], confidence)
        assert tifffile.imread(out / "entropy" / f"{name}.tif").shape == size
    card = json.loads((out / "predictions.json").read_text())
    assert [row["windows"] for row in card["images"]] == [1, 9]
    assert [sum(row["pixels"].values()) for row in card["images"]] == [37 * 23, 150 * 131]
    assert 1 / 3 < card["images"][0]["mean_confidence"] <= 1
    coco = COCO(str(out / "coco.json"))
    found = np.zeros((150, 131), np.uint8)
    for row in coco.loadAnns(coco.getAnnIds(imgIds=2)):
        found[coco.annToMask(row).astype(bool)] = row["category_id"]
    np.testing.assert_array_equal(found, tifffile.imread(out / "masks" / "b.tif"))


def test_tiles_and_averaging_change_the_probabilities_only_a_little(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    image = _save(tmp_path / "a.tif", 200, 220)
    found = []
    for name, options in {"whole": [], "tiled": ["--tile", "64", "--overlap", "32"], "d4": ["--tta", "d4"]}.items():
        segdecay("predict", tuned[1], image, "--out", tmp_path / name, "--save", "probabilities", *options)
        found.append(tifffile.imread(tmp_path / name / "probabilities" / "a.tif").astype(np.float64))
    for other in found[1:]:
        assert 0 < np.abs(other - found[0]).mean() < 0.05


def test_a_broken_file_does_not_stop_the_rest(segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    _save(folder / "a.png", 20, 20)
    (folder / "b.png").write_bytes(b"junk")
    _save(folder / "c.png", 20, 20, bands=4)
    tifffile.imwrite(folder / "d.tif", np.zeros((9, 9, 3), np.uint16), photometric="rgb")
    _save(folder / "e.png", 1, 1)
    said = segdecay("predict", tuned[1], folder, "--out", tmp_path / "out", code=1)
    assert "3 images were not predicted" in said.err
    for word in ("b.png holds no image (PNG, JPEG", "c.png has 4 (RGB + alpha) bands", "d.tif is 16-bit"):
        assert word in said.err
    assert "2 images predicted" in said.out
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "e.png"]
    card = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [Path(row["image"]).name for row in card["failed"]] == ["b.png", "c.png", "d.tif"]
    said = segdecay("predict", tuned[1], folder, "--out", tmp_path / "out", "--json", code=1)
    assert [len(json.loads(said.out)[key]) for key in ("images", "failed")] == [2, 3]


def test_patterns_and_folders_are_searched_and_results_are_not_predicted_again(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.png", "deep/c.png"):
        _save(tmp_path / name, 20, 20)
    said = segdecay("predict", tuned[1], tmp_path / "?.png", "--out", tmp_path / "out")
    assert "2 images predicted" in said.out
    for _ in range(2):
        said = segdecay("predict", tuned[1], tmp_path, "--out", tmp_path / "out")
        assert "3 images predicted" in said.out
    assert (tmp_path / "out" / "masks" / "deep" / "c.png").exists()
    said = segdecay("predict", tuned[1], tmp_path / "z*.png", "--out", tmp_path / "out2", code=2)
    assert "matches no image" in said.err


def test_a_folder_with_other_files_is_refused_and_one_of_ours_goes_on(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    image, out = _save(tmp_path / "a.png", 20, 20), tmp_path / "out"
    segdecay("predict", tuned[1], image, "--out", out)
    segdecay("predict", tuned[1], _save(tmp_path / "b.png", 20, 20), "--out", out)
    names = [Path(row["image"]).name for row in json.loads((out / "predictions.json").read_text())["images"]]
    assert names == ["a.png", "b.png"]
    said = segdecay("predict", tuned[1], image, "--out", out, "--tta", "flips", code=2)
    assert "with other models or options (tta: none → flips)" in said.err
    said = segdecay("predict", tuned[1], image, "--out", tuned[0], code=2)
    assert "holds other files" in said.err
    said = segdecay("predict", tuned[1], image, "--out", image, code=2)
    assert "is a file" in said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--save", "masks"], "Did you mean 'mask'"),
        (["--save", ","], "at least one of"),
        (["--tta", "flip"], "Did you mean 'flips'"),
        (["--tile", "100"], "a multiple of 32 from 64 on is needed; saw 100. Take 96."),
        (["--tile", "128", "--overlap", "96"], "saw 96. Take 64."),
        (["--batch", "0"], "--batch: at least 1"),
        (["--ensemble"], "0 of 2 trials"),
    ],
)
def test_options_that_do_not_exist_are_told(
    options: list[str], said: str, segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    image = _save(tmp_path / "a.png", 20, 20)
    assert said in segdecay("predict", tuned[1], image, "--out", tmp_path / "out", *options, code=2).err
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_model_says_how_far_it_is_and_how_to_go_on(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tuned[1], run)
    shutil.rmtree(run / "model")
    (run / "verdict.json").unlink()
    for trial in list(run.glob("trials/*/1-0/trial.json")):
        trial.unlink()
    said = segdecay("predict", run, tuned[0], "--out", tmp_path / "out", code=2).err
    finished = len(list(run.glob("trials/*/*/trial.json")))
    assert 0 < finished < 4
    assert re.search(rf"{finished} of at most \d+ trials done, no model yet\. To resume, run: segdecay tune ", said)


def test_an_interrupt_keeps_the_list_of_what_is_done(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    images = [_save(tmp_path / f"{name}.png", 16, 16) for name in "ab"]
    predictor = load_predictor([tuned[1]])

    def interrupt(_done: Predicted) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, images, tmp_path / "out", watcher=PredictionWatcher(on_done=interrupt))
    held = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [row["image"] for row in held] == [str(images[0])]


def test_whole_runs_are_averaged(segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = tuned
    other = tmp_path / "other"
    segdecay("train", data, "--strength", 0, "--out", other, *QUICK, "--set", "search.seeds=[5]")
    image = data / "images" / "test" / "test00.png"
    found = []
    asked: dict[str, list[Path | str]] = {"a": [run], "b": [other], "both": [run, "--with", other]}
    for name, arguments in asked.items():
        segdecay("predict", arguments[0], image, *arguments[1:], "--out", tmp_path / name, "--save", "probabilities")
        found.append(tifffile.imread(tmp_path / name / "probabilities" / "test00.tif").astype(np.float64))
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=2e-3)
    assert np.abs(found[0] - found[1]).max() > 0.02


def test_models_of_the_folds_are_averaged_where_their_trials_kept_them(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tuned[1], run)
    value = json.loads((run / "verdict.json").read_text())["strength"]["value"]
    trials = sorted((run / "trials" / f"total_decay={value:g}").iterdir())
    assert len(trials) == 2
    for trial in trials:
        shutil.copy(run / "model" / "model.safetensors", trial)
    record = json.loads((trials[0] / "trial.json").read_text())
    record["extra"]["mean"] = [0.0, 0.0, 0.0]
    (trials[0] / "trial.json").write_text(json.dumps(record))
    image = tuned[0] / "images" / "test" / "test00.png"
    for name, options in {"one": [], "folds": ["--ensemble"]}.items():
        segdecay("predict", run, image, "--out", tmp_path / name, "--save", "probabilities", *options)
    one, folds = (tifffile.imread(tmp_path / name / "probabilities" / "test00.tif") for name in ("one", "folds"))
    assert np.abs(one.astype(float) - folds).max() > 0.01
    assert len(json.loads((tmp_path / "folds" / "predictions.json").read_text())["made_by"]["models"]) == 2
    (trials[1] / "model.safetensors").write_bytes(b"junk")
    said = segdecay("predict", run, image, "--out", tmp_path / "x", "--ensemble", code=2).err
    assert "does not fit the model of its run" in said


def test_folds_keep_their_weights_on_request_at_the_taken_strength_alone(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned[0], tmp_path / "run"
    segdecay("tune", data, "--out", run, "--keep-fold-models", *QUICK)
    verdict = json.loads((run / "verdict.json").read_text())
    kept = sorted(run.glob("trials/*/*/model.safetensors"))
    assert {path.parent.parent.name for path in kept} == {f"total_decay={verdict['strength']['value']:g}"}
    assert len(kept) == 2
    assert json.loads((run / "examples" / "examples.json").read_text())["cases"]
    image = data / "images" / "test" / "test00.png"
    segdecay("predict", run, image, "--out", tmp_path / "out", "--ensemble")
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["made_by"]["models"]) == 2
    without = json.loads((tuned[1] / "verdict.json").read_text())
    for one in (verdict, without):
        del one["cost"]["seconds"], one["advice"]
    assert verdict == without


def test_evaluate_gives_the_test_scores_of_the_run_and_keeps_the_matrices(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned
    out = tmp_path / "scores"
    said = segdecay("evaluate", run, data, "--out", out)
    assert "part test: mIoU" in said.out
    assert said.err == ""
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    test = json.loads((run / "verdict.json").read_text())["test"]["chosen"]
    assert found["miou"]["mean"] == pytest.approx(test["miou"])
    assert {row["name"]: row["iou"]["mean"] for row in found["classes"]} == pytest.approx(test["iou"])
    matrices = read_confusions(out / "confusion.npz")
    assert matrices.shape == (6, 3, 3)
    assert matrices.sum(axis=0).tolist() == found["confusion"]
    edges = read_boundaries(out / "boundary.npz")
    scores = scores_of(matrices, boundary=edges)
    for key in ("miou", "worst", "weighted", "boundary_miou", "image_miou", "image_worst", "image_weighted"):
        assert found[key]["mean"] == pytest.approx(getattr(scores, key)), key
        assert found[key]["interval"][0] <= found[key]["mean"] <= found[key]["interval"][1], key
    for key in ("precision", "recall", "dice"):
        assert [row[key] for row in found["classes"]] == pytest.approx(list(getattr(scores, key))), key
        assert all(row[f"{key}_interval"][0] <= row[key] <= row[f"{key}_interval"][1] for row in found["classes"])
    for key in ("boundary_iou", "image_iou"):
        assert [row[key]["mean"] for row in found["classes"]] == pytest.approx(list(getattr(scores, key))), key
    assert f"boundary mIoU: {scores.boundary_miou:.3f}" in said.out
    truth = np.concatenate([np.asarray(Image.open(path)).ravel() for path in (data / "masks" / "test").iterdir()])
    assert [row["support"] for row in found["classes"]] == np.bincount(truth, minlength=3).tolist()
    low, high = found["miou"]["interval"]
    assert low < found["miou"]["mean"] < high
    assert (found["trained_on"], found["resampled_by"], found["data"]["groups"]) == (0, "images", 3)
    assert "mIoU" in (out / "report.html").read_text()
    segdecay("evaluate", run, data, "--out", out)  # an evaluation may be replaced
    assert "holds other files" in segdecay("evaluate", run, data, "--out", data, code=2).err


def test_evaluate_warns_of_images_that_were_trained_on(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned
    said = segdecay("evaluate", run, data, "--part", "all", "--json")
    found = json.loads(said.out)
    assert found["trained_on"] == 12
    assert [row["trained_on"] for row in found["images"]] == [row["part"] == "train" for row in found["images"]]
    assert "12 of 18 images were used to train the model" in found["warnings"][0]
    said = segdecay("evaluate", run, data, "--part", "train")
    assert "warning: 12 of 12 images were used to train the model" in said.err
    other = write_shapes(tmp_path / "other", n_images=4, seed=9)
    assert json.loads(segdecay("evaluate", run, other, "--json").out)["trained_on"] == 0


def test_evaluate_at_another_size_scores_resized_masks(segdecay: Command, tuned: tuple[Path, Path]) -> None:
    found = json.loads(segdecay("evaluate", tuned[1], tuned[0], "--size", "32x24", "--json").out)
    assert found["how"]["size"] == [32, 24]
    assert {(row["height"], row["width"]) for row in found["images"]} == {(32, 24)}
    assert found["trained_on"] == 0
    said = segdecay("evaluate", tuned[1], tuned[0], "--size", "32x24", "--part", "train")
    assert "12 of 12 images were used to train the model" in said.err


def test_evaluate_refuses_other_classes_and_parts_with_both_lists(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data = write_shapes(tmp_path / "other", n_images=4)
    (data / "classes.txt").write_text("ground\nlight\ndark\n")
    said = segdecay("evaluate", tuned[1], data, code=2).err
    assert f"The model's: {', '.join(CLASSES)}" in said
    assert "other's: ground, light, dark" in said
    assert "Did you mean 'test'" in segdecay("evaluate", tuned[1], tuned[0], "--part", "tests", code=2).err
    assert (
        "has no image in it (train 12, val 0, test 6)"
        in segdecay("evaluate", tuned[1], tuned[0], "--part", "val", code=2).err
    )


def test_a_terminal_shows_a_bar_of_windows_and_quiet_shows_none(
    segdecay: Command, tuned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("TERM", "xterm")  # a dumb one shows no bars
    image = _save(tmp_path / "a.png", 150, 130)
    arguments = ["predict", tuned[1], image, "--out", tmp_path / "out", "--tile", 64, "--overlap", 32]
    assert "windows" in segdecay(*arguments).out
    assert "windows" not in segdecay(*arguments, "--quiet").out
    monkeypatch.delenv("FORCE_COLOR")
    assert "windows" not in segdecay(*arguments).out
