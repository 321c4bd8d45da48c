"""Which trainings are too poor to compare, on made-up counts and records whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.confusion import scores_of
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.trivial import SCALE, constant_counts, share_counts, trivial_setting
from segdecay.runs.records import StrengthRecord, TrialRecord
from segdecay.runs.verdict import TrainingCheck
from segdecay.search.undertrained import check_training, is_hopeless, never_predicted, not_learned
from segdecay.search.verdict import Candidate

CLASSES = ("ground", "road", "pole")
STRENGTH = StrengthRecord("total_decay", 0.0, 0.0)
SHARES = (80, 15, 5)  # pixels of an image
MIOU = Criterion()


def _matrices(right: Sequence[float], images: int = 12, seed: int = 0) -> np.ndarray[Any, Any]:
    """(N, 3, 3): so much of every class is right, the rest is called ground."""
    random = np.random.default_rng(seed)
    found = np.zeros((images, 3, 3), np.int64)
    for image in found:
        for true, (pixels, share) in enumerate(zip(SHARES, right, strict=True)):
            hit = random.binomial(pixels, share)
            image[true, true] += hit
            image[true, 0] += pixels - hit
    return found


def _record(right: Sequence[float]) -> TrialRecord:
    scores = scores_of(_matrices(right))
    return TrialRecord("none", STRENGTH, 0, 0, "finished", None, scores, scores, 3, 30, 1.0, (30, 12), {})


def _check(right: Sequence[float], learned: Sequence[float] | None = None, **changes: Any) -> TrainingCheck:
    folds = [[Counts.of(_matrices(right, seed=fold))] for fold in range(3)]
    records = [] if learned is None else [_record(learned)] * 3
    options: dict[str, Any] = {"confidence": 0.95, "resamples": 300, "seed": 1} | changes
    return check_training(Candidate(STRENGTH, folds, None, None, 0), records, MIOU, CLASSES, **options)


def test_a_network_that_learned_every_class_is_trained_enough() -> None:
    found = _check((0.95, 0.8, 0.6), (0.95, 0.8, 0.6))
    assert found.is_enough
    assert found.reason is None
    assert found.not_learned == ()
    assert found.above_trivial.interval is not None
    assert found.above_trivial.interval[0] > 0.3


def test_a_network_that_predicts_the_commonest_class_alone_is_not() -> None:
    found = _check((1.0, 0.0, 0.0))
    assert not found.is_enough
    assert found.trivial_score == pytest.approx(0.8 / 3)  # ground is .8 of the pixels; two classes have 0
    assert "not told apart from the 0.267 of predicting one class everywhere" in (found.reason or "")


def test_most_classes_not_learned_is_not_enough_whatever_the_score() -> None:
    found = _check((1.0, 0.3, 0.0), (1.0, 0.0, 0.0))
    assert not found.is_enough
    assert found.not_learned == ("road", "pole")
    assert found.never_predicted == ("road", "pole")
    assert "has not learned 2 of 3 classes" in (found.reason or "")
    assert "(road, pole)" in (found.reason or "")


def test_one_rare_class_that_is_not_learned_does_not_silence_the_others() -> None:
    found = _check((0.95, 0.8, 0.0), (0.95, 0.8, 0.0))
    assert found.is_enough
    assert found.never_predicted == ("pole",)


def test_training_scores_that_are_not_known_silence_nothing() -> None:
    assert _check((0.95, 0.8, 0.6)).is_enough


@pytest.mark.parametrize(("right", "expected"), [((1.0, 0.0, 0.0), True), ((0.9, 0.7, 0.5), False)])
def test_the_first_fold_is_hopeless_only_if_every_trial_is(right: tuple[float, ...], expected: bool) -> None:
    poor, other = (1.0, 0.0, 0.0), right
    records, counts = zip(*[(_record(one), Counts.of(_matrices(one))) for one in (poor, other)], strict=True)
    assert is_hopeless(records, counts, MIOU) is expected
    assert not is_hopeless([], [], MIOU)


def test_classes_are_told_by_their_training_scores() -> None:
    assert not_learned(_record((1.0, 0.5, 0.0)), MIOU) == ((2,), 3)
    assert never_predicted(_record((1.0, 0.5, 0.0))) == (2,)
    assert not_learned(_record((1.0, 0.5, 0.0)), Criterion(excluded=(2,))) == ((), 2)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=6))
def test_trivial_counts_are_those_of_predictions_made_by_hand(rows: list[list[int]]) -> None:
    true = np.array(rows, np.int64)
    trial = Counts(true, true, true)
    constant = constant_counts(trial, 1)
    total = true.sum(axis=1)
    assert constant.hit[:, 1].tolist() == true[:, 1].tolist()
    assert constant.union[:, 1].tolist() == total.tolist()  # everything is called class 1
    assert constant.union[:, 0].tolist() == true[:, 0].tolist()
    shares = true.sum(axis=0) / max(1, true.sum())
    drawn = share_counts(trial, shares)
    np.testing.assert_allclose(drawn.hit / SCALE, true * shares, atol=1e-5)
    np.testing.assert_allclose(drawn.union / SCALE, true + total[:, None] * shares - true * shares, atol=1e-5)


def test_the_better_of_the_trivial_predictors_is_taken() -> None:
    even = Counts.of(np.array([[[50, 0], [50, 0]]]))
    name, counts = trivial_setting({0: [even]}, MIOU)
    assert name == "class shares"  # .25 / .75 each = 1/3, more than .5 / 1 and 0
    assert counts[0][0].score(MIOU) == pytest.approx(1 / 3)
    name, counts = trivial_setting({0: [Counts.of(_matrices((1.0, 1.0, 1.0)))]}, MIOU)
    assert name == "one class"  # .8 / 3 = .267; by shares (.8 / 1.2 + .15 / 1.85 + .05 / 1.95) / 3 = .258
    assert counts[0][0].score(MIOU) == pytest.approx(0.8 / 3)
    assert math.isclose(trivial_setting({0: [even]}, Criterion("accuracy"))[1][0][0].score(Criterion("accuracy")), 0.5)
