"""Arithmetic of the verdict: fold scores, image bootstrap, paired differences and their intervals.

Pure numpy and scipy: per-image true positives and unions in, numbers out. Knows nothing of files or training.

The statistic, the same for all data. y[s, f] is the mIoU of setting s in fold f, from the summed matrix of its images
(mean over seeds). The difference of two settings is the mean over folds of y[s, f] - y[r, f]. Its variance is the
larger of two estimates: what resampling the validation images gives (the same images for both settings, 1 draw a fold),
and the spread of the fold differences divided by the number of folds, where each setting's own spread is drawn
half-way to the median spread of all settings, so that three folds do not decide alone how sure we are. The interval
uses Student's t, with the confidence shared between all strengths that were looked at (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from segdecay.records import Interval
from segdecay.training.metrics import intersection_union, iou, mean_present

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
OWN_SPREAD_SHARE = 0.5  # of a setting's own fold spread; the rest is the median over settings


@dataclass(frozen=True)
class Counts:
    """Per-image counts of one cell: true positives and unions of every class (N, C); true pixels of each class (C,)."""

    hit: I64
    union: I64
    support: I64

    @classmethod
    def of(cls, confusions: I64) -> Counts:
        """From (N, C, C) confusion matrices."""
        return cls(*intersection_union(confusions), confusions.sum(axis=(0, 2)))

    def class_iou(self) -> F64:
        """(C,) IoU of the summed images; NaN for a class that is absent."""
        return iou(self.hit.sum(axis=0), self.union.sum(axis=0))


Setting = Sequence[Sequence[Counts]]  # folds, then seeds


def fold_class_iou(setting: Setting) -> F64:
    """(J, C) IoU of every fold and class, mean over seeds; NaN where a class is absent."""
    return np.stack([mean_present(np.stack([cell.class_iou() for cell in seeds]), axis=0) for seeds in setting])


def fold_scores(setting: Setting) -> F64:
    """(J,) mIoU of every fold, mean over seeds."""
    return np.array([np.mean([mean_present(cell.class_iou()) for cell in seeds]) for seeds in setting])


def image_draws(n_images: Sequence[int], resamples: int, seed: int) -> list[I64]:
    """For each fold (R, N): how often each image is in each of R resamples of N images."""
    random = np.random.Generator(np.random.PCG64(seed))
    return [
        random.multinomial(n, np.full(n, 1 / n), size=resamples) if n else np.zeros((resamples, 0), np.int64)
        for n in n_images
    ]


def bootstrap_class_iou(setting: Setting, draws: Sequence[I64]) -> list[list[F64]]:
    """For each fold and seed (R, C): the IoU of every class in every resample of the images."""
    return [
        [iou(draw @ cell.hit, draw @ cell.union) for cell in seeds] for seeds, draw in zip(setting, draws, strict=True)
    ]


def bootstrap_scores(setting: Setting, draws: Sequence[I64]) -> F64:
    """(R,) mean over folds and seeds of the mIoU in every resample of the images."""
    folds = [np.mean([mean_present(seed) for seed in seeds], axis=0) for seeds in bootstrap_class_iou(setting, draws)]
    return np.asarray(np.mean(folds, axis=0))


def shared_spread(differences: F64) -> F64:
    """(S,) variance over folds of the differences (S, J), each half-way to the median of all S.

    >>> shared_spread(np.array([[0.0, 2.0], [0.0, 4.0], [0.0, 6.0]])).tolist()
    [5.0, 8.0, 13.0]
    """
    own = differences.var(axis=1, ddof=1)
    return np.asarray(OWN_SPREAD_SHARE * own + (1 - OWN_SPREAD_SHARE) * np.median(own))


def degrees_of_freedom(n_folds: int, n_settings: int) -> float:
    """Degrees of freedom of the shared spread.

    With weights a and 1-a on independent estimates of J-1 and (S-1)(J-1) degrees, Satterthwaite's rule; the settings
    share the cells of none and the data, so the pooled part is counted as half of what independence would give.

    >>> degrees_of_freedom(3, 1)
    2.0
    >>> round(degrees_of_freedom(3, 3), 2)
    4.0
    """
    own = n_folds - 1
    pooled = max((n_settings - 1) * own / 2, 0.0)
    if pooled == 0:
        return float(own)
    a = OWN_SPREAD_SHARE
    return 1 / (a**2 / own + (1 - a) ** 2 / pooled)


def quantile(confidence: float, looked_at: int, freedom: float) -> float:
    """Half-width of an interval in standard errors, the error shared between `looked_at` strengths."""
    tail = (1 - confidence) / 2 / max(1, looked_at)
    return float(stats.t.ppf(1 - tail, freedom)) if np.isfinite(freedom) else float(stats.norm.ppf(1 - tail))


def paired_intervals(
    differences: F64,  # (S, J) fold differences to a reference
    image_variance: F64,  # (S,) bootstrap variance of their means
    *,
    confidence: float,
    looked_at: int,
) -> list[Interval]:
    """The mean difference of every setting, its standard error and its interval, adjusted for `looked_at`.

    With one fold there is no spread to see: the images alone speak, which the caller must say.
    """
    n_settings, n_folds = differences.shape
    means = differences.mean(axis=1)
    if n_folds > 1:
        variance = np.maximum(image_variance, shared_spread(differences) / n_folds)
        freedom = degrees_of_freedom(n_folds, n_settings)
    else:
        variance, freedom = image_variance, np.inf
    half = quantile(confidence, looked_at, freedom)
    errors = np.sqrt(variance)
    return [
        Interval(float(mean), float(error), (float(mean - half * error), float(mean + half * error)))
        for mean, error in zip(means, errors, strict=True)
    ]


def mean_interval(folds: F64, image_variance: float, *, confidence: float, looked_at: int) -> Interval:
    """The mean of one setting over the folds; the interval is adjusted for having looked at several."""
    n_folds = len(folds)
    variance = image_variance
    freedom = np.inf
    if n_folds > 1:
        variance = max(variance, float(folds.var(ddof=1)) / n_folds)
        freedom = n_folds - 1
    error, mean = float(np.sqrt(variance)), float(folds.mean())
    half = quantile(confidence, looked_at, freedom)
    # a score is a share: its interval does not leave 0 … 1
    return Interval(mean, error, (max(0.0, mean - half * error), min(1.0, mean + half * error)))
