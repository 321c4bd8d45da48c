"""The atlas: recipes, what a grid says, the page, and a grid that is really trained and kept."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atlas_grids import atlas, write_grid
from PIL import Image

from segdecay.config.schema import parse_config
from segdecay.data.splits.folds import Fold, FoldPlan
from segdecay.errors import RunError
from segdecay.execution.inline import InlineExecutor


def judged(path: Path, **changes: Any) -> Any:
    return atlas.judging.judge(atlas.records.read_record(write_grid(path, **changes)))


@pytest.mark.parametrize("name", ["packing", "judging", "figures", "atlas_report"])
def test_the_examples_in_docstrings_hold(name: str) -> None:
    found = doctest.testmod(getattr(atlas, name))
    assert found.attempted
    assert not found.failed


def test_names_of_recipes_are_distinct_and_their_configurations_valid() -> None:
    recipes = atlas.recipes.RECIPES
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    configs = {recipe.name: parse_config(recipe.config("digits")) for recipe in recipes}
    assert configs["carrot-weed-half-width"].model.width == 6
    assert configs["carrot-weed-sgd"].decay.regularizer == "l2"
    assert configs["carrot-weed-seed-1"].search.seeds == (1,)


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(SystemExit, match=r"no recipe is called digit-base\. Did you mean 'digits-base'"):
        atlas.atlas.asked_recipes(["digit-base"])


def test_half_the_images_are_whole_groups_and_validation_stays() -> None:
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", "e"]
    plan = FoldPlan("groups", (Fold(tuple(range(8)), (8,)),), (), (), "")
    (fold,) = atlas.atlas.halved(plan, groups, 0.5, 0).folds
    assert fold.validation == (8,)
    assert len(fold.train) == 4
    assert all(sum(groups[i] == name for i in fold.train) == 2 for name in {groups[i] for i in fold.train})


def test_trials_of_another_recipe_are_not_continued(tmp_path: Path) -> None:
    config = parse_config({"data": {"path": "digits"}})
    atlas.atlas.claim(tmp_path / "run", config, "folds")
    atlas.atlas.claim(tmp_path / "run", config, "folds")
    longer = parse_config({"data": {"path": "digits"}, "training": {"epochs": 3}})
    with pytest.raises(SystemExit, match="holds trials of another recipe"):
        atlas.atlas.claim(tmp_path / "run", longer, "folds")


def test_a_grid_whose_scores_rise_with_d_has_its_best_at_the_edge(tmp_path: Path) -> None:
    found = judged(tmp_path / "roads-base.npz")
    assert found.kind == "edge"
    assert (found.shown, found.best.value) == (4.0, 4.0)
    assert found.compared.is_better
    assert found.gap == pytest.approx(0.9 - found.none.score, abs=1e-6)
    assert [row.name for row in found.class_rows] == ["ground", "road"]
    assert all(row.interval[0] > 0 for row in found.class_rows)


def test_a_grid_whose_scores_fall_takes_no_decay_and_shows_the_least_loss(tmp_path: Path) -> None:
    found = judged(tmp_path / "roads-base.npz", gains=(0.0, -0.1, -0.2))
    assert (found.kind, found.best.value, found.shown) == ("zero", 0.0, 1.0)
    assert found.compared.is_worse


def test_classes_that_were_not_learned_make_a_grid_undertrained(tmp_path: Path) -> None:
    train = np.zeros((3, 3, 1, 2), dtype=np.float32)
    assert judged(tmp_path / "roads-base.npz", train_iou=train).kind == "undertrained"


def test_a_strength_whose_trial_diverged_is_left_out(tmp_path: Path) -> None:
    status = np.full((3, 3, 1), "finished", dtype="U9")
    status[2, 1, 0] = "diverged"
    found = judged(tmp_path / "roads-base.npz", status=status)
    assert found.points[2].difference is None
    assert found.best.value == 1.0


def test_a_grid_without_trials_of_no_decay_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = np.full((3, 3, 1), "finished", dtype="U9")
    status[0, 1, 0] = "diverged"
    monkeypatch.setattr(atlas.atlas_report, "RECORDED", {})
    write_grid(tmp_path / "a.npz")
    path = write_grid(tmp_path / "b.npz", status=status)
    grids, left_out = atlas.atlas_report.read_grids(tmp_path)
    assert [grid.facts.name for grid in grids] == ["a"]
    page = atlas.atlas_report.page(grids, left_out)
    assert "Left out as a whole: b (without decay 1 of 3 trials did not finish)." in page
    with pytest.raises(RunError, match=r"b: without decay 1 of 3 trials did not finish"):
        atlas.judging.judge(atlas.records.read_record(path))


def test_shipped_values_lie_at_their_d_on_the_curve(tmp_path: Path) -> None:
    found = judged(tmp_path / "roads-base.npz", told={"lambda_at_one": 0.04})
    weak, strong = found.fixed  # λ = 0.01 and 0.05
    assert (weak.value, strong.value) == pytest.approx((0.25, 1.25))
    at_one, at_four = (point.difference for point in found.points[1:])
    assert weak.gain == pytest.approx(0.25 * at_one)
    share = np.log(1.25) / np.log(4)
    assert strong.gain == pytest.approx(at_one + share * (at_four - at_one))
    assert strong.loss == pytest.approx(at_four - strong.gain)
    assert not strong.is_beyond


def test_the_page_says_how_many_grids_are_finished_and_each_figure_is_one_svg(tmp_path: Path) -> None:
    grids = [judged(tmp_path / "roads-base.npz"), judged(tmp_path / "other.npz", gains=(0.0, -0.1, -0.2))]
    found = atlas.atlas_report.documents(grids)
    assert (
        "On 2 grids of 1 data set, the best strength of weight decay is told apart from no decay in 1"
        in found["atlas.md"]
    )
    assert f"0 grids of the {len(atlas.recipes.RECIPES)} recipes" in found["atlas.md"]
    for name, text in found.items():
        assert name == "atlas.md" or text.count("<svg") == text.count("</svg>") == 1


def test_the_first_sentence_spans_the_gains_of_all_grids_in_which_decay_helps(tmp_path: Path) -> None:
    grids = [judged(tmp_path / "a.npz"), judged(tmp_path / "b.npz", gains=(0.0, 0.2, 0.35))]
    low, high = (f"{grid.compared.difference:+.3f}" for grid in grids)
    assert low != high
    assert f"told apart from no decay in 2, by {low} to {high}." in atlas.atlas_report.lead_of(grids)


def test_the_committed_page_and_figures_are_what_the_records_give() -> None:
    for name, text in atlas.atlas_report.documents(*atlas.atlas_report.read_grids()).items():
        assert (atlas.atlas_report.RESULTS / name).read_text() == text, f"{name}: run python benchmarks/atlas_report.py"


def test_the_committed_records_are_small() -> None:
    assert sum(path.stat().st_size for path in atlas.records.RECORDS.glob("*.npz")) < 12_000_000


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder with one data set of 12 images, a bright square on a dark ground."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "data" / "squares-small" / part).mkdir(parents=True)
    (tmp_path / "data" / "squares-small" / "classes.txt").write_text("ground\nsquare\n")
    for number in range(12):
        mask = np.zeros((16, 16), dtype=np.uint8)
        top, left = random.integers(1, 8, 2)
        mask[top : top + 7, left : left + 7] = 1
        image = (mask[..., None] * 120 + random.integers(0, 90, (16, 16, 3))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "squares-small" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "squares-small" / "masks" / f"{number}.png")
    return tmp_path / "data"


def test_a_grid_is_trained_kept_and_read_back(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(atlas.recipes, "STRENGTHS", (0.0, 1.0))
    monkeypatch.setattr(atlas.atlas, "STRONGER", 1.5)
    monkeypatch.setattr(atlas.atlas, "RECORDS", tmp_path / "records")
    recipe = replace(atlas.recipes.RECIPES[0], data="squares-small", epochs=6, size=None)
    assert atlas.atlas.run(recipe, shapes, tmp_path / "work", InlineExecutor())
    record = atlas.records.read_record(tmp_path / "records" / "squares-base.npz")
    assert record.values[:2] == (0.0, 1.0)
    assert record.facts.images == 12
    assert np.isfinite(record.train).all()
    assert record.curve_epochs.tolist() == [1, 2, 3, 4, 5, 6]
    first = capsys.readouterr().out
    assert first.count("finished") == record.status.size
    assert atlas.atlas.run(recipe, shapes, tmp_path / "work", InlineExecutor())
    assert "finished" not in capsys.readouterr().out  # nothing is trained again
