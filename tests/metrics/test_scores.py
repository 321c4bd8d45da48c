"""Scores of a set and of its images: against scikit-learn and torchmetrics, and what they must not depend on."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.metrics import jaccard_score, precision_score, recall_score
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from segdecay.config.schema import DataConfig
from segdecay.data import IGNORE, load_dataset
from segdecay.errors import RunError
from segdecay.metrics.boundary import (
    BoundaryCounts,
    band_px,
    boundary_band,
    image_boundaries,
    read_boundaries,
    write_boundaries,
)
from segdecay.metrics.confusion import image_confusions, scores_of
from segdecay.runs.records import Scores, trial_from_json
from segdecay.training.validate import score_images
from segdecay.utils.files import to_json

torch.set_num_threads(1)
I64 = npt.NDArray[np.int64]
CLASSES = 4
SEEDS = st.integers(0, 10_000)


def masks(seed: int, n: int = 3, classes: int = CLASSES, shape: tuple[int, int] = (9, 11)) -> tuple[I64, I64]:
    """Predictions and truth of blobs, a fifth of the truth ignored; not every image holds every class."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, random.integers(1, classes + 1), (2, n, 3, 3))
    prediction, truth = (np.repeat(np.repeat(one, 4, axis=1), 4, axis=2)[:, : shape[0], : shape[1]] for one in coarse)
    truth = np.where(random.random(truth.shape) < 0.2, IGNORE, truth)
    prediction = np.where(random.random(truth.shape) < 0.2, random.integers(0, classes, truth.shape), prediction)
    return prediction, truth


def scored(prediction: I64, truth: I64, classes: int = CLASSES) -> Scores:
    matrices = image_confusions(torch.from_numpy(prediction), torch.from_numpy(truth), classes).numpy()
    return scores_of(matrices, boundary=image_boundaries(prediction, truth, classes))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_precision_and_recall_are_scikit_learns_on_valid_pixels(seed: int) -> None:
    prediction, truth = masks(seed)
    found, valid = scored(prediction, truth), truth != IGNORE
    for ours, theirs in ((found.precision, precision_score), (found.recall, recall_score)):
        expected = theirs(truth[valid], prediction[valid], average=None, labels=range(CLASSES), zero_division=np.nan)
        np.testing.assert_allclose(ours, expected)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_weighted_score_is_scikit_learns(seed: int) -> None:
    prediction, truth = masks(seed)
    valid = truth != IGNORE
    expected = jaccard_score(truth[valid], prediction[valid], average="weighted", zero_division=0)
    assert scored(prediction, truth).weighted == pytest.approx(float(expected))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_matrices_and_iou_are_torchmetrics(seed: int) -> None:
    prediction, truth = (torch.from_numpy(mask) for mask in masks(seed))
    ours = image_confusions(prediction, truth, CLASSES)
    matrix = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE)
    for i in range(len(truth)):
        assert torch.equal(ours[i], matrix(prediction[i : i + 1], truth[i : i + 1]))
    theirs = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=IGNORE, zero_division=float("nan"))
    np.testing.assert_allclose(scores_of(ours.numpy()).iou, theirs(prediction, truth).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_masks_of_any_integer_type_give_the_same_matrices(kind: torch.dtype) -> None:
    prediction, truth = (torch.from_numpy(mask) for mask in masks(0, classes=17))
    found = image_confusions(prediction.to(kind), truth.to(kind), 17)
    assert torch.equal(found, image_confusions(prediction, truth, 17))
    assert found.dtype == torch.int64


def test_two_hundred_classes_do_not_overflow_bytes() -> None:
    every = torch.arange(250, dtype=torch.uint8).view(1, 10, 25)
    assert torch.equal(image_confusions(every, every, 250)[0], torch.eye(250, dtype=torch.int64))


def test_no_image_gives_no_matrix_and_no_score() -> None:
    none = torch.zeros(0, 4, 4, dtype=torch.int64)
    assert image_confusions(none, none, 3).shape == (0, 3, 3)
    found = scores_of(np.zeros((0, 3, 3), np.int64))
    assert all(math.isnan(value) for value in (found.miou, found.worst, found.weighted, found.image_miou))


def test_scores_over_images_by_hand() -> None:
    """Image 1: IoU 3/4 and 4/5; image 2: class 0 alone, all right; image 3: nothing valid."""
    matrices = np.array([[[3, 1], [0, 4]], [[8, 0], [0, 0]], [[0, 0], [0, 0]]])
    found = scores_of(matrices)
    assert found.image_miou == pytest.approx((0.775 + 1) / 2)
    assert found.image_worst == pytest.approx((0.75 + 1) / 2)
    assert found.image_weighted == pytest.approx(((4 * 0.75 + 4 * 0.8) / 8 + 1) / 2)
    assert found.image_iou == pytest.approx((0.875, 0.8))
    assert found.weighted == pytest.approx((12 * 11 / 12 + 4 * 0.8) / 16)
    assert found.support == (12, 4)


def test_an_image_without_the_class_is_outside_its_mean_over_images_though_it_was_predicted_there() -> None:
    matrices = np.array([[[0, 0], [0, 5]], [[4, 4], [0, 0]]])
    found = scores_of(matrices)
    assert found.image_iou == (0.5, 1.0)
    assert found.image_miou == pytest.approx((1 + (0.5 + 0) / 2) / 2)


@given(SEEDS, st.permutations(range(CLASSES)))
@settings(max_examples=40, deadline=None)
def test_relabelling_the_classes_relabels_the_scores(seed: int, order: list[int]) -> None:
    prediction, truth = masks(seed)
    table = np.array([*order, *range(CLASSES, IGNORE), IGNORE])
    one, other = scored(prediction, truth), scored(table[prediction], table[truth])
    for item in fields(Scores):
        ours, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(ours, tuple) and item.name != "excluded":
            theirs = [theirs[place] for place in order]
        np.testing.assert_allclose(ours, theirs, err_msg=item.name)


@given(SEEDS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_what_is_predicted_under_ignored_pixels_changes_no_score(seed: int, noise: int) -> None:
    prediction, truth = masks(seed)
    other = np.random.default_rng(noise).integers(0, CLASSES, truth.shape)
    assert scored(prediction, truth) == scored(np.where(truth == IGNORE, other, prediction), truth)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_every_score_is_available_exactly_where_its_class_is(seed: int) -> None:
    prediction, truth = masks(seed)
    found, valid = scored(prediction, truth), truth != IGNORE
    true, claimed = (np.bincount(mask[valid], minlength=CLASSES) > 0 for mask in (truth, prediction))
    for name, where in (
        ("iou", true | claimed), ("dice", true | claimed), ("boundary_iou", true | claimed), ("recall", true),
        ("precision", claimed), ("image_iou", true),
    ):  # fmt: skip
        assert np.array_equal(np.isfinite(getattr(found, name)), where), name


@given(SEEDS, st.integers(1, 12), st.tuples(st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=60, deadline=None)
def test_a_band_is_a_class_minus_its_erosion_by_a_square(seed: int, width_px: int, shape: tuple[int, int]) -> None:
    mask = (np.random.default_rng(seed).random(shape) < 0.003).astype(np.int64)  # single pixels far apart
    expected = np.zeros(mask.shape, np.bool_)
    for value in np.unique(mask):
        own = np.pad(mask == value, width_px)
        square = np.ones((2 * width_px + 1, 2 * width_px + 1), np.bool_)
        eroded = ndimage.binary_erosion(own, square)[width_px:-width_px, width_px:-width_px]
        expected |= (mask == value) & ~eroded
    assert np.array_equal(boundary_band(mask, width_px), expected)


def test_boundary_iou_by_hand() -> None:
    """A square of 6x6, and the same one pixel to the right: bands are rings of 20 that share two rows of 5."""
    truth, claimed = (np.zeros((1, 12, 12), np.int64) for _ in range(2))
    truth[0, 3:9, 3:9] = 1
    claimed[0, 3:9, 4:10] = 1
    assert band_px(12, 12) == 1
    found = image_boundaries(claimed, truth, 2)
    assert (found.hit[0, 1], found.union[0, 1]) == (10, 30)  # rows 3 and 8 share 5 pixels each; 20 + 20 - 10


def test_boundary_iou_sees_a_blurred_outline_that_iou_forgives() -> None:
    truth, eroded = (np.zeros((1, 100, 100), np.int64) for _ in range(2))
    truth[0, 10:90, 10:90] = 1
    eroded[0, 12:88, 12:88] = 1
    found = scored(eroded, truth, 2)
    assert found.iou[1] > 0.9
    assert found.boundary_iou[1] < 0.35


def test_a_class_ends_where_ignored_pixels_begin_and_those_are_in_no_band() -> None:
    truth = np.zeros((1, 9, 9), np.int64)
    truth[0, :, 4] = IGNORE
    found = image_boundaries(np.zeros_like(truth), truth, 1)
    inner = 2 * 7 * 2  # each half is 9x4 and leaves an inside of 7x2
    assert found.union[0, 0] == found.hit[0, 0] == 9 * 8 - inner


def test_kept_boundaries_come_back_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    counts = image_boundaries(*masks(3), CLASSES)
    path = tmp_path / "boundary.npz"
    assert read_boundaries(path) is None
    write_boundaries(path, counts)
    kept = read_boundaries(path)
    assert kept is not None
    assert np.array_equal(kept.hit, counts.hit)
    assert np.array_equal(kept.union, counts.union)
    path.write_bytes(b"PK cut")
    with pytest.raises(RunError, match=r"boundary.npz is damaged.*Remove its folder"):
        read_boundaries(path)


def test_boundaries_of_parts_are_those_of_the_whole() -> None:
    prediction, truth = masks(5)
    parts = [image_boundaries(prediction[i : i + 1], truth[i : i + 1], CLASSES) for i in range(len(truth))]
    whole = image_boundaries(prediction, truth, CLASSES)
    assert np.array_equal(BoundaryCounts.joined(parts, CLASSES).union, whole.union)


@pytest.fixture(scope="module")
def many_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs of three sizes."""
    root, random = tmp_path_factory.mktemp("sizes"), np.random.default_rng(0)
    for i, (height, width) in enumerate([(24, 32)] * 3 + [(32, 24)] * 2 + [(40, 40)] * 2):
        mask = np.kron(random.integers(0, 3, (height // 8, width // 8)), np.ones((8, 8))).astype(np.uint8)
        image = (60 * mask[..., None] + random.integers(0, 60, (height, width, 3))).astype(np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{i}.png")
    (root / "classes.txt").write_text("a\nb\nc\n")
    return root


def test_no_kept_count_depends_on_the_validation_batch(many_sizes: Path, tmp_path: Path) -> None:
    config = DataConfig.model_validate({"path": str(many_sizes)})
    dataset, _ = load_dataset(config, cache=tmp_path)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)
    )
    zero = torch.zeros(1, 3, 1, 1)
    found = [
        score_images(
            model, dataset, range(7), mean=zero, deviation=zero + 64, weight=None, batch_size=size, with_boundaries=True
        )
        for size in (1, 3, 7)
    ]
    assert found[0].confusions.any(axis=0).sum() > 3
    for other in found[1:]:
        assert np.array_equal(other.confusions, found[0].confusions)
        assert other.boundary is not None
        assert found[0].boundary is not None
        assert np.array_equal(other.boundary.hit, found[0].boundary.hit)
        assert np.array_equal(other.boundary.union, found[0].boundary.union)
        assert other.loss == pytest.approx(found[0].loss, rel=1e-6)


def test_a_record_of_an_older_version_lacks_the_new_scores() -> None:
    scores = {"miou": 0.5, "iou": [0.5, None], "dice": [0.6, None], "worst": 0.5, "support": [4, 0], "loss": 1.0}
    strength = {"axis": "total_decay", "value": 0.0, "lambda": 0.0, "timescale_epochs": None, "total_decay": 0.0}
    values = {
        "setting": "total_decay=0", "strength": strength, "fold": 0, "seed": 0, "status": "finished", "reason": None,
        "train": None, "validation": scores, "epochs": 1, "steps": 1, "seconds": 1.0, "parts": [1, 1], "extra": {},
    }  # fmt: skip
    found = trial_from_json(values).validation
    assert found is not None
    assert math.isnan(found.boundary_miou)
    assert all(math.isnan(value) for value in found.precision)
    assert len(found.precision) == len(found.boundary_iou) == 2
    assert trial_from_json(json.loads(to_json(trial_from_json(values)))).validation == found
