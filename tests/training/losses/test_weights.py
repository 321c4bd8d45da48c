"""Class weights from counts and as given, and all that is refused of them before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from data_folder import Folder
from shapes import small_config

from segdecay.config.schema import LossConfig
from segdecay.data.dataset import IGNORE, Dataset
from segdecay.errors import ConfigError
from segdecay.training.class_weights import (
    build_class_weights,
    check_learnable,
    check_weight_list,
    check_weight_names,
    pixel_statistics,
)
from segdecay.training.losses import class_weights
from segdecay.workflows.request import check_names
from segdecay.workflows.steps import refuse_unlearnable


def _loss(**keys: Any) -> LossConfig:
    return small_config("unused", loss=keys).loss


class Said:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def plan(self, *_: object) -> None: ...

    def begin(self, *_: object) -> None: ...

    def event(self, _: object) -> None: ...


# --- class weights ----------------------------------------------------------------------------------------------------


def _worked(tmp_path: Path) -> Dataset:
    """Three masks of 48 pixels with background, road and 12 ignored pixels in the first.

    Background has 24 + 48 + 36 pixels, road 12 in the first and 12 in the third.
    """
    folder = Folder(tmp_path / "data")
    masks = np.zeros((3, 6, 8), dtype=np.uint8)
    masks[0, 0:2, 0:6], masks[0, 4:6, 0:6] = 1, IGNORE
    masks[2, 0, 0:4], masks[2, 5, 0:8] = 1, 1  # two components
    for name, mask in zip("abc", masks, strict=True):
        folder.mask(name, mask)
    folder.spec("classes: [background, road]\nignore: [255]\n")
    return folder.dataset()


def _weights(dataset: Dataset, config: LossConfig, indices: tuple[int, ...] = (0, 1, 2)) -> npt.NDArray[np.float64]:
    weights = build_class_weights(config, dataset, indices, pixel_statistics(dataset, indices))
    assert weights is not None
    assert weights.dtype == torch.float32
    return weights.double().numpy()


def test_median_frequency_goes_by_all_pixels_of_the_images_that_hold_a_class(tmp_path: Path) -> None:
    # f = 108/144 = .75 and 24/96 = .25; the median is .5
    assert _weights(_worked(tmp_path), _loss(class_weights="median")) == pytest.approx([2 / 3, 2.0])


def test_inverse_root_goes_by_the_share_of_valid_pixels(tmp_path: Path) -> None:
    root = np.sqrt(132 / np.array([108, 24]))
    assert _weights(_worked(tmp_path), _loss(class_weights="inverse_sqrt")) == pytest.approx(root / root.mean())


@pytest.mark.parametrize(("count", "numbers"), [("images", [3, 2]), ("components", [3, 3])])
def test_effective_numbers_count_images_or_components(tmp_path: Path, count: str, numbers: list[int]) -> None:
    # with β = ½ the effective number of 2 is 1.5 and of 3 it is 1.75
    config = _loss(class_weights="effective_number", class_weights_count=count, class_weights_beta=0.5)
    inverse = np.array([1 / {2: 1.5, 3: 1.75}[number] for number in numbers])
    assert _weights(_worked(tmp_path), config) == pytest.approx(inverse / inverse.mean())


def test_only_the_training_images_are_counted(tmp_path: Path) -> None:
    assert _weights(_worked(tmp_path), _loss(class_weights="median"), (2,)) == pytest.approx([0.5 / 0.75, 2.0])


def test_a_list_is_taken_as_it_is(tmp_path: Path) -> None:
    assert _weights(_worked(tmp_path), _loss(class_weights=[0, 3])).tolist() == [0.0, 3.0]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"class_weights": "medain"}, "Did you mean 'median'?"),
        ({"class_weights": "medain"}, "Or give one number per class."),
        ({"class_weights_count": "components"}, "loss.class_weights_count=components is only for"),
        ({"class_weights": "median", "class_weights_beta": 0.5}, "effective_number; saw median."),
    ],
)
def test_kinds_of_weights_that_do_not_exist_or_do_not_use_a_key_are_refused(keys: dict[str, Any], said: str) -> None:
    (fault,) = check_weight_names(_loss(**keys))
    assert said in fault
    assert fault in check_names(small_config("unused", loss=keys))


@pytest.mark.parametrize("value", [3, None, [1, "a"], [True, 1], {"a": 1}])
def test_weights_that_are_neither_a_name_nor_numbers_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights: must be a name or a list of numbers, one per class"):
        _loss(class_weights=value)


CLASSES = ("sky", "pole", "road")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2], ["lists 2 numbers; these data have 3 classes. Give one for each, in this order: sky, pole, road."]),
        ([1], ["lists 1 number;"]),
        ([1, -2, 1], ["must be finite numbers of 0 or more; saw pole -2."]),
        ([float("nan"), 1, float("inf")], ["saw sky nan, road inf."]),
        ([1e39, 1, 1], ["saw sky 1e+39."]),  # infinite in single precision
        ([0, 0, 0], ["is 0 for every class"]),
        ([1, 2, 3, -4], ["lists 4 numbers", "saw number 4 -4."]),
        ([], ["lists 0 numbers"]),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused_by_name(values: list[float], said: list[str]) -> None:
    faults = check_weight_list(_loss(class_weights=values), CLASSES)
    assert len(faults) == len(said)
    assert all(text in fault for text, fault in zip(said, faults, strict=True))


def test_weights_that_fit_are_not_refused() -> None:
    assert check_weight_list(_loss(class_weights=[0, 1, 2.5]), CLASSES) == []
    assert check_weight_list(_loss(class_weights="median"), CLASSES) == []


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("median", "its weight (loss.class_weights=median) would be infinite; 1 is used."),
        ("effective_number", "its weight (loss.class_weights=effective_number) would be infinite"),
        ("none", "it cannot be learned. Add images of it"),
        ([1, 2], "it cannot be learned, and its weight of 2 has no effect."),
    ],
)
def test_a_class_without_a_training_pixel_is_told_with_what_it_means(tmp_path: Path, weights: Any, said: str) -> None:
    dataset, config = _worked(tmp_path), _loss(class_weights=weights)
    assert check_learnable(config, dataset, [(0, 1), (1, 2)]) == []
    (fault,) = check_learnable(config, dataset, [(0, 1), (1,), (1, 2), (1,)])
    assert fault.startswith('class "road" is in no training mask of folds 1, 3: ')
    assert said in fault
    (fault,) = check_learnable(config, dataset, [(1,)])
    assert fault.startswith('class "road" is in no training mask: ')
    assert "remove it from dataset.yaml, or give --allow-missing (search.allow_missing=true)." in fault


def test_all_faults_of_weights_are_raised_at_once_and_missing_classes_only_warned_of_where_allowed(
    tmp_path: Path,
) -> None:
    dataset, said = _worked(tmp_path), Said()
    config = small_config("unused", loss={"class_weights": [1, -2, 3]})
    with pytest.raises(ConfigError) as raised:
        refuse_unlearnable(config, dataset, [(1,)], said)
    assert [line[:2] for line in str(raised.value).splitlines()] == ["- ", "- ", "- "]
    assert said.lines == []
    allowed = small_config("unused", search={"allow_missing": True})
    refuse_unlearnable(allowed, dataset, [(1,)], said)
    (line,) = said.lines
    assert line.startswith('warning: class "road" is in no training mask')


def test_a_class_without_pixels_gets_weight_one_under_allow_missing(tmp_path: Path) -> None:
    for kind in ("median", "inverse_sqrt", "effective_number"):
        assert _weights(_worked(tmp_path / kind), _loss(class_weights=kind), (1,)).tolist() == [1.0, 1.0]


def test_the_median_is_over_the_classes_that_are_there() -> None:
    weights = class_weights("median", np.array([50, 0, 10]), np.array([100, 0, 100]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.6, 1.0, 3.0])
