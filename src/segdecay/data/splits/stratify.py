"""Assign groups to folds so that every fold gets an equal share of every class and of the images.

Each column of `amounts` (pixels of a class, images with a class, images) is scaled to sum 1. The cost of a split is the
weighted sum over columns and folds of (share − 1/folds)². A fold without units, or without a class that enough units
have, costs more than any unevenness.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

RESTARTS = 6  # random orders that are tried; the split of the lowest cost is taken
SWAPS_A_PASS = 4000  # pairs of units that are tried in a pass
PASSES = 20
FEW_UNITS = 60  # with more units a greedy split is even already: one start, few passes
MISSING = 1e3  # weight of a fold that lacks a class: always worse than any unevenness


def fold_weights(n_classes: int) -> F64:
    """The weight of each column: pixels of each class, images with each class, images. (2 * classes + 1,)

    All classes have the same weight, and their pixels more than their images; the number of images has half the weight
    of all classes.
    """
    return np.concatenate([np.ones(n_classes), np.full(n_classes, 0.25), [n_classes / 2]])


def shares_of(
    amounts: I64,  # (units, columns)
) -> F64:
    """Each column scaled to sum 1; empty columns are left out."""
    totals = amounts.sum(axis=0)
    return np.asarray(amounts[:, totals > 0] / totals[totals > 0], dtype=np.float64)


def unevenness(shares: F64, fold_of: I64, n_folds: int) -> float:
    """Sum over columns and folds of (share − 1/folds)².

    >>> unevenness(np.array([[0.5], [0.5]]), np.array([0, 1]), 2)
    0.0
    """
    return float(((_sums(shares, fold_of, n_folds) - 1 / n_folds) ** 2).sum())


def _sums(shares: F64, fold_of: I64, n_folds: int) -> F64:
    sums = np.zeros((n_folds, shares.shape[1]))
    np.add.at(sums, fold_of, shares)
    return sums


class _Split:
    """A split while it is improved, with its sums of shares and its counts of units that have a column."""

    def __init__(self, shares: F64, weights: F64, n_folds: int, order: I64) -> None:
        self.shares, self.weights, self.n_folds = shares, weights, n_folds
        self.has = (shares > 0).astype(np.int64)
        self.enough = self.has.sum(axis=0) >= n_folds  # columns that every fold can have
        self.fold_of = np.full(len(shares), -1, dtype=np.int64)
        self.sums = np.zeros((n_folds, shares.shape[1]))
        self.units = np.zeros((n_folds, shares.shape[1]), dtype=np.int64)
        for unit in order:
            costs = [
                self.cost_of(self.sums + self._only(unit, k), self.units + self._only_has(unit, k))
                for k in range(n_folds)
            ]
            self.place(unit, int(np.argmin(costs)))

    def _only(self, unit: int, fold: int) -> F64:
        change = np.zeros_like(self.sums)
        change[fold] = self.shares[unit]
        return change

    def _only_has(self, unit: int, fold: int) -> I64:
        change = np.zeros_like(self.units)
        change[fold] = self.has[unit]
        return change

    def cost_of(self, sums: F64, units: I64) -> float:
        missing = ((units == 0) & self.enough).sum()
        return float(MISSING * missing + (((sums - 1 / self.n_folds) ** 2) * self.weights).sum())

    @property
    def cost(self) -> float:
        return self.cost_of(self.sums, self.units)

    def place(self, unit: int, fold: int) -> None:
        old = int(self.fold_of[unit])
        if old >= 0:
            self.sums[old] -= self.shares[unit]
            self.units[old] -= self.has[unit]
        self.sums[fold] += self.shares[unit]
        self.units[fold] += self.has[unit]
        self.fold_of[unit] = fold

    def move_all(self) -> bool:
        """Move each unit to the fold of the lowest cost; returns whether any unit moved."""
        moved = False
        for unit in range(len(self.shares)):
            here, now = int(self.fold_of[unit]), self.cost
            best, best_cost = here, now - 1e-12
            for fold in range(self.n_folds):
                if fold != here:
                    sums = self.sums + self._only(unit, fold) - self._only(unit, here)
                    units = self.units + self._only_has(unit, fold) - self._only_has(unit, here)
                    cost = self.cost_of(sums, units)
                    if cost < best_cost:
                        best, best_cost = fold, cost
            if best != here:
                self.place(unit, best)
                moved = True
        return moved

    def swap(self, pairs: I64) -> bool:
        """Exchange the folds of each pair if that lowers the cost; returns whether any were exchanged."""
        swapped = False
        for one, other in pairs:
            a, b = int(self.fold_of[one]), int(self.fold_of[other])
            if a == b:
                continue
            before = self.cost
            self.place(one, b)
            self.place(other, a)
            if self.cost < before - 1e-12:
                swapped = True
            else:
                self.place(one, a)
                self.place(other, b)
        return swapped


def _pairs(n: int, random: np.random.Generator) -> I64:
    """All pairs of units, or SWAPS_A_PASS random ones if there are more: (P, 2)."""
    if n * (n - 1) // 2 <= SWAPS_A_PASS:
        return np.stack(np.triu_indices(n, k=1), axis=1).astype(np.int64)
    return random.integers(0, n, size=(SWAPS_A_PASS, 2))


def balanced_folds(
    amounts: I64,  # (units, columns), not negative
    weights: F64,  # (columns,)
    n_folds: int,
    seed: int,
) -> I64:
    """The fold of each unit: (units,) int64; deterministic for a seed. At least as many units as folds are needed.

    >>> balanced_folds(np.array([[4], [3], [1]]), np.ones(1), 2, seed=0).tolist() in ([0, 1, 1], [1, 0, 0])
    True
    """
    random = np.random.default_rng(seed)
    used = amounts.sum(axis=0) > 0
    shares, weights = shares_of(amounts), weights[used]
    size = (shares * weights).sum(axis=1)
    few = len(shares) <= FEW_UNITS
    best: _Split | None = None
    for restart in range(RESTARTS if few else 1):
        noise = random.uniform(1, 1.5, len(shares)) if restart else np.ones(len(shares))
        split = _Split(shares, weights, n_folds, np.argsort(-size * noise, kind="stable"))
        for _ in range(PASSES if few else 2):
            if not (split.move_all() | split.swap(_pairs(len(shares), random))):
                break
        if best is None or split.cost < best.cost - 1e-12:
            best = split
    return np.zeros(0, dtype=np.int64) if best is None else best.fold_of


def balanced_rotation(
    amounts: I64,  # (sequences, folds, columns): one block of each sequence for each fold
    weights: F64,
    seed: int,
) -> I64:
    """The fold of each block of each sequence, (sequences, folds): one permutation per sequence, classes balanced."""
    n_sequences, n_folds, n_columns = amounts.shape
    flat = amounts.reshape(-1, n_columns)
    used = flat.sum(axis=0) > 0
    fold_of = np.tile(np.arange(n_folds, dtype=np.int64), n_sequences)
    split = _Split(shares_of(flat), weights[used], n_folds, np.zeros(0, dtype=np.int64))
    for unit, fold in enumerate(fold_of):
        split.place(unit, int(fold))
    inside = np.array([(a, b) for a in range(n_folds) for b in range(a + 1, n_folds)], dtype=np.int64).reshape(-1, 2)
    pairs = np.concatenate([inside + sequence * n_folds for sequence in range(n_sequences)])
    random = np.random.default_rng(seed)
    for _ in range(PASSES):
        if not split.swap(random.permutation(pairs)):
            break
    return split.fold_of.reshape(n_sequences, n_folds)
