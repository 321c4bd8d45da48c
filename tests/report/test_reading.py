"""Reading a run's folder: what is missing or damaged is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from report_numbers import CLASSES, FOLDS, VALUES
from report_run import change, write_run, write_training

from segdecay.errors import RunError
from segdecay.report import build_report
from segdecay.report.facts.read import read_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("reading") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_is_read_with_the_trials_that_are_compared(finished: Path) -> None:
    run = read_run(finished)
    assert run.verdict is not None
    assert run.verdict.kind == "chosen"
    assert run.data.classes == CLASSES
    assert len(run.trials) == FOLDS * len(VALUES)
    assert {training.record.strength.value for training in run.zero} == {0.0}
    assert {training.record.strength.value for training in run.compared} == {4.0}
    assert [training.record.fold for training in run.compared] == list(range(FOLDS))


def test_what_was_not_scored_is_none_and_never_zero(finished: Path) -> None:
    verdict = read_run(finished).verdict
    assert verdict is not None
    dropped = verdict.settings[-1]
    assert dropped.mean is None
    assert dropped.folds == ()
    assert dropped.dropped is not None
    assert verdict.classes[4].chosen is None


def test_a_key_that_the_report_does_not_know_is_passed_over(run: Path) -> None:
    change(run / "verdict.json", "later", value={"anything": 1})
    assert read_run(run).verdict is not None


def test_an_interval_with_a_missing_bound_is_not_available(run: Path) -> None:
    change(run / "verdict.json", "selection", "interval", value=[None, None])
    verdict = read_run(run).verdict
    assert verdict is not None
    assert verdict.selection.interval is None


def test_a_training_has_no_verdict_and_no_folds(tmp_path: Path) -> None:
    run = read_run(write_training(tmp_path / "run"))
    assert run.verdict is None
    assert run.folds is None
    assert len(run.compared) == 1


@pytest.mark.parametrize(
    "file",
    [
        "data.json",
        "folds.json",
        "partition.json",
        "environment.json",
        "examples/examples.json",
        "examples/1-zero.png",
        "trials/total_decay=4/1-0/curve.jsonl",
    ],
)
def test_a_missing_file_is_named(run: Path, file: str) -> None:
    (run / file).unlink()
    with pytest.raises(RunError) as caught:
        build_report(run)
    assert f"{file} is missing" in str(caught.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    "file",
    [
        "verdict.json",
        "data.json",
        "folds.json",
        "partition.json",
        "environment.json",
        "examples/examples.json",
        "examples/1-zero.png",
        "trials/total_decay=4/1-0/curve.jsonl",
        "trials/total_decay=4/1-0/trial.json",
    ],
)
@pytest.mark.parametrize("content", [b'{"kind": "cho', b"[]", b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(run: Path, file: str, content: bytes) -> None:
    (run / file).write_bytes(content)
    with pytest.raises(RunError) as caught:
        build_report(run)
    assert file in str(caught.value)
    assert "damaged" in str(caught.value) or "cannot be read" in str(caught.value)


def test_all_faults_of_a_file_are_listed_with_what_was_seen(run: Path) -> None:
    change(run / "verdict.json", "kind", value="great")
    change(run / "verdict.json", "settings", 1, "mean", value="high")
    with pytest.raises(RunError) as caught:
        read_run(run)
    text = str(caught.value)
    assert "kind" in text
    assert "'great'" in text
    assert "settings.1.mean" in text
    assert "'high'" in text


def test_files_that_name_different_numbers_of_classes_are_refused(run: Path) -> None:
    change(run / "data.json", "palette", value=[[0, 0, 0]])
    with pytest.raises(RunError, match="names 6 classes, but"):
        read_run(run)


def test_an_unfinished_search_says_how_far_it_is_and_how_to_go_on(run: Path) -> None:
    (run / "verdict.json").unlink()
    shutil.rmtree(run / "trials" / "total_decay=16")
    with pytest.raises(RunError) as caught:
        build_report(run)
    assert "9 of 12 trials done" in str(caught.value)
    assert "segdecay tune <data> --out run" in str(caught.value)


def test_an_unfinished_training_says_how_to_go_on(tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    shutil.rmtree(run / "refit")
    with pytest.raises(RunError, match=r"no finished training.*segdecay train"):
        build_report(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.yaml"):
        build_report(tmp_path)


@pytest.mark.parametrize("name", ["../verdict.json", "/etc/hostname", "a\\b.png", "..", ""])
def test_an_example_that_points_out_of_its_folder_is_refused(run: Path, name: str) -> None:
    change(run / "examples" / "examples.json", "cases", 0, "image", value=name)
    with pytest.raises(RunError, match="only names of files in that folder"):
        build_report(run)


def test_a_mask_with_a_value_that_no_class_claims_is_refused(run: Path) -> None:
    Image.new("L", (40, 48), 77).save(run / "examples" / "0-zero.png")
    with pytest.raises(RunError, match=r"0-zero\.png holds \[77\]; classes are 0–5"):
        build_report(run)


def test_a_mask_of_another_size_than_its_image_is_refused(run: Path) -> None:
    Image.new("L", (8, 8), 0).save(run / "examples" / "0-zero.png")
    with pytest.raises(RunError, match="is 8x8, its image 40x48"):
        build_report(run)
