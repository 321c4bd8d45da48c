"""The range test of a learning rate: one short training whose rate rises with every step, until the loss diverges.

The loss falls where the rate is high enough to learn and not yet too high; L. Smith, "Cyclical Learning Rates for
Training Neural Networks" (2017), section 3.3, chooses rates by it. Here it is run without decay and at a middle
strength, with the same initial weights and batches.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segdecay.errors import RunError
from segdecay.training.checkpoint import write_checkpoint
from segdecay.training.loop import open_trial, train_step
from segdecay.training.setup import ALONE, TrialTask, axis_for, count_steps, epoch_batches
from segdecay.training.state import Trial
from segdecay.utils.files import read_json, write_json

MEMORY = 0.9  # of the running mean of the loss, from step to step
DIVERGED = 4.0  # the running mean over its smallest value so far
BEGUN = 10  # steps before a rise counts
LEAST_FALL = 0.02  # of the first loss: a smaller fall is no learning
BELOW_LOWEST = 10.0  # the suggested rate is this much below the one at which the loss stops falling
STILL_FALLING = 1.5  # the smallest loss within this factor of the last rate: the test ended too early
NEAR = 5.0  # a rate within this factor of the suggested one is as good a start


@dataclass(frozen=True)
class RangePlan:
    """The rates of a range test: `steps` of them from `lowest` to `highest`, evenly on a logarithmic scale.

    >>> [round(rate, 4) for rate in RangePlan(0.001, 1.0, 4).rates]
    [0.001, 0.01, 0.1, 1.0]
    """

    lowest: float
    highest: float
    steps: int

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rate of every step."""
        return tuple(float(rate) for rate in np.geomspace(self.lowest, self.highest, self.steps))


@dataclass(frozen=True)
class RangeCurve:
    """The loss of every step of one range test.

    Attributes:
        strength: on the regularizer's axis; 0 or the axis' none without decay.
        rates: of the steps that were made.
        losses: of the batch of each step, before its update; the last is not finite where `reason` says so.
        reason: why it ended before the highest rate; None where it did not.
    """

    strength: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    reason: str | None

    @property
    def smooth(self) -> tuple[float, ...]:
        """The running mean of the loss, corrected for its start."""
        return smoothed(self.losses)


def smoothed(losses: Sequence[float], memory: float = MEMORY) -> tuple[float, ...]:
    """Exponential running means, corrected for their start as in Adam.

    >>> smoothed([2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    """
    mean, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = memory * mean + (1 - memory) * loss
        found.append(round(mean / (1 - memory**count), 12))
    return tuple(found)


@dataclass(frozen=True)
class Suggestion:
    """What a range test says about the learning rate.

    Attributes:
        rate: the suggested peak; None where no rate lowered the loss.
        lowest: where the running mean of the loss is smallest.
        steepest: where it falls fastest.
        diverges: the rate of the last step before the loss diverged; None where it did not.
        reason: one sentence.
    """

    rate: float | None
    lowest: float | None
    steepest: float | None
    diverges: float | None
    reason: str


def suggest(curve: RangeCurve) -> Suggestion:
    """A peak learning rate from the range test without decay: a tenth of the rate at which the loss stops falling.

    At that rate the loss still falls quickly, and a whole training stays clear of divergence; the rule is a common one
    and no proof (docs/verdict.md has what it gave on real data).

    >>> rates = RangePlan(1e-4, 1.0, 200).rates
    >>> losses = [1.0 - 0.3 * min(1.0, rate / 0.05) + 5 * max(0.0, rate - 0.05) for rate in rates]
    >>> 0.003 < suggest(RangeCurve(0.0, rates, tuple(losses), None)).rate < 0.01
    True
    """
    means = [mean for mean in curve.smooth if math.isfinite(mean)]
    diverges = None if curve.reason is None else curve.rates[max(0, len(means) - 1)]
    if len(means) < BEGUN or means[0] - min(means) < LEAST_FALL * abs(means[0]):
        end = f"diverges at {curve.rates[-1]:.2g}" if curve.reason else f"does not fall up to {curve.rates[-1]:.2g}"
        return Suggestion(
            None, None, None, diverges, f"the loss {end} without having fallen by {LEAST_FALL:.0%} before"
        )
    at = int(np.argmin(means))
    lowest, steepest = curve.rates[at], _steepest(curve.rates[: at + 1], means[: at + 1])
    rate = float(f"{lowest / BELOW_LOWEST:.1g}")
    if diverges is None and lowest >= curve.rates[-1] / STILL_FALLING:
        reason = (
            f"the loss still falls at the last rates, up to {lowest:.2g}, so the test ends too early to tell how high "
            "a rate may be; raise --highest before you trust a tenth of it"
        )
        return Suggestion(rate, lowest, steepest, None, reason)
    ends = f"and diverges near {diverges:.2g}" if diverges is not None else "and does not diverge up to the last rate"
    reason = (
        f"the loss falls up to a rate of {lowest:.2g}, fastest near {steepest:.2g}, {ends}; a tenth of the first is a "
        "peak that learns fast and stays clear of divergence"
    )
    return Suggestion(rate, lowest, steepest, diverges, reason)


def _steepest(rates: Sequence[float], means: Sequence[float]) -> float:
    """The rate in the middle of the half decade over which the loss falls most, the first steps apart."""
    falls = {}
    for start in range(BEGUN, len(rates)):
        end = next((at for at in range(start + 1, len(rates)) if rates[at] >= rates[start] * math.sqrt(10)), None)
        if end is None:
            break
        falls[math.sqrt(rates[start] * rates[end])] = means[start] - means[end]
    return max(falls, key=lambda rate: falls[rate]) if falls else rates[-1]


def judged(rate: float, found: Suggestion) -> str:
    """What the range test says of a rate that is configured: "fits", "low", "high" or "unknown".

    >>> found = Suggestion(0.003, 0.03, 0.01, 0.4, "")
    >>> [judged(rate, found) for rate in (0.003, 0.00001, 0.01, 0.1)]
    ['fits', 'low', 'fits', 'high']
    """
    if found.rate is None or found.lowest is None:
        return "unknown"
    if rate > found.lowest or (found.diverges is not None and rate > found.diverges / 2):
        return "high"
    return "low" if rate < found.rate / NEAR else "fits"


def middle_strength(grid: Sequence[float], *, none: float) -> float | None:
    """The middle of the strengths that a search would try; None where none of them decays.

    >>> middle_strength([0.0, 1.0, 4.0, 16.0], none=0.0)
    4.0
    """
    decaying = sorted(value for value in grid if value != none)
    return decaying[len(decaying) // 2] if decaying else None


def read_range(path: Path) -> RangeCurve:
    """A finished range test.

    Raises:
        RunError: the file is damaged.
    """
    try:
        found = read_json(path)
        losses = tuple(math.inf if loss is None else float(loss) for loss in found["losses"])
        return RangeCurve(float(found["strength"]), tuple(map(float, found["rates"])), losses, found["reason"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it; the same command runs this test again.") from error


def run_range(
    task: TrialTask, plan: RangePlan, report: Callable[[int, int], None] = lambda _done, _steps: None
) -> RangeCurve:
    """One range test, or what is left of it; a finished one is only read.

    Where the axis is the total decay D, every step shrinks a weight by the D of a whole training over the number of its
    steps, whatever the rate: a training of that peak and strength would do so on average.

    Args:
        task: `value` is the strength; nothing is scored. Its folder gets `range.json`.
        plan: the rates.
        report: called with (finished steps, all steps).

    Raises:
        SegdecayError: the model, data or configuration do not work together.
    """
    kept = task.folder / "range.json"
    if kept.exists():
        return read_range(kept)
    epochs = -(-plan.steps // count_steps(task.config, len(task.train), epochs=1))
    trial = open_trial(task, ALONE, lambda: False, lambda _epoch, _epochs: None)
    trial.parts = replace(trial.parts, rates=plan.rates)
    losses: list[float] = [line["loss"] for line in trial.progress.curve]
    reason: str | None = None
    shrink = _shrink_per_step(task)
    for epoch in range(trial.progress.epoch, epochs):
        reason = _range_epoch(trial, plan, losses, shrink, report)
        if reason is not None or trial.progress.step >= plan.steps:
            break
        trial.progress.epoch, trial.progress.batch = epoch + 1, 0
    curve = RangeCurve(task.value, plan.rates[: len(losses)], tuple(losses), reason)
    write_json(kept, {"strength": curve.strength, "rates": curve.rates, "losses": curve.losses, "reason": reason})
    shutil.rmtree(task.folder / "checkpoint", ignore_errors=True)
    return curve


def _range_epoch(
    trial: Trial,
    plan: RangePlan,
    losses: list[float],
    shrink: float | None,
    report: Callable[[int, int], None],
) -> str | None:
    """The rest of an epoch; the reason where the loss diverged."""
    task, parts, progress = trial.task, trial.parts, trial.progress
    accumulate = task.config.training.accumulate
    batches = list(epoch_batches(task, progress.epoch))
    parts.model.train()
    with trial.feed.batches(progress.epoch, batches, progress.batch) as ready:
        for start in range(progress.batch, len(batches), accumulate):
            if progress.step >= plan.steps:
                return None
            rate = plan.rates[progress.step]
            for group in parts.optimizer.param_groups:
                group["lr"] = rate
            if shrink is not None:
                parts.handle.set_strength(shrink / rate)
            window = [next(ready) for _ in batches[start : start + accumulate]]
            loss = float(train_step(trial, window)) / len(window)
            losses.append(loss if math.isfinite(loss) else math.inf)
            progress.curve.append({"loss": losses[-1]})
            progress.batch = start + len(window)
            report(progress.step, plan.steps)
            means = smoothed(losses)
            if not math.isfinite(loss):
                return f"the loss became {loss} at a rate of {rate:.2g}"
            if len(losses) > BEGUN and means[-1] > DIVERGED * min(means):
                return f"the loss rose to {DIVERGED:g} times its smallest value at a rate of {rate:.2g}"
            _keep_if_due(trial)
    return None


def _keep_if_due(trial: Trial) -> None:
    if time.monotonic() - trial.saved < trial.task.checkpoint_every_s:
        return
    parts = trial.parts
    write_checkpoint(
        trial.task.folder / "checkpoint", parts.bare, parts.optimizer, parts.handle, {**trial.progress.__dict__}
    )
    trial.saved = time.monotonic()


def _shrink_per_step(task: TrialTask) -> float | None:
    """The share of a weight that a step takes away at this strength; None on other axes than the total decay."""
    if axis_for(task.config.decay, task.config.optimizer).name != "total_decay" or not task.value:
        return None
    return task.value / count_steps(task.config, len(task.train))
