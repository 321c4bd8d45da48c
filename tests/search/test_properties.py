"""What must hold of every verdict, whatever the evidence, and that its intervals cover what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.config.schema import parse_config
from segdecay.errors import ConfigError
from segdecay.metrics import bootstrap as ev
from segdecay.metrics.criteria import Criterion, build_criterion
from segdecay.runs.records import StrengthRecord
from segdecay.search.verdict import Candidate, Decision, decide

CLASSES = ("a", "b", "c")
N_IMAGES = 12
SHARES = st.lists(st.floats(0.3, 0.9), min_size=2, max_size=5)


def _trial(random: np.random.Generator, right: float | ev.F64, n_images: int = N_IMAGES) -> ev.Counts:
    """Images of 60 pixels in three classes; each class has its own share of right pixels."""
    matrices = np.zeros((n_images, 3, 3), dtype=np.int64)
    for true, share in enumerate(np.broadcast_to(right, 3)):
        hits = random.binomial(20, min(1.0, max(0.0, share)), n_images)
        matrices[:, true, true], matrices[:, true, (true + 1) % 3] = hits, 20 - hits
    return ev.Counts.of(matrices)


def _candidates(rights: Sequence[float | tuple[float, ...]], seed: int, folds: int = 3) -> list[Candidate]:
    random = np.random.default_rng(seed)
    return [
        Candidate(
            StrengthRecord("total_decay", float(value), lambda_=value / 10),
            [[_trial(random, np.asarray(right) + random.normal(0, 0.03))] for _ in range(folds)],
            None,
            0.9,
            0,
        )
        for value, right in enumerate(rights)
    ]


def _decide(candidates: list[Candidate], criterion: Criterion = ev.MIOU) -> Decision:
    return decide(candidates, CLASSES, confidence=0.95, resamples=200, seed=1, criterion=criterion)


def _numbers(decision: Decision) -> list[float]:
    """Every figure of a decision in one row."""
    found = [decision.selection.mean, *(decision.selection.interval or ()), *(decision.zero.interval or ())]
    found += [x for s in decision.settings if s.difference for x in (s.difference.mean, *(s.difference.interval or ()))]
    found += [x for row in decision.classes for x in row.difference_interval or ()]
    return [float(x) for x in found if x is not None]


@given(rights=SHARES, seed=st.integers(0, 999), order=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_the_order_of_settings_changes_nothing(rights: list[float], seed: int, order: object) -> None:
    candidates = _candidates(rights, seed)
    other = list(candidates)
    order.shuffle(other)  # type: ignore[attr-defined]
    assert _decide(other) == _decide(candidates)


@given(rights=SHARES, seed=st.integers(0, 999), order=st.permutations(range(3)))
@settings(max_examples=8, deadline=None)
def test_the_order_of_folds_changes_nothing(rights: list[float], seed: int, order: list[int]) -> None:
    candidates = _candidates(rights, seed)
    turned = [replace(c, counts=[(c.counts or ())[fold] for fold in order]) for c in candidates]
    one, other = _decide(candidates), _decide(turned)
    assert (one.kind, one.best, one.taken, one.one_se) == (other.kind, other.best, other.taken, other.one_se)
    assert _numbers(other) == pytest.approx(_numbers(one), abs=1e-9)


@given(rights=SHARES, seed=st.integers(0, 999), at=st.floats(0.1, 9.9))
@settings(max_examples=8, deadline=None)
def test_a_clearly_worse_setting_never_changes_the_winner(rights: list[float], seed: int, at: float) -> None:
    candidates = _candidates(rights, seed)
    random = np.random.default_rng(seed)
    worse = Candidate(
        StrengthRecord("total_decay", at + 1e-3), [[_trial(random, 0.05)] for _ in range(3)], None, 0.1, 0
    )
    one, other = _decide(candidates), _decide([*candidates, worse])
    assert other.settings[other.best].strength == one.settings[one.best].strength


@given(rights=SHARES, seed=st.integers(0, 999))
@settings(max_examples=8, deadline=None)
def test_copies_of_the_same_folds_narrow_every_interval(rights: list[float], seed: int) -> None:
    candidates = _candidates(rights, seed)
    copied = [replace(c, counts=[*(c.counts or ()), *(c.counts or ())]) for c in candidates]
    for one, other in zip(_decide(candidates).settings[1:], _decide(copied).settings[1:], strict=True):
        assert one.difference is not None
        assert other.difference is not None
        assert other.difference.mean == pytest.approx(one.difference.mean)
        assert (other.difference.standard_error or 0) < (one.difference.standard_error or 0)


def test_a_setting_that_a_race_dropped_has_an_interval_and_cannot_win() -> None:
    candidates = _candidates([0.5, 0.6, 0.8], seed=0)
    lost = replace(candidates[2], counts=(candidates[2].counts or ())[1:2], folds=(1,), dropped="behind after 1 fold")
    decision = _decide([*candidates[:2], lost])
    assert decision.best == 1
    assert decision.n_folds == 3
    shown = decision.settings[2]
    assert shown.dropped == "behind after 1 fold"
    assert shown.folds is not None
    assert [fold is None for fold in shown.folds] == [True, False, True]
    own, none = (ev.fold_scores(c.counts or ())[1] for c in (candidates[2], candidates[0]))
    assert shown.difference is not None
    assert shown.difference.mean == pytest.approx(own - none)
    zero = float(ev.fold_scores(candidates[0].counts or ()).mean())
    assert shown.mean == pytest.approx(zero + own - none)  # not its bare mean: fold 1 may be an easy one


def test_fewer_folds_give_a_wider_interval() -> None:
    candidates = _candidates([0.5, 0.6, 0.6], seed=0)
    less = replace(candidates[2], counts=(candidates[2].counts or ())[:1], folds=(0,))
    widths = [_decide([*candidates[:2], c]).settings[2].difference for c in (candidates[2], less)]
    assert all(width is not None and width.standard_error is not None for width in widths)
    errors = [width.standard_error or 0.0 for width in widths if width is not None]
    assert errors[1] > 1.3 * errors[0]


def test_each_interval_says_of_what_it_is() -> None:
    decision = _decide(_candidates([0.5, 0.7, 0.6], seed=0))
    assert decision.kind == "chosen"
    of = decision.evidence["intervals_of"]
    assert of["selection"].startswith("the selected setting")
    assert of["settings.interval"] == "a setting named beforehand"
    shown = decision.settings[1]
    assert shown.difference is not None
    named, joint = shown.difference_named or (0, 0), shown.difference.interval or (0, 0)
    assert joint[0] < named[0] < named[1] < joint[1]


def test_a_winner_by_chance_is_corrected_and_a_clear_one_is_not() -> None:
    chance = _decide(_candidates([0.6] * 8, seed=3))
    clear = _decide(_candidates([0.5, 0.9, 0.5], seed=3))
    assert chance.honest is not None
    assert clear.honest is not None
    assert clear.honest["mean"] == pytest.approx(clear.selection.mean, abs=0.003)
    assert clear.honest["selected_in"][1] == 1.0
    lucky = max(s.mean or 0.0 for s in chance.settings)
    assert chance.honest["mean"] < lucky


def test_groups_are_resampled_only_where_a_fold_has_enough_of_them() -> None:
    candidates = _candidates([0.5, 0.7, 0.6], seed=0)
    singles = [list(range(N_IMAGES))] * 3
    threes = [[i // 3 for i in range(N_IMAGES)]] * 3
    of = [
        decide(candidates, CLASSES, confidence=0.95, resamples=200, seed=1, groups=groups)
        for groups in (None, singles, threes)
    ]
    assert [one.resampled for one in of] == ["images", "groups", "images"]
    assert of[0].settings == of[1].settings  # groups of one image are images


def test_images_that_are_alike_in_a_group_widen_the_interval_of_a_score() -> None:
    random = np.random.default_rng(0)
    counts = []
    for _ in range(3):
        parts = [_trial(random, 0.6 + random.normal(0, 0.1), 5) for _ in range(4)]
        counts.append([ev.Counts(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("hit", "union", "true")))])
    groups = [[i // 5 for i in range(20)]] * 3
    plain = Candidate(StrengthRecord("total_decay", 0.0), counts, None, 0.9, 0)
    errors = [
        decide([plain], CLASSES, confidence=0.95, resamples=200, seed=1, groups=g).zero.standard_error or 0.0
        for g in (None, groups)
    ]
    assert errors[1] > 1.2 * errors[0]


COUNTS = ev.Counts(*(np.array([row]) for row in ([8, 3, 0], [10, 6, 0], [9, 4, 0])))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Criterion(), (0.8 + 0.5) / 2),
        (Criterion("worst"), 0.5),
        (Criterion("weighted"), (9 * 0.8 + 4 * 0.5) / 13),
        (Criterion("classes", (1,), ("b",)), 0.5),
        (Criterion("classes", (1, 2), ("b", "c")), 0.5),
    ],
)
def test_a_criterion_scores_summed_counts(criterion: Criterion, expected: float) -> None:
    assert COUNTS.score(criterion) == pytest.approx(expected)


def test_the_criterion_decides_which_setting_is_best() -> None:
    candidates = _candidates([(0.5, 0.5, 0.5), (0.95, 0.95, 0.4), (0.6, 0.6, 0.6)], seed=0)
    found = [
        _decide(candidates, one).best for one in (Criterion(), Criterion("worst"), Criterion("classes", (2,), ("c",)))
    ]
    assert found == [1, 2, 2]


def test_a_setting_that_costs_a_class_too_much_is_out_with_the_reason() -> None:
    candidates = _candidates([(0.5, 0.5, 0.6), (0.95, 0.95, 0.15), (0.6, 0.6, 0.6)], seed=0)
    free, bound = _decide(candidates), _decide(candidates, Criterion(most_loss=0.1))
    assert (free.best, bound.best) == (1, 2)
    reason = bound.settings[1].dropped or ""
    assert reason.startswith("c loses 0.")
    assert reason.endswith("IoU; at most 0.1 is allowed")
    assert bound.honest is not None
    assert bound.honest["selected_in"][1] == 0.0


def test_an_unknown_class_of_the_criterion_is_refused_with_the_nearest() -> None:
    values = {"data": {"path": "x"}, "search": {"criterion": "classes", "criterion_classes": ["rod", "pole"]}}
    with pytest.raises(
        ConfigError, match=r"criterion_classes: Unknown class 'rod'; allowed: road, pole. Did you mean 'road'"
    ):
        build_criterion(parse_config(values).search, ("road", "pole"))


@pytest.mark.parametrize("search", [{"criterion": "classes"}, {"criterion_classes": ["road"]}])
def test_named_classes_and_their_criterion_go_together(search: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="go together"):
        parse_config({"data": {"path": "x"}, "search": search})


def _share_right(random: np.random.Generator, n_images: int) -> ev.Counts:
    """Images whose own difficulty varies: true mean of right pixels .7 in every class."""
    level = np.clip(random.normal(0.7, 0.12, n_images), 0, 1)
    matrices = np.zeros((n_images, 2, 2), dtype=np.int64)
    for true in range(2):
        hits = random.binomial(30, level)
        matrices[:, true, true], matrices[:, true, 1 - true] = hits, 30 - hits
    return ev.Counts.of(matrices)


def test_intervals_cover_in_repeated_experiments() -> None:
    # all settings are equal: the true mIoU is .7 / 1.3, every true difference 0
    random, repeats = np.random.default_rng(5), 80
    covered = {"named": 0, "selected": 0, "difference": 0, "chosen": 0}
    for number in range(repeats):
        counts = [[[_share_right(random, 25)] for _ in range(3)] for _ in range(4)]
        candidates = [Candidate(StrengthRecord("total_decay", float(v)), c, None, 0.9, 0) for v, c in enumerate(counts)]
        found = decide(candidates, ("a", "b"), confidence=0.95, resamples=200, seed=number)
        named, selected = found.settings[1].interval or (0, 0), found.selection.interval or (0, 0)
        difference = found.settings[1].difference_named or (0, 0)
        covered["named"] += named[0] <= 0.7 / 1.3 <= named[1]
        covered["selected"] += selected[0] <= 0.7 / 1.3 <= selected[1]
        covered["difference"] += difference[0] <= 0 <= difference[1]
        covered["chosen"] += found.kind in ("chosen", "edge")
    shares = {name: count / repeats for name, count in covered.items()}
    assert min(shares["named"], shares["selected"], shares["difference"]) >= 0.92, shares
    assert shares["chosen"] <= 0.08, shares
