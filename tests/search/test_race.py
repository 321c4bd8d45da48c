"""The race: a pure function of the trials so far, replayed here on made-up scores. No training."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.search.race import (
    NONE,
    Race,
    SeenTrial,
    Trial,
    belief,
    likely_trials,
    next_trial,
    positions,
    standing,
    walk,
)

VALUES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
X = positions(VALUES, none=0.0)
PEAK_AT_4 = np.array([0.60, 0.62, 0.63, 0.65, 0.68, 0.70, 0.66, 0.55, 0.30])


def scores(curve: np.ndarray, seed: int = 0, *, blocks: int = 5, noise: float = 0.006) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(seed))
    shared = random.normal(0, 0.03, blocks)
    return curve[:, None] + shared[None] + random.normal(0, noise, (len(curve), blocks))


def run(race: Race, table: np.ndarray) -> list[SeenTrial]:
    seen, unfinished = walk(race, lambda trial: SeenTrial(*trial, score=float(table[trial])))
    assert unfinished is None
    return seen


def test_a_clear_peak_is_found_with_a_quarter_of_the_grid() -> None:
    race = Race(X, blocks=5, asked=9)
    seen = run(race, scores(PEAK_AT_4))
    assert len(seen) <= 12
    found = standing(race, seen)
    assert found.leader == VALUES.index(4.0)
    assert NONE in found.finalists
    assert len(found.blocks) >= 3


def test_none_leads_where_decay_only_hurts() -> None:
    race = Race(X, blocks=5, asked=9)
    found = standing(race, run(race, scores(np.linspace(0.7, 0.3, 9))))
    assert found.leader == NONE


def test_every_finalist_ran_on_every_block_that_counts() -> None:
    race = Race(X, blocks=5, asked=9)
    for seed in range(8):
        seen = run(race, scores(np.full(9, 0.6), seed, noise=0.02))
        found = standing(race, seen)
        done = {(trial.setting, trial.block) for trial in seen}
        assert all((setting, block) in done for setting in found.finalists for block in found.blocks)


def test_a_best_at_the_strong_edge_tries_what_lies_beyond_and_only_then() -> None:
    x = positions([*VALUES, 64.0, 128.0], none=0.0)
    rising = np.array([0.5 + 0.03 * i for i in range(11)])
    seen = run(Race(x, blocks=5, asked=9, most=14), scores(rising, noise=0.001))
    assert {9, 10} <= {trial.setting for trial in seen}
    inside = np.array([*PEAK_AT_4, 0.2, 0.1])
    assert max(trial.setting for trial in run(Race(x, blocks=5, asked=9), scores(inside))) < 9


def test_a_lost_setting_never_runs_again_and_never_leads() -> None:
    race = Race(X, blocks=5, asked=9)
    table = scores(PEAK_AT_4)

    def look_up(trial: Trial) -> SeenTrial:
        return SeenTrial(*trial, score=None if trial[0] == 5 else float(table[trial]))

    seen, _ = walk(race, look_up)
    assert [trial.block for trial in seen if trial.setting == 5] == [0]
    assert standing(race, seen).leader not in (5, None)


def test_a_collapsed_training_is_not_held_against_its_strength() -> None:
    first = [SeenTrial(s, 0, float(PEAK_AT_4[s])) for s in (0, 3, 7)]
    collapsed = belief([*first, SeenTrial(5, 0, 0.05, collapsed=True)], X).mean
    believed = belief([*first, SeenTrial(5, 0, 0.05)], X).mean
    assert collapsed[5] > believed[5] + 0.1


def test_images_that_move_all_strengths_alike_say_nothing_of_their_difference() -> None:
    """The resampled scores of both settings move together: their difference stays as sure as without images."""
    wave = np.sin(np.linspace(0, 40, 200)) * 0.05
    apart = [np.roll(wave, 7), np.cos(np.linspace(0, 23, 200)) * 0.05]
    together = [SeenTrial(s, b, 0.6 + 0.05 * (s == 5), wave) for b in range(3) for s in (0, 5)]
    loose = [SeenTrial(s, b, 0.6 + 0.05 * (s == 5), apart[s == 5]) for b in range(3) for s in (0, 5)]
    assert belief(together, X).signal(5, 0) > 2 * belief(loose, X).signal(5, 0)


def test_a_level_that_a_block_gives_to_all_is_not_taken_for_strength() -> None:
    """Strength 5 ran only in a hard block; beside none it is better there, and so it leads."""
    seen = [
        SeenTrial(0, 0, 0.80),
        SeenTrial(3, 0, 0.79),
        SeenTrial(0, 1, 0.60),
        SeenTrial(5, 1, 0.68),
        SeenTrial(3, 1, 0.60),
    ]
    mean = belief(seen, X).mean
    assert max((0, 3, 5), key=lambda setting: float(mean[setting])) == 5


def test_the_belief_matches_scikit_learn_where_the_hyperparameters_are_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    from segdecay.search import race as curve_model

    monkeypatch.setattr(curve_model, "AMPLITUDES", (0.1,))
    monkeypatch.setattr(curve_model, "NOISES", (0.01,))
    monkeypatch.setattr(curve_model, "DRAWS", 40_000)
    seen = [SeenTrial(s, 0, float(PEAK_AT_4[s])) for s in (0, 3, 5, 7)]
    kernel = ConstantKernel(0.1**2) * Matern(curve_model.LENGTH_OCTAVES, nu=1.5) + ConstantKernel(1.0 + 0.2**2)
    x, y = np.array(X)[:, None], np.array([trial.score for trial in seen])
    oracle = GaussianProcessRegressor(kernel, alpha=0.01**2, optimizer=None).fit(x[[0, 3, 5, 7]], y - y.mean())
    expected = oracle.predict(x)
    mean = belief(seen, X).mean
    np.testing.assert_allclose(mean - mean[0], expected - expected[0], atol=3e-3)


def test_a_budget_ends_the_race_and_begins_no_block_that_it_cannot_finish() -> None:
    first = len([trial for trial in run(Race(X, blocks=5, asked=9), scores(PEAK_AT_4)) if trial.block == 0])
    assert len(run(Race(X, blocks=5, asked=9, most=first + 1), scores(PEAK_AT_4))) == first
    assert len(run(Race(X, blocks=5, asked=9, most=first + 2), scores(PEAK_AT_4))) == first + 2


def test_trials_trained_ahead_of_the_plan_change_nothing() -> None:
    """Idle workers guess; whatever they finish, the plan reaches the same trials in the same order."""
    race, table = Race(X, blocks=5, asked=9), scores(PEAK_AT_4, noise=0.02)
    plain = run(race, table)
    finished: dict[Trial, SeenTrial] = {}
    for _ in range(60):
        seen, wanted = walk(race, finished.get)
        if wanted is None:
            break
        ahead = likely_trials(race, seen, [wanted], 3, finished.get)
        for trial in [*reversed(ahead), wanted]:
            finished[trial] = SeenTrial(*trial, score=float(table[trial]))
    seen, wanted = walk(race, finished.get)
    assert wanted is None
    assert [(c.setting, c.block, c.score) for c in seen] == [(c.setting, c.block, c.score) for c in plain]


def test_likely_trials_are_new_ones() -> None:
    race = Race(X, blocks=5, asked=9)
    assert likely_trials(race, [], [(0, 0)], 2) == [(3, 0), (5, 0)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 9))
def test_a_race_keeps_its_bounds_and_repeats_itself(seed: int, blocks: int, asked: int) -> None:
    race = Race(X[:asked], blocks=blocks, asked=asked)
    table = scores(PEAK_AT_4[:asked], seed, blocks=blocks, noise=0.03)
    seen = run(race, table)
    trials = [(trial.setting, trial.block) for trial in seen]
    assert len(set(trials)) == len(trials) <= race.trials_at_most
    assert trials == [(trial.setting, trial.block) for trial in run(race, table)]
    assert standing(race, seen).finalists


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_clearly_worse_strength_never_leads(seed: int) -> None:
    race = Race(X, blocks=3, asked=9)
    found = standing(race, run(race, scores(PEAK_AT_4, seed, blocks=3, noise=0.02)))
    assert found.leader != 8


def test_bounds_stand_from_none_to_the_strongest() -> None:
    assert positions([math.inf, 4.0, 1.0], none=math.inf) == (-4.0, -2.0, 0.0)


def test_without_any_score_there_is_nothing_to_believe() -> None:
    with pytest.raises(ValueError, match="no trial has a score"):
        belief([SeenTrial(0, 0, None)], X)


def test_the_race_ends_when_every_training_was_lost() -> None:
    race = Race(X, blocks=5, asked=9)
    seen, wanted = walk(race, lambda trial: SeenTrial(*trial, score=None))
    assert wanted is None
    assert len(seen) == len(race.coarse)
    assert standing(race, seen).leader is None
    assert next_trial(race, seen) is None
