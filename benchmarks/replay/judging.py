"""What a choice was worth: regret on records the selector never saw, and the kind of verdict its trials allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.records import F64, Grid
from replay.replaying import Replay
from segdecay.runs.records import StrengthRecord
from segdecay.search.verdict import Candidate, decide

CONFIDENCE = 0.95
RESAMPLES = 300


@dataclass(frozen=True)
class Judge:
    """Means of all strengths that a choice is held against, and the paired standard error that regret is given in."""

    means: F64  # (V,)
    paired_error: float

    def regret(self, chosen: int) -> float:
        """How far the chosen strength's mean lies below the best one's; never negative."""
        return float(self.means.max() - self.means[chosen])

    @classmethod
    def of(cls, grid: Grid, seed: int) -> Judge:
        """All folds and images of one seed.

        The unit is one for all strengths: the median of their fold spreads of the difference to the best, over the
        root of the number of folds. A strength that collapsed now and then does not get a unit of its own by that.
        """
        scores = grid.scores(seed)
        best = int(np.argmax(scores.mean(axis=1)))
        others = np.delete(scores, best, axis=0) - scores[best]
        spread = float(np.median(others.std(axis=1, ddof=1)))
        return cls(scores.mean(axis=1), spread / np.sqrt(scores.shape[1]))


def kind_of(replay: Replay, chosen: int) -> str | None:
    """The verdict's kind from the trials that were fully trained; None where none or the choice was not.

    A setting that lacks folds which none and the chosen share has dropped out: it keeps its intervals and cannot win.
    """
    finished = replay.finished
    shared = sorted(finished.get(0, set()) & finished.get(chosen, set()))
    if not shared:
        return None
    candidates = [
        Candidate(
            StrengthRecord("total_decay", value),
            [[replay.counts(v, fold)] for fold in sorted(finished[v])] if v in finished else None,
            None if finished.get(v, set()).issuperset(shared) else "dropped",
            None,
            0,
            tuple(sorted(finished.get(v, ()))),
        )
        for v, value in enumerate(replay.values)
    ]
    found = decide(candidates, (), confidence=CONFIDENCE, resamples=RESAMPLES, seed=0, best_value=replay.values[chosen])
    return found.kind
