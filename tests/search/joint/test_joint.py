"""Searching more than λ: what is proposed, who scores a fold, what the ledger makes of it, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from shapes import small_config, write_shapes
from tuning import tune

from segdecay.config.schema import RunConfig
from segdecay.errors import ConfigError
from segdecay.report.figures.joint import joint_figure
from segdecay.runs.joint import JointSearch
from segdecay.runs.read import read_record
from segdecay.search.joint.points import choose_without
from segdecay.search.joint.sampler import Proposal, Proposer, best_of
from segdecay.search.joint.search import count_points
from segdecay.search.joint.sentences import joint_sentence
from segdecay.search.joint.space import check_joint, config_with, dimensions_of
from segdecay.workflows.request import check_names

SAMPLERS = ("tpe", "gp", "qmc", "random")


def _config(*names: str, **search: Any) -> RunConfig:
    return small_config("digits", search={"joint": list(names), **search})


def _proposer(sampler: str = "tpe", levels: int = 4, most: int = 16, seed: int = 0) -> Proposer:
    return Proposer(dimensions_of(_config("lr", "dropout", "class_weights")), levels, sampler, seed, most)


def _score(point: Proposal) -> float:
    return -float((np.log10(float(point.values["lr"])) + 1.6) ** 2) - 0.05 * (point.level or 0)


def _asked(proposer: Proposer, rounds: int, size: int = 2) -> list[tuple[Proposal, float | None]]:
    done: list[tuple[Proposal, float | None]] = []
    for _ in range(rounds):
        done += [(point, _score(point)) for point in proposer.ask(done, size)]
    return done


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_proposed_follows_from_the_scores_alone(sampler: str) -> None:
    done = _asked(_proposer(sampler), 5)
    assert done == _asked(_proposer(sampler), 5)
    again = _proposer(sampler).ask(done[:8], 2)  # as after a kill: nothing is known but the ledger
    assert again == [point for point, _ in done[8:10]]
    assert [point for point, _ in done[:6]] != [point for point, _ in _asked(_proposer(sampler, seed=1), 3)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_proposal_is_in_range_and_new_points_differ(sampler: str) -> None:
    proposer = _proposer(sampler)
    points = [point for point, _ in _asked(proposer, 8)]
    for point in points:
        assert point.level in range(4)
        for one in proposer.dimensions:
            value = point.values[one.name]
            assert value in one.choices if isinstance(value, str) else one.low <= value <= one.high
    assert len({point.values["lr"] for point in points[4:]}) > 6


def test_a_sampler_that_looks_at_scores_finds_the_better_half() -> None:
    """On a smooth hill the last proposals of TPE lie higher than those of chance; the hill is not in its model."""
    best = []
    for seed in range(5):
        own = [_score(point) for point, _ in _asked(_proposer("tpe", most=30, seed=seed), 15)][-8:]
        chance = [_score(point) for point, _ in _asked(_proposer("random", most=30, seed=seed), 15)][-8:]
        best.append(np.mean(own) - np.mean(chance))
    assert np.mean(best) > 0


def test_strengths_come_first_as_configured_and_failures_are_passed_over() -> None:
    proposer = _proposer(levels=3, most=12)
    first = proposer.ask([], 3)
    assert [point.level for point in first] == [0, 1, 2]
    assert {point.values["lr"] for point in first} == {0.01}
    failed: list[tuple[Proposal, float | None]] = [(point, None) for point in first]
    assert len(proposer.ask(failed, 2)) == 2


def test_none_is_searched_over_what_acts_there_alone() -> None:
    assert count_points(_config("lr", "head", points=24)) == (8, 16)
    assert count_points(_config("head", points=24)) == (1, 23)
    assert [one.is_for_none for one in dimensions_of(_config("lr", "head", "dropout"))] == [True, False, True]


def test_a_point_is_a_configuration() -> None:
    built = config_with(_config("lr"), {"lr": 0.02, "head": 0.5, "dropout": 0.25, "class_weights": "median"})
    assert built.optimizer.lr == 0.02
    assert built.decay.groups == {"head": 0.5}
    assert built.model.dropout == 0.25
    assert built.loss.class_weights == "median"
    assert built.training == _config("lr").training


@given(st.lists(st.one_of(st.none(), st.tuples(*[st.floats(0, 1)] * 3)), min_size=1, max_size=6), st.integers(0, 2))
def test_a_fold_is_scored_by_what_the_others_chose(folds: list[tuple[float, ...] | None], left_out: int) -> None:
    chosen = choose_without(folds, left_out)
    changed = [None if one is None else tuple(0.5 if i == left_out else v for i, v in enumerate(one)) for one in folds]
    assert chosen == choose_without(changed, left_out)  # the fold's own scores have no say
    assert (chosen is None) == all(one is None for one in folds)
    if chosen is not None:
        means = [None if one is None else float(np.mean(np.delete(one, left_out))) for one in folds]
        assert means[chosen] == max(mean for mean in means if mean is not None)
        assert best_of(means) == chosen


def test_a_value_at_the_end_of_its_range_is_said() -> None:
    told = {"searched": ("lr",), "points": 6, "best": {"lr": 0.08}, "none": {}, "none_gain": None}
    told |= {"as_configured": None, "at_ends": ["lr at the best strength (0.08)"]}
    assert "At the end of its range: lr at the best strength (0.08); widen it under search.ranges." in joint_sentence(
        told, ""
    )


def test_every_fault_of_a_joint_search_is_told_at_once() -> None:
    config = small_config(
        "digits",
        search={"joint": ["lrr", "dropout", "dropout", "encoder"], "ranges": {"lr": [1, 0.1]}, "honest": "nested"},
        model={"name": "smp:Unet", "width": None, "depth": None},
    )
    said = "\n".join(check_joint(config))
    for text in (
        "Unknown name 'lrr'; allowed: lr, head, encoder, dropout, class_weights. Did you mean 'lr'?",
        "'dropout' is listed twice",
        "search.ranges: lr is not in search.joint",
        "--honest nested cannot be combined with --search",
        "dropout sets the Dropout2d of the built-in U-Net",
    ):
        assert text in said
    assert check_joint(config)[0] in check_names(config)


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ({"joint": ["lr"], "ranges": {"lr": [0.1, 0.01]}}, "with low < high; saw [0.1, 0.01]"),
        ({"joint": ["lr"], "ranges": {"lr": [0, 0.01]}}, "has a log scale and must be above 0"),
        ({"joint": ["dropout"], "ranges": {"dropout": [0, 1]}}, "must lie in [0, 1)"),
        ({"joint": ["class_weights"], "ranges": {"class_weights": [0, 1]}}, "is searched over names and has no range"),
        ({"ranges": {"lr": [0.01, 0.1]}}, "needs search.joint, which is empty"),
        ({"joint": ["encoder"]}, "has no such group"),
    ],
)
def test_a_range_that_means_nothing_is_refused(search: dict[str, Any], text: str) -> None:
    assert text in "\n".join(check_joint(small_config("digits", search=search)))


def test_a_list_of_weights_is_not_searched() -> None:
    config = small_config("digits", search={"joint": ["class_weights"]}, loss={"class_weights": [1, 2, 3]})
    assert "lists numbers" in "\n".join(check_joint(config))
    beta = {"class_weights": "effective_number", "class_weights_beta": 0.9}
    config = small_config("digits", search={"joint": ["class_weights"]}, loss=beta)
    assert "class_weights_beta" in "\n".join(check_joint(config))


def test_the_shape_of_the_keys_is_checked() -> None:
    with pytest.raises(ConfigError, match="points"):
        _config("lr", points=2)
    with pytest.raises(ConfigError, match="sampler"):
        _config("lr", sampler="grid")
    with pytest.raises(ConfigError, match="ranges"):
        _config("lr", ranges={"lr": ["a", 1]})


def test_the_command_says_what_may_be_searched(segdecay: Command, tmp_path: Path) -> None:
    said = segdecay("tune", "digits", "--search", "lr,heads", "--out", str(tmp_path / "run"), code=2)
    assert "Did you mean 'head'?" in str(said)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a joint search that was finished in this process."""
    folder = tmp_path_factory.mktemp("joint")
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    _search(data, folder / "run")
    return data, folder / "run"


def _search(data: Path, run: Path, *more: str, workers: int = 0) -> None:
    tune(data, run, [0, 0.1, 0.4], "--search", "lr,head", "--points", "7", *more, workers=workers)


def _found(run: Path) -> dict[str, Any]:
    verdict = json.loads((run / "verdict.json").read_text())
    del verdict["cost"], verdict["advice"]
    return dict(verdict)


def test_a_joint_search_ends_with_a_verdict_a_model_and_a_page(searched: tuple[Path, Path]) -> None:
    _, run = searched
    verdict, search = _found(run), json.loads((run / "search.json").read_text())
    assert len(search["points"]) == 7
    assert [point["strength"]["value"] for point in search["points"]].count(0) == 2
    assert [setting["strength"]["value"] for setting in verdict["settings"]] == [0, 0.1, 0.4]
    joint = verdict["evidence"]["joint"]
    assert set(joint["best"]) == {"lr", "head"}
    assert set(joint["none"]) == {"lr"}
    assert joint["as_configured"]["kind"] in ("chosen", "zero", "flat", "edge")
    assert "Searched together over 7 points" in verdict["sentence"]
    cost = json.loads((run / "verdict.json").read_text())["cost"]
    assert cost["trials"] == len(list(run.glob("points/*/*/trial.json")))
    page = (run / "report.html").read_text()
    assert "Searched together" in page
    assert "joint-search" in page
    assert not list(run.glob("points/*/*/predictions.npz"))
    refit = json.loads((run / "refit" / "chosen" / "trial.json").read_text())
    taken = verdict["strength"]["value"]
    values = joint["none"] if taken == 0 else joint["best"]
    assert f"lr={values['lr']:g}" in refit["setting"]


def test_each_fold_of_the_verdict_is_a_training_that_the_other_folds_chose(searched: tuple[Path, Path]) -> None:
    _, run = searched
    points = json.loads((run / "search.json").read_text())["points"]
    for setting in _found(run)["settings"]:
        value = setting["strength"]["value"]
        own = [point for point in points if point["strength"]["value"] == value]
        for fold in range(3):
            others = [np.mean([s for i, s in enumerate(point["folds"]) if i != fold]) for point in own]
            chosen = own[int(np.argmax(others))]
            trial = json.loads((run / "trials" / f"total_decay={value:g}" / f"{fold}-0" / "trial.json").read_text())
            assert trial["extra"]["point"] == chosen["name"]
            assert setting["folds"][fold] == pytest.approx(chosen["folds"][fold])


def test_a_budget_ends_after_whole_rounds_and_more_workers_go_on_to_the_same(
    searched: tuple[Path, Path], tmp_path: Path
) -> None:
    (data, whole), run = searched, tmp_path / "run"
    _search(data, run, "--budget", "10trials")
    found = json.loads((run / "search.json").read_text())["points"]
    names = [point["name"] for point in json.loads((whole / "search.json").read_text())["points"]]
    assert len(found) == 3
    assert all(point["name"] in names for point in found)
    shutil.rmtree(min((run / "points").glob("*/*")))  # as after a kill in the middle
    (run / "verdict.json").unlink()
    _search(data, run, workers=2)
    assert _found(run) == _found(whole)


def test_the_row_of_none_lies_below_every_line_of_equal_decay() -> None:
    record = ROOT / "docs" / "records" / "joint" / "search.json"
    facts = read_record(record, JointSearch)
    figure = joint_figure(facts)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    none_at = figure.layout.yaxis.tickvals[0]
    assert figure.layout.yaxis.ticktext[0] == "no decay"
    assert len(lines) == len(figure.layout.annotations) == 8
    assert min(min(line.y) for line in lines) > none_at
    for line, name in zip(lines, figure.layout.annotations, strict=True):
        assert (name.x, name.y, name.xanchor) == (line.x[1], line.y[1], "left")
