"""What the cells so far say of every strength: an additive model of block effects and a smooth curve over strength.

score[s, b] = level + block[b] + curve(x[s]) + noise, where a block is one fold under one seed and x is the strength in
octaves. The curve is a Gaussian process, so neighbours share what they show; the block effect takes what makes a fold
easy or hard for every strength alike. The noise has two parts: that of the validation images, whose covariance between
the strengths of a block is measured by resampling the block's images, and that of the training. How high the curve may
swing and how noisy training is are not fixed: a grid of both is weighed by the marginal likelihood. Pure numpy; knows
nothing of cells on disk, of what is run next, or of the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

LENGTH_OCTAVES = 4.0  # of a Matérn 3/2 curve: rough enough that the fall at strong decay does not bend what lies below
AMPLITUDES = (0.005, 0.015, 0.04, 0.1, 0.25)  # deviations of the curve that are weighed
NOISES = (0.003, 0.008, 0.02, 0.05)  # deviations of training noise that are weighed
CENTRE, SPREAD = (0.04, 0.012), (1.0, 0.7)  # medians and log-deviations of the prior of both
BLOCK_DEVIATION = 0.2
LEVEL_DEVIATION = 1.0
COLLAPSED_DEVIATION = 0.5  # noise of a training that predicts a single class: it says next to nothing of its strength
DRAWS = 2000
REMEMBERED = 256  # beliefs: one a block, and those of guesses ahead; 144 kB each with nine strengths


@dataclass(frozen=True, eq=False)
class Seen:
    """One finished cell: setting and block by index, its score, and its scores in resamples of the block's images.

    `score` is None where the training diverged or failed. All cells of a block share the resamples' images. Equal to
    itself alone, so that what was believed after these very cells is remembered.
    """

    setting: int
    block: int
    score: float | None
    resampled: F64 | None = None  # (R,)
    collapsed: bool = False


@dataclass(frozen=True)
class Belief:
    """Draws (DRAWS, S) of the curve at every position, and their mean and deviation.

    Answers are remembered with the belief: the plan asks the same of every earlier block after each cell.
    """

    draws: F64
    _chances: dict[tuple[int, ...], F64] = field(default_factory=dict, compare=False, repr=False)
    _signals: dict[tuple[int, int], float] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def mean(self) -> F64:
        """(S,) expected curve, up to a constant that all settings share."""
        return np.asarray(self.draws.mean(axis=0))

    def chance_best(self, among: Sequence[int]) -> F64:
        """(len(among),) how probable it is that each is the best of these."""
        key = tuple(among)
        if key not in self._chances:
            wins = np.argmax(self.draws[:, list(key)], axis=1)
            chances = np.bincount(wins, minlength=len(key)) / len(self.draws)
            chances.flags.writeable = False
            self._chances[key] = chances
        return self._chances[key]

    def signal(self, a: int, b: int) -> float:
        """The expected difference a - b in its own standard deviations."""
        if (a, b) not in self._signals:
            difference = self.draws[:, a] - self.draws[:, b]
            self._signals[a, b] = float(difference.mean() / max(difference.std(), 1e-12))
        return self._signals[a, b]


def positions(values: Sequence[float], none: float) -> tuple[float, ...]:
    """Strengths in octaves; none stands two octaves below the weakest that acts.

    >>> positions([0.0, 1.0, 4.0], none=0.0)
    (-2.0, 0.0, 2.0)
    >>> positions([float("inf"), 4.0, 2.0], none=float("inf"))
    (-4.0, -2.0, -1.0)
    """
    sign = -1.0 if np.isinf(none) else 1.0
    octaves = [sign * float(np.log2(value)) if value != none else np.nan for value in values]
    weakest = min((octave for octave in octaves if np.isfinite(octave)), default=0.0)
    return tuple(weakest - 2.0 if np.isnan(octave) else octave for octave in octaves)


def _image_covariance(seen: Sequence[Seen]) -> F64:
    """(n, n) covariance of the scores from resampling images; zero between blocks."""
    found = np.zeros((len(seen), len(seen)))
    by_block: dict[int, list[tuple[int, F64]]] = {}
    for i, cell in enumerate(seen):
        if cell.resampled is None:
            continue
        centred = cell.resampled - cell.resampled.mean()
        shared = by_block.setdefault(cell.block, [])
        shared.append((i, centred))
        for j, other in shared:
            found[i, j] = found[j, i] = float(np.mean(centred * other))
    return found


def _kernel(a: F64, b: F64) -> F64:
    distance = np.sqrt(3.0) * np.abs(a[:, None] - b[None, :]) / LENGTH_OCTAVES
    return np.asarray((1 + distance) * np.exp(-distance))


def _log_prior(amplitude: float, noise: float) -> float:
    return float(
        sum(
            -0.5 * (np.log(value / centre) / spread) ** 2
            for value, centre, spread in zip((amplitude, noise), CENTRE, SPREAD, strict=True)
        )
    )


def belief(seen: Sequence[Seen], x: Sequence[float]) -> Belief:
    """The curve at positions `x`, given finished cells; those without a score say nothing.

    Raises:
        ValueError: no cell has a score.
    """
    scored = tuple(cell for cell in seen if cell.score is not None)
    if not scored:
        raise ValueError("no cell has a score")
    return _believed(scored, tuple(x))


@lru_cache(maxsize=REMEMBERED)  # the plan asks again after every cell, with the same earlier blocks
def _believed(scored: tuple[Seen, ...], x: tuple[float, ...]) -> Belief:
    y = np.array([cell.score for cell in scored], dtype=float)
    where = np.array([x[cell.setting] for cell in scored])
    same_block = np.equal.outer([cell.block for cell in scored], [cell.block for cell in scored])
    shared = LEVEL_DEVIATION**2 + BLOCK_DEVIATION**2 * same_block + _image_covariance(scored)
    shared += np.diag([COLLAPSED_DEVIATION**2 * cell.collapsed for cell in scored])
    at = np.array(x, dtype=float)
    near, cross, prior = _kernel(where, where), _kernel(where, at), _kernel(at, at)
    sides = np.column_stack([y - y.mean(), cross])
    weights, means, covariances = [], [], []
    for amplitude in AMPLITUDES:
        for noise in NOISES:
            total = shared + amplitude**2 * near + noise**2 * np.eye(len(y))
            factor = np.linalg.cholesky(total)
            solved = np.linalg.solve(factor, sides)
            half, reach = solved[:, 0], amplitude**2 * solved[:, 1:]
            weights.append(_log_prior(amplitude, noise) - 0.5 * half @ half - np.log(np.diag(factor)).sum())
            means.append(np.asarray(reach.T @ half, dtype=np.float64))
            covariances.append(np.asarray(amplitude**2 * prior - reach.T @ reach, dtype=np.float64))
    draws = _mixed_draws(np.array(weights), means, covariances)
    draws.flags.writeable = False
    return Belief(draws)


def _mixed_draws(log_weights: F64, means: Sequence[F64], covariances: Sequence[F64]) -> F64:
    """DRAWS draws from the weighed normal distributions; the same every time."""
    weights = np.exp(log_weights - log_weights.max())
    counts = np.floor(np.cumsum(weights / weights.sum()) * DRAWS + 0.5).astype(int)
    random = np.random.Generator(np.random.PCG64(0)).standard_normal((DRAWS, len(means[0])))
    draws = np.empty_like(random)
    start = 0
    for end, mean, covariance in zip(counts, means, covariances, strict=True):
        if end > start:
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.clip(values, 0.0, None))
            draws[start:end] = mean + random[start:end] @ root.T
            start = int(end)
    return draws
