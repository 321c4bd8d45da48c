"""One repeat of a replay: what a selector may look at, and what it has paid for it.

A repeat is one seed's records, some folds in some order, and a resample of the images of every fold; it is the same
for every selector. A trial is paid by the epochs that were looked at, once: looking again is free, and going on from
where a trial was stopped costs the rest only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from replay.records import F64, I64, Grid
from segdecay.metrics.bootstrap import Counts, bootstrap_scores, image_draws
from segdecay.metrics.confusion import mean_present

RESAMPLES = 200  # of a fold's images, for selectors that ask how sure a trial's score is


@dataclass(frozen=True)
class Repeat:
    """What all selectors of a repeat share."""

    grid: Grid
    seed: int  # position among the grid's seeds
    folds: tuple[int, ...]  # of the grid, in the order in which they are met
    images: tuple[I64, ...]  # for each of these folds, which images count, with repetition
    number: int = 0

    @cached_property
    def counts(self) -> list[list[Counts]]:
        """[setting][fold] counts of the resampled images."""
        return [
            [_taken(setting[fold][self.seed], which) for fold, which in zip(self.folds, self.images, strict=True)]
            for setting in self.grid.counts
        ]

    @cached_property
    def scores(self) -> F64:
        """(V, J) mIoU after the last step."""
        return np.array([[float(mean_present(trial.class_iou())) for trial in row] for row in self.counts])

    @cached_property
    def curves(self) -> F64:
        """(V, J, E) mIoU after every epoch.

        Matrices are kept of the last step only; earlier scores are scaled by what resampling did to the last one.
        """
        kept = self.grid.curves[:, list(self.folds), self.seed]
        return np.asarray(np.nan_to_num(kept * (self.scores / np.maximum(kept[..., -1], 1e-9))[..., None]))

    @cached_property
    def draws(self) -> list[I64]:
        """For each fold (RESAMPLES, N): further resamples, the same for all settings."""
        return image_draws([len(which) for which in self.images], RESAMPLES, seed=self.number)


def _taken(trial: Counts, which: I64) -> Counts:
    """The counts of chosen images."""
    return Counts(trial.hit[which], trial.union[which], trial.true[which])


@dataclass
class Replay:
    """A repeat in the hands of one selector; `budget` is in epochs."""

    repeat: Repeat
    budget: float = np.inf
    paid: dict[tuple[int, int], int] = field(default_factory=dict)  # epochs of every trial that was looked at

    @property
    def values(self) -> tuple[float, ...]:
        """Strengths, from none to the strongest."""
        return self.repeat.grid.values

    @property
    def n_folds(self) -> int:
        """Folds at hand, numbered in the order in which they are met."""
        return len(self.repeat.folds)

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        return self.repeat.grid.shape[3]

    @property
    def used(self) -> int:
        """Epochs paid so far."""
        return sum(self.paid.values())

    def affords(self, setting: int, fold: int, epochs: int | None = None) -> bool:
        """Whether looking at a trial up to an epoch stays within the budget."""
        wanted = self.epochs if epochs is None else epochs
        return self.used + max(0, wanted - self.paid.get((setting, fold), 0)) <= self.budget

    def trial(self, setting: int, fold: int, epochs: int | None = None) -> float:
        """The validation mIoU of a trial after its last step, or after so many epochs."""
        wanted = self.epochs if epochs is None else epochs
        self.paid[setting, fold] = max(wanted, self.paid.get((setting, fold), 0))
        return float(self.repeat.curves[setting, fold, wanted - 1])

    def counts(self, setting: int, fold: int) -> Counts:
        """Per-image counts of a fully trained trial."""
        self.trial(setting, fold)
        return self.repeat.counts[setting][fold]

    def resampled(self, setting: int, fold: int) -> F64:
        """(RESAMPLES,) mIoU of a fully trained trial in resamples of its images, the same images for all settings."""
        return bootstrap_scores([[self.counts(setting, fold)]], [self.repeat.draws[fold]])

    def is_collapsed(self, setting: int, fold: int) -> bool:
        """Whether a fully trained trial predicts a single class."""
        self.trial(setting, fold)
        return bool(self.repeat.grid.collapsed[setting, self.repeat.folds[fold], self.repeat.seed])

    @property
    def finished(self) -> dict[int, set[int]]:
        """The folds on which each setting was fully trained."""
        found: dict[int, set[int]] = {}
        for (setting, fold), epochs in self.paid.items():
            if epochs == self.epochs:
                found.setdefault(setting, set()).add(fold)
        return found


@dataclass(frozen=True)
class Outcome:
    """What a selector took: the index of a strength."""

    chosen: int


Selector = Callable[[Replay], Outcome]


def draw_repeat(grid: Grid, seed: int, number: int, n_folds: int | None = None, *, resample: bool = True) -> Repeat:
    """The repeat of a number: random folds in random order, images drawn with replacement inside each."""
    random = np.random.Generator(np.random.PCG64([number, seed]))
    folds = tuple(int(fold) for fold in random.permutation(grid.shape[1])[:n_folds])
    sizes = [len(grid.counts[0][fold][seed].hit) for fold in folds]
    images = tuple(random.integers(0, size, size) if resample else np.arange(size) for size in sizes)
    return Repeat(grid, seed, folds, images, number)
