"""Records of the atlas: they read back as written; damaged, foreign and inconsistent files are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atlas_grids import SHAPE, SIZES, VALUES, atlas, matrices, write_grid
from recorded_grids import random_matrices, write_record

from segdecay.errors import RunError
from segdecay.metrics.confusion import scores_of


def refusal(path: Path) -> str:
    """What reading this file says; the file is named in it."""
    with pytest.raises(RunError) as caught:
        atlas.records.read_record(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_record_reads_back_as_its_matrices(tmp_path: Path) -> None:
    record = atlas.records.read_record(write_grid(tmp_path / "roads-base.npz"))
    assert record.values == VALUES
    assert record.status.shape == SHAPE
    assert [len(fold) for fold in record.groups] == list(SIZES)
    scores = [trial.score() for setting in record.counts for fold in setting for trial in fold]
    assert scores == pytest.approx([scores_of(one.sum(axis=0)).miou for one in matrices()], abs=1e-12)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = write_grid(tmp_path / "roads-base.npz")
    path.write_bytes(path.read_bytes()[:-200])
    assert "cannot be read" in refusal(path)


def test_a_file_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = write_grid(tmp_path / "roads-base.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"confusion_count.npy") + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    assert "cannot be read" in refusal(path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "roads-base.npz").write_text("mIoU 0.5\n")
    assert "cannot be read" in refusal(tmp_path / "roads-base.npz")


def test_a_record_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path / "digits.npz", random_matrices())
    assert "is not a record of the atlas" in refusal(path)


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roads-base.npz"
    np.savez(path, atlas=np.array(1), recipe=np.array({"name": "x"}, dtype=object))
    assert "lacks values" in refusal(path)
    write_grid(path, classes=np.array(["ground", None], dtype=object))
    assert "cannot be read" in refusal(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    assert "has format 7; this version reads 1" in refusal(write_grid(tmp_path / "a.npz", atlas=np.array(7)))


def test_missing_keys_are_all_named(tmp_path: Path) -> None:
    assert "lacks train, fold_of" in refusal(write_grid(tmp_path / "a.npz", train=None, fold_of=None))


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    path = write_grid(tmp_path / "roads-base.npz").rename(tmp_path / "fields-base.npz")
    assert "holds the grid roads-base, not fields-base" in refusal(path)


@pytest.mark.parametrize(
    ("recipe", "words"), [("{", "Expecting property name"), ('{"name": "a"}', "lacks or adds"), ("[]", "list")]
)
def test_a_recipe_that_cannot_be_read_is_refused(tmp_path: Path, recipe: str, words: str) -> None:
    assert words in refusal(write_grid(tmp_path / "a.npz", recipe=np.array(recipe)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": np.array([0.0, 4.0, 1.0])}, "begin with 0 and rise"),
        ({"values": np.array([0.0, 1.0])}, "values has shape (2,); the others make (3,)"),
        ({"status": np.full(SHAPE, "lost")}, "status holds ['lost']"),
        ({"curves": np.zeros((*SHAPE, 5))}, "curves has shape (3, 3, 1, 5); the others make (3, 3, 1, 2)"),
        ({"fold_of": np.repeat(np.arange(3), (9, 9, 7))}, "its matrices score"),
        ({"fold_of": np.repeat([0, 1, 3], SIZES)}, "fold_of names folds [0, 1, 3]; there are 3"),
        ({"confusion_length": np.array([4, 4])}, "it holds 2 matrices; its strengths and images make 75"),
        ({"confusion_count": np.array([1])}, "1 counts are there"),
        ({"validation": np.full(SHAPE, 0.5)}, "D = 4, fold 3: its matrices score"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(write_grid(tmp_path / "a.npz", **changes))


def test_a_place_outside_the_matrix_is_named(tmp_path: Path) -> None:
    packed = atlas.packing.pack_matrices(one for trial in matrices() for one in trial)
    packed["confusion_index"][5] = 9
    assert "a matrix has the place 9; 2 classes end at 3" in refusal(write_grid(tmp_path / "a.npz", **packed))


def test_more_pixels_than_the_size_allows_are_named(tmp_path: Path) -> None:
    words = refusal(write_grid(tmp_path / "a.npz", told={"size": [9, 9]}))
    assert "labelled pixels; images of 9×9 hold 81" in words


@pytest.mark.parametrize("name", ["digits", "nuclei", "camvid"])
def test_the_earlier_records_fit_the_sizes_that_are_said_of_them(name: str) -> None:
    record = atlas.earlier.read_earlier(name)
    height, width = record.facts.size
    assert not atlas.records.size_faults(record)
    largest = max(int(trial.true.sum(axis=1).max()) for fold in record.counts[0] for trial in fold)
    assert largest > 0.95 * height * width  # some pixels of every CamVid image are not labelled


def test_an_earlier_record_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits.npz").write_text("no archive")
    with pytest.raises(RunError, match=r"digits\.npz cannot be read"):
        atlas.earlier.read_earlier("digits", tmp_path)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    words = refusal(write_grid(tmp_path / "a.npz", told={"name": "b"}, values=np.array([1.0, 2.0, 4.0])))
    assert "the grid b, not a" in words
    assert "begin with 0" in words


def test_the_report_stops_at_a_damaged_record(tmp_path: Path) -> None:
    write_grid(tmp_path / "a.npz", atlas=np.array(7))
    with pytest.raises(RunError, match=r"a\.npz has format 7"):
        atlas.atlas_report.read_grids(tmp_path)


def test_matrices_survive_packing() -> None:
    random = np.random.default_rng(1)
    several = random.integers(0, 3, (7, 4, 4)) * random.integers(0, 100_000, (7, 4, 4))
    assert np.array_equal(atlas.packing.unpack_matrices(atlas.packing.pack_matrices(several), 4), several)
