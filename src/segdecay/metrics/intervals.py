"""Intervals of scores and differences: of a single setting, of all differences at once, and of the selected setting.

The variance of a mean over F folds has two parts. *Images*: from resampled units of every fold, with the same resamples
for both settings. *Training*: the spread of folds beyond that, half the setting's own and half the median of all
settings, shrunk if there are few folds and settings and images may explain it. Degrees of freedom (Satterthwaite)
describe how well each part is known: those of the images come from the fourth moment of their influence, so that a rare
class in few images gives few.
All differences together are covered by the quantile of the largest studentised deviation over the resamples, which
takes the correlation between strengths into account. The selected setting is corrected by repeating the selection in
every resample. Comparison with other statistics: docs/verdict.md, benchmarks/calibration.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from segdecay.metrics.bootstrap import F64, Counts, Surface, content_draws, resampled_by
from segdecay.metrics.counts import mean_present
from segdecay.runs.verdict import Interval

I64 = npt.NDArray[np.int64]
OWN_SHARE = 0.5  # weight of a setting's own spread beyond the images; the rest is the median over settings
# prior weight, in degrees of freedom, of the assumption that images explain the differences between folds, where the
# folds do not contradict it
PRIOR_OF_DIFFERENCES = 4.0
PRIOR_OF_SCORES = 0.0  # none, since scores of folds also differ for other reasons
LEAST_CLUSTER_FREEDOM = 4  # groups minus folds; below it, only the spread over folds is used


@dataclass(frozen=True)
class Estimates:
    """Means (V,) with standard errors, degrees of freedom and resampled deviations (V, R); NaN where not known.

    training: the part (V,) of the variance that is beyond the images.
    """

    means: F64
    errors: F64
    freedom: F64
    deviations: F64
    training: F64

    def of_fitted_models(self) -> Estimates:
        """The same for the models as they were fitted, without the variance that new trainings would add; normal.

        It is narrow on purpose: for a gate that must not shut out what is sound.
        """
        fitted = np.sqrt(np.maximum(self.errors**2 - self.training, 0.0))
        unlimited = np.full_like(self.freedom, np.inf)
        return replace(self, errors=fitted, training=np.zeros_like(self.training), freedom=unlimited)

    def interval(self, index: int, tail: float) -> Interval:
        """One mean with its t interval; `tail` is the probability outside, on both sides together."""
        mean, error = float(self.means[index]), float(self.errors[index])
        if not np.isfinite(mean):
            return Interval(None, None, None)
        half = error * t_quantile(tail, float(self.freedom[index]))
        return Interval(mean, error, (mean - half, mean + half))


def t_quantile(tail: float, freedom: float) -> float:
    """Half-width in standard errors of an interval with the probability `tail` outside, on both sides together.

    >>> round(t_quantile(0.05, 2), 2), round(t_quantile(0.05, np.inf), 2)
    (4.3, 1.96)
    """
    return float(stats.t.ppf(1 - tail / 2, freedom)) if np.isfinite(freedom) else float(stats.norm.ppf(1 - tail / 2))


def image_freedom(
    influence: Sequence[F64],  # for each fold (n,)
) -> float:
    """Degrees of freedom of the variance from the units: 2·V²/Var(V), from the fourth moment of their influence.

    >>> image_freedom([np.array([-1.0, 1.0, -1.0, 1.0])])  # equal squares: as many as four images allow
    3.0
    >>> round(image_freedom([np.array([-9.0, 9.0] + 98 * [0.0])]), 1)  # two of a hundred images decide
    4.1
    """
    squares = [(fold - fold.mean()) ** 2 for fold in influence if len(fold) > 1]
    most = max(1.0, float(sum(len(fold) - 1 for fold in squares)))
    spread = sum(float((fold**2).sum() - fold.sum() ** 2 / len(fold)) for fold in squares)
    total = sum(float(fold.sum()) for fold in squares)
    if spread <= 1e-12 * total**2:
        return most
    return float(np.clip(2 * total**2 / spread, 1.0, most))


def pooled_freedom(n_folds: int, n_settings: int) -> float:
    """Degrees of freedom of a fold spread that is half its own and half the pool of `n_settings`.

    Satterthwaite's rule; the settings share the data and the trials without decay, so the pool has half the weight of
    independent settings.

    >>> pooled_freedom(3, 1), round(pooled_freedom(3, 3), 2)
    (2.0, 4.0)
    """
    own = n_folds - 1
    pooled = (n_settings - 1) * own / 2
    if pooled <= 0:
        return float(own)
    return 1 / (OWN_SHARE**2 / own + (1 - OWN_SHARE) ** 2 / pooled)


def combined_freedom(one: F64, one_freedom: F64, other: F64, other_freedom: F64) -> F64:
    """Degrees of freedom of the sum of two estimated variances (Satterthwaite); those of the first where both are 0.

    >>> one, other = np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 9.0])
    >>> combined_freedom(one, np.full(3, 8.0), other, np.full(3, 2.0)).round(1).tolist()
    [8.0, 6.4, 2.5]
    """
    uncertain = one**2 / one_freedom + other**2 / other_freedom
    positive = uncertain > 0
    return np.where(positive, (one + other) ** 2 / np.where(positive, uncertain, 1.0), one_freedom)


def training_variance(
    spread: F64,  # (V,) variance over folds, NaN where fewer than two
    images: F64,  # (V,) what resampling the units explains of it, mean over folds
    n_folds: F64,  # (V,) folds seen
    prior: float,  # degrees of freedom
) -> tuple[F64, F64]:
    """Variance of the mean beyond the images (V,), and the degrees of freedom of the spread from which it is computed.

    The prior says that images explain the whole spread. It yields where the folds contradict it: its weight falls with
    the probability (χ²) of so large a spread, and is whole where that is a half or more.

    >>> one, folds = np.array([1.0, 1.0]), np.array([3, 3])
    >>> training_variance(one, 2 * one, folds, 4)[0].tolist()  # the images explain all
    [0.0, 0.0]
    >>> training_variance(1.2 * one, one, folds, 4)[0].round(3).tolist()  # 0.2 beyond, 2.67 degrees against 2.4
    [0.035, 0.035]
    >>> training_variance(9 * one, one, folds, 4)[0].round(2).tolist()  # 8 beyond: images cannot explain it
    [2.67, 2.67]
    """
    beyond = spread - images
    known = np.isfinite(beyond)
    if not known.any():
        return np.zeros_like(images), np.full_like(images, np.inf)
    pool = float(np.median(beyond[known]))
    shared = np.maximum(OWN_SHARE * np.where(known, beyond, pool) + (1 - OWN_SHARE) * pool, 0.0)
    freedom = np.array([pooled_freedom(max(2, int(n)), int(known.sum())) for n in n_folds])
    ratio = 1 + np.divide(shared, images, out=np.full_like(shared, np.inf), where=images > 0)
    belief = prior * np.minimum(1.0, 2 * stats.chi2.sf(freedom * ratio, freedom))
    trust = freedom / (freedom + belief)
    return shared * trust / np.maximum(n_folds, 1), freedom + belief


def _estimates(
    scores: F64,  # (V, F), NaN where absent
    deviations: F64,  # (V, F, R)
    influences: Sequence[F64],  # for each fold (V, n)
    noise: F64,  # (V, R)
    prior: float,
) -> Estimates:
    """Means over the available folds, with both parts of their variance."""
    has = np.isfinite(scores)
    n_folds = has.sum(axis=1)
    count = np.maximum(n_folds, 1).astype(np.float64)
    means = np.where(n_folds > 0, np.where(has, scores, 0.0).sum(axis=1) / count, np.nan)
    square = np.where(has, scores - means[:, None], 0.0) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(n_folds > 1, square.sum(axis=1) / (n_folds - 1), np.nan)
    explained = np.where(has, deviations.var(axis=2), 0.0).sum(axis=1) / count
    training, moved = training_variance(spread, explained, count, prior)
    variance = explained / count + training
    by_images = np.array(
        [image_freedom([f[v] for f, seen in zip(influences, has[v], strict=True) if seen]) for v in range(len(scores))]
    )
    freedom = combined_freedom(explained / count, by_images, training, moved)
    resampled = np.where(has[:, :, None], deviations, 0.0).sum(axis=1) / count[:, None]
    return Estimates(means, np.sqrt(variance), freedom, resampled + np.sqrt(training)[:, None] * noise, training)


def own_estimates(surface: Surface) -> Estimates:
    """The mean score of every setting over the folds that it has.

    Images of a group are similar, which affects a difference little and a score much. If images are resampled although
    groups are known, the variance is at least that of whole groups (jackknife) or, with very few groups, of the folds.
    """
    found = _estimates(surface.scores, surface.deviations, surface.influences, surface.noise, PRIOR_OF_SCORES)
    if surface.clusters is None:
        return found
    errors, freedom = found.errors.copy(), found.freedom.copy()
    for v, has in enumerate(surface.has):
        clusters = [fold[v] for fold, seen in zip(surface.clusters, has, strict=True) if seen]
        if not clusters:
            continue
        if sum(len(fold) - 1 for fold in clusters) >= LEAST_CLUSTER_FREEDOM:
            error = math.sqrt(sum(fold.var(ddof=1) / len(fold) for fold in clusters if len(fold) > 1)) / len(clusters)
            own = image_freedom(clusters)
        elif len(clusters) > 1:
            error, own = surface.scores[v, has].std(ddof=1) / math.sqrt(len(clusters)), len(clusters) - 1.0
        else:
            continue
        if error > errors[v]:
            errors[v], freedom[v] = error, min(own, freedom[v])
    return replace(found, errors=errors, freedom=freedom)


def difference_estimates(surface: Surface, reference: int) -> Estimates:
    """The paired difference of every setting from one, over the folds that both have; NaN for the reference itself."""
    scores = surface.scores - surface.scores[reference]
    scores[reference] = np.nan
    return _estimates(
        scores,
        surface.deviations - surface.deviations[reference],
        [fold - fold[reference] for fold in surface.influences],
        (surface.noise - surface.noise[reference]) / np.sqrt(2),  # both trainings vary
        PRIOR_OF_DIFFERENCES,
    )


def selection_deviations(surface: Surface, differences: Estimates) -> F64:
    """(V, R) deviations of the mean score of every setting, from resampled images and the variation between trainings.

    Deviations that all settings of a fold share do not affect the selection, so the variation between trainings is
    estimated from the differences from no decay, half of it each setting's own; no decay has the median.
    """
    has = surface.has
    count = np.maximum(has.sum(axis=1), 1)
    known = np.isfinite(differences.means)
    pool = float(np.median(differences.training[known])) if known.any() else 0.0
    luck = np.where(known, differences.training, pool) / 2
    images = np.where(has[:, :, None], surface.deviations, 0.0).sum(axis=1) / count[:, None]
    return np.asarray(images + np.sqrt(luck)[:, None] * surface.noise)


def joint_tail(estimates: Estimates, confidence: float) -> float:
    """The tail probability of single intervals at which all of them together have this confidence.

    The quantile of the largest |deviation| in standard deviations over the resamples, as the tail of a normal. Not
    above 1 − confidence, nor below Bonferroni's share of it.

    >>> alike = np.tile(np.random.default_rng(0).standard_normal(4000), (8, 1))
    >>> round(joint_tail(Estimates(np.zeros(8), np.ones(8), np.full(8, 9.0), alike, np.zeros(8)), 0.95), 3)
    0.05
    """
    known = np.isfinite(estimates.means)
    deviations = estimates.deviations[known]
    spread = deviations.std(axis=1) if len(deviations) else np.zeros(0)
    moving = spread > 0
    if not moving.any():
        return 1 - confidence
    largest = np.abs(deviations[moving] / spread[moving, None]).max(axis=0)
    tail = 2 * float(stats.norm.sf(np.quantile(largest, confidence)))
    return float(np.clip(tail, (1 - confidence) / int(moving.sum()), 1 - confidence))


@dataclass(frozen=True)
class Selected:
    """A bias-corrected score; `shares`: the share of resamples in which each setting is selected."""

    mean: float
    interval: tuple[float, float]
    shares: F64  # (V,)


def corrected(
    means: F64,  # (V,)
    deviations: F64,  # (V, R) resampled, around 0
    taken: I64,  # (R,) the setting selected in every resample
    chosen: int,  # the setting selected on the data
    *,
    error: float,  # standard error and degrees of freedom of that setting's own mean
    freedom: float,
    confidence: float,
) -> Selected:
    """Bootstrap bias correction of a selection (BBC-CV): the mean over resamples of mean − deviation of the selected.

    The advantage that a resample gives to its selected setting estimates the advantage that the data gave to theirs. In
    place of scores of the images that a resample leaves out (few, and without rare classes) their linear form is used,
    in which leaving out reverses the sign of the deviation.

    Source: Tsamardinos, Greasidou, Borboudakis, Machine Learning 107 (2018), algorithm 3; differs in: deviations in
    place of left-out scores, training noise among them, percentiles widened from normal to t.
    """
    columns = np.arange(deviations.shape[1])
    values = means[taken] - deviations[taken, columns]
    centre = float(values.mean())
    spread = float(deviations[chosen].std())
    wider = max(1.0, error / spread) if spread > 0 else 1.0
    wider *= t_quantile(1 - confidence, freedom) / t_quantile(1 - confidence, np.inf)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    shares = np.bincount(taken, minlength=len(means)) / len(taken)
    return Selected(centre, (centre + (float(low) - centre) * wider, centre + (float(high) - centre) * wider), shares)


LEAST_UNITS = 2  # fewer resampled units give no interval


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
    """Σ part / Σ whole of K quantities, each with its interval, clipped to [0, 1]; None where a whole is 0.

    Groups are resampled if there are enough, otherwise images, with at least the variance of groups. No interval for a
    single image or group.

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
            noise=np.zeros((len(total), resamples)),  # a single fold does not show the variation between trainings
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
