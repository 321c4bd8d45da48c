"""The race on the ledger: trials of the plan as tasks, their records as what the race sees, and work ahead for the
idle.

Which trials enter a decision is the plan's alone: what idle workers trained ahead counts when the plan reaches it, so
the number of workers changes what a search costs and never what it finds. Knows tasks and records; nothing of processes
or of the verdict.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdecay.errors import ConfigError, RunError
from segdecay.metrics import bootstrap as ev
from segdecay.metrics.criteria import Criterion
from segdecay.runs.records import RACED_OUT
from segdecay.search.ledger import Ledger
from segdecay.search.race import Race, Seen, Trial, likely_trials, positions, standing, walk
from segdecay.training.setup import TrialTask

NOT_TRIED = f"{RACED_OUT}not tried"
RESAMPLES = 200  # of a block's images, for the covariance of the strengths; not those of the verdict


@dataclass(frozen=True)
class Budget:
    """What a search may cost at most, beyond the rules of the race; refits come on top."""

    trials: int | None = None
    stop_at: float = math.inf  # on the monotonic clock: nothing is started that would probably end after it


@dataclass(frozen=True)
class Searched:
    """What a search leaves to be decided."""

    blocks: dict[float, tuple[int, ...]]  # every strength from none to the strongest: the blocks it was trained on
    dropped: dict[float, str]  # who left the race, and why
    best: float | None  # the strength that leads a race; None: the best mean
    trials: int | None = None  # that the plan asked for; None: the whole grid


def build_race(values: Sequence[float], none: float, *, blocks: int, asked: int, most: int | None) -> Race:
    """The race over these strengths.

    Raises:
        ConfigError: a budget of fewer trials than the first block needs.
    """
    race = Race(positions(values, none), blocks, asked, most)
    if most is not None and most < len(race.coarse):
        raise ConfigError(
            f"--budget {most}trials is below one fold: the search begins with {len(race.coarse)} trainings "
            f"(none and {len(race.coarse) - 1} strengths on the first fold). Give at least {len(race.coarse)}trials."
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
    _known: dict[Trial, Seen] = field(default_factory=dict)
    _reached: list[Seen] = field(default_factory=list)
    _started: set[Trial] = field(default_factory=set)
    _seconds: list[float] = field(default_factory=list)

    def next_task(self) -> TrialTask | None:
        """What a free worker trains now: the plan's next trial, or else the likeliest one after it; None: nothing."""
        if time.monotonic() + (float(np.median(self._seconds)) if self._seconds else 0.0) >= self.stop_at:
            return None
        self._reached, wanted = walk(self.race, self.look_up, self._reached)
        seen = self._reached
        if wanted is None:
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

    def seen(self) -> list[Seen]:
        """The trials of the plan that are finished, in its order."""
        return walk(self.race, self.look_up, self._reached)[0]

    def result(self, values: Sequence[float]) -> Searched:
        """Who is left in the race, and who leads it.

        Raises:
            RunError: the budget ended before there was anything to compare.
        """
        seen = self.seen()
        if len(seen) < 2:
            raise RunError(
                f"The budget ended after {len(seen)} trainings, before two strengths could be compared. Nothing is "
                "lost: the same command with a larger --budget goes on."
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

    def look_up(self, trial: Trial) -> Seen | None:
        """What a trial says; None while it is not finished."""
        if trial not in self._known:
            found = self._read(trial)
            if found is None:
                return None
            self._known[trial] = found
        return self._known[trial]

    def _read(self, trial: Trial) -> Seen | None:
        task = self.tasks[trial[0]][trial[1]]
        record = self.ledger.record(task.folder)
        if record is None:
            return Seen(*trial, score=None) if task.folder in self.failures else None
        self._seconds.append(record.seconds)
        if record.status != "finished":
            return Seen(*trial, score=None)
        counts = ev.Counts.of(self.ledger.confusions(task.folder))
        if self.groups is not None:
            counts = counts.by_group(self.groups[task.fold])
        (draws,) = ev.image_draws([len(counts.hit)], RESAMPLES, seed=trial[1])
        score, resampled = counts.score(self.criterion), ev.fold_bootstrap([counts], draws, self.criterion)
        return Seen(*trial, score, resampled, collapsed=bool(record.extra.get("collapsed")))
