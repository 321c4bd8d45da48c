"""Scores of images with one label each: accuracy and balanced accuracy; the networks and crops that go with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from torch import nn

from segdecay.config.schema import AugmentConfig, ModelConfig, parse_config
from segdecay.data.dataset import IGNORE
from segdecay.data.transforms.augment import augment
from segdecay.errors import ConfigError
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.confusion import curve_scores, image_confusions, scores_of
from segdecay.metrics.criteria import Criterion, build_criterion
from segdecay.models.small_cnn import SmallCNN
from segdecay.models.zoo import build_model, check_model_task, logits_of

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def _matrices(truth: list[int], called: list[int]) -> np.ndarray:
    one, other = (torch.tensor(values)[:, None, None] for values in (called, truth))
    return image_confusions(one, other, 4).numpy()


@settings(max_examples=60, deadline=None)
@given(pairs=LABELS)
def test_accuracies_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, called = [list(values) for values in zip(*pairs, strict=True)]
    counts, total = Counts.of(_matrices(truth, called)), _matrices(truth, called).sum(axis=0)
    present = sorted(set(truth))
    recalls = recall_score(truth, called, labels=present, average=None, zero_division=0.0)
    assert counts.score(Criterion("accuracy")) == pytest.approx(accuracy_score(truth, called))
    assert counts.score(Criterion("balanced_accuracy")) == pytest.approx(np.mean(recalls))
    assert counts.score(Criterion("worst", of_recall=True)) == pytest.approx(min(recalls))
    record = scores_of(total)
    assert record.balanced_accuracy == pytest.approx(np.mean(recalls))
    for kind in ("accuracy", "balanced_accuracy"):
        assert Criterion(kind).of_record(record) == pytest.approx(counts.score(Criterion(kind)))


def test_balanced_accuracy_is_scikit_learns_where_only_true_classes_are_called() -> None:
    truth, called = [0, 0, 0, 1, 1, 2], [0, 1, 0, 1, 2, 2]
    found = Counts.of(_matrices(truth, called)).score(Criterion("balanced_accuracy"))
    assert found == pytest.approx(balanced_accuracy_score(truth, called))


def test_a_class_that_is_called_but_never_true_is_not_in_the_mean() -> None:
    counts = Counts.of(_matrices([0, 0, 1], [0, 3, 1]))
    assert counts.score(Criterion("balanced_accuracy")) == pytest.approx((0.5 + 1) / 2)
    assert counts.score(Criterion()) == pytest.approx((0.5 + 1 + 0) / 3)


def test_the_criterion_follows_the_task_and_miou_is_refused_for_labels() -> None:
    search = parse_config({"data": {"path": "x"}}).search
    assert build_criterion(search, ("a", "b")).name == "mIoU"
    of_labels = build_criterion(search, ("a", "b"), "classification")
    assert (of_labels.name, of_labels.by_class.class_score) == ("balanced accuracy", "recall")
    worst = parse_config({"data": {"path": "x"}, "search": {"criterion": "worst"}}).search
    assert build_criterion(worst, ("a", "b"), "classification").name == "worst-class recall"
    asked = parse_config({"data": {"path": "x"}, "search": {"criterion": "miou"}}).search
    with pytest.raises(ConfigError, match=r"miou scores masks.*Use balanced_accuracy"):
        build_criterion(asked, ("a", "b"), "classification")


def test_pixel_accuracy_of_masks_leaves_their_classes_to_iou() -> None:
    asked = parse_config({"data": {"path": "x"}, "search": {"criterion": "accuracy"}}).search
    found = build_criterion(asked, ("a", "b"))
    assert (found.class_score, found.by_class.class_score) == ("recall", "IoU")


def test_a_curve_tells_balanced_accuracy_of_labels_only() -> None:
    scores = scores_of(np.array([[3, 1], [0, 2]]))
    assert set(curve_scores(scores, "train", "segmentation")) == {"train_miou"}
    assert curve_scores(scores, "train", "classification")["train_balanced_accuracy"] == pytest.approx(0.875)


def test_small_cnn_is_the_textbook_network_at_32_pixels_and_takes_other_sizes() -> None:
    torch.manual_seed(0)
    model = SmallCNN(3, 10)
    weights = [tuple(value.shape) for name, value in model.named_parameters() if name.endswith("weight")]
    assert weights == [(16, 3, 3, 3), (32, 16, 3, 3), (128, 2048), (10, 128)]
    textbook = nn.Sequential(
        *(layer for layer in model.body if not isinstance(layer, nn.AdaptiveAvgPool2d)), model.head
    )
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(images)[..., 0, 0], textbook(images))
    for height, width in ((8, 8), (13, 21), (48, 32)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 10, 1, 1)


def test_logits_without_room_for_pixels_are_given_one() -> None:
    class Flat(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    images = torch.rand(3, 2, 5, 7)
    torch.testing.assert_close(logits_of(Flat(), images)[..., 0, 0], images.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("unet-tiny", "classification", "gives a mask.*--model small-cnn"),
        ("smp:unet", "classification", "gives a mask"),
        ("small-cnn", "segmentation", "gives one label per image.*--model unet-tiny"),
    ],
)
def test_a_network_of_the_other_task_is_refused(name: str, task: str, said: str) -> None:
    (fault,) = check_model_task(name, task)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        raise ConfigError(fault)


def test_networks_of_the_task_and_the_users_own_are_let_through() -> None:
    pairs = [("small-cnn", "classification"), ("unet-tiny", "segmentation"), ("mine:build", "classification")]
    assert [check_model_task(name, task) for name, task in pairs] == [[], [], []]  # type: ignore[arg-type]
    assert isinstance(build_model(ModelConfig(name="small-cnn"), in_channels=1, classes=2), SmallCNN)


def test_a_padded_crop_moves_image_and_mask_alike_and_its_border_is_ignored() -> None:
    images = torch.arange(1, 26, dtype=torch.float32).view(1, 1, 5, 5).repeat(400, 1, 1, 1)
    masks = images[:, 0].long()
    moved, labels = augment(
        images, masks, config=AugmentConfig(pad=2, flip="none"), flip="none", generator=torch.Generator().manual_seed(0)
    )
    border = labels == IGNORE
    assert moved.shape == images.shape
    assert border.any()
    assert (labels[~border] > 0).all()  # every pixel of the masks themselves is
    torch.testing.assert_close(moved[:, 0][~border], labels[~border].float())
    assert (moved[:, 0][border] == 0).all()
    centres = (labels == 13).nonzero()[:, 1:]  # the pixel in the middle stays inside wherever the window lies
    assert len(centres) == 400
    assert {(int(row), int(column)) for row, column in centres} == {(y, x) for y in range(5) for x in range(5)}


def test_a_label_stays_under_every_change_of_its_image() -> None:
    images, labels = torch.rand(8, 3, 6, 9) * 255, torch.arange(8).view(8, 1, 1)
    config = AugmentConfig(pad=1, flip="both", degrees=30, scale=0.2, shift=0.1, brightness=0.1, contrast=0.1)
    moved, same = augment(images, labels, config=config, flip="both", generator=torch.Generator().manual_seed(1))
    assert torch.equal(same, labels)
    assert not torch.equal(moved, images)


def test_where_the_window_lies_and_whether_it_is_mirrored_are_drawn_apart() -> None:
    masks = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).repeat(400, 1, 1)
    config, draw = AugmentConfig(pad=1, flip="horizontal"), torch.Generator().manual_seed(0)
    _, labels = augment(masks[:, None].float(), masks, config=config, flip="horizontal", generator=draw)
    seen = set()
    for one in labels:
        (row, column), (right,) = (one == 5).nonzero()[0].tolist(), (one == 5).nonzero()[:, 1].tolist()
        beside = {int(one[row, c]): c - right for c in range(3)}
        seen.add((beside.get(4, -beside.get(6, 0)), row, column))
    assert len(seen) == 2 * 3 * 3


def test_the_pad_does_not_shift_the_draws_of_the_others() -> None:
    images, masks = torch.rand(4, 1, 6, 6) * 255, torch.zeros(4, 6, 6, dtype=torch.int64)

    def flipped(pad: int) -> torch.Tensor:
        config = AugmentConfig(flip="both", pad=pad)
        return augment(images, masks, config=config, flip="both", generator=torch.Generator().manual_seed(3))[0]

    whole = flipped(0)
    for one, padded in zip(whole, flipped(1), strict=True):
        border = torch.nn.functional.pad(one, (1, 1, 1, 1))
        windows = border.unfold(1, 6, 1).unfold(2, 6, 1).reshape(-1, 6, 6)
        assert any(torch.equal(window, padded[0]) for window in windows)
