"""Candidates of a search and all that is estimated of them: scores, differences to none, what a selection would take.

Pure: counts in, estimates out. Knows nothing of kinds of verdict, files or training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segdecay.records import Strength
from segdecay.selection import evidence as ev
from segdecay.selection import intervals as iv
from segdecay.selection.criteria import Criterion
from segdecay.training.counts import mean_present

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """One setting with the counts of its cells, or the reason why it is out.

    A setting that a race dropped has both: it takes part in the intervals over the folds that it has, and cannot win.
    """

    strength: Strength
    counts: ev.Setting | None
    dropped: str | None
    train_mean: float | None
    collapsed: int
    folds: tuple[int, ...] | None = None  # which folds `counts` are of; None: 0, 1, 2 ...

    @property
    def cells(self) -> dict[int, Sequence[ev.Counts]]:
        """The seeds of every fold that there is."""
        counts = self.counts or ()
        return dict(zip(self.folds if self.folds is not None else range(len(counts)), counts, strict=True))


def from_none_to_strongest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """None first, then by strength, whichever end of the axis is the stronger."""
    less_is_stronger = any(math.isinf(candidate.strength.value) for candidate in candidates)
    sign = -1 if less_is_stronger else 1
    return sorted(candidates, key=lambda c: (not c.strength.is_none, sign * c.strength.value))


def by_group(candidate: Candidate, groups: Sequence[Sequence[object]]) -> Candidate:
    """The same candidate with the images of a group summed."""
    if candidate.counts is None:
        return candidate
    counts = [[cell.by_group(groups[fold]) for cell in seeds] for fold, seeds in candidate.cells.items()]
    return replace(candidate, counts=counts, folds=tuple(candidate.cells))


@dataclass(frozen=True)
class Scored:
    """Everything that is estimated of the candidates, by index; none is the first."""

    surface: ev.Surface
    own: iv.Estimates
    to_none: iv.Estimates
    means: ev.F64  # (V,) comparable: where folds are missing, none's mean and the paired difference
    rivals: Bools  # (V,) may win
    reasons: tuple[str | None, ...]  # why the criterion forbids it
    allowed: Bools | None  # (V, R) in every resample; None without a limit on classes

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
    ) -> Scored:
        cells = [candidate.cells for candidate in candidates]
        names = [f"{candidate.strength.value:.12g}" for candidate in candidates]
        surface, draws = ev.surface_of(cells, names, criterion=criterion, resamples=resamples, seed=seed, groups=groups)
        own, to_none = iv.own_estimates(surface), iv.difference_estimates(surface, 0)
        complete = surface.has.all(axis=1)
        means = np.where(complete | ~np.isfinite(to_none.means), own.means, own.means[0] + to_none.means)
        reasons = _forbidden(cells, criterion, class_names)
        may = [c.dropped is None and r is None for c, r in zip(candidates, reasons, strict=True)]
        rivals = np.array(may) & np.isfinite(means)
        allowed = None if criterion.most_loss is None else _allowed_in_resamples(cells, criterion, draws)
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
        """(R,) the whole selection in every resample: the best mean, unless it cannot be told from none."""
        possible = self.rivals[:, None] & (True if self.allowed is None else self.allowed)
        scores = np.where(possible, self.means[:, None] + deviations, -math.inf)
        best = np.asarray(scores.argmax(axis=0))
        if not np.isfinite(self.means[0]):
            return best
        differences = self.to_none.means[:, None] + deviations - deviations[0]
        columns = np.arange(len(best))
        is_better = (best != 0) & (np.nan_to_num(differences[best, columns]) > np.nan_to_num(halves[best]))
        return np.where(is_better, best, 0)


def class_means(cells: dict[int, Sequence[ev.Counts]], folds: Sequence[int], criterion: Criterion = ev.MIOU) -> ev.F64:
    """(C,) IoU (or recall) of every class, mean over the folds that hold it."""
    return mean_present(ev.fold_class_iou([cells[fold] for fold in folds], criterion), axis=0)


def _forbidden(
    cells: Sequence[dict[int, Sequence[ev.Counts]]], criterion: Criterion, class_names: Sequence[str]
) -> tuple[str | None, ...]:
    """Why the limit on losses of classes forbids a setting, over the folds that it shares with none."""
    reasons: list[str | None] = []
    for own in cells:
        common = sorted(set(own) & set(cells[0]))
        if criterion.most_loss is None or not common or own is cells[0]:
            reasons.append(None)
            continue
        by_class = criterion.by_class
        loss = class_means(cells[0], common, by_class) - class_means(own, common, by_class)
        is_over = not criterion.is_allowed(-loss[None], np.zeros_like(loss))[0]
        if not is_over:
            reasons.append(None)
            continue
        worst = int(np.nanargmax(loss))
        name = class_names[worst] if class_names else f"class {worst}"
        reasons.append(f"{name} loses {loss[worst]:.3f} {by_class.class_score}; {criterion.most_loss:g} is allowed")
    return tuple(reasons)


def _allowed_in_resamples(
    cells: Sequence[dict[int, Sequence[ev.Counts]]], criterion: Criterion, draws: dict[int, ev.I64]
) -> Bools:
    """(V, R) what the limit allows when the units are resampled."""

    def classes(own: dict[int, Sequence[ev.Counts]], folds: Sequence[int]) -> ev.F64:
        by_fold = ev.bootstrap_class_iou([own[f] for f in folds], [draws[f] for f in folds], criterion.by_class)
        return mean_present(np.stack([mean_present(np.stack(seeds), axis=0) for seeds in by_fold]), axis=0)

    rows = []
    for own in cells:
        common = sorted(set(own) & set(cells[0]))
        if not common:
            rows.append(np.ones(len(next(iter(draws.values()))), dtype=np.bool_))
            continue
        rows.append(criterion.is_allowed(classes(own, common)[:, None], classes(cells[0], common))[:, 0])
    return np.array(rows)
