"""Paired differences of arms whose cells were chosen fold by fold, with errors that see the luck of trainings.

Pure numpy: scores of settings by fold in, numbers out. A score is taken as the sum of its setting, its fold and a rest;
the variance of the rest is half a setting's own and half the mean over the settings that were chosen anywhere. Where
two arms take the same cell in a fold, they differ by nothing there. The error is not below what resampled images give.
Other statistics name too many differences that are none: docs/compare.md, benchmarks/comparing.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segdecay.selection.intervals import OWN_SHARE, Estimates

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def rest_variances(
    scores: F64,  # (V, F) of the settings that were chosen
) -> tuple[F64, float]:  # (V,)
    """The variance of one cell of every setting beyond setting and fold, and its degrees of freedom (Satterthwaite).

    >>> found, freedom = rest_variances(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.allclose(found, 0)), round(freedom, 6)  # nothing but settings and folds
    (True, 2.0)
    """
    n, folds = scores.shape
    if n < 2:
        return np.zeros(n), float(folds - 1)
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    own = (rest**2).sum(axis=1) / (folds - 1) * n / (n - 1)
    found = OWN_SHARE * own + (1 - OWN_SHARE) * own.mean()
    others = (n - 2) * (folds - 1)
    if not others:
        return found, float(folds - 1)
    return found, 1 / (OWN_SHARE**2 / (folds - 1) + (1 - OWN_SHARE) ** 2 / others)


def pair_estimates(
    scores: F64,  # (V, F) of all settings
    chosen: I64,  # (A, F) the setting of every arm in every fold
    pairs: I64,  # (M, 2) of arms
    deviations: F64 | None = None,  # (A, F, R) of resampled scores of the arms
) -> Estimates:
    """The mean difference of the first to the second arm of every pair; NaN where they take the same cells."""
    folds = np.arange(scores.shape[1])
    used = np.unique(chosen)
    variances = np.zeros(len(scores))
    variances[used], freedom = rest_variances(scores[used])
    one, other = chosen[pairs[:, 0]], chosen[pairs[:, 1]]  # (M, F)
    differ = one != other
    variance = np.where(differ, variances[one] + variances[other], 0.0).sum(axis=1) / len(folds) ** 2
    if deviations is not None:
        images = (deviations[pairs[:, 0]] - deviations[pairs[:, 1]]).var(axis=2).sum(axis=1) / len(folds) ** 2
        variance = np.maximum(variance, images)
    means = (scores[one, folds] - scores[other, folds]).mean(axis=1)
    means[~differ.any(axis=1)] = np.nan
    nothing = np.zeros((len(pairs), 0))
    return Estimates(means, np.sqrt(variance), np.full(len(pairs), freedom), nothing, np.zeros(len(pairs)))
