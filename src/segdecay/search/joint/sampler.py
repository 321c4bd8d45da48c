"""Proposes the next points of a joint search from the scored ones, with Optuna (ask and tell).

The Optuna study is rebuilt from the scores at every call, by a sampler seeded for that call, so that proposals depend
on the ledger alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segdecay.search.joint.space import Dimension, Value

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

LEVEL = "level"  # the strength among the proposed parameters: an index into the grid
FIXED_DESIGNS = ("qmc", "random")  # samplers that do not use the scores


@dataclass(frozen=True)
class Proposal:
    """Values of the dimensions, and the index of the strength among the positive ones; None: no decay."""

    values: Mapping[str, Value]
    level: int | None


@dataclass(frozen=True)
class Proposer:
    """Proposes points of one arm: with decay (levels > 0) or without."""

    dimensions: tuple[Dimension, ...]
    levels: int  # number of positive strengths; 0 in the arm without decay
    sampler: str
    seed: int
    most: int  # points in all; the length of a fixed design

    def initial(self) -> list[Proposal]:
        """The first points, whatever the scores: all strengths (or half of the points), all else as configured.

        >>> [point.level for point in Proposer((), 8, "tpe", 0, most=16).initial()]
        [0, 1, 2, 3, 4, 5, 6, 7]
        >>> [point.level for point in Proposer((), 8, "tpe", 0, most=8).initial()]
        [0, 2, 5, 7]
        """
        values = {one.name: one.rounded(one.default) for one in self.dimensions}
        if not self.levels:
            return [Proposal(values, None)]
        count = max(1, min(self.levels, self.most // 2))
        spread = [(self.levels - 1) // 2] if count == 1 else [i * (self.levels - 1) / (count - 1) for i in range(count)]
        return [Proposal(values, level) for level in dict.fromkeys(round(one) for one in spread)]

    def ask(self, scored: Sequence[tuple[Proposal, float | None]], count: int) -> list[Proposal]:
        """The next `count` points after the scored ones; a score of None marks a failed training."""
        initial = self.initial()
        begun = initial[len(scored) : len(scored) + count]
        left, asked = count - len(begun), max(len(initial), len(scored))
        if left <= 0:
            return begun
        distributions = self._distributions()
        if not distributions:
            return [*begun, *[initial[0]] * left]
        if self.sampler in FIXED_DESIGNS:  # drawn again from the first point: these samplers keep no state
            done = asked - len(initial)
            return [*begun, *self._draw([(initial[0], 0.0)], distributions, 0, done + left)[done:]]
        return [*begun, *self._draw(scored, distributions, asked, left)]

    def _draw(
        self, scored: Sequence[tuple[Proposal, float | None]], distributions: dict[str, Any], asked: int, count: int
    ) -> list[Proposal]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        states = optuna.trial.TrialState
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize", sampler=self._build(asked))
            for point, score in scored:
                trial = optuna.trial.create_trial(
                    params=self._params(point),
                    distributions=distributions,
                    value=score,
                    state=states.FAIL if score is None else states.COMPLETE,
                )
                study.add_trial(trial)
            return [self._point(study.ask(distributions).params) for _ in range(count)]

    def _build(self, asked: int) -> BaseSampler:
        import optuna

        seed = (self.seed + 1000003 * asked) % 2**32
        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=self._startup(), multivariate=True, constant_liar=True
            )
        if self.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self._startup())
        if self.sampler == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)

    def _startup(self) -> int:
        """Number of points, initial ones included, before the sampler uses scores."""
        return len(self.initial()) + max(2, self.most // 8)

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {LEVEL: IntDistribution(0, self.levels - 1)} if self.levels > 1 else {}
        for one in self.dimensions:
            if one.choices:
                found[one.name] = CategoricalDistribution(one.choices)
            else:
                found[one.name] = FloatDistribution(one.low, one.high, log=one.is_log)
        return found

    def _params(self, point: Proposal) -> dict[str, Any]:
        """A point as Optuna's parameters; values outside a range are clipped to it."""
        held: dict[str, Any] = {one.name: one.rounded(point.values[one.name]) for one in self.dimensions}
        return {**held, LEVEL: point.level} if self.levels > 1 else held

    def _point(self, params: Mapping[str, Any]) -> Proposal:
        values = {one.name: one.rounded(params[one.name]) for one in self.dimensions}
        level = params.get(LEVEL, 0) if self.levels else None
        return Proposal(values, None if level is None else int(level))


def best_of(scores: Sequence[float | None]) -> int | None:
    """The index of the best score, the first of equal ones; None without a score.

    >>> best_of([None, 0.5, 0.7, 0.7]), best_of([None])
    (2, None)
    """
    known = [(-score, i) for i, score in enumerate(scores) if score is not None and math.isfinite(score)]
    return min(known)[1] if known else None
