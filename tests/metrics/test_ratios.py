"""Intervals of ratios of sums: those of single IoUs where both exist, and what a sample mean says."""

from __future__ import annotations

import numpy as np
import pytest

from segdecay.inference.scores import interval_of
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.intervals import ratio_intervals


def counts_of(seed: int, n: int = 24) -> Counts:
    matrices = np.random.default_rng(seed).integers(0, 30, (n, 3, 3)) + 60 * np.eye(3, dtype=np.int64)
    return Counts.of(matrices)


@pytest.mark.parametrize("groups", [24, 12, 6])  # single images, resampled groups, groups that only bound the error
def test_ratios_of_hits_and_unions_have_the_intervals_of_iou(groups: int) -> None:
    counts, names = counts_of(1), [str(i % groups) for i in range(24)]
    part, whole = counts.hit.astype(np.float64), counts.union.astype(np.float64)
    found = ratio_intervals(part, whole, counts, names, confidence=0.9, resamples=300, seed=4)
    for index in range(3):
        criterion = Criterion("classes", (index,), (str(index),))
        expected = interval_of(counts, names, criterion, confidence=0.9, resamples=300, seed=4)
        assert (found[index].mean, found[index].standard_error) == pytest.approx(
            (expected.mean, expected.standard_error)
        )
        assert found[index].interval == pytest.approx(expected.interval)


def test_a_mean_over_images_has_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(0).random((60, 1))
    none = np.zeros((60, 1), np.int64)
    names = [str(i) for i in range(60)]
    (found,) = ratio_intervals(
        values, np.ones_like(values), Counts(none, none, none), names, confidence=0.95, resamples=4000
    )
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(60), rel=0.05)


def test_nothing_to_divide_by_is_not_available_and_one_group_has_no_interval() -> None:
    counts = counts_of(2)
    part, whole = counts.hit.astype(np.float64), counts.union.astype(np.float64)
    whole[:, 0] = 0
    found = ratio_intervals(part, whole, counts, [str(i) for i in range(24)], confidence=0.9, resamples=100)
    assert (found[0].mean, found[0].interval) == (None, None)
    assert found[1].interval is not None
    alone = ratio_intervals(part, whole, counts, ["one"] * 24, confidence=0.9, resamples=100)
    assert alone[1].mean == pytest.approx(found[1].mean)
    assert alone[1].interval is None


def test_limits_stay_within_0_and_1() -> None:
    part = np.array([[10.0], [10], [10], [9]])
    none = np.zeros((4, 1), np.int64)
    (found,) = ratio_intervals(
        part, np.full((4, 1), 10.0), Counts(none, none, none), list("abcd"), confidence=0.99, resamples=500
    )
    assert found.interval is not None
    assert found.interval[1] == 1.0
