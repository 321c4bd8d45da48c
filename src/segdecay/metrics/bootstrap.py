"""Fold scores, bootstrap resamples and influences from counts of images or groups.

The resampled unit is an image, or a whole group if groups are known and every fold has at least LEAST_GROUPS of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segdecay.metrics.counts import intersection_union, mean_present
from segdecay.metrics.criteria import Criterion

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
MIOU = Criterion()
LEAST_GROUPS = 8  # in a fold; fewer are too few to estimate their spread by resampling


@dataclass(frozen=True)
class Counts:
    """Counts of one trial by unit: true positives, unions and true pixels of every class, each (N, C)."""

    hit: I64
    union: I64
    true: I64

    @classmethod
    def of(cls, confusions: I64) -> Counts:
        """From (N, C, C) confusion matrices."""
        return cls(*intersection_union(confusions), confusions.sum(axis=2))

    @property
    def support(self) -> I64:
        """(C,) true pixels of each class."""
        return np.asarray(self.true.sum(axis=0))

    def class_iou(self, criterion: Criterion = MIOU) -> F64:
        """(C,) IoU (or recall, as the criterion says) of the summed units; NaN for a class that is absent."""
        return criterion.class_scores(self.hit.sum(axis=0), self.union.sum(axis=0), self.true.sum(axis=0))

    def score(self, criterion: Criterion = MIOU) -> float:
        """The criterion of the summed units."""
        return float(criterion.score(self.class_iou(criterion), self.support.astype(np.float64)))

    def by_group(self, groups: Sequence[object]) -> Counts:
        """The counts with the images of a group summed: one unit per group.

        >>> Counts(*3 * [np.array([[1], [2], [4]])]).by_group(["a", "b", "a"]).hit.tolist()
        [[5], [2]]
        """
        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}  # in order of appearance
        if len(number) == len(groups):
            return self
        member = np.eye(len(number), dtype=np.int64)[[number[group] for group in groups]]
        return Counts(member.T @ self.hit, member.T @ self.union, member.T @ self.true)


Setting = Sequence[Sequence[Counts]]  # folds, then seeds


def known_groups(groups: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """The groups of every fold, or None if every image is a group of its own, so that images are the units.

    >>> known_groups([["a", "b"], ["c"]]), known_groups([["a", "a"], ["c"]])
    (None, [['a', 'a'], ['c']])
    """
    is_own = all(len(set(fold)) == len(fold) for fold in groups)
    return None if is_own else [list(fold) for fold in groups]


def resampled_by(groups: Sequence[Sequence[object]] | None) -> Literal["groups", "images"]:
    """What is resampled in the folds with these group names: "groups" or "images"."""
    enough = groups is not None and all(len(set(fold)) >= LEAST_GROUPS for fold in groups)
    return "groups" if enough else "images"


def fold_class_iou(setting: Setting, criterion: Criterion = MIOU) -> F64:
    """(J, C) IoU (or recall) of every fold and class, mean over seeds; NaN where a class is absent."""
    return np.stack(
        [mean_present(np.stack([trial.class_iou(criterion) for trial in seeds]), axis=0) for seeds in setting]
    )


def fold_scores(setting: Setting, criterion: Criterion = MIOU) -> F64:
    """(J,) score of every fold, mean over seeds."""
    return np.array([np.mean([trial.score(criterion) for trial in seeds]) for seeds in setting])


def image_draws(n_images: Sequence[int], resamples: int, seed: int) -> list[I64]:
    """For each fold (R, N): the number of times each image is in each of R resamples of N images."""
    random = np.random.Generator(np.random.PCG64(seed))
    return [_draws(random, n, resamples) for n in n_images]


def _draws(random: np.random.Generator, n: int, resamples: int) -> I64:
    return random.multinomial(n, np.full(n, 1 / n), size=resamples) if n else np.zeros((resamples, 0), np.int64)


def content_draws(trials: Sequence[Counts], resamples: int, seed: int) -> list[I64]:
    """Like `image_draws`, with each fold seeded by its content, so that the order of the folds has no effect.

    Folds of equal content are distinguished by a counter, so that their draws differ.
    """
    seen: dict[int, int] = {}
    found = []
    for trial in trials:
        content = np.concatenate([trial.hit, trial.union, trial.true], axis=1)
        mark = zlib.crc32(np.ascontiguousarray(content, dtype="<i8").tobytes())
        seen[mark] = seen.get(mark, -1) + 1
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, mark, seen[mark]])))
        found.append(_draws(random, len(trial.true), resamples))
    return found


def bootstrap_class_iou(setting: Setting, draws: Sequence[I64], criterion: Criterion = MIOU) -> list[list[F64]]:
    """For each fold and seed (R, C): the IoU (or recall) of every class in every resample of the units."""
    return [
        [_resampled(trial, draw, criterion)[0] for trial in seeds] for seeds, draw in zip(setting, draws, strict=True)
    ]


def _resampled(trial: Counts, draw: I64, criterion: Criterion) -> tuple[F64, F64]:
    """Scores of every class and true pixels, each (R, C). In float, exact below 2**53, since BLAS is faster."""
    counts = np.concatenate([trial.hit, trial.union, trial.true], axis=1).astype(np.float64)
    hit, union, true = np.split(draw.astype(np.float64) @ counts, 3, axis=1)
    return criterion.class_scores(hit, union, true), true


def fold_bootstrap(seeds: Sequence[Counts], draw: I64, criterion: Criterion = MIOU) -> F64:
    """(R,) score of one fold in every resample of its units, mean over seeds."""
    return np.asarray(np.mean([criterion.score(*_resampled(trial, draw, criterion)) for trial in seeds], axis=0))


def bootstrap_scores(setting: Setting, draws: Sequence[I64], criterion: Criterion = MIOU) -> F64:
    """(R,) mean over folds and seeds of the score in every resample of the units."""
    folds = [fold_bootstrap(seeds, draw, criterion) for seeds, draw in zip(setting, draws, strict=True)]
    return np.asarray(np.mean(folds, axis=0))


def influence(seeds: Sequence[Counts], criterion: Criterion = MIOU) -> F64:
    """(N,) jackknife influence of every unit on a fold's score: (N - 1)(mean - score without it), mean over seeds."""
    rows = []
    for trial in seeds:
        hit, union, true = (
            trial.hit.sum(axis=0) - trial.hit,
            trial.union.sum(axis=0) - trial.union,
            trial.support - trial.true,
        )
        without = criterion.score(criterion.class_scores(hit, union, true), true.astype(np.float64))
        rows.append((len(without) - 1) * (mean_present(without) - without))
    return np.asarray(np.nan_to_num(np.mean(rows, axis=0)))


@dataclass(frozen=True)
class Surface:
    """Scores of V settings in F folds with their resamples; NaN in `scores` where a setting lacks a fold.

    scores (V, F); deviations (V, F, R): resampled scores around their mean, scaled by √(n/(n−1)), 0 where absent;
    influences: for each fold (V, n); noise (V, R): standard normal draws for the variation between trainings;
    clusters: as influences, of whole groups, if single images are resampled although their groups are known.
    """

    scores: F64
    deviations: F64
    influences: tuple[F64, ...]
    noise: F64
    clusters: tuple[F64, ...] | None = None

    @property
    def has(self) -> npt.NDArray[np.bool_]:
        """(V, F) whether a setting has a fold."""
        return np.isfinite(self.scores)


def surface_of(
    settings: Sequence[dict[int, Sequence[Counts]]],  # fold to seeds
    names: Sequence[str],  # one per setting; its draws of training noise depend only on it
    *,
    criterion: Criterion = MIOU,
    resamples: int,
    seed: int,
    groups: Sequence[Sequence[object]] | None = None,  # by fold, of every image, where images are the units
) -> tuple[Surface, dict[int, I64]]:
    """The surface of settings that may lack folds, and the draws of every fold."""
    folds = sorted({fold for trials in settings for fold in trials})
    firsts = [next(trials[fold] for trials in settings if fold in trials)[0] for fold in folds]
    draws = content_draws(firsts, resamples, seed)
    scores = np.full((len(settings), len(folds)), np.nan)
    deviations = np.zeros((*scores.shape, resamples))
    influences = [np.zeros((len(settings), len(trial.true))) for trial in firsts]
    for v, trials in enumerate(settings):
        for column, fold in enumerate(folds):
            if fold not in trials:
                continue
            scores[v, column] = np.mean([trial.score(criterion) for trial in trials[fold]])
            resampled, n = fold_bootstrap(trials[fold], draws[column], criterion), len(firsts[column].true)
            deviations[v, column] = np.nan_to_num(resampled - mean_present(resampled)) * np.sqrt(n / max(1, n - 1))
            influences[column][v] = influence(trials[fold], criterion)
    marks = [zlib.crc32(name.encode()) for name in names]
    noise = [np.random.Generator(np.random.PCG64([seed, mark])).standard_normal(resamples) for mark in marks]
    draws_of_luck = np.array(noise).reshape(len(settings), resamples)
    clusters = None if groups is None else _cluster_influences(settings, folds, groups, criterion)
    surface = Surface(scores, deviations, tuple(influences), draws_of_luck, clusters)
    return surface, dict(zip(folds, draws, strict=True))


def _cluster_influences(
    settings: Sequence[dict[int, Sequence[Counts]]],
    folds: Sequence[int],
    groups: Sequence[Sequence[object]],
    criterion: Criterion,
) -> tuple[F64, ...]:
    """For each fold (V, groups): the influence of whole groups; 0 where a setting lacks the fold."""
    found = []
    for fold in folds:
        absent = np.zeros(len(set(groups[fold])))
        rows = [
            influence([trial.by_group(groups[fold]) for trial in trials[fold]], criterion) if fold in trials else absent
            for trials in settings
        ]
        found.append(np.stack(rows))
    return tuple(found)
