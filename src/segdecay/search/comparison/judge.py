"""Compares the arms from the counts of their trials: choice of strengths, scores, all pairs with Holm's procedure.

In every fold an arm takes the strength with the best mean over the other folds, so that its score is not biased by the
choice. No decay is among the strengths of every arm.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.metrics import multiple_testing as holm
from segdecay.metrics.counts import mean_present
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.intervals import OWN_SHARE, Estimates
from segdecay.runs.comparison import ClassDifference, ComparedPair

F64 = ev.F64
I64 = npt.NDArray[np.int64]
Trials = Sequence[Sequence[ev.Counts]]  # folds, then seeds


@dataclass(frozen=True)
class Contest:
    """Settings with their trials, and the options of each arm; no decay is setting 0 and the first option of each."""

    settings: Sequence[Trials]
    options: Mapping[str, Sequence[int]]
    criterion: Criterion
    confidence: float
    resamples: int
    seed: int
    groups: Sequence[Sequence[object]] | None = None  # by fold, of every image


@dataclass(frozen=True)
class Judged:
    """chosen (A, F): settings; overall (A,): the best over all folds; estimates (A,); pairs over all arms."""

    names: tuple[str, ...]
    chosen: I64
    overall: I64
    scores: F64  # (A, F)
    own: iv.Estimates
    pairs: tuple[ComparedPair, ...]


def choose(
    scores: F64,  # (V, F)
    options: Sequence[int],
) -> I64:  # (F,)
    """For every fold the option with the best mean over the other folds; of equal ones the first, the weakest.

    >>> choose(np.array([[0.5, 0.5, 0.5], [0.9, 0.4, 0.4]]), [0, 1]).tolist()  # option 1 leads in fold 0
    [0, 1, 1]
    """
    own = scores[list(options)]
    others = (own.sum(axis=1, keepdims=True) - own) / (own.shape[1] - 1)
    best = np.round(others, 12).argmax(axis=0)
    return np.asarray(np.array(options)[best])


def by_groups(contest: Contest) -> tuple[Contest, str]:
    """The contest, with the images of a group summed if groups are resampled; and what is resampled."""
    resampled = ev.resampled_by(contest.groups)
    if contest.groups is None or resampled != "groups":
        return contest, resampled
    groups = contest.groups
    settings = [
        [[trial.by_group(groups[fold]) for trial in seeds] for fold, seeds in enumerate(trials)]
        for trials in contest.settings
    ]
    return replace(contest, settings=settings, groups=None), resampled


def judge(contest: Contest) -> Judged:
    """Choices, scores and all pairs of a contest; Holm's procedure runs over all pairs of arms."""
    scores = np.stack([ev.fold_scores(trials, contest.criterion) for trials in contest.settings])
    names = tuple(contest.options)
    chosen = np.stack([choose(scores, options) for options in contest.options.values()])
    means = np.round(scores.mean(axis=1), 12)
    overall = [options[int(means[list(options)].argmax())] for options in contest.options.values()]
    surface = _surface(contest, chosen, contest.criterion)
    pairs = np.array(list(itertools.combinations(range(len(names)), 2)), dtype=np.int64).reshape(-1, 2)
    estimates = pair_estimates(scores, chosen, pairs, surface.deviations)
    found = _pairs(names, estimates, pairs, contest.confidence)
    return Judged(names, chosen, np.array(overall), surface.scores, iv.own_estimates(surface), found)


def _surface(contest: Contest, chosen: I64, criterion: Criterion) -> ev.Surface:
    """The arms as settings: in every fold the trials of the strength chosen for it."""
    trials = [{fold: contest.settings[v][fold] for fold, v in enumerate(row)} for row in chosen]
    names = list(contest.options)
    surface, _ = ev.surface_of(
        trials, names, criterion=criterion, resamples=contest.resamples, seed=contest.seed, groups=contest.groups
    )
    return surface


def _pairs(names: Sequence[str], found: iv.Estimates, pairs: I64, confidence: float) -> tuple[ComparedPair, ...]:
    p = holm.p_values(found.means, found.errors, found.freedom)
    adjusted, tails = holm.holm(p), holm.holm_tails(p, 1 - confidence)
    lines = []
    for i, (one, other) in enumerate(pairs):
        known = found.interval(i, float(tails[i]))
        ends = None if known.interval is None else (max(-1.0, known.interval[0]), min(1.0, known.interval[1]))
        lines.append(
            ComparedPair(
                first=names[one],
                second=names[other],
                difference=known.mean or 0.0,
                standard_error=known.standard_error,
                interval=ends,
                p=float(p[i]),
                p_holm=float(adjusted[i]),
                told_apart=bool(adjusted[i] <= 1 - confidence),
            )
        )
    return tuple(lines)


def ranking(judged: Judged) -> tuple[list[int], dict[str, str]]:
    """The arms from the best mean to the worst, and the letters of each; of equal arms the first listed is first."""
    order = np.argsort(-np.round(judged.scores.mean(axis=1), 12), kind="stable").tolist()
    place = {judged.names[i]: at for at, i in enumerate(order)}
    apart = {(place[pair.first], place[pair.second]) for pair in judged.pairs if pair.told_apart}
    marks = holm.letters(len(order), apart)
    return order, {judged.names[i]: marks[at] for at, i in enumerate(order)}


def class_differences(contest: Contest, judged: Judged, classes: Sequence[str]) -> list[tuple[ClassDifference, ...]]:
    """Every class of every arm compared with no decay; Holm's procedure runs over all classes of all arms."""
    n, by_class = len(judged.names), contest.criterion.by_class
    scores = np.full((n, len(classes)), np.nan)
    estimates: list[iv.Estimates | None] = []
    p = np.ones((n, len(classes)))
    for a, row in enumerate(judged.chosen):
        trials = [contest.settings[v][fold] for fold, v in enumerate(row)]
        scores[a] = mean_present(ev.fold_class_iou(trials, by_class), axis=0)
    pairs = np.array([[a, 0] for a in range(n)])
    by_setting = np.stack([ev.fold_class_iou(trials, by_class) for trials in contest.settings])  # (V, F, C)
    for c in range(len(classes)):
        there = np.isfinite(by_setting[..., c]).all(axis=0)
        found = None
        if there.sum() > 1:
            found = pair_estimates(by_setting[:, there, c], judged.chosen[:, there], pairs)
            p[:, c] = holm.p_values(found.means, found.errors, found.freedom)
        estimates.append(found)
    adjusted = np.ones_like(p)
    adjusted[1:] = holm.holm(p[1:].ravel()).reshape(n - 1, -1)
    return [
        tuple(
            _class_line(name, scores[a, c], estimates[c], a, float(adjusted[a, c]), contest.confidence)
            for c, name in enumerate(classes)
        )
        for a in range(n)
    ]


def _class_line(
    name: str, score: float, found: iv.Estimates | None, a: int, p_holm: float, confidence: float
) -> ClassDifference:
    own = float(score) if np.isfinite(score) else None
    if found is None or own is None:
        return ClassDifference(name, own, None, None, None, told_apart=False)
    known = found.interval(a, 1 - confidence)
    is_told = p_holm <= 1 - confidence
    return ClassDifference(name, own, known.mean or 0.0, known.interval, p_holm, told_apart=is_told)


def sentence_of(judged: Judged, labels: Mapping[str, str], criterion: str) -> str:
    """The result of a comparison in one sentence."""
    order, marks = ranking(judged)
    means = judged.scores.mean(axis=1)
    best = judged.names[order[0]]
    alike = [labels[judged.names[i]] for i in order[1:] if set(marks[best]) & set(marks[judged.names[i]])]
    head = f"Best is {labels[best]} with {criterion} {means[order[0]]:.3f}"
    if len(order) == 1:
        return f"{head}; there is nothing to compare it with."
    if len(alike) == len(order) - 1:
        apart = any(pair.told_apart for pair in judged.pairs)
        tail = "no other arm can be told apart from it" if apart else "no two arms can be told apart"
        return f"{head}, but {tail}."
    if not alike:
        return f"{head}; it is told apart from every other arm."
    worse = [labels[judged.names[i]] for i in order[1:] if labels[judged.names[i]] not in alike]
    return f"{head}; it cannot be told apart from {', '.join(alike)}, and is better than {', '.join(worse)}."


def rest_variances(
    scores: F64,  # (V, F) of the settings that were chosen
) -> tuple[F64, float]:  # (V,)
    """The variance of one trial of every setting beyond setting and fold, and its degrees of freedom (Satterthwaite).

    >>> found, freedom = rest_variances(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.allclose(found, 0)), round(freedom, 6)  # only settings and folds differ
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
    """The mean difference, first minus second arm of every pair; NaN if both use the same trials."""
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
