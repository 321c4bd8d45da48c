"""Multiple comparisons: Holm's step-down procedure, and letters for arms that cannot be told apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

F64 = npt.NDArray[np.float64]


def p_values(differences: F64, errors: F64, freedom: F64) -> F64:
    """Two-sided p of a t statistic; 1 if the difference is 0 or unknown.

    >>> p_values(np.array([2.0, np.nan]), np.array([1.0, 1.0]), np.array([np.inf, 3.0])).round(4).tolist()
    [0.0455, 1.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(differences) / errors
        found = np.where(np.isfinite(freedom), 2 * stats.t.sf(statistic, freedom), 2 * stats.norm.sf(statistic))
    return np.asarray(np.where(np.isfinite(differences) & (differences != 0), found, 1.0))


def holm(p: F64) -> F64:
    """Adjusted p: the k-th smallest of m times (m − k + 1), made monotonic, at most 1.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def holm_tails(p: F64, alpha: float) -> F64:
    """The level at which the procedure judged each comparison: α/(m − k + 1), the same for all that are not rejected.

    An interval with this tail probability excludes 0 exactly if the adjusted p is at most α.

    >>> holm_tails(np.array([0.01, 0.04, 0.03]), 0.06).round(4).tolist()
    [0.02, 0.06, 0.03]
    >>> holm_tails(np.array([0.01, 0.04, 0.04]), 0.06).round(4).tolist()  # stops at the second: 0.04 > 0.03
    [0.02, 0.03, 0.03]
    """
    order = np.argsort(p, kind="stable")
    tails = np.empty_like(p)
    going, tail = True, alpha
    for k, index in enumerate(order):
        if going:
            tail = alpha / (len(p) - k)
            going = bool(p[index] <= tail)
        tails[index] = tail
    return tails


def letters(n: int, apart: Collection[tuple[int, int]]) -> tuple[str, ...]:
    """Letters of n arms, the best first: two arms share a letter exactly if they cannot be told apart.

    A letter is a maximal set of arms of which no two are told apart.

    >>> letters(3, {(0, 2)}), letters(2, set())
    (('a', 'ab', 'b'), ('a', 'a'))
    """
    alike = [{j for j in range(n) if j != i and not {(i, j), (j, i)} & set(apart)} for i in range(n)]
    groups = sorted(sorted(group) for group in _cliques(alike, set(), set(range(n)), set()))
    return tuple("".join(_letter(k) for k, group in enumerate(groups) if i in group) for i in range(n))


def _cliques(alike: Sequence[set[int]], taken: set[int], left: set[int], done: set[int]) -> list[set[int]]:
    """All maximal sets of which any two are alike (Bron and Kerbosch 1973, with a pivot)."""
    if not left and not done:
        return [taken]
    pivot = max(left | done, key=lambda i: len(alike[i] & left))
    found = []
    for i in sorted(left - alike[pivot]):
        found += _cliques(alike, taken | {i}, left & alike[i], done & alike[i])
        left, done = left - {i}, done | {i}
    return found


def _letter(k: int) -> str:
    return chr(ord("a") + k) if k < 26 else f"{_letter(k // 26 - 1)}{_letter(k % 26)}"
