"""Honest scores that cost trainings: nested folds and a fold held out, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapes import write_shapes
from tuning import tune
from verdict_keys import assert_documented

from segdecay.config.schema import DataConfig, RunConfig, SearchConfig
from segdecay.data.dataset import Dataset
from segdecay.data.loading import load_dataset
from segdecay.data.splits.folds import Fold, FoldPlan, fold_plan, make_plan
from segdecay.errors import DataError
from segdecay.metrics.confusion import intersection_union, iou, mean_present, read_confusions
from segdecay.search.bias_correction import check_honest, check_nested, hold_out, without_fold


def _tune(data: Path, run: Path, *more: str, code: int = 0) -> Said:
    return tune(data, run, (0, 0.4, 1.2), *more, code=code)


def _verdict(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "verdict.json").read_text()))


def _score(trial: Path) -> float:
    """mIoU of a trial, from its kept matrices."""
    total = read_confusions(trial / "confusion.npz").sum(axis=0)
    return float(mean_present(iou(*intersection_union(total))))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("honest") / "shapes", n_images=12, test_images=0)


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    return load_dataset(DataConfig(path=str(data)))[0]


@pytest.fixture(scope="module")
def nested(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("nested") / "run"
    said = _tune(data, run, "--honest", "nested").out
    assert "bias-corrected score of the whole procedure (nested cross-validation): " in said
    return run


def test_every_key_of_a_nested_verdict_is_documented(nested: Path) -> None:
    assert_documented(_verdict(nested))


def test_nested_scores_each_fold_at_what_was_taken_without_it(nested: Path) -> None:
    honest = _verdict(nested)["honest"]
    assert honest["method"] == "nested"
    scores = [_score(nested / "trials" / f"total_decay={s:.12g}" / f"{n}-0") for n, s in enumerate(honest["strengths"])]
    assert honest["folds"] == pytest.approx(scores)
    assert honest["mean"] == pytest.approx(np.mean(scores))
    assert honest["interval"][0] < honest["mean"] < honest["interval"][1]
    assert _verdict(nested)["evidence"]["intervals_of"]["honest"] == honest["of"]


def test_nested_searches_have_two_folds_each_and_a_ledger_of_their_own(nested: Path) -> None:
    inner = {path.name for path in nested.glob("nested/*")}
    assert inner == {"without-0", "without-1", "without-2"}
    folds = {path.name for path in nested.glob("nested/*/trials/*/*")}
    assert folds == {"0-0", "1-0"}
    assert not list(nested.rglob("predictions.npz"))


def test_the_verdict_is_the_same_with_and_without_nesting(data: Path, nested: Path, tmp_path: Path) -> None:
    _tune(data, tmp_path / "plain")
    plain, other = _verdict(tmp_path / "plain"), _verdict(nested)
    assert plain["honest"]["method"] == "bbc-cv"
    for verdict in (plain, other):
        del verdict["honest"], verdict["evidence"]["intervals_of"]
        del verdict["cost"]["seconds"], verdict["advice"]
    assert plain == other


def test_a_damaged_inner_trial_is_trained_again_to_the_same_score(data: Path, nested: Path) -> None:
    before = _verdict(nested)["honest"]
    trial = next(nested.glob("nested/without-1/trials/*/0-0"))
    (trial / "trial.json").write_text("{")
    told = _tune(data, nested, "--honest", "nested").out
    assert "warning: without fold 2: trials/" in told
    assert _verdict(nested)["honest"] == before


def test_a_fold_held_out_is_in_no_trial_of_the_search(data: Path, tmp_path: Path) -> None:
    said = _tune(data, tmp_path / "run", "--honest", "holdout").out
    assert "on a held-out fold: " in said
    honest = _verdict(tmp_path / "run")["honest"]
    folds = json.loads((tmp_path / "run" / "folds.json").read_text())["folds"]
    assert len(folds) == 3
    held = set.intersection(*(set(fold["left_out"]) for fold in folds))
    (trial,) = (tmp_path / "run" / "holdout").glob("trials/*/*")
    record = json.loads((trial / "trial.json").read_text())
    assert record["parts"] == [12 - len(held), len(held)]
    assert len(held) >= 2
    assert honest["mean"] == pytest.approx(_score(trial))
    assert honest["trainings"] == 1
    assert not list((tmp_path / "run").rglob("predictions.npz"))


@settings(max_examples=25, deadline=None)
@given(outer=st.integers(0, 3), gap=st.integers(0, 1), blocks=st.booleans())
def test_nothing_of_the_outer_fold_is_left_inside(dataset: Dataset, outer: int, gap: int, blocks: bool) -> None:
    plan = fold_plan(dataset, method="groups", n_folds=4, seed=gap, block_gap=0, allow_missing=True)
    if blocks:  # a guard gap on both sides, as blocks have
        n = len(dataset.items)
        cut = [range(k * n // 4, (k + 1) * n // 4) for k in range(4)]
        near = [set(range(c.start - gap, c.stop + gap)) for c in cut]
        plan = make_plan("blocks", [
            Fold(tuple(i for i in range(n) if i not in side), tuple(c), tuple(sorted(side & set(range(n)) - set(c))))
            for c, side in zip(cut, near, strict=True)
        ], dataset)  # fmt: skip
    inner = without_fold(plan, outer, dataset)
    barred = {*plan.folds[outer].validation, *plan.folds[outer].left_out}
    assert len(inner.folds) == 3
    for fold in inner.folds:
        assert not barred & {*fold.train, *fold.validation}
        assert not set(fold.train) & set(fold.validation)
        assert sorted({*fold.train, *fold.validation, *fold.left_out}) == list(range(len(dataset.items)))
        assert barred <= set(fold.left_out)


def _two_folds(dataset: Dataset) -> FoldPlan:
    return fold_plan(dataset, method="groups", n_folds=2, seed=0, block_gap=0, allow_missing=True)


def test_two_folds_cannot_be_nested_or_held_out(dataset: Dataset) -> None:
    (fault,) = check_nested(_two_folds(dataset), dataset, allow_missing=False)
    assert "nested needs at least 3 folds" in fault
    with pytest.raises(DataError, match="holdout holds out one fold and needs two"):
        hold_out(_two_folds(dataset), dataset)


def test_a_class_of_too_few_groups_is_named_before_nesting(tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "few", n_images=12)
    for number in range(4, 12):  # "dark" is left in the first two of six groups
        path = folder / "masks" / f"all{number:02d}.png"
        mask = np.asarray(Image.open(path)).copy()
        mask[mask == 2] = 0
        Image.fromarray(mask).save(path)
    dataset = load_dataset(DataConfig(path=str(folder)))[0]
    plan = fold_plan(dataset, method="groups", n_folds=3, seed=0, block_gap=0, allow_missing=True)
    faults = check_nested(plan, dataset, allow_missing=False)
    assert faults
    assert all("dark can be scored in fewer than two of the other folds" in fault for fault in faults)
    assert not check_nested(plan, dataset, allow_missing=True)


def test_a_strength_that_only_the_whole_search_allows_is_refused(data: Path, tmp_path: Path) -> None:
    said = _tune(data, tmp_path / "run", "--honest", "nested", "--set", "search.grid=[0,0.4,4.4]", code=2).err
    assert "--honest nested, without fold 1: search.grid holds 4.4" in said
    assert not (tmp_path / "run").exists()


def test_a_budget_in_time_is_refused_with_nested(data: Path, tmp_path: Path) -> None:
    said = _tune(data, tmp_path / "run", "--honest", "nested", "--budget", "30m", code=2).err
    assert "a search limited by time is not repeatable" in said
    assert not (tmp_path / "run").exists()


def test_a_time_below_one_fold_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    said = _tune(data, tmp_path / "run", "--budget", "1s", "--epochs", "4000", code=2).err
    assert "--budget 1s is below one fold" in said
    assert "Give at least" in said
    assert not (tmp_path / "run").exists()


def test_the_check_of_the_budget_is_about_time_alone() -> None:
    search = SearchConfig(honest="nested")
    config = RunConfig(data=DataConfig(path="digits"), search=search)
    assert not check_honest(config, has_time_budget=False)
    assert len(check_honest(config, has_time_budget=True)) == 1
