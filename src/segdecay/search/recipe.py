"""Whether learning rate and length look right, from the trials without decay: what was seen, and what may be better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from segdecay.runs.records import TrialRecord

RISE = 0.02  # of a validation score over the last third of the epochs: still rising
STUCK = 0.95  # of the first epoch's loss: a loss above it has not fallen
FALL = 0.5  # of the first epoch's loss: a loss above it at the end has fallen little
Word = Literal["fits", "high", "low", "unknown"]


@dataclass(frozen=True)
class Recipe:
    """What trainings without decay show of their recipe.

    Attributes:
        rate: of the learning rate; "low" also where the training may only be too short.
        is_short: whether validation scores still rise at the end.
        seen: what it rests on, one sentence.
    """

    rate: Word
    is_short: bool
    seen: str

    @property
    def looks_right(self) -> bool:
        return self.rate == "fits" and not self.is_short


@dataclass(frozen=True)
class Seen:
    """One trial without decay: its curve (lines of curve.jsonl), record, and the name of its score."""

    curve: Sequence[Mapping[str, Any]]
    record: TrialRecord
    criterion: str = "mIoU"


def judge_recipe(trials: Sequence[Seen]) -> Recipe | None:
    """Judge learning rate and length; None where no curve has losses, as in a user's function.

    The rate is high where a loss diverged, or did not fall while the rate was at least half its peak; low where the
    loss fell by less than half and nothing diverged. The training is short where the validation score rose by RISE or
    more over the last third of the epochs (mean over the trials).
    """
    trials = [one for one in trials if one.curve and all("loss" in line and "lr" in line for line in one.curve)]
    if not trials:
        return None
    diverged = [one for one in trials if one.record.status == "diverged"]
    if diverged:
        return Recipe("high", False, str(diverged[0].record.reason))
    first, peak, last = (float(np.mean([pick(one.curve) for one in trials])) for pick in (_first, _at_peak, _last))
    rises = [rise for one in trials if (rise := late_rise(scored_epochs(one.curve))) is not None]
    is_short = bool(rises) and float(np.mean(rises)) >= RISE
    losses = f"the training loss went from {first:.2g} in the first epoch to {last:.2g} in the last"
    if len(trials[0].curve) > 2 and peak >= STUCK * first > last:
        rate: Word = "high"
        losses = (
            f"while the rate was near its peak, the training loss stayed at {peak:.2g} ({first:.2g} in the first epoch)"
        )
    else:
        rate = "fits" if last <= FALL * first else "low"
    name = trials[0].criterion
    if rises:
        way = "rose" if np.mean(rises) >= 0 else "fell"
        losses += f", and validation {name} {way} by {abs(np.mean(rises)):.3f} over the last third of the epochs"
    return Recipe(rate, is_short, losses)


def recipe_line(found: Recipe, rate: float, epochs: int) -> str:
    """The judgement as one sentence.

    >>> recipe_line(Recipe("fits", False, "the loss fell"), 0.003, 80)
    'Learning rate 0.003 and 80 epochs look right: without decay the loss fell.'
    >>> recipe_line(Recipe("fits", True, "the score rose"), 0.003, 5)
    '5 epochs look short: without decay the score rose.'
    """
    count = f"{epochs} epoch{'s' if epochs != 1 else ''}"
    if found.looks_right:
        return f"Learning rate {rate:g} and {count} look right: without decay {found.seen}."
    if found.rate == "high":
        return f"Learning rate {rate:g} looks too high: without decay {found.seen}."
    if found.rate == "low":
        return f"Learning rate {rate:g} looks low, or {count} too few: without decay {found.seen}."
    return f"{count} look{'s' if epochs == 1 else ''} short: without decay {found.seen}."


def _first(curve: Sequence[Mapping[str, Any]]) -> float:
    return float(curve[0]["loss"])


def _last(curve: Sequence[Mapping[str, Any]]) -> float:
    return float(curve[-1]["loss"])


def _at_peak(curve: Sequence[Mapping[str, Any]]) -> float:
    """The mean loss of the epochs after the first whose rate is at least half the highest."""
    half = max(float(line["lr"]) for line in curve) / 2
    losses = [float(line["loss"]) for line in curve[1:] if float(line["lr"]) >= half]
    return float(np.mean(losses)) if losses else _last(curve)


def late_rise(curve: Sequence[tuple[int, float]]) -> float | None:
    """The rise of a score over the last third of the epochs; None where it was scored too seldom.

    >>> round(late_rise([(5, 0.2), (10, 0.4), (15, 0.5)]), 3)
    0.1
    """
    if len(curve) < 2:
        return None
    last, score = curve[-1]
    before = [value for epoch, value in curve[:-1] if epoch <= 2 * last / 3]
    return score - before[-1] if before else None


def scored_epochs(curve: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The epochs of a curve with a validation score, and the score: balanced accuracy for labels, mIoU for masks."""
    found = []
    for line in curve:
        score = line.get("validation_balanced_accuracy", line.get("validation_miou"))
        if isinstance(score, float):
            found.append((int(line["epoch"]), score))
    return found


def train_score(trial: Seen) -> float | None:
    """The score on the training images, where they were scored."""
    train = trial.record.train
    if train is None:
        return None
    return train.balanced_accuracy if trial.record.extra.get("task") == "classification" else train.miou
