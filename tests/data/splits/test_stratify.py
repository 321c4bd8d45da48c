"""Groups to folds: no class that has groups enough is missing from a fold, and shares are even."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segdecay.data.splits.stratify import balanced_folds, fold_weights, shares_of, unevenness


@given(
    has=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=5, max_size=24),
    n_folds=st.integers(2, 4),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_every_fold_has_every_class_that_has_twice_as_many_groups(
    has: list[list[bool]], n_folds: int, seed: int
) -> None:
    table = np.array(has).astype(np.int64)
    pixels = table * np.random.default_rng(seed).integers(1, 5000, table.shape)
    amounts = np.concatenate([pixels, table, np.ones((len(table), 1), dtype=np.int64)], axis=1)
    fold = balanced_folds(amounts, fold_weights(4), n_folds, seed)
    assert set(fold.tolist()) == set(range(n_folds))
    for c in range(4):
        if table[:, c].sum() >= 2 * n_folds:
            assert all(table[fold == k, c].any() for k in range(n_folds))


@given(st.lists(st.integers(1, 100), min_size=4, max_size=7), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_balancing_finds_the_best_split_of_few_units_in_two(sizes: list[int], seed: int) -> None:
    amounts = np.array(sizes)[:, None]
    shares = shares_of(amounts)
    n = len(sizes)
    every = [np.array([mask >> i & 1 for i in range(n)]) for mask in range(1, 2**n - 1)]
    best = min(unevenness(shares, split, 2) for split in every)
    found = unevenness(shares, balanced_folds(amounts, np.ones(1), 2, seed), 2)
    assert found <= best + 0.02


def test_many_units_are_balanced_in_little_time() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.integers(0, 1000, (1000, 9)) * (rng.random((1000, 9)) < 0.3)
    folds = balanced_folds(amounts, np.ones(9), 5, 0)
    assert unevenness(shares_of(amounts), folds, 5) < 1e-4
