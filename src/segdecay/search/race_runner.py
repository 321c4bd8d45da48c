"""Runs the race on the ledger: tasks for the trials of the plan, finished records as its input.

A free worker trains the likeliest next trial ahead of the plan; such a trial counts only when the plan reaches it. The
number of workers therefore changes the cost of a search, never its result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdecay.errors import ConfigError, RunError
from segdecay.metrics import bootstrap as ev
from segdecay.metrics.criteria import Criterion
from segdecay.runs.race import RaceRecord
from segdecay.runs.records import RACED_OUT
from segdecay.search.ledger import Ledger
from segdecay.search.race import Race, SeenTrial, Trial, likely_trials, positions, standing, walk
from segdecay.training.setup import TrialTask

NOT_TRIED = f"{RACED_OUT}not tried"
RESAMPLES = 200  # of a block's images, for the covariance between strengths; the verdict has its own resamples


@dataclass(frozen=True)
class Budget:
    """Limits of a search in addition to the rules of the race; refits are not counted."""

    trials: int | None = None
    stop_at: float = math.inf  # monotonic clock: no trial starts that would probably end after it


@dataclass(frozen=True)
class Searched:
    """The result of a search before the decision."""

    blocks: dict[float, tuple[int, ...]]  # strength (from no decay to the strongest) to the blocks it was trained on
    dropped: dict[float, str]  # eliminated strengths, with the reason
    best: float | None  # the leader of the race; None: the strength with the best mean
    trials: int | None = None  # number of trials in the plan; None: the whole grid


def build_race(values: Sequence[float], none: float, *, blocks: int, asked: int, most: int | None) -> Race:
    """The race over these strengths.

    Raises:
        ConfigError: a budget of fewer trials than the first block needs.
    """
    race = Race(positions(values, none), blocks, asked, most)
    if most is not None and most < len(race.coarse):
        raise ConfigError(
            f"--budget {most}trials is too small: the search begins with {len(race.coarse)} trials (no decay and "
            f"{len(race.coarse) - 1} strengths on the first fold). Give at least {len(race.coarse)}trials."
        )
    return race


@dataclass
class Racing:
    """One race over the trials of a study."""

    race: Race
    tasks: Sequence[Sequence[TrialTask]]  # of every setting, by block
    ledger: Ledger
    failures: dict[Path, str]  # of this session, by folder
    criterion: Criterion = ev.MIOU
    groups: Sequence[Sequence[object]] | None = None  # of every fold's images, where groups are resampled
    stop_at: float = math.inf
    is_hopeless: Callable[[Sequence[TrialTask]], bool] | None = None  # asked once, of the finished first fold
    _stops: bool | None = None  # its answer
    _known: dict[Trial, SeenTrial] = field(default_factory=dict)
    _reached: list[SeenTrial] = field(default_factory=list)
    _started: set[Trial] = field(default_factory=set)
    _seconds: list[float] = field(default_factory=list)

    def next_task(self) -> TrialTask | None:
        """The next trial of the plan, or the likeliest one after it; None if there is nothing to train."""
        if time.monotonic() + (float(np.median(self._seconds)) if self._seconds else 0.0) >= self.stop_at:
            return None
        self._reached, wanted = walk(self.race, self.look_up, self._reached)
        seen = self._reached
        if wanted is None or self.stops_early(seen):
            return None
        if wanted not in self._started:
            return self._start(wanted)
        waiting = [trial for trial in self._started if self.look_up(trial) is None]
        for trial in likely_trials(self.race, seen, waiting, len(waiting) + 1, self.look_up):
            if trial not in self._started:
                return self._start(trial)
        return None

    def _start(self, trial: Trial) -> TrialTask:
        self._started.add(trial)
        return self.tasks[trial[0]][trial[1]]

    def seen(self) -> list[SeenTrial]:
        """The finished trials of the plan, in its order; of a hopeless search those of the first fold alone."""
        seen = walk(self.race, self.look_up, self._reached)[0]
        return seen[: len(self.race.coarse)] if self.stops_early(seen) else seen

    def stops_early(self, seen: Sequence[SeenTrial]) -> bool:
        """Whether the first trials, one fold of the coarse strengths, show that more of them would teach nothing."""
        first = seen[: len(self.race.coarse)]
        if self.is_hopeless is None or len(first) < len(self.race.coarse):
            return False
        if self._stops is None:
            scored = [self.tasks[trial.setting][trial.block] for trial in first if trial.score is not None]
            self._stops = self.is_hopeless(scored)
        return self._stops

    def result(self, values: Sequence[float]) -> Searched:
        """The strengths left in the race, and the leader.

        Raises:
            RunError: the budget ended before there was anything to compare.
        """
        seen = self.seen()
        if len(seen) < 2:
            raise RunError(
                f"The budget ended after {len(seen)} trials, before two strengths could be compared. The trials are "
                "kept: the same command with a larger --budget continues."
            )
        left, tried = standing(self.race, seen), {trial.setting for trial in seen}
        lost = tried - set(left.finalists) - set(left.dropped)
        kept = [setting for setting in range(len(values)) if setting < self.race.asked or setting in tried]
        return Searched(
            blocks={values[s]: tuple(sorted(trial.block for trial in seen if trial.setting == s)) for s in kept},
            dropped={
                values[s]: left.dropped.get(s, NOT_TRIED) for s in kept if s not in left.finalists and s not in lost
            },
            best=values[left.leader] if left.leader is not None else None,
            trials=len(seen),
        )

    def record(self) -> RaceRecord:
        """Where the race stands now."""
        seen = self.seen()
        left, names = standing(self.race, seen), [tasks[0].setting for tasks in self.tasks]
        tried = {trial.setting for trial in seen}
        return RaceRecord(
            settings=tuple(name for s, name in enumerate(names) if s < self.race.asked or s in tried),
            leader=names[left.leader] if left.leader is not None else None,
            finalists=tuple(names[setting] for setting in left.finalists),
            dropped={names[setting]: reason for setting, reason in left.dropped.items()},
            trials=len(seen),
            least=self.race.trials_at_least,
            most=self.race.trials_at_most,
        )

    def look_up(self, trial: Trial) -> SeenTrial | None:
        """The result of a trial; None while it is not finished."""
        if trial not in self._known:
            found = self._read(trial)
            if found is None:
                return None
            self._known[trial] = found
        return self._known[trial]

    def _read(self, trial: Trial) -> SeenTrial | None:
        task = self.tasks[trial[0]][trial[1]]
        record = self.ledger.record(task.folder)
        if record is None:
            return SeenTrial(*trial, score=None) if task.folder in self.failures else None
        self._seconds.append(record.seconds)
        if record.status != "finished":
            return SeenTrial(*trial, score=None)
        counts = ev.Counts.of(self.ledger.confusions(task.folder))
        if self.groups is not None:
            counts = counts.by_group(self.groups[task.fold])
        (draws,) = ev.image_draws([len(counts.hit)], RESAMPLES, seed=trial[1])
        score, resampled = counts.score(self.criterion), ev.fold_bootstrap([counts], draws, self.criterion)
        return SeenTrial(*trial, score, resampled, collapsed=bool(record.extra.get("collapsed")))
