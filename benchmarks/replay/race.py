"""The race of `segdecay tune` on a replay: its plan asks for trials, the records answer.

A block of the race is a fold of the replay.
"""

from __future__ import annotations

from replay.replaying import Outcome, Replay
from segdecay.search import race as curve_model
from segdecay.search import race as racing


def race(replay: Replay) -> Outcome:
    """Who leads when the race is over."""
    x = curve_model.positions(replay.values, 0.0)
    plan = racing.Race(x=x, blocks=replay.n_folds, asked=len(x))

    def look_up(trial: racing.Trial) -> curve_model.SeenTrial:
        setting, fold = trial
        return curve_model.SeenTrial(
            setting,
            fold,
            score=replay.trial(setting, fold),
            resampled=replay.resampled(setting, fold),
            collapsed=replay.is_collapsed(setting, fold),
        )

    seen, _ = racing.walk(plan, look_up)
    end = racing.standing(plan, seen)
    return Outcome(end.leader if end.leader is not None else racing.NONE)
