"""What a search means: `chosen`, `zero`, `flat` or `edge`, decided first against none.

Pure: scores in, decision out. Knows nothing of files, training or how cells were run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.records import ClassSummary, Interval, SettingSummary, Strength
from segdecay.selection import evidence as ev
from segdecay.training.metrics import mean_present


@dataclass(frozen=True)
class Candidate:
    """One setting with the counts of all its cells, or the reason why it is out."""

    strength: Strength
    counts: ev.Setting | None
    dropped: str | None
    train_mean: float | None
    collapsed: int


@dataclass(frozen=True)
class Decision:
    """The statistical part of a verdict; indices point into the candidates."""

    kind: str
    best: int
    taken: int
    one_se: int
    none: int
    selection: Interval
    zero: Interval
    best_difference: Interval | None
    settings: tuple[SettingSummary, ...]
    classes: tuple[ClassSummary, ...]
    indistinguishable: tuple[float, ...]
    looked_at: int
    n_folds: int


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def best_index(candidates: Sequence[Candidate]) -> int:
    """The candidate with the best mean over folds; the first of equals, which is the weaker one."""
    means = [ev.fold_scores(c.counts).mean() if c.counts is not None else -math.inf for c in candidates]
    return int(np.argmax(means))


def is_strong_edge(candidates: Sequence[Candidate]) -> bool:
    """Whether the best mean is that of the strongest setting; none is no edge, nor is the weakest positive one."""
    return len(candidates) > 1 and best_index(candidates) == len(candidates) - 1


@dataclass(frozen=True)
class _Scored:
    """Scores of the usable candidates, by index: of every fold, and of every resample of the validation images."""

    folds: dict[int, ev.F64]
    resampled: dict[int, ev.F64]
    draws: Sequence[ev.I64]
    confidence: float
    looked_at: int

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        best: int,
        confidence: float,
        looked_at: int,
        resamples: int,
        seed: int,
    ) -> _Scored:
        counts = {i: candidate.counts for i, candidate in enumerate(candidates) if candidate.counts is not None}
        draws = ev.image_draws([len(seeds[0].hit) for seeds in counts.get(best, ())], resamples, seed)
        folds = {i: ev.fold_scores(setting) for i, setting in counts.items()}
        resampled = {i: ev.bootstrap_scores(setting, draws) for i, setting in counts.items()}
        return cls(folds, resampled, draws, confidence, looked_at)

    def against(self, reference: int) -> dict[int, Interval]:
        """The paired difference of every other candidate to one; empty where that one has no score."""
        others = [i for i in self.folds if i != reference]
        if not others or reference not in self.folds:
            return {}
        differences = np.stack([self.folds[i] - self.folds[reference] for i in others])
        variance = np.array([np.var(self.resampled[i] - self.resampled[reference], ddof=1) for i in others])
        found = ev.paired_intervals(differences, variance, confidence=self.confidence, looked_at=self.looked_at)
        return dict(zip(others, found, strict=True))

    def own(self, index: int) -> Interval:
        """The mean of one candidate; unknown where it has no score."""
        if index not in self.folds:
            return Interval(None, None, None)
        variance = float(np.var(self.resampled[index], ddof=1))
        return ev.mean_interval(self.folds[index], variance, confidence=self.confidence, looked_at=self.looked_at)


def decide(
    candidates: Sequence[Candidate],  # from none (first) to the strongest
    class_names: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    rule: str = "best",
    best: int | None = None,
) -> Decision:
    """The decision on finished settings.

    None is best: `zero`. The best cannot be told apart from none: `flat`. The best is better than none, and is the
    strongest setting of a grid that could not be extended further: `edge`. Otherwise `chosen`. `best` is the index of
    the best where something knows it better than the means do: a race does, which saw more than the last cells.
    """
    none, best = 0, best_index(candidates) if best is None else best
    looked_at = max(1, len(candidates) - 1)
    scored = _Scored.of(candidates, best, confidence, looked_at, resamples, seed)
    to_none, to_best = scored.against(none), scored.against(best)
    best_difference = to_none.get(best)
    kind = _kind(best, none, best_difference, len(candidates))
    # the strongest within one paired standard error of the best
    within = [i for i in scored.folds if i == best or _within_one_error(to_best.get(i))]
    one_se = max(within)
    taken = best if kind in ("chosen", "edge") else none
    if rule == "one-se" and kind in ("chosen", "edge"):
        taken = one_se
    if candidates[taken].counts is None:
        taken = best

    return Decision(
        kind=kind,
        best=best,
        taken=taken,
        one_se=one_se,
        none=none,
        selection=scored.own(taken),
        zero=scored.own(none),
        best_difference=best_difference,
        settings=tuple(
            _summary(c, scored.own(i) if i in scored.folds else None, to_none.get(i)) for i, c in enumerate(candidates)
        ),
        classes=_class_summaries(candidates, taken if taken != none else best, class_names, scored.draws, confidence),
        indistinguishable=tuple(
            candidates[i].strength.value
            for i, d in to_none.items()
            if d.interval and d.interval[0] <= 0 <= d.interval[1]
        ),
        looked_at=looked_at,
        n_folds=len(scored.draws),
    )


def _kind(best: int, none: int, difference: Interval | None, n_candidates: int) -> str:
    if best == none:
        return "zero"
    # none itself could not be scored (diverged): there is nothing to be told apart from
    if difference is not None and difference.interval is not None and difference.interval[0] <= 0:
        return "flat"
    return "edge" if best == n_candidates - 1 else "chosen"


def _within_one_error(difference: Interval | None) -> bool:
    if difference is None or difference.mean is None or difference.standard_error is None:
        return False
    return -difference.mean <= difference.standard_error


def _summary(candidate: Candidate, own: Interval | None, difference: Interval | None) -> SettingSummary:
    if candidate.counts is None or own is None:
        return SettingSummary(
            candidate.strength, None, None, None, candidate.dropped, None, None, None, candidate.collapsed, None
        )
    per_class = mean_present(ev.fold_class_iou(candidate.counts), axis=0)
    return SettingSummary(
        strength=candidate.strength,
        folds=tuple(_known(value) for value in ev.fold_scores(candidate.counts)),
        mean=own.mean,
        standard_error=own.standard_error,
        dropped=None,
        train_mean=candidate.train_mean,
        gap=None if candidate.train_mean is None or own.mean is None else candidate.train_mean - own.mean,
        classes=tuple(_known(value) for value in per_class),
        collapsed=candidate.collapsed,
        difference=difference,
    )


def _class_summaries(
    candidates: Sequence[Candidate], shown: int, names: Sequence[str], draws: Sequence[ev.I64], confidence: float
) -> tuple[ClassSummary, ...]:
    """Every class at the shown strength and at none; the intervals are of single classes, not adjusted over them."""
    none, other = candidates[0].counts, candidates[shown].counts
    some = other if other is not None else none
    support = np.sum([seeds[0].support for seeds in some or ()], axis=0)
    summaries = []
    for index, name in enumerate(names):
        zero = _class_mean(none, index)
        chosen = _class_mean(other, index)
        interval = None
        if none is not None and other is not None and shown != 0 and zero is not None and chosen is not None:
            interval = _class_interval(none, other, index, draws, confidence)
        summaries.append(ClassSummary(name, int(support[index]), chosen, zero, interval))
    return tuple(summaries)


def _class_mean(setting: ev.Setting | None, index: int) -> float | None:
    return None if setting is None else _known(float(mean_present(ev.fold_class_iou(setting)[:, index])))


def _class_interval(
    none: ev.Setting, other: ev.Setting, index: int, draws: Sequence[ev.I64], confidence: float
) -> tuple[float, float] | None:
    difference = ev.fold_class_iou(other)[:, index] - ev.fold_class_iou(none)[:, index]
    seen = np.isfinite(difference)
    if not seen.any():
        return None
    draws_of = [
        np.mean(
            [
                a[:, index] - b[:, index]
                for a, b in zip(
                    ev.bootstrap_class_iou([other[fold]], [draws[fold]])[0],
                    ev.bootstrap_class_iou([none[fold]], [draws[fold]])[0],
                    strict=True,
                )
            ],
            axis=0,
        )
        for fold in np.flatnonzero(seen).tolist()
    ]
    resampled = mean_present(np.stack(draws_of), axis=0)
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) < 2:
        return None
    found = ev.paired_intervals(
        difference[None, seen], np.array([np.var(resampled, ddof=1)]), confidence=confidence, looked_at=1
    )
    return found[0].interval
