"""The verdict on made-up evidence whose answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.errors import ConfigError
from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.runs.records import StrengthRecord
from segdecay.search.ledger import setting_name
from segdecay.search.sentences import sentence_of
from segdecay.search.study import next_strength, start_grid
from segdecay.search.verdict import Candidate, Decision, decide, is_strong_edge

CLASSES = ("a", "b", "c")
N_IMAGES = 30


def _trial(random: np.random.Generator, share_right: float, n_images: int = N_IMAGES) -> ev.Counts:
    """Images of 60 pixels in three classes, each pixel right with the given probability."""
    matrices = np.zeros((n_images, 3, 3), dtype=np.int64)
    for image in matrices:
        for true in range(3):
            right = random.binomial(20, min(1.0, max(0.0, share_right)))
            image[true, true] = right
            image[true, (true + 1) % 3] = 20 - right
    return ev.Counts.of(matrices)


def _candidates(
    shares: list[float | None], *, noise: float = 0.0, folds: int = 3, seed: int = 0, n_images: int = N_IMAGES
) -> list[Candidate]:
    random = np.random.default_rng(seed)
    found = []
    for value, share in enumerate(shares):
        strength = StrengthRecord("total_decay", float(value), lambda_=value / 10, total_decay=float(value))
        if share is None:
            found.append(Candidate(strength, None, "diverged in 1 of 3 trainings", None, 0))
            continue
        trials = [[_trial(random, share + random.normal(0, noise), n_images)] for _ in range(folds)]
        found.append(Candidate(strength, trials, None, 0.9, 0))
    return found


def _decide(candidates: list[Candidate], rule: str = "best") -> Decision:
    return decide(candidates, CLASSES, confidence=0.95, resamples=400, seed=1, rule=rule)


def test_a_clear_winner_inside_the_grid_is_chosen() -> None:
    decision = _decide(_candidates([0.6, 0.75, 0.65]))
    assert decision.kind == "chosen"
    assert decision.taken == 1
    assert decision.best_difference is not None
    assert decision.best_difference.interval is not None
    assert decision.best_difference.interval[0] > 0


def test_none_as_the_best_mean_is_zero() -> None:
    decision = _decide(_candidates([0.75, 0.6, 0.5]))
    assert decision.kind == "zero"
    assert decision.taken == 0


def test_a_best_that_cannot_be_told_from_none_is_flat_and_none_is_taken() -> None:
    decision = _decide(_candidates([0.7, 0.7002, 0.7001], noise=0.02, seed=3))
    assert decision.kind == "flat"
    assert decision.taken == 0
    assert set(decision.indistinguishable) == {1.0, 2.0}


def test_a_leader_of_the_race_whose_folds_speak_against_it_is_no_best() -> None:
    candidates = _candidates([0.75, 0.6, 0.5])
    decision = decide(candidates, CLASSES, confidence=0.95, resamples=400, seed=1, best_value=1.0)
    assert decision.kind == "zero"
    assert decision.best == decision.none


def test_the_strongest_as_a_clear_winner_is_an_edge() -> None:
    decision = _decide(_candidates([0.5, 0.6, 0.8]))
    assert decision.kind == "edge"
    assert decision.taken == 2


def test_the_weakest_positive_strength_is_no_edge() -> None:
    candidates = _candidates([0.5, 0.8, 0.6])
    assert not is_strong_edge(candidates)
    assert _decide(candidates).kind == "chosen"


def test_none_is_no_edge_even_alone_with_one_strength() -> None:
    assert not is_strong_edge(_candidates([0.8, 0.5]))


def test_a_diverged_setting_cannot_be_chosen_and_its_mean_is_null_with_the_reason() -> None:
    decision = _decide(_candidates([0.6, 0.75, None]))
    assert decision.kind == "chosen"
    assert decision.settings[2].mean is None
    assert decision.settings[2].folds == ()
    assert decision.settings[2].dropped == "diverged in 1 of 3 trainings"


def test_when_only_none_can_be_scored_it_is_zero() -> None:
    assert _decide(_candidates([0.6, None, None])).kind == "zero"


def test_when_none_diverged_the_best_is_chosen_without_a_difference() -> None:
    decision = _decide(_candidates([None, 0.75, 0.6]))
    assert decision.kind == "chosen"
    assert decision.best_difference is None
    assert "could not be scored" in sentence_of(decision, CLASSES)


def test_one_se_is_the_strongest_within_one_paired_error_and_taken_on_request_only() -> None:
    candidates = _candidates([0.5, 0.75, 0.7499, 0.5], noise=0.005, seed=5)
    usual, asked = _decide(candidates), _decide(candidates, rule="one-se")
    assert usual.best == usual.taken
    assert usual.one_se >= usual.best
    assert asked.taken == asked.one_se


def test_the_same_evidence_gives_the_same_decision() -> None:
    candidates = _candidates([0.6, 0.65, 0.7], noise=0.01)
    assert _decide(candidates) == _decide(candidates)


def test_one_fold_is_said_to_be_blind_to_training_noise() -> None:
    decision = _decide(_candidates([0.6, 0.75, 0.6], folds=1))
    assert decision.kind == "chosen"
    assert "single fold" in sentence_of(decision, CLASSES)


def test_the_sentence_names_collapsed_trainings_and_dropped_strengths() -> None:
    candidates = _candidates([0.6, 0.75, None])
    worn = [Candidate(c.strength, c.counts, c.dropped, c.train_mean, 1) for c in candidates]
    said = sentence_of(_decide(worn), CLASSES)
    assert "3 trainings collapsed" in said
    assert "Not scored: 2 (diverged" in said


def test_seeds_of_a_fold_are_averaged_before_the_folds() -> None:
    random = np.random.default_rng(0)
    trials = [[_trial(random, 0.6), _trial(random, 0.8)], [_trial(random, 0.7), _trial(random, 0.7)]]
    expected = [np.mean([np.nanmean(trial.class_iou()) for trial in seeds]) for seeds in trials]
    assert ev.fold_scores(trials) == pytest.approx(expected)


def test_bootstrap_scores_equal_resampling_by_hand() -> None:
    random = np.random.default_rng(0)
    trial = _trial(random, 0.7)
    draws = ev.image_draws([N_IMAGES], 5, seed=2)
    scores = ev.bootstrap_scores([[trial]], draws)
    for resample, score in zip(draws[0], scores, strict=True):
        index = np.repeat(np.arange(N_IMAGES), resample)
        assert len(index) == N_IMAGES
        assert np.nanmean(trial.hit[index].sum(0) / trial.union[index].sum(0)) == pytest.approx(score)


def test_bootstrap_error_is_that_of_the_plain_formula_for_equal_images() -> None:
    # accuracy-like case: one class pair, IoU of sums; the bootstrap variance must match the delta method within noise
    random = np.random.default_rng(1)
    trial = _trial(random, 0.7, n_images=400)
    scores = ev.bootstrap_scores([[trial]], ev.image_draws([400], 4000, seed=3))
    ratio = trial.hit.sum(0) / trial.union.sum(0)
    residual = ((trial.hit - ratio * trial.union) / trial.union.mean(0)).mean(axis=1)
    assert scores.std() == pytest.approx(residual.std() / math.sqrt(400), rel=0.08)


def _surface(scores: ev.F64, *, image_sd: float = 0.0, resamples: int = 400, seed: int = 0) -> ev.Surface:
    """Scores (V, F) with independent image noise of the given deviation in every fold, from 40 images each."""
    random = np.random.default_rng(seed)
    shape = scores.shape
    return ev.Surface(
        scores,
        random.normal(0, image_sd, (*shape, resamples)),
        tuple(random.standard_normal((shape[0], 40)) for _ in range(shape[1])),
        random.standard_normal((shape[0], resamples)),
    )


def _false_alarms(folds: int, strengths: int, repeats: int, seed: int) -> float:
    """Share of simulated searches without any effect in which the best is called better than none."""
    random = np.random.default_rng(seed)
    alarms = 0
    frame = _surface(np.zeros((strengths + 1, folds)), image_sd=0.009, seed=1)
    for _ in range(repeats):
        # of the noise of a trial, .009 comes from its images and .008 from the luck of its training: .012 in all
        scores = random.normal(0, 0.03, folds) + random.normal(0, 0.012, (strengths + 1, folds))
        found = iv.difference_estimates(replace(frame, scores=scores), 0)
        best = int(np.nanargmax(found.means))
        interval = found.interval(best, iv.joint_tail(found, 0.95)).interval
        alarms += interval is not None and interval[0] > 0
    return alarms / repeats


@pytest.mark.parametrize(("folds", "strengths"), [(3, 3), (3, 8), (5, 3), (5, 8), (10, 3)])
def test_without_any_effect_the_best_is_seldom_called_better(folds: int, strengths: int) -> None:
    # simulated: normal noise of .012 a trial, shared fold effects of .03
    assert _false_alarms(folds, strengths, repeats=1000, seed=7) <= 0.1


def test_more_strengths_looked_at_widen_the_interval() -> None:
    tails = [
        iv.joint_tail(iv.difference_estimates(_surface(np.zeros((1 + n, 3)), image_sd=0.01), 0), 0.95) for n in (1, 8)
    ]
    assert tails[0] == pytest.approx(0.05, abs=0.02)
    assert tails[1] < 0.6 * tails[0]


def test_strengths_that_move_together_cost_less_than_bonferroni() -> None:
    apart = _surface(np.zeros((9, 3)), image_sd=0.01, resamples=4000)
    together = replace(
        apart, deviations=np.concatenate([0 * apart.deviations[:1], np.repeat(apart.deviations[1:2], 8, 0)])
    )
    tails = [iv.joint_tail(iv.difference_estimates(one, 0), 0.95) for one in (apart, together)]
    assert 0.05 / 8 <= tails[0] < 0.03
    assert tails[1] == pytest.approx(0.05, abs=0.002)


def test_the_image_bootstrap_counts_where_folds_agree_by_chance() -> None:
    scores = np.array([[0.5, 0.5, 0.5], [0.52, 0.52, 0.52]])
    found = iv.difference_estimates(_surface(scores, image_sd=0.02, resamples=20000), 0)
    assert found.errors[1] == pytest.approx(0.02 * math.sqrt(2 / 3), rel=0.02)


def test_degrees_of_freedom_do_not_jump_where_the_variance_beyond_images_begins() -> None:
    found = [iv.combined_freedom(*(np.array([x]) for x in (1.0, 59.0, training, 13.0)))[0] for training in (0, 1e-6)]
    assert found == pytest.approx([59, 59], rel=1e-4)
    spreads = np.linspace(0.005, 0.2, 400)  # of folds, across the point where the images no longer explain it
    scores = [np.array([[0.5] * 3, [0.6 - s, 0.6, 0.6 + s]]) for s in spreads]
    freedom = [iv.difference_estimates(_surface(one, image_sd=0.02), 0).freedom[1] for one in scores]
    assert max(freedom) > 2 * min(freedom)  # the spread of three folds counts in the end
    assert all(abs(a - b) < 0.2 * a for a, b in itertools.pairwise(freedom))


def test_folds_that_differ_by_more_than_their_images_widen_the_interval() -> None:
    alike = np.array([[0.5, 0.5, 0.5], [0.52, 0.52, 0.52]])
    wild = np.array([[0.5, 0.5, 0.5], [0.42, 0.52, 0.62]])
    errors = [iv.difference_estimates(_surface(scores, image_sd=0.02), 0).errors[1] for scores in (alike, wild)]
    assert errors[1] > 1.3 * errors[0]


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6, unique=True),
)
@settings(max_examples=50, deadline=None)
def test_a_grid_starts_at_none_and_rises(values: list[float]) -> None:
    grid = start_grid(values, (), none=0.0, largest=1e9)
    assert grid[0] == 0.0
    assert grid == sorted(grid)
    assert set(values) <= set(grid)


def test_a_grid_without_a_positive_strength_is_refused() -> None:
    with pytest.raises(ConfigError, match="add at least one"):
        start_grid([0.0], (), none=0.0, largest=10.0)


def test_a_strength_that_flips_weights_is_refused_with_the_largest() -> None:
    with pytest.raises(ConfigError, match=r"ηλ ≥ 1.*just under 10"):
        start_grid([1.0, 10.0], (), none=0.0, largest=10.0)


def test_a_default_grid_is_cut_where_it_would_flip_weights() -> None:
    assert start_grid(None, (0, 2, 8), none=0.0, largest=5.0) == [0.0, 2.0]


def test_extension_keeps_the_ratio_and_stops_before_weights_flip() -> None:
    assert next_strength([0, 0.5, 2, 8], none=0, largest=1000) == 32
    assert next_strength([0, 2], none=0, largest=1000) == 8
    assert next_strength([0, 2, 8], none=0, largest=32) is None


def test_equal_values_have_one_folder_whatever_they_are_written_as() -> None:
    assert setting_name("total_decay", 1) == setting_name("total_decay", 1.0)
    assert setting_name("lambda", 0.1 + 0.2) == setting_name("lambda", 0.3)
