"""The judgement of a comparison: choice on other folds, Holm, letters, and how often it is wrong."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT

from segdecay.metrics.multiple_testing import holm, holm_tails, letters, p_values
from segdecay.search.comparison.judge import choose, class_differences, judge, pair_estimates, ranking, sentence_of


@pytest.fixture(scope="module")
def worlds() -> ModuleType:
    path = ROOT / "benchmarks" / "comparing.py"
    spec = importlib.util.spec_from_file_location("comparing_worlds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["comparing_worlds"] = module
    spec.loader.exec_module(module)
    return module


def test_a_fold_does_not_choose_its_own_strength() -> None:
    scores = np.array([[0.5, 0.5, 0.5], [0.4, 0.4, 0.9], [0.6, 0.6, 0.1]])
    # without fold 0: .5, .65, .35; without 1: .5, .65, .35; without 2: .5, .4, .6
    assert choose(scores, [0, 1, 2]).tolist() == [1, 1, 2]
    assert choose(scores, [0]).tolist() == [0, 0, 0]


def test_of_equals_the_weaker_is_chosen() -> None:
    assert choose(np.full((3, 3), 0.3), [0, 2]).tolist() == [0, 0, 0]


def test_holm_by_hand() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.013])
    assert holm(p) == pytest.approx([0.04, 0.004, 0.04, 0.039])
    assert holm(np.array([0.01, 0.011, 0.5])) == pytest.approx([0.03, 0.03, 0.5])  # 2·.011 < .03
    assert holm_tails(p, 0.05) == pytest.approx([0.05, 0.0125, 0.025, 0.05 / 3])


def test_holm_intervals_exclude_0_exactly_where_told_apart() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        p = random.random(7) ** 4
        assert ((p <= holm_tails(p, 0.05)) == (holm(p) <= 0.05)).all()


def test_letters_are_shared_exactly_by_arms_that_are_not_told_apart() -> None:
    random = np.random.default_rng(1)
    for _ in range(30):
        apart = {(i, j) for i in range(6) for j in range(i + 1, 6) if random.random() < 0.4}
        marks = letters(6, apart)
        for i in range(6):
            for j in range(i + 1, 6):
                assert bool(set(marks[i]) & set(marks[j])) == ((i, j) not in apart)


def test_a_pair_by_hand() -> None:
    scores = np.array([[0.5, 0.5], [0.7, 0.5], [0.6, 0.8]])
    chosen = np.array([[0, 0], [1, 2]])
    found = pair_estimates(scores, chosen, np.array([[1, 0]]))
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    own = (rest**2).sum(1) * 3 / 2
    half = 0.5 * own + 0.5 * own.mean()
    assert found.means[0] == pytest.approx(0.25)
    assert found.errors[0] ** 2 == pytest.approx((half[1] + half[0] + half[2] + half[0]) / 4)
    assert found.freedom[0] == pytest.approx(1 / (0.25 + 0.25))


def test_a_fold_with_the_same_trial_adds_no_error_and_the_same_trials_are_no_difference() -> None:
    scores = np.array([[0.5, 0.6], [0.7, 0.5]])
    found = pair_estimates(scores, np.array([[0, 0], [0, 1], [0, 0]]), np.array([[0, 1], [0, 2]]))
    assert found.means[0] == pytest.approx(0.05)
    assert np.isnan(found.means[1])
    assert p_values(found.means, found.errors, found.freedom)[1] == 1


def test_errors_are_not_below_those_of_resampled_images() -> None:
    scores, chosen, pairs = np.array([[0.5, 0.5], [0.7, 0.7]]), np.array([[0, 0], [1, 1]]), np.array([[0, 1]])
    deviations = np.random.default_rng(2).standard_normal((2, 2, 400)) * 0.1
    images = (deviations[0] - deviations[1]).var(axis=1).sum() / 4
    assert pair_estimates(scores, chosen, pairs).errors[0] == pytest.approx(0)
    assert pair_estimates(scores, chosen, pairs, deviations).errors[0] ** 2 == pytest.approx(images)


def test_arms_that_are_alike_are_seldom_told_apart_and_a_better_one_is_found(worlds: ModuleType) -> None:
    null = worlds.rates(worlds.World(images=20), 60, seed=0)
    gain = worlds.rates(worlds.World(images=20, gain=0.8), 30, seed=0)
    assert null["false_families"] <= 0.05
    assert gain["to_none"] >= 0.5


def test_a_difference_is_said_only_where_there_is_one(worlds: ModuleType) -> None:
    random = np.random.default_rng(3)
    for gain, part in ((0.0, "no two arms can be told apart"), (1.5, "it is told apart from every other arm")):
        contest = worlds.draw(random, worlds.World(arms=3, images=20, gain=gain, luck=0.05))
        judged = judge(contest)
        labels = {name: name for name in judged.names}
        assert part in sentence_of(judged, labels, "mIoU")
        order, marks = ranking(judged)
        assert len(set(marks.values())) == (1 if gain == 0 else 2)
        assert judged.names[order[0]] == "arm 1" or gain == 0
        classes = class_differences(contest, judged, ["a", "b", "c", "d"])
        assert all(one.difference == 0 for one in classes[0])
        assert any(one.told_apart for one in classes[1]) == (gain > 0)
