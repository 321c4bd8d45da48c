"""The replay of selectors: records read back as written, looking costs epochs, choices are judged elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_grids import EPOCHS, SHARES, SIZES, VALUES, bench, noiseless, open_replay, random_matrices, write_record

from segdecay.metrics.confusion import scores_of


@pytest.fixture
def recorded(tmp_path: Path) -> Any:
    return bench.records.read_grid(write_record(tmp_path / "small.npz", random_matrices()))


def test_a_record_reads_back_as_the_scores_of_its_matrices(recorded: Any) -> None:
    for (v, f, s), own in random_matrices().items():
        assert recorded.scores(s)[v, f] == pytest.approx(scores_of(own.sum(axis=0)).miou, abs=1e-12)
    assert recorded.values == VALUES
    assert recorded.shape == (4, 3, 2, 4)


def test_a_trial_that_predicts_one_class_is_called_collapsed(recorded: Any) -> None:
    assert np.argwhere(recorded.collapsed).tolist() == [[3, 2, 1]]


def test_a_record_without_a_key_names_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="lacks fold_of"):
        bench.records.read_grid(write_record(tmp_path / "x.npz", random_matrices(), fold_of=None))


def test_a_record_with_too_few_matrices_says_how_many_there_should_be(tmp_path: Path) -> None:
    folds = np.repeat(np.arange(3), (5, 7, 7))
    with pytest.raises(SystemExit, match=r"holds 144 matrices; .* make 152"):
        bench.records.read_grid(write_record(tmp_path / "x.npz", random_matrices(), fold_of=folds))


def test_epochs_are_paid_once_and_going_on_costs_the_rest(recorded: Any) -> None:
    replay = open_replay(recorded)
    replay.trial(1, 0, 3)
    replay.trial(1, 0, 2)
    assert replay.used == 3
    assert replay.finished == {}
    replay.trial(1, 0)
    replay.counts(1, 0)
    assert replay.used == EPOCHS
    assert replay.finished == {1: {0}}


def test_a_budget_counts_only_what_a_look_would_add(recorded: Any) -> None:
    replay = open_replay(recorded, budget=EPOCHS)
    replay.trial(1, 0, 3)
    assert replay.affords(1, 0)
    assert replay.affords(2, 0, 1)
    assert not replay.affords(2, 0, 2)


def test_the_score_on_the_way_is_the_recorded_curve(recorded: Any) -> None:
    replay = open_replay(recorded, seed=1)
    fold = replay.repeat.folds[2]
    assert replay.trial(2, 2, 2) == pytest.approx(SHARES[1][1] * recorded.scores(1)[2, fold], rel=1e-6)


def test_resampled_images_move_the_whole_curve_with_the_last_score(recorded: Any) -> None:
    repeat = bench.replaying.draw_repeat(recorded, 0, 3)
    replay = bench.replaying.Replay(repeat)
    own = random_matrices()[1, repeat.folds[0], 0][repeat.images[0]]
    score = scores_of(own.sum(axis=0)).miou
    assert replay.trial(1, 0) == pytest.approx(score, rel=1e-6)
    assert replay.trial(1, 0, 1) == pytest.approx(SHARES[0][0] * score, rel=1e-6)
    assert score != pytest.approx(recorded.scores(0)[1, repeat.folds[0]], abs=1e-4)


def test_a_repeat_is_the_same_for_everyone_and_another_number_differs(recorded: Any) -> None:
    first, again, other = (bench.replaying.draw_repeat(recorded, 0, number) for number in (4, 4, 5))
    assert first.folds == again.folds
    assert all((a == b).all() for a, b in zip(first.images, again.images, strict=True))
    assert first.scores.tolist() != other.scores.tolist()
    assert sorted(first.folds) == [0, 1, 2]
    assert [len(which) for which in first.images] == [SIZES[fold] for fold in first.folds]


def test_the_full_grid_takes_the_best_mean_and_pays_for_all(tmp_path: Path) -> None:
    for seed in range(8):
        grid = bench.records.read_grid(write_record(tmp_path / "x.npz", random_matrices(seed)))
        replay = open_replay(grid)
        assert bench.selectors.full_grid(replay).chosen == int(grid.scores(0).mean(axis=1).argmax())
        assert replay.used == len(VALUES) * len(SIZES) * EPOCHS


def test_one_split_takes_the_best_of_its_fold_and_pays_for_that_fold(recorded: Any) -> None:
    for number in range(6):
        replay = open_replay(recorded, number=number)
        chosen = bench.selectors.one_split(replay).chosen
        assert chosen == int(recorded.scores(0)[:, replay.repeat.folds[0]].argmax())
        assert replay.used == len(VALUES) * EPOCHS


def test_one_split_tries_no_more_than_it_can_pay(recorded: Any) -> None:
    replay = open_replay(recorded, budget=2 * EPOCHS + 1)
    bench.selectors.one_split(replay)
    assert replay.used == 2 * EPOCHS


@pytest.mark.parametrize("n_folds", [3, 5])
def test_nine_trials_cost_nine_and_find_a_clear_peak(monkeypatch: pytest.MonkeyPatch, n_folds: int) -> None:
    grid, best = noiseless(monkeypatch)
    repeat = bench.replaying.draw_repeat(grid, 0, 0, n_folds, resample=False)
    replay = bench.replaying.Replay(repeat)
    assert bench.selectors.nine_trials(replay).chosen == best
    assert replay.used == 9 * grid.shape[3]


def test_the_additive_curve_gives_back_a_parabola_through_fold_effects() -> None:
    x = bench.selectors.octaves((0.0, *(2.0**k for k in range(8))))
    truth = -0.01 * (x - 3) ** 2
    trials = {(v, f): truth[v] + (0.03, -0.03)[f] for v in range(9) for f in range(2)}
    curve = bench.selectors.additive_curve(trials, x, around=3.0)
    assert curve - curve.mean() == pytest.approx(truth - truth.mean(), abs=1e-5)


def test_regret_is_the_distance_to_the_best_mean(recorded: Any) -> None:
    judge = bench.judging.Judge.of(recorded, 1)
    means = recorded.scores(1).mean(axis=1)
    assert judge.regret(int(means.argmax())) == 0
    worst = int(means.argmin())
    assert judge.regret(worst) == pytest.approx(means.max() - means[worst])
    differences = np.delete(recorded.scores(1), means.argmax(), axis=0) - recorded.scores(1)[means.argmax()]
    assert judge.paired_error == pytest.approx(np.median(differences.std(axis=1, ddof=1)) / np.sqrt(3))


def test_what_is_chosen_on_one_seed_is_judged_on_the_other(tmp_path: Path) -> None:
    path = write_record(tmp_path / "small.npz", random_matrices())
    grid = bench.records.read_grid(path)
    seen = [
        (repeat.seed, judge.means.tolist()) for repeat, judge in bench.selection.recorded_repeats(path, 1, None, True)
    ]
    assert seen == [(0, grid.scores(1).mean(axis=1).tolist()), (1, grid.scores(0).mean(axis=1).tolist())]


def test_a_choice_has_no_kind_where_none_was_not_trained(recorded: Any) -> None:
    replay = open_replay(recorded)
    replay.trial(2, 0)
    assert bench.judging.kind_of(replay, 2) is None
    replay.trial(0, 1)
    assert bench.judging.kind_of(replay, 2) is None


@pytest.mark.parametrize(("name", "kind"), [("sharp peak", "chosen"), ("edge", "edge"), ("none best", "zero")])
def test_the_full_grid_has_the_kind_of_its_surface(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    grid, best = noiseless(monkeypatch, name)
    replay = open_replay(grid)
    bench.selectors.full_grid(replay)
    assert bench.judging.kind_of(replay, best) == kind


def test_looking_for_the_kind_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, best = noiseless(monkeypatch)
    replay = open_replay(grid)
    for setting in (0, best):
        for fold in range(3):
            replay.trial(setting, fold)
    before = dict(replay.paid)
    assert bench.judging.kind_of(replay, best) == "chosen"
    assert replay.paid == before


def test_simulated_trials_scatter_around_their_truth() -> None:
    surfaces = bench.surfaces
    surface = surfaces.SURFACES["gentle peak"]()
    scores = np.array([surfaces.draw_grid("gentle peak", surface, number).scores(0) for number in range(200)])
    assert scores.mean(axis=(0, 2)) == pytest.approx(surfaces.truth_of(surface).means, abs=0.006)
    within = scores - scores.mean(axis=1, keepdims=True)
    expected = np.hypot(surfaces.TRIAL_NOISE, surfaces.IMAGE_NOISE / np.sqrt(surfaces.IMAGES))
    centred = within - within.mean(axis=0)
    assert centred.std() == pytest.approx(expected * np.sqrt(8 / 9), rel=0.05)
    assert scores.mean(axis=1).std() == pytest.approx(np.hypot(surfaces.FOLD_EFFECT, expected / 3), rel=0.06)


def test_simulated_trials_collapse_as_often_as_said() -> None:
    surface = bench.surfaces.SURFACES["trials that collapse"]()
    collapsed = [bench.surfaces.draw_grid("c", surface, number).collapsed.mean() for number in range(60)]
    assert np.mean(collapsed) == pytest.approx(0.1, abs=0.03)


def test_decay_lags_at_half_of_a_simulated_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, best = noiseless(monkeypatch)
    half = grid.curves[:, 0, 0, grid.shape[3] // 2 - 1]
    assert half[0] / grid.curves[0, 0, 0, -1] > half[best] / grid.curves[best, 0, 0, -1] + 0.1


def test_goals_tell_reached_from_missed() -> None:
    def row(share: float, regret: float, same: bool) -> Any:
        return bench.selection.Row(share, regret, regret, same, 0)

    rows = {
        "full grid": row(1.0, 0.01, True),
        "race": row(0.18, 0.02, True),
        "other, equal epochs": row(0.18, 0.01, False),
    }
    lines = bench.selection.goals([rows], "race")
    assert [line.split(":")[0] for line in lines] == ["- reached", "- MISSED", "- MISSED", "- reached", "- MISSED"]
    assert "ahead at equal epochs: other" in lines[-1]


def test_the_table_has_a_line_for_every_selector(recorded: Any) -> None:
    repeat = bench.replaying.draw_repeat(recorded, 0, 0)
    judge = bench.judging.Judge.of(recorded, 1)
    ours = {"everything": bench.selectors.full_grid}
    rows = bench.selection.replay_all(repeat, judge, ours, {"one split": bench.selectors.one_split})
    lines = bench.selection.table([rows]).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| full grid",
        "| everything",
        "| one split",
        "| one split, equal epochs",
    ]
    assert [line.split(" | ")[1] for line in lines] == ["1.000", "1.000", "0.333", "0.333"]
