"""The race: which trial is trained next, and which strengths are eliminated; a pure function of the finished trials.

A block is one fold under one seed. Blocks run one after another, always with the full schedule (early scores rank decay
in reverse). The first block tries a coarse half of the strengths, then the strengths where a curve fitted to them may
have its maximum. Every later block trains without decay, at the leading strength, and at every strength that may still
beat the leader; the others are eliminated, so that the finalists share their blocks. The race ends when the leader is
clear or the budget is spent. Settings and blocks are indices here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from segdecay.runs.records import RACED_OUT

F64 = npt.NDArray[np.float64]

LENGTH_OCTAVES = 4.0  # of a Matérn 3/2 curve: short enough that the drop at strong decay does not bend the curve below
AMPLITUDES = (0.005, 0.015, 0.04, 0.1, 0.25)  # standard deviations of the curve, integrated over
NOISES = (0.003, 0.008, 0.02, 0.05)  # standard deviations of training noise, integrated over
CENTRE, SPREAD = (0.04, 0.012), (1.0, 0.7)  # medians and log-deviations of the prior of both
BLOCK_DEVIATION = 0.2
LEVEL_DEVIATION = 1.0
COLLAPSED_DEVIATION = 0.5  # noise of a training that predicts a single class: its score carries almost no information
DRAWS = 2000
REMEMBERED = 256  # cached beliefs: one per block, and those of likely trials; 144 kB each with nine strengths


@dataclass(frozen=True, eq=False)
class SeenTrial:
    """One finished trial: setting and block by index, its score, and its scores in resamples of the block's images.

    `score` is None if the training diverged or failed. All trials of a block share the resampled images. Compared by
    identity, so that beliefs can be cached by their trials.
    """

    setting: int
    block: int
    score: float | None
    resampled: F64 | None = None  # (R,)
    collapsed: bool = False


@dataclass(frozen=True)
class Belief:
    """Draws (DRAWS, S) of the curve at every position, and their mean and deviation.

    Results are cached, since the plan evaluates every earlier block again after each trial.
    """

    draws: F64
    _chances: dict[tuple[int, ...], F64] = field(default_factory=dict, compare=False, repr=False)
    _signals: dict[tuple[int, int], float] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def mean(self) -> F64:
        """(S,) expected curve, up to a constant that all settings share."""
        return np.asarray(self.draws.mean(axis=0))

    def chance_best(self, among: Sequence[int]) -> F64:
        """(len(among),) the probability of each to be the best of these."""
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
    """Strengths in octaves; no decay is placed two octaves below the weakest positive strength.

    >>> positions([0.0, 1.0, 4.0], none=0.0)
    (-2.0, 0.0, 2.0)
    >>> positions([float("inf"), 4.0, 2.0], none=float("inf"))
    (-4.0, -2.0, -1.0)
    """
    sign = -1.0 if np.isinf(none) else 1.0
    octaves = [sign * float(np.log2(value)) if value != none else np.nan for value in values]
    weakest = min((octave for octave in octaves if np.isfinite(octave)), default=0.0)
    return tuple(weakest - 2.0 if np.isnan(octave) else octave for octave in octaves)


def _image_covariance(seen: Sequence[SeenTrial]) -> F64:
    """(n, n) covariance of the scores from resampling images; zero between blocks."""
    found = np.zeros((len(seen), len(seen)))
    by_block: dict[int, list[tuple[int, F64]]] = {}
    for i, trial in enumerate(seen):
        if trial.resampled is None:
            continue
        centred = trial.resampled - trial.resampled.mean()
        shared = by_block.setdefault(trial.block, [])
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


def belief(seen: Sequence[SeenTrial], x: Sequence[float]) -> Belief:
    """The curve at positions `x`, given finished trials; those without a score are ignored.

    Raises:
        ValueError: no trial has a score.
    """
    scored = tuple(trial for trial in seen if trial.score is not None)
    if not scored:
        raise ValueError("no trial has a score")
    return _believed(scored, tuple(x))


@lru_cache(maxsize=REMEMBERED)  # evaluated again after every trial, with the same earlier blocks
def _believed(scored: tuple[SeenTrial, ...], x: tuple[float, ...]) -> Belief:
    y = np.array([trial.score for trial in scored], dtype=float)
    where = np.array([x[trial.setting] for trial in scored])
    same_block = np.equal.outer([trial.block for trial in scored], [trial.block for trial in scored])
    shared = LEVEL_DEVIATION**2 + BLOCK_DEVIATION**2 * same_block + _image_covariance(scored)
    shared += np.diag([COLLAPSED_DEVIATION**2 * trial.collapsed for trial in scored])
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
    """DRAWS draws from the weighted mixture of normal distributions; reproducible."""
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


NONE = 0  # the index of the setting without decay

SHARE = 5  # a race costs at most 1/SHARE of the full grid,
LEAST_BLOCKS = 5  # but may always train no decay and the leader on LEAST_BLOCKS blocks
SMALL_GRID = 4  # settings, including no decay: all are tried in the first block
ZOOMS = 1  # trials of the first block after the coarse ones; more only beyond the strong edge
ZOOM_CHANCE = 0.15  # probability of being the best, to try a new strength
CHALLENGE_CHANCE = 0.25  # probability of being the best, to be trained in a block together with the leader
CLEAR_BLOCKS = 3  # no race ends earlier, unless its trials are spent
CLEAR = 3.0  # standard deviations between leader and no decay that end the race
NONE_CLEAR = 0.95  # probability of no decay to be the best that ends the race

Trial = tuple[int, int]  # setting, block


@dataclass(frozen=True)
class Race:
    """The fixed part of a race: positions of the strengths, number of blocks, number of trials."""

    x: tuple[float, ...]  # positions in octaves from no decay to the strongest, the extensions last
    blocks: int
    asked: int  # settings of the grid; later ones are tried only if the best lies at the strong edge
    most: int | None = None  # trials; None: one in SHARE of the grid, or enough for LEAST_BLOCKS

    @property
    def trials_at_most(self) -> int:
        """The largest number of trials of the race."""
        if self.most is not None:
            return self.most
        enough = len(self.coarse) + ZOOMS + 2 * (min(self.blocks, LEAST_BLOCKS) - 1)
        return max(enough, 2 * self.blocks if self.asked == 2 else 0, math.ceil(self.asked * self.blocks / SHARE))

    @property
    def trials_at_least(self) -> int:
        """The number of trials if the leader is clear as early as the rules allow.

        >>> Race(x=tuple(range(9)), blocks=5, asked=9).trials_at_least
        7
        """
        return min(self.trials_at_most, len(self.coarse) + 2 * (min(self.blocks, CLEAR_BLOCKS) - 1))

    @property
    def coarse(self) -> tuple[int, ...]:
        """The first settings of the first block: no decay and every second strength of the middle; all of a small grid.

        The strongest are tried only if the strongest of these is best: where decay hurts, each would waste a training.

        >>> Race(x=tuple(range(9)), blocks=5, asked=9).coarse
        (0, 3, 5)
        >>> Race(x=tuple(range(4)), blocks=3, asked=4).coarse
        (0, 1, 2, 3)
        """
        if self.asked <= SMALL_GRID:
            return tuple(range(self.asked))
        last = 0 if self.asked <= SMALL_GRID + 2 else 1
        strided = sorted(range(self.asked - 2, last, -2))
        return (NONE, *(strided[:-1] if len(strided) > 2 else strided))


@dataclass(frozen=True)
class Standing:
    """The state of a race: finalists share all finished blocks; all others are eliminated, with the reason."""

    finalists: tuple[int, ...]
    blocks: tuple[int, ...]
    dropped: dict[int, str]  # eliminated settings, without those that diverged or failed
    leader: int | None  # the finalist with the best expected score, by the model of all trials


def next_trial(race: Race, seen: Sequence[SeenTrial]) -> Trial | None:
    """The next trial of the plan; None when the race is over."""
    if len(seen) >= race.trials_at_most:
        return None
    done = {(trial.setting, trial.block) for trial in seen}
    lost = {trial.setting for trial in seen if trial.score is None}
    for setting in race.coarse:
        if (setting, 0) not in done:
            return setting, 0
    if not any(trial.score is not None for trial in seen):
        return None
    found = _zoom(race, seen, done, lost)
    if found is not None:
        return found, 0
    for block in range(1, race.blocks):
        before = [trial for trial in seen if trial.block < block]
        if _is_clear(race, before, block, lost):
            return None
        missing = _runners_missing(race, before, block, done, lost)
        if missing:
            return missing[0]
    return None


def _alive(seen: Sequence[SeenTrial], lost: set[int]) -> list[int]:
    return sorted({trial.setting for trial in seen} - lost)


def _zoom(race: Race, seen: Sequence[SeenTrial], done: set[Trial], lost: set[int]) -> int | None:
    """A strength to add to the first block: where the best may lie, or beyond the strong edge."""
    first = [trial for trial in seen if trial.block == 0]
    alive = _alive(first, lost)
    if not alive:
        return None
    now = belief(first, race.x)
    leader = _leader(now, alive)
    tried = {trial.setting for trial in first}
    if leader == max(tried) and leader + 1 < len(race.x) and leader != NONE:
        return leader + 1
    climbed = len([setting for setting in tried if setting > max(race.coarse)])
    if len(tried) - len(race.coarse) - climbed >= ZOOMS:
        return None
    among = [setting for setting in range(max(tried)) if setting not in lost] + [max(tried)]
    chances = dict(zip(among, now.chance_best(among), strict=True))
    fresh = [setting for setting in among if (setting, 0) not in done]
    best = max(fresh, key=lambda setting: (chances[setting], -setting), default=None)
    return best if best is not None and chances[best] >= ZOOM_CHANCE else None


def _leader(now: Belief, among: Sequence[int]) -> int:
    mean = now.mean
    return max(among, key=lambda setting: (mean[setting], -setting))


def _pair(now: Belief, alive: Sequence[int]) -> tuple[int, int | None]:
    """The leader and its opponent: no decay, or the best positive strength where no decay leads."""
    leader = _leader(now, alive)
    others = [setting for setting in alive if setting != NONE] if leader == NONE else [NONE]
    others = [setting for setting in others if setting in alive]
    return leader, (_leader(now, others) if others else None)


def _is_clear(race: Race, before: Sequence[SeenTrial], block: int, lost: set[int]) -> bool:
    """Whether the blocks so far separate no decay from the best strength."""
    alive = _alive(before, lost)
    if block < CLEAR_BLOCKS or not alive:
        return not alive
    now = belief(before, race.x)
    leader, other = _pair(now, alive)
    if other is None:
        return False
    if leader == NONE:
        return float(now.chance_best(alive)[alive.index(NONE)]) >= NONE_CLEAR
    return now.signal(leader, NONE) >= CLEAR and not _rivals(race, now, [NONE, leader], alive, lost)


def _rivals(race: Race, now: Belief, runners: Sequence[int], alive: Sequence[int], lost: set[int]) -> list[int]:
    """The other settings that may be the best, likeliest first, including strengths that were not tried yet."""
    among = sorted({*alive, *range(min(race.asked, max(alive)))} - lost)
    chances = dict(zip(among, now.chance_best(among), strict=True))
    rivals = [setting for setting in among if setting not in runners and chances[setting] >= CHALLENGE_CHANCE]
    return sorted(rivals, key=lambda setting: -chances[setting])


def _runners_missing(
    race: Race, before: Sequence[SeenTrial], block: int, done: set[Trial], lost: set[int]
) -> list[Trial]:
    """The missing trials of a block; for a setting that joined late, also those of earlier blocks."""
    alive = _alive(before, lost)
    now = belief(before, race.x)
    leader, other = _pair(now, alive)
    runners = [setting for setting in (NONE, leader, other) if setting is not None and setting in alive]
    is_sure = leader != NONE and other == NONE and now.signal(leader, NONE) >= CLEAR
    reserved = 0 if is_sure else 2 * (min(race.blocks, LEAST_BLOCKS) - block)
    room = race.trials_at_most - len(before) - reserved
    rivals = _rivals(race, now, runners, alive, lost)
    runners += [rival for rival in rivals[:1] if _late(rival, before, block) <= room]
    wanted = [(setting, at) for at in range(block + 1) for setting in dict.fromkeys(runners)]
    missing = [trial for trial in wanted if trial not in done]
    if len(done) + len(missing) > race.trials_at_most:
        return []  # an unfinished block cannot be used for a comparison
    return missing


def _late(rival: int, before: Sequence[SeenTrial], block: int) -> int:
    """Number of trials that a rival needs: this block, and the earlier ones that it missed."""
    return block + 1 - len({trial.block for trial in before if trial.setting == rival})


def walk(
    race: Race, look_up: Callable[[Trial], SeenTrial | None], reached: Sequence[SeenTrial] = ()
) -> tuple[list[SeenTrial], Trial | None]:
    """Follow the plan through the records: the trials that it reached, and the first that is not finished yet.

    `reached`: the end of an earlier walk, from which the plan continues.
    """
    seen = list(reached)
    while (trial := next_trial(race, seen)) is not None:
        record = look_up(trial)
        if record is None:
            return seen, trial
        seen.append(record)
    return seen, None


def likely_trials(
    race: Race,
    seen: Sequence[SeenTrial],
    running: Sequence[Trial],
    count: int,
    look_up: Callable[[Trial], SeenTrial | None] = lambda _trial: None,
) -> list[Trial]:
    """Trials that the plan will probably need after the running ones, if each scores as the model expects."""
    guessed, pending = list(seen), set(running)
    found: list[Trial] = []
    while len(found) < count and (trial := next_trial(race, guessed)) is not None:
        record = look_up(trial)
        if record is None and trial not in pending:
            found.append(trial)
        guessed.append(record or SeenTrial(*trial, score=_expected(race, guessed, trial[0])))
    return found


def _expected(race: Race, seen: Sequence[SeenTrial], setting: int) -> float:
    """The expected score of a setting: the model's curve, shifted to the mean of the finished trials."""
    scored = [trial for trial in seen if trial.score is not None]
    if not scored:
        return 0.5
    level = sum(trial.score for trial in scored if trial.score is not None) / len(scored)
    mean = belief(scored, race.x).mean
    return float(level + mean[setting] - sum(mean[trial.setting] for trial in scored) / len(scored))


def standing(race: Race, seen: Sequence[SeenTrial]) -> Standing:
    """The finalists, their blocks, and why the other settings are eliminated.

    The finalists share as many blocks as possible; no decay and the leader are always among them. Unfinished blocks of
    a search that was stopped early do not count.
    """
    lost = {trial.setting for trial in seen if trial.score is None}
    ran: dict[int, set[int]] = {}
    for trial in seen:
        ran.setdefault(trial.setting, set()).add(trial.block)
    alive = _alive(seen, lost)
    dropped: dict[int, str] = {}
    if not alive:
        return Standing((), (), dropped, None)
    anchor = NONE if NONE in alive else alive[0]
    partners = [setting for setting in alive if setting != anchor]
    common = max((len(ran[anchor] & ran[setting]) for setting in partners), default=len(ran[anchor]))
    leaders = [setting for setting in partners if len(ran[anchor] & ran[setting]) == common]
    finalists = tuple(sorted([anchor, *leaders]))
    blocks = tuple(sorted(set.intersection(*(ran[setting] for setting in finalists))))
    now = belief(seen, race.x)
    chances = dict(zip(alive, now.chance_best(alive), strict=True))
    for setting in alive:
        if setting not in finalists:
            dropped[setting] = f"{RACED_OUT}eliminated after {len(ran[setting])}, {chances[setting]:.0%} to be best"
    return Standing(finalists, blocks, dropped, _leader(now, finalists))
