"""Confusion matrices and scores against scikit-learn and numbers worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from segdecay.data import IGNORE
from segdecay.errors import RunError
from segdecay.metrics.confusion import image_confusions, read_confusions, scores_of, write_confusions


def _masks(seed: int, n: int = 3, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (n, 6, 5))
    prediction = random.integers(0, classes, (n, 6, 5))
    truth[random.random(truth.shape) < 0.2] = IGNORE
    return torch.from_numpy(prediction), torch.from_numpy(truth)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_matrices_are_scikit_learns(seed: int) -> None:
    prediction, truth = _masks(seed)
    ours = image_confusions(prediction, truth, 4).numpy()
    for i in range(len(truth)):
        valid = truth[i] != IGNORE
        expected = confusion_matrix(truth[i][valid], prediction[i][valid], labels=range(4))
        assert np.array_equal(ours[i], expected)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_iou_and_dice_are_scikit_learns_jaccard_and_f1(seed: int) -> None:
    prediction, truth = _masks(seed)
    scores = scores_of(image_confusions(prediction, truth, 4).sum(0).numpy())
    valid = truth != IGNORE
    expected = jaccard_score(truth[valid], prediction[valid], average=None, labels=range(4))
    assert scores.iou == pytest.approx(tuple(expected))
    expected = f1_score(truth[valid], prediction[valid], average=None, labels=range(4))
    assert scores.dice == pytest.approx(tuple(expected))
    assert scores.worst == pytest.approx(min(scores.iou))


def test_an_absent_class_is_not_available_and_outside_the_mean() -> None:
    scores = scores_of(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert math.isnan(scores.iou[2])
    assert scores.miou == pytest.approx((0.75 + 0.8) / 2)
    assert scores.support == (4, 4, 0)


def test_a_class_that_is_only_predicted_counts_zero() -> None:
    scores = scores_of(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]]))
    assert scores.iou[2] == 0.0
    assert scores.miou == pytest.approx((0.75 + 1.0 + 0.0) / 3)
    assert scores.worst == 0.0


def test_the_mean_of_batches_is_not_the_score_of_the_set() -> None:
    matrices = np.array([[[8, 0], [2, 0]], [[0, 0], [0, 10]]])
    assert scores_of(matrices.sum(0)).miou == pytest.approx((8 / 10 + 10 / 12) / 2)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_kept_matrices_come_back(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    matrices = image_confusions(*_masks(seed), 4).numpy()
    path = tmp_path_factory.mktemp("kept") / "confusion.npz"
    write_confusions(path, matrices)
    assert np.array_equal(read_confusions(path), matrices)
    assert read_confusions(path).dtype == np.int64


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "confusion.npz"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"confusion.npz is damaged.*Remove its folder"):
        read_confusions(path)
