"""Intervals of ratios of sums over images: precision, recall, Dice, boundary IoU, means over images.

The same resamples, influence and variance as for scores of a search with one fold; many ratios share one set of
draws. Pure numpy: parts and wholes of every image in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segdecay.records import Interval
from segdecay.selection.evidence import F64, Counts, Surface, content_draws, resampled_by
from segdecay.selection.intervals import own_estimates
from segdecay.training.counts import mean_present

LEAST_UNITS = 2  # of resampling, below which there is no interval


def ratio_intervals(
    part: F64,  # (N, K) of every image
    whole: F64,  # (N, K)
    counts: Counts,  # of the same images; the draws depend on them and on `seed`
    groups: Sequence[str],  # of every image
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> list[Interval]:
    """Σ part / Σ whole of K quantities, each with its interval, cut at 0 and 1; None where a whole is 0.

    Groups are resampled where there are enough, otherwise images, no narrower than groups say. No interval where a
    single image or group speaks.

    >>> ones, none = np.ones((4, 1)), np.zeros((4, 1), np.int64)
    >>> ratio_intervals(ones, 2 * ones, Counts(none, none, none), list("abcd"), confidence=0.9, resamples=100)[0]
    Interval(mean=0.5, standard_error=0.0, interval=(0.5, 0.5))
    """
    total = _ratio(part.sum(axis=0), whole.sum(axis=0))
    units = len(set(groups))
    if units < LEAST_UNITS:
        return [Interval(float(mean) if np.isfinite(mean) else None, None, None) for mean in total]
    by_groups = resampled_by([groups]) == "groups"
    member = _membership(groups)
    clusters = _influence(member @ part, member @ whole)
    if by_groups:
        part, whole, counts = member @ part, member @ whole, counts.by_group(groups)
    (draw,) = content_draws([counts], resamples, seed)
    resampled = _ratio(draw.astype(np.float64) @ part, draw.astype(np.float64) @ whole)
    n = len(part)
    deviations = np.nan_to_num(resampled - mean_present(resampled, axis=0)) * np.sqrt(n / max(1, n - 1))
    found = own_estimates(
        Surface(
            scores=total[:, None],
            deviations=deviations.T[:, None],
            influences=(_influence(part, whole),),
            noise=np.zeros((len(total), resamples)),  # the luck of a training is not in a single fold
            clusters=None if by_groups else (clusters,),
        )
    )
    return [_within_unit(found.interval(k, 1 - confidence)) for k in range(len(total))]


def _ratio(part: F64, whole: F64) -> F64:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def _membership(groups: Sequence[str]) -> F64:
    """(groups, N) one where an image belongs to a group, in order of appearance."""
    names = list(dict.fromkeys(groups))
    return np.array([[float(own == name) for own in groups] for name in names])


def _influence(part: F64, whole: F64) -> F64:
    """(K, N) jackknife influence of every unit: (N − 1)(mean − ratio without it)."""
    without = _ratio(part.sum(axis=0) - part, whole.sum(axis=0) - whole)
    return np.asarray(np.nan_to_num((len(part) - 1) * (mean_present(without, axis=0) - without)).T)


def _within_unit(found: Interval) -> Interval:
    if found.interval is None:
        return found
    low, high = found.interval
    return Interval(found.mean, found.standard_error, (max(0.0, low), min(1.0, high)))
