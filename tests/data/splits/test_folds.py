"""Folds: no leak, every item validated once, classes balanced, and clear words where that cannot be."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from segdecay.config.schema import DataConfig
from segdecay.data.dataset import Dataset, Item, Part, class_pixels
from segdecay.data.loading import load_dataset
from segdecay.data.records import FoldsRecord, folds_record
from segdecay.data.splits.folds import Fold, FoldPlan, check_folds, fold_plan, make_plan
from segdecay.data.splits.stratify import shares_of, unevenness
from segdecay.errors import DataError
from segdecay.runs.read import check_record
from segdecay.utils.files import to_json

CLASSES = ("background", "road", "crack")


@dataclasses.dataclass(frozen=True)
class Counted(Dataset):
    """A data set without files: each item's mask is one row with given pixels of each class."""

    pixels: tuple[tuple[int, ...], ...] = ()

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        return np.repeat(np.arange(len(self.classes), dtype=np.uint8), self.pixels[index])[None]


def dataset_of(
    groups: Sequence[str],
    pixels: Sequence[Sequence[int]] | None = None,
    *,
    parts: Sequence[Part] | None = None,
    folds: Sequence[int | None] | None = None,
    method: str = "groups",
) -> Counted:
    n = len(groups)
    parts, folds = parts or ["train"] * n, folds or [None] * n
    rows = tuple(tuple(row) for row in pixels) if pixels else ((5, 3, 1),) * n
    items = tuple(Item(f"{parts[i]}/f{i}", parts[i], groups[i], folds[i], 1, sum(rows[i]), f"{i}") for i in range(n))
    return Counted("set", CLASSES, ((0, 0, 0),) * 3, 3, "none", method, "f", Path("nowhere"), items, rows, counts=rows)


def plan_of(dataset: Dataset, n_folds: int = 3, **more: object) -> FoldPlan:
    options = {"method": None, "seed": 0, "block_gap": 2, **more}
    return fold_plan(dataset, n_folds=n_folds, **options)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 11), min_size=12, max_size=60), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_folds_never_share_a_group_and_validate_every_item_once(numbers: list[int], n_folds: int, seed: int) -> None:
    dataset = dataset_of([f"g{number}" for number in [*numbers, *range(4)]])
    plan = plan_of(dataset, n_folds, seed=seed)
    assert sorted(i for fold in plan.folds for i in fold.validation) == list(range(len(dataset.items)))
    for fold in plan.folds:
        groups = [{dataset.items[i].group for i in side} for side in (fold.train, fold.validation)]
        assert not groups[0] & groups[1]
        assert sorted(fold.train + fold.validation) == list(range(len(dataset.items)))
        assert fold.left_out == ()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(2, 4), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_blocks_are_contiguous_guarded_and_validate_every_item_once(sizes: list[int], n_folds: int, gap: int) -> None:
    sizes = [max(sizes[0], n_folds * (2 * gap + 2)), *sizes[1:]]
    groups = [f"video{g}" for g, size in enumerate(sizes) for _ in range(size)]
    dataset = dataset_of(groups, method="blocks")
    plan = plan_of(dataset, n_folds, block_gap=gap)
    assert sorted(i for fold in plan.folds for i in fold.validation) == list(range(len(groups)))
    start = 0
    for size in sizes:
        members = range(start, start + size)
        start += size
        is_long = size >= n_folds * max(1, gap)
        for fold in plan.folds:
            inside = [i for i in fold.validation if i in members]
            if inside:
                assert inside == list(range(inside[0], inside[-1] + 1))
                near = {i for i in members if inside[0] - gap <= i <= inside[-1] + gap}
                assert not near & set(fold.train)
                assert near - set(inside) == set(fold.left_out) & set(members)
            assert bool(inside) or not is_long
    for fold in plan.folds:
        assert not {*fold.train} & {*fold.validation, *fold.left_out}
        assert len(fold.train) + len(fold.validation) + len(fold.left_out) == len(groups)


def test_frames_are_ordered_by_number_across_train_and_val() -> None:
    parts: list[Part] = ["val" if 4 <= i < 8 else "train" for i in range(12)]
    dataset = dataset_of(["video"] * 12, parts=parts, method="blocks")
    plan = plan_of(dataset, 3, block_gap=1)
    assert sorted(fold.validation for fold in plan.folds) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]
    (middle,) = [fold for fold in plan.folds if fold.validation == (4, 5, 6, 7)]
    assert middle.left_out == (3, 8)


def test_blocks_are_dealt_so_that_a_rare_class_reaches_every_fold() -> None:
    pixels = [[5, 3, 9 if i in {0, 1, 12, 13, 24, 25} else 0] for i in range(36)]  # first block of three videos
    dataset = dataset_of([f"v{i // 12}" for i in range(36)], pixels, method="blocks")
    pixels_of_crack = plan_of(dataset, 3, block_gap=1).table[2]
    assert min(pixels_of_crack) > 0


def test_the_test_part_is_in_no_fold() -> None:
    parts: list[Part] = ["train", "val", "test"] * 4
    dataset = dataset_of([f"g{i}" for i in range(12)], parts=parts)
    plan = plan_of(dataset, 2)
    assert {i for fold in plan.folds for i in fold.train + fold.validation} == set(dataset.part("train", "val"))


def test_given_folds_come_from_the_column() -> None:
    dataset = dataset_of(["a", "b", "c", "d"], folds=[7, 1, 7, 1], method="given")
    assert [fold.validation for fold in plan_of(dataset).folds] == [(1, 3), (0, 2)]


def test_train_and_val_are_one_given_fold() -> None:
    dataset = dataset_of(["a", "b", "c", "d"], parts=["train", "val", "test", "train"])
    plan = plan_of(dataset, method="given")
    assert plan.folds == (Fold((0, 3), (1,)),)


@pytest.mark.parametrize("folds", [None, [2, 2]])
def test_given_folds_that_are_not_there_are_an_error(folds: list[int | None] | None) -> None:
    with pytest.raises(DataError, match=r"folds: given needs folds in the data set; .*Give folds in groups\.csv"):
        plan_of(dataset_of(["a", "b"], folds=folds, method="given"))


def test_a_fold_file_that_leaks_a_group_is_an_error_that_names_the_consequence() -> None:
    dataset = dataset_of(["a", "a", "b"], folds=[0, 1, 1], method="given")
    with pytest.raises(DataError, match=r"Fold 1 has 1 group in both training and validation: a\.") as caught:
        plan_of(dataset)
    assert "scores will be better than on new ones" in str(caught.value)
    assert "give each group one fold; if these images are independent, remove the column group." in str(caught.value)


def test_a_published_split_that_leaks_a_group_is_a_warning() -> None:
    dataset = dataset_of(["a", "a", "b"], parts=["train", "val", "val"], method="given")
    found = [finding for finding in check_folds(plan_of(dataset), dataset) if finding.code == "fold_shares_groups"]
    assert [finding.level for finding in found] == ["warning"]


def test_leave_one_group_out_has_a_fold_a_group() -> None:
    dataset = dataset_of(["b", "a", "b", "c"], method="leave-one-group-out")
    plan = plan_of(dataset, 2)
    assert [fold.validation for fold in plan.folds] == [(1,), (0, 2), (3,)]
    assert all(sorted(fold.train + fold.validation) == [0, 1, 2, 3] for fold in plan.folds)


@pytest.mark.parametrize(
    ("groups", "text"),
    [(["a", "a"], r"there is 1\. Add groups, or use"), ([f"g{i}" for i in range(101)], r"there are 101\. Name groups")],
)
def test_leave_one_group_out_of_too_few_or_many_groups_is_an_error(groups: list[str], text: str) -> None:
    with pytest.raises(DataError, match=rf"leave-one-group-out needs 2 to 100 groups, a fold each; {text}"):
        plan_of(dataset_of(groups, method="leave-one-group-out"))


def test_a_guard_gap_that_eats_a_fold_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError) as caught:
        plan_of(dataset_of(["video"] * 6, method="blocks"), 2, block_gap=3)
    assert str(caught.value).startswith(
        "- Fold 1 validates 3 images, and the guard gap around them leaves out the other 3: nothing is left to train "
        "on. Lower search.block_gap."
    )


def test_fewer_groups_than_folds_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"2 groups for training, folds = 3: each fold needs its own. Use 2 folds, or folds: bl"
    ):
        plan_of(dataset_of(["a", "a", "b"]))
    with pytest.raises(DataError, match=r"1 group for training, folds = 3: each fold needs its own. Add groups"):
        plan_of(dataset_of(["a", "a", "a"]))
    with pytest.raises(DataError, match=r"2 images for training, folds = 3: each fold needs its own. Use 2 folds"):
        plan_of(dataset_of(["a", "b"]))


def test_blocks_without_long_groups_are_an_error() -> None:
    with pytest.raises(DataError, match=r"needs a group of at least 6 images \(3 folds, gap 2\); the longest has 2"):
        plan_of(dataset_of(["a", "a", "b"], method="blocks"))


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(DataError, match=r"Unknown fold method 'group'.*Did you mean 'groups'"):
        plan_of(dataset_of(["a", "b", "c"]), method="group")


def test_a_class_in_too_few_groups_is_an_error_unless_allowed() -> None:
    pixels = [[5, 3, 4 if i < 2 else 0] for i in range(10)]
    dataset = dataset_of([f"g{i}" for i in range(10)], pixels)
    text = (
        'class "crack" occurs in 2 groups, folds = 5: 3 folds cannot score it. '
        "Use 2 folds, merge classes, or --allow-missing."
    )
    with pytest.raises(DataError) as caught:
        plan_of(dataset, 5)
    said = str(caught.value).split("\n")
    assert said[:3] == [text, "Validation pixels:", "class  groups  fold 1  fold 2  fold 3  fold 4  fold 5"]
    assert sorted(said[3].split()) == ["0", "0", "0", "2", "4", "4", "crack"]
    plan = plan_of(dataset, 5, allow_missing=True)
    found = check_folds(plan, dataset, allow_missing=True)
    assert [(finding.level, finding.message) for finding in found] == [("warning", text)]
    assert [finding.level for finding in check_folds(plan, dataset)] == ["wrong"]
    assert plan.groups_of_class == (10, 10, 2)


def test_a_class_in_one_group_is_told_to_be_neither_scored_nor_learned() -> None:
    pixels = [[5, 3, 4 if i == 0 else 0] for i in range(4)]
    dataset = dataset_of([f"g{i}" for i in range(4)], pixels)
    with pytest.raises(DataError) as caught:
        plan_of(dataset, 2)
    assert 'class "crack" occurs in 1 group, folds = 2: 1 fold cannot score it. Merge classes' in str(caught.value)
    assert 'class "crack" is in no training mask of fold' in str(caught.value)


def test_a_class_that_a_block_lacks_is_an_error() -> None:
    pixels = [[5, 3, 4 if i < 3 else 0] for i in range(12)]
    dataset = dataset_of(["video"] * 12, pixels, method="blocks")
    with pytest.raises(
        DataError, match=r'class "crack" is in no validation mask of folds \d, \d and cannot be scored there'
    ):
        plan_of(dataset, 3)


def test_a_class_that_is_nowhere_is_no_matter_of_folds() -> None:
    dataset = dataset_of([f"g{i}" for i in range(4)], [[5, 3, 0]] * 4)
    assert plan_of(dataset, 2).table[2] == (0, 0)


def test_the_table_counts_validation_pixels() -> None:
    dataset = dataset_of([f"g{i}" for i in range(6)])
    assert plan_of(dataset, 3).table == ((10, 10, 10), (6, 6, 6), (2, 2, 2))


def test_a_plan_survives_json_and_its_seed_decides() -> None:
    dataset = dataset_of([f"g{i}" for i in range(20)], [[1 + i % 3, 2 + i % 5, 1 + i % 7] for i in range(20)])
    plan = plan_of(dataset)
    assert plan == plan_of(dataset)
    kept = json.loads(to_json(folds_record(plan, dataset)))
    assert check_record(kept, FoldsRecord, "folds.json") == folds_record(plan, dataset)
    assert plan_of(dataset, 4).fingerprint != plan.fingerprint


@pytest.mark.parametrize(
    ("fold", "code"),
    [
        (Fold((), (0, 1)), "fold_empty"),
        (Fold((0, 1), (1,)), "fold_overlap"),
        (Fold((0, 3), (1,)), "fold_uses_test"),
        (Fold((0,), (2,)), "fold_shares_groups"),
    ],
)
def test_a_plan_that_leaks_is_found(fold: Fold, code: str) -> None:
    dataset = dataset_of(["a", "b", "a", "c"], parts=["train", "train", "val", "test"])
    findings = check_folds(make_plan("groups", [fold], dataset), dataset)
    assert code in {finding.code for finding in findings if finding.level == "wrong"}


def test_every_fold_gets_a_group_even_when_one_holds_nearly_everything() -> None:
    groups = ["big"] * 50 + ["a", "b"]
    plan = plan_of(dataset_of(groups), 3)
    assert sorted(len(fold.validation) for fold in plan.folds) == [1, 1, 50]


def test_groups_of_digits_are_balanced_no_worse_than_by_scikit_learn(tmp_path: Path) -> None:
    dataset, _ = load_dataset(DataConfig.model_validate({"path": "digits"}), cache=tmp_path)
    pool = np.array(dataset.part("train", "val"))
    counts = class_pixels(dataset)[pool]
    images = (counts > 0).astype(np.int64)
    rarest = np.where(counts > 0, counts.sum(axis=0), counts.sum() + 1).argmin(axis=1)
    groups = [dataset.items[i].group for i in pool]
    for n_folds in (3, 4):
        ours = np.zeros(len(pool), dtype=np.int64)
        for k, fold in enumerate(plan_of(dataset, n_folds).folds):
            ours[np.isin(pool, fold.validation)] = k
        for state in range(3):
            theirs = np.zeros_like(ours)
            splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of classes with few members
                for k, (_, held_out) in enumerate(splitter.split(pool, rarest, groups)):
                    theirs[held_out] = k
            for amounts in (counts, images):
                shares = shares_of(amounts)
                assert unevenness(shares, ours, n_folds) <= unevenness(shares, theirs, n_folds)
            assert np.ptp(np.bincount(ours)) <= np.ptp(np.bincount(theirs))
