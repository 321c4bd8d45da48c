"""The decision of a search from its scores: `chosen`, `zero`, `flat` or `edge`, relative to training without decay; or
`undertrained`, where there is nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.metrics.counts import mean_present
from segdecay.metrics.criteria import Criterion
from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import ClassSummary, Interval, Kind, SettingSummary

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """One setting with the counts of its trials, or the reason why it is excluded.

    A setting that a race dropped has both: its folds count for the intervals, and it cannot win.
    """

    strength: StrengthRecord
    counts: ev.Setting | None
    dropped: str | None
    train_mean: float | None
    collapsed: int
    folds: tuple[int, ...] | None = None  # the folds of `counts`; None: 0, 1, 2 ...

    @property
    def trials(self) -> dict[int, Sequence[ev.Counts]]:
        """Fold to the counts of its seeds, for the folds that were trained."""
        counts = self.counts or ()
        return dict(zip(self.folds if self.folds is not None else range(len(counts)), counts, strict=True))


def from_none_to_strongest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The setting without decay first, then the others from the weakest to the strongest.

    If the first is infinite (no bound), smaller values are stronger.
    """
    less_is_stronger = any(math.isinf(candidate.strength.value) for candidate in candidates)
    sign = -1 if less_is_stronger else 1
    return sorted(candidates, key=lambda c: (not c.strength.is_none, sign * c.strength.value))


def by_group(candidate: Candidate, groups: Sequence[Sequence[object]]) -> Candidate:
    """The candidate with the counts of every group's images summed."""
    if candidate.counts is None:
        return candidate
    counts = [[trial.by_group(groups[fold]) for trial in seeds] for fold, seeds in candidate.trials.items()]
    return replace(candidate, counts=counts, folds=tuple(candidate.trials))


@dataclass(frozen=True)
class ScoredCandidates:
    """All estimates of the candidates, by index; the first is the setting without decay."""

    surface: ev.Surface
    own: iv.Estimates
    to_none: iv.Estimates
    means: ev.F64  # (V,) comparable: if folds are missing, the first setting's mean plus the paired difference
    rivals: Bools  # (V,) whether it may win
    reasons: tuple[str | None, ...]  # why the criterion forbids it
    allowed: Bools | None  # (V, R) in every resample; None if the criterion sets no limit on classes

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        criterion: Criterion,
        *,
        resamples: int,
        seed: int,
        groups: Sequence[Sequence[object]] | None = None,
        class_names: Sequence[str] = (),
    ) -> ScoredCandidates:
        trials = [candidate.trials for candidate in candidates]
        names = [f"{candidate.strength.value:.12g}" for candidate in candidates]
        surface, draws = ev.surface_of(
            trials, names, criterion=criterion, resamples=resamples, seed=seed, groups=groups
        )
        own, to_none = iv.own_estimates(surface), iv.difference_estimates(surface, 0)
        complete = surface.has.all(axis=1)
        means = np.where(complete | ~np.isfinite(to_none.means), own.means, own.means[0] + to_none.means)
        reasons = _forbidden(trials, criterion, class_names)
        may = [c.dropped is None and r is None for c, r in zip(candidates, reasons, strict=True)]
        rivals = np.array(may) & np.isfinite(means)
        allowed = None if criterion.most_loss is None else _allowed_in_resamples(trials, criterion, draws)
        return cls(surface, own, to_none, means, rivals, reasons, allowed)

    @property
    def best(self) -> int:
        return int(np.argmax(np.where(self.rivals, self.means, -math.inf)))

    def one_se(self, best: int) -> int:
        """The strongest within one paired standard error of the best."""
        to_best = iv.difference_estimates(self.surface, best)
        with np.errstate(invalid="ignore"):
            within = self.rivals & (-to_best.means <= to_best.errors)
        return max([best, *np.flatnonzero(within).tolist()])

    def taken_in_resamples(self, deviations: ev.F64, halves: ev.F64) -> ev.I64:
        """(R,) the setting selected in every resample: the best mean if told apart from no decay, else no decay."""
        possible = self.rivals[:, None] & (True if self.allowed is None else self.allowed)
        scores = np.where(possible, self.means[:, None] + deviations, -math.inf)
        best = np.asarray(scores.argmax(axis=0))
        if not np.isfinite(self.means[0]):
            return best
        differences = self.to_none.means[:, None] + deviations - deviations[0]
        columns = np.arange(len(best))
        is_better = (best != 0) & (np.nan_to_num(differences[best, columns]) > np.nan_to_num(halves[best]))
        return np.where(is_better, best, 0)


def class_means(trials: dict[int, Sequence[ev.Counts]], folds: Sequence[int], criterion: Criterion = ev.MIOU) -> ev.F64:
    """(C,) IoU (or recall) of every class, mean over the folds that hold it."""
    return mean_present(ev.fold_class_iou([trials[fold] for fold in folds], criterion), axis=0)


def _forbidden(
    trials: Sequence[dict[int, Sequence[ev.Counts]]], criterion: Criterion, class_names: Sequence[str]
) -> tuple[str | None, ...]:
    """The reason why the limit on losses of classes forbids a setting, over the folds shared with the first one."""
    reasons: list[str | None] = []
    for own in trials:
        common = sorted(set(own) & set(trials[0]))
        if criterion.most_loss is None or not common or own is trials[0]:
            reasons.append(None)
            continue
        by_class = criterion.by_class
        loss = class_means(trials[0], common, by_class) - class_means(own, common, by_class)
        is_over = not criterion.is_allowed(-loss[None], np.zeros_like(loss))[0]
        if not is_over:
            reasons.append(None)
            continue
        worst = int(np.nanargmax(loss))
        name = class_names[worst] if class_names else f"class {worst}"
        reasons.append(
            f"{name} loses {loss[worst]:.3f} {by_class.class_score}; at most {criterion.most_loss:g} is allowed"
        )
    return tuple(reasons)


def _allowed_in_resamples(
    trials: Sequence[dict[int, Sequence[ev.Counts]]], criterion: Criterion, draws: dict[int, ev.I64]
) -> Bools:
    """(V, R) whether the limit on losses of classes allows a setting, in every resample."""

    def classes(own: dict[int, Sequence[ev.Counts]], folds: Sequence[int]) -> ev.F64:
        by_fold = ev.bootstrap_class_iou([own[f] for f in folds], [draws[f] for f in folds], criterion.by_class)
        return mean_present(np.stack([mean_present(np.stack(seeds), axis=0) for seeds in by_fold]), axis=0)

    rows = []
    for own in trials:
        common = sorted(set(own) & set(trials[0]))
        if not common:
            rows.append(np.ones(len(next(iter(draws.values()))), dtype=np.bool_))
            continue
        rows.append(criterion.is_allowed(classes(own, common)[:, None], classes(trials[0], common))[:, 0])
    return np.array(rows)


__all__ = ["Candidate", "Decision", "best_index", "decide", "is_strong_edge"]

NONE = 0  # index of the setting without decay
STATISTIC = (
    "paired differences of fold scores; variance from resampled images (or groups) and the spread of folds beyond "
    "that; t intervals that cover all strengths at once"
)
OWN = "a setting named beforehand"
DIFFERENCE = "a difference named beforehand"
JOINT = "all differences from training without it at once, so also that of the selected setting"
SELECTED = "the selected setting, corrected for having been selected"
ONE_SE = "all settings at once, so also the one that the one-SE rule selects"


@dataclass(frozen=True)
class Decision:
    """The statistical part of a verdict; indices point into `settings`, from no decay to the strongest."""

    kind: Kind
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
    honest: dict[str, Any] | None = None
    resampled: str = "images"  # or "groups"
    criterion: Criterion = ev.MIOU

    @property
    def evidence(self) -> dict[str, Any]:
        """What the decision rests on, as verdict.json says it and the report shows it."""
        return {
            "statistic": STATISTIC,
            "resampled": self.resampled,
            "intervals_of": self._intervals_of,
            "folds": self.n_folds,
            "strengths_looked_at": self.looked_at,
            "best": self.settings[self.best].strength,
            "best_difference": self.best_difference,
        }

    @property
    def _intervals_of(self) -> dict[str, str]:
        """What each interval of verdict.json covers, by its key."""
        return {
            "selection": SELECTED if self.taken in (self.none, self.best) else ONE_SE,
            "honest": SELECTED,
            "zero": OWN,
            "zero.difference_interval": JOINT,
            "settings.interval": OWN,
            "settings.difference": JOINT,
            "settings.difference_named": DIFFERENCE,
            "classes.difference_interval": DIFFERENCE,
        }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def best_index(candidates: Sequence[Candidate], criterion: Criterion = ev.MIOU) -> int:
    """The candidate with the best mean over folds; of equal ones the weakest."""
    return ScoredCandidates.of(candidates, criterion, resamples=2, seed=0).best


def is_strong_edge(candidates: Sequence[Candidate], criterion: Criterion = ev.MIOU) -> bool:
    """Whether the strongest setting has the best mean (the weak end of the grid is no edge)."""
    return len(candidates) > 1 and best_index(candidates, criterion) == len(candidates) - 1


def decide(
    candidates: Sequence[Candidate],
    class_names: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    rule: str = "best",
    best_value: float | None = None,
    criterion: Criterion = ev.MIOU,
    groups: Sequence[Sequence[object]] | None = None,
    is_trained: bool = True,
) -> Decision:
    """The decision on finished settings, in any order.

    `undertrained`: the trainings are not good enough to compare, and no decay is taken. `zero`: training without decay
    is best. `flat`: the best cannot be told apart from it. `edge`: the best is better and is the strongest of the grid.
    `chosen`: every other case.

    Args:
        candidates: the settings; the one without decay is found by its strength.
        class_names: of the data, in order.
        confidence: of all intervals, in (0, 1).
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        rule: "best", or "one-se" for the strongest setting within one standard error of the best.
        best_value: the strength of the best setting, if a race determined it from more trials than the finalists share.
        criterion: the score that decides.
        groups: for every fold the group of every validation image, in the order of the counts; None: no groups.
        is_trained: whether the best setting is trained enough (search/undertrained.py).
    """
    candidates, groups, resampled = _summed_over_groups(from_none_to_strongest(candidates), groups)
    scored = ScoredCandidates.of(
        candidates, criterion, resamples=resamples, seed=seed, groups=groups, class_names=class_names
    )
    best = _best_of(scored, candidates, best_value)
    tail = iv.joint_tail(scored.to_none, confidence)
    differences = [scored.to_none.interval(i, tail) for i in range(len(candidates))]
    best_difference = differences[best] if np.isfinite(scored.to_none.means[best]) else None
    kind = _kind(best, NONE, best_difference, len(candidates)) if is_trained else "undertrained"
    one_se = scored.one_se(best)
    recommends = kind in ("chosen", "edge") or (is_trained and not np.isfinite(scored.means[NONE]))
    taken = NONE if not recommends else one_se if rule == "one-se" else best
    honest, selection = _score_of_taken(scored, taken, best, tail, confidence)
    shown, by_class = taken if taken != NONE else best, criterion.by_class
    return Decision(
        kind=kind,
        best=best,
        taken=taken,
        one_se=one_se,
        none=NONE,
        selection=selection,
        zero=_inside(scored.own.interval(NONE, 1 - confidence)),
        best_difference=best_difference,
        settings=tuple(_summary(c, i, scored, differences[i], confidence, by_class) for i, c in enumerate(candidates)),
        classes=_class_summaries(candidates, shown, class_names, confidence, resamples, seed, groups, by_class),
        indistinguishable=_indistinguishable(candidates, scored, differences),
        looked_at=max(1, sum(bool(one.trials) for one in candidates) - 1),
        n_folds=scored.surface.scores.shape[1],
        honest=honest,
        resampled=resampled,
        criterion=criterion,
    )


def _summed_over_groups(
    candidates: Sequence[Candidate], groups: Sequence[Sequence[object]] | None
) -> tuple[Sequence[Candidate], Sequence[Sequence[object]] | None, str]:
    """The candidates with the counts of groups where whole groups are resampled, the groups that then are left to know,
    and what is resampled: images or groups.
    """
    resampled = ev.resampled_by(groups)
    if groups is None or resampled != "groups":
        return candidates, groups, resampled
    return [by_group(candidate, groups) for candidate in candidates], None, resampled


def _score_of_taken(
    scored: ScoredCandidates, taken: int, best: int, tail: float, confidence: float
) -> tuple[dict[str, Any], Interval]:
    """The bias-corrected score, and the score of the setting that is taken."""
    honest, selection = _honest(scored, NONE if taken == NONE else best, tail, confidence)
    if taken not in (NONE, best):
        selection = scored.own.interval(taken, iv.joint_tail(scored.own, confidence))
    return honest, _inside(selection)


def _best_of(scored: ScoredCandidates, candidates: Sequence[Candidate], best_value: float | None) -> int:
    """The best setting: that of the race, where it still beats no decay over the shared folds, else the best mean."""
    named = [i for i, one in enumerate(candidates) if one.strength.value == best_value and scored.rivals[i]]
    if not named:
        return scored.best
    is_better = not scored.to_none.means[named[0]] <= 0  # also where there is no mean without decay
    return named[0] if is_better else NONE


def _indistinguishable(
    candidates: Sequence[Candidate], scored: ScoredCandidates, differences: Sequence[Interval]
) -> tuple[float, ...]:
    """The values whose interval of the difference holds 0; settings that a race dropped are left out."""
    alike = [bool(d.interval and d.interval[0] <= 0 <= d.interval[1]) for d in differences]
    return tuple(c.strength.value for i, c in enumerate(candidates) if scored.rivals[i] and alike[i])


def _kind(best: int, none: int, difference: Interval | None, n_candidates: int) -> Kind:
    if best == none:
        return "zero"
    # no difference: training without decay could not be scored (it diverged), so there is nothing to compare with
    if difference is not None and difference.interval is not None and difference.interval[0] <= 0:
        return "flat"
    return "edge" if best == n_candidates - 1 else "chosen"


def _inside(found: Interval) -> Interval:
    """Clip the interval of a score to [0, 1]."""
    if found.interval is None:
        return found
    return replace(found, interval=(max(0.0, found.interval[0]), min(1.0, found.interval[1])))


def _honest(scored: ScoredCandidates, taken: int, tail: float, confidence: float) -> tuple[dict[str, Any], Interval]:
    """The bias-corrected score of the selected setting: the selection is repeated in every resample (BBC-CV)."""
    deviations = iv.selection_deviations(scored.surface, scored.to_none)
    with np.errstate(invalid="ignore"):
        quantiles = np.array([iv.t_quantile(tail, f) for f in scored.to_none.freedom])
        repeated = scored.taken_in_resamples(deviations, scored.to_none.errors * quantiles)
    means, own = np.nan_to_num(scored.means), scored.own
    found = iv.corrected(
        means, deviations, repeated, taken, error=own.errors[taken], freedom=own.freedom[taken], confidence=confidence
    )
    interval = Interval(float(scored.means[taken]), float(own.errors[taken]), found.interval)
    honest: dict[str, Any] = {
        "method": "bbc-cv",
        "of": SELECTED,
        "mean": found.mean,
        "interval": _inside(interval).interval,
        "selected_in": [float(share) for share in found.shares],  # share of the resamples, by setting
    }
    return honest, interval


def _summary(
    candidate: Candidate, i: int, scored: ScoredCandidates, difference: Interval, confidence: float, by_class: Criterion
) -> SettingSummary:
    dropped = candidate.dropped or scored.reasons[i]
    if candidate.counts is None or not np.isfinite(scored.means[i]):
        return SettingSummary(
            candidate.strength, (), None, None, dropped, candidate.train_mean, collapsed=candidate.collapsed
        )
    mean, own = float(scored.means[i]), _inside(scored.own.interval(i, 1 - confidence))
    known = difference if difference.mean is not None else None
    return SettingSummary(
        strength=candidate.strength,
        folds=tuple(_known(value) for value in scored.surface.scores[i]),
        mean=mean,
        standard_error=own.standard_error,
        dropped=dropped,
        train_mean=candidate.train_mean,
        gap=None if candidate.train_mean is None else candidate.train_mean - mean,
        classes=tuple(_known(value) for value in mean_present(ev.fold_class_iou(candidate.counts, by_class), axis=0)),
        collapsed=candidate.collapsed,
        difference=known,
        interval=own.interval,
        difference_named=None if known is None else scored.to_none.interval(i, 1 - confidence).interval,
    )


def _class_summaries(
    candidates: Sequence[Candidate],
    shown: int,
    names: Sequence[str],
    confidence: float,
    resamples: int,
    seed: int,
    groups: Sequence[Sequence[object]] | None,
    by_class: Criterion,
) -> tuple[ClassSummary, ...]:
    """Every class at the shown strength and without decay; intervals are not adjusted for the number of classes."""
    none, other = candidates[0].trials, candidates[shown].trials
    absent = np.full(len(names), np.nan)
    means = [class_means(trials, list(trials), by_class) if trials else absent for trials in (other, none)]
    summaries = []
    for index, name in enumerate(names):
        support = sum(int(seeds[0].support[index]) for seeds in (other or none).values())
        only = Criterion("classes", (index,), (name,), of_recall=by_class.of_recall)
        intervals: list[tuple[float, float] | None] = [None, None, None]  # of none, of the other, of their difference
        known = [bool(np.isfinite(means[1][index])), bool(np.isfinite(means[0][index]))]
        if any(known):
            surface, _ = ev.surface_of(
                [none, other], ["none", "other"], criterion=only, resamples=resamples, seed=seed, groups=groups
            )
            own = iv.own_estimates(surface)
            intervals[:2] = [
                _inside(own.interval(i, 1 - confidence)).interval if is_known else None
                for i, is_known in enumerate(known)
            ]
            if shown != 0 and all(known):
                intervals[2] = iv.difference_estimates(surface, 0).interval(1, 1 - confidence).interval
        chosen, zero = _known(means[0][index]), _known(means[1][index])
        summaries.append(ClassSummary(name, support, chosen, zero, intervals[2], intervals[1], intervals[0]))
    return tuple(summaries)
