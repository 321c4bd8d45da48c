"""exclude_from_mean: classes that are scored like the others, and that no mean over classes counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import source_zoo as zoo
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from segdecay.config.schema import SearchConfig
from segdecay.data.dataset import open_dataset
from segdecay.data.spec import class_names, parse_spec
from segdecay.errors import ConfigError, RunError
from segdecay.inference.scores import Resampling, image_mious, overall_scores
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.boundary import BoundaryCounts
from segdecay.metrics.confusion import image_confusions, scores_of
from segdecay.metrics.criteria import build_criterion
from segdecay.runs.folder import check_same_mean

# background, road, car: IoU 6/10, 2/5, 1/2; 8, 3 and 2 true pixels
MATRIX = np.array([[6, 2, 0], [1, 2, 0], [1, 0, 1]])
CLASSES = ("background", "road", "car")


def test_the_means_leave_the_class_out_and_its_false_positives_in() -> None:
    scores = scores_of(MATRIX, excluded=(0,))
    assert scores.iou == pytest.approx((6 / 10, 2 / 5, 1 / 2))  # road's union has the two pixels of background
    assert scores.miou == pytest.approx((2 / 5 + 1 / 2) / 2)
    assert scores.worst == pytest.approx(2 / 5)
    assert scores.weighted == pytest.approx((3 * 2 / 5 + 2 * 1 / 2) / 5)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.support == (8, 3, 2)


def test_the_worst_class_is_not_one_that_is_left_out() -> None:
    scores = scores_of(MATRIX, excluded=(1,))
    assert scores.worst == pytest.approx(1 / 2)
    criterion = build_criterion(SearchConfig(criterion="worst"), CLASSES, exclude_from_mean=("road",))
    assert criterion.of_record(scores) == pytest.approx(1 / 2)


def test_means_of_single_images_leave_it_out_as_well() -> None:
    scores = scores_of(np.stack([MATRIX, np.diag([9, 1, 0])]), excluded=(0,))
    assert scores.image_miou == pytest.approx((0.45 + 1) / 2)
    assert scores.image_worst == pytest.approx((0.4 + 1) / 2)
    assert scores.image_weighted == pytest.approx((0.44 + 1) / 2)
    assert image_mious(np.stack([MATRIX]), (0,)) == pytest.approx([0.45])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("miou", 0.45),
        ("worst", 0.4),
        ("weighted", 0.44),
        ("balanced_accuracy", (2 / 3 + 1 / 2) / 2),
        ("accuracy", 9 / 13),
    ],
)
def test_criteria_agree_with_the_records(kind: str, expected: float) -> None:
    search = SearchConfig(criterion=kind)
    criterion = build_criterion(search, CLASSES, exclude_from_mean=("background",))
    assert Counts.of(MATRIX[None]).score(criterion) == pytest.approx(expected)
    assert criterion.of_record(scores_of(MATRIX, excluded=(0,))) == pytest.approx(expected)


def test_the_criterion_says_what_it_leaves_out() -> None:
    criterion = build_criterion(SearchConfig(max_class_loss=0.1), CLASSES, exclude_from_mean=("background", "car"))
    assert criterion.name == "mIoU without background, car such that no class loses more than 0.1"
    assert criterion.by_class.excluded == ()  # single classes are told of all


def test_naming_a_class_that_is_left_out_is_refused() -> None:
    search = SearchConfig(criterion="classes", criterion_classes=("road", "car"))
    with pytest.raises(ConfigError, match=r"criterion_classes lists car, which exclude_from_mean .* leaves out"):
        build_criterion(search, CLASSES, exclude_from_mean=("car",))


def test_as_torchmetrics_by_class_then_averaged_and_not_as_ignored_pixels() -> None:
    random = np.random.default_rng(3)
    truth, predicted = (torch.from_numpy(random.integers(0, 3, (4, 9, 9))) for _ in range(2))
    found = scores_of(image_confusions(predicted, truth, 3).numpy(), excluded=(0,)).miou
    by_class = MulticlassJaccardIndex(3, average=None)(predicted, truth)
    assert found == pytest.approx(float(by_class[1:].mean()), abs=1e-6)
    ignored = MulticlassJaccardIndex(3, average=None, ignore_index=0)(predicted, truth)
    assert found < float(ignored[1:].mean()) - 0.04  # false positives on background are forgotten there


def test_overall_scores_of_an_evaluation_leave_it_out() -> None:
    matrices = np.stack([MATRIX, MATRIX])
    edges = BoundaryCounts(np.array([[9, 1, 1]] * 2), np.array([[10, 2, 4]] * 2))
    by = Resampling(["a", "b"], 0.95, 50, excluded=(0,))
    found = overall_scores(matrices, edges, by)
    means = {key: one.mean for key, one in found.items()}
    assert means["miou"] == pytest.approx(0.45)
    assert means["worst"] == pytest.approx(0.4)
    assert means["boundary_miou"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert means["image_miou"] == pytest.approx(0.45)


def test_a_data_set_carries_the_list_and_keeps_its_fingerprint(tmp_path: Path) -> None:
    text = "classes: [background, road]\n"
    root = zoo.spec(zoo.write(tmp_path / "set", "images/{stem}.png", "masks/{stem}.png"), text)
    plain = zoo.dataset(root)
    left_out = zoo.dataset(zoo.spec(root, f"{text}exclude_from_mean: [background]\n"))
    assert (plain.excluded, left_out.excluded) == ((), (0,))
    assert open_dataset(left_out.root).exclude_from_mean == ("background",)
    assert plain.fingerprint == left_out.fingerprint  # a training sees the same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exclude_from_mean: [backgruond]", "exclude_from_mean: .*'backgruond'.*did you mean 'background'"),
        ("exclude_from_mean: [background, road]", "every class is listed"),
        ("exclude_from_mean: background", "exclude_from_mean"),
    ],
)
def test_a_list_that_cannot_be_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?is){said}"):
        class_names(parse_spec(f"classes: [background, road]\n{text}"), tmp_path)


def test_a_run_with_another_list_does_not_go_on(tmp_path: Path) -> None:
    check_same_mean(tmp_path, ("sky",))
    (tmp_path / "data.json").write_text(json.dumps({"exclude_from_mean": ["background"]}))
    check_same_mean(tmp_path, ("background",))
    with pytest.raises(RunError, match=r"left background out of its means, .* now lists no class"):
        check_same_mean(tmp_path, ())
    (tmp_path / "data.json").write_text("{}")  # a run of before
    check_same_mean(tmp_path, ())
    with pytest.raises(RunError, match=r"left no class out"):
        check_same_mean(tmp_path, ("sky",))
