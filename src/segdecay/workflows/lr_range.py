"""`segdecay lr`: the range test of the learning rate, without decay and at a middle strength, and what it suggests."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset, load_dataset, task_of
from segdecay.errors import ConfigError, gather
from segdecay.execution import find_devices
from segdecay.execution.options import Execution
from segdecay.report.figures.lr_range import range_svg
from segdecay.runs.folder import check_same, open_run, write_environment
from segdecay.runs.records import StrengthRecord, axis_names
from segdecay.training.lr_range import (
    RangeCurve,
    RangePlan,
    Suggestion,
    judged,
    middle_strength,
    run_range,
    suggest,
)
from segdecay.training.precision import with_precision
from segdecay.training.preflight import Preflight, run_preflight
from segdecay.training.setup import TrialTask, axis_for, strength_of
from segdecay.utils.files import write_bytes, write_json
from segdecay.workflows.advice import about
from segdecay.workflows.progress import ConsoleWatcher
from segdecay.workflows.steps import REFIT_FOLD, fitted_to_task, pool_of

STEPS = 300
REACH = 300.0  # times the configured rate, to both sides
HIGHEST = 10.0
FEWEST_STEPS = 30
JUDGED = {
    "fits": "fits",
    "low": "is low: the loss hardly falls at it",
    "high": "is too high: the loss rises at it",
    "unknown": "cannot be judged",
}


@dataclass(frozen=True)
class LrRange:
    """What `lr` returns.

    Attributes:
        run: the folder.
        configured: the learning rate of the configuration.
        suggestion: from the curve without decay.
        judged: what the curve says of the configured rate: "fits", "low", "high" or "unknown".
        curves: without decay, and at the middle strength where there is one.
        at_strength: the suggestion of the second curve; None without one.
        strength: of the second curve.
        picture: the file of the figure.
        command: that tunes at the suggested rate; None without a suggestion.
    """

    run: Path
    configured: float
    suggestion: Suggestion
    judged: str
    curves: tuple[RangeCurve, ...]
    at_strength: Suggestion | None
    strength: StrengthRecord | None
    picture: Path
    command: str | None

    def to_dict(self) -> dict[str, Any]:
        """What lr.json holds."""
        return {
            "configured": self.configured,
            "judged": self.judged,
            "suggestion": self.suggestion,
            "strength": self.strength,
            "at_strength": self.at_strength,
            "command": self.command,
        }

    @property
    def lines(self) -> list[str]:
        """The result as lines of text."""
        found = self.suggestion
        if found.rate is None:
            first, last = self.curves[0].rates[0], self.curves[0].rates[-1]
            what = (
                "Start lower (--lowest), or lower the gradient's limit (training.clip_norm); check that masks and "
                "images belong together."
                if found.diverges is not None
                else "Go higher (--highest), or check that masks and images belong together."
            )
            return [
                f"No learning rate is suggested: {found.reason} (rates {first:.2g} to {last:.2g}).",
                what,
                f"Picture: {self.picture}",
            ]
        lines = [
            f"Suggested learning rate: {found.rate:g}. The configured {self.configured:g} {JUDGED[self.judged]}.",
            f"Why: {found.reason}.",
        ]
        if self.at_strength is not None and self.strength is not None:
            lines.append(_beside(self.at_strength, self.strength))
        return [*lines, f"Picture: {self.picture}", f"Tune at it: {self.command}", "Nothing was changed."]


def _beside(found: Suggestion, strength: StrengthRecord) -> str:
    name = f"{axis_names(strength.axis)[1]} = {strength.value:g}"
    if found.rate is None:
        return f"At {name}: {found.reason}."
    return f"At {name} the loss falls up to {found.lowest:.2g}, which would suggest {found.rate:g}."


def plan_of(config: RunConfig, steps: int | None, lowest: float | None, highest: float | None) -> RangePlan:
    """The rates of the test: by default 300, from a 300th of the configured rate to 300 times it, 10 at most.

    Raises:
        ConfigError: listing all faults.
    """
    rate = config.optimizer.lr
    low = rate / REACH if lowest is None else lowest
    high = min(rate * REACH, HIGHEST) if highest is None else highest
    count = STEPS if steps is None else steps
    faults = []
    if not 0 < low < high:
        faults.append(f"--lowest must be above 0 and below --highest; saw {low:g} and {high:g}.")
    if count < FEWEST_STEPS:
        faults.append(f"--steps: a range test needs at least {FEWEST_STEPS}; saw {count}.")
    gather(ConfigError, faults)
    return RangePlan(low, high, count)


def lr_range(config: RunConfig, run: Path, execution: Execution, watcher: ConsoleWatcher, plan: RangePlan) -> LrRange:
    """Run both range tests on all images but the test part; the same call on the same `run` goes on.

    Raises:
        SegdecayError: anything a user can act on.
    """
    device = find_devices(execution.device)[0]
    config = with_precision(fitted_to_task(config, task_of(config.data)), device)
    dataset, _checks = load_dataset(config.data, cache=execution.cache, cache_limit=execution.cache_limit)
    axis = axis_for(config.decay, config.optimizer)
    tasks = [_task(config, dataset, run, "no-decay", axis.none, device, execution)]
    middle = middle_strength(config.search.grid or axis.default_grid, none=axis.none)
    if middle is not None:
        tasks.append(_task(config, dataset, run, "decay", middle, device, execution))
    with open_run(run, config, "lr", wait=execution.wait, say=watcher.say):
        check_same(run, "plan.json", "plan", _plan_text(plan, dataset), "rates or data")
        preflight = run_preflight(tasks[-1])
        write_json(run / "plan.json", {"plan": _plan_text(plan, dataset)})
        write_environment(run, execution.command, [device], 0, len(tasks))
        watcher.say(_cost(config, preflight, plan, len(tasks)))
        curves = tuple(run_range(task, plan, watcher.counter(task.folder.name)) for task in tasks)
        return _concluded(config, run, dataset, curves, preflight)


def _plan_text(plan: RangePlan, dataset: Dataset) -> str:
    return f"{plan.lowest:g} to {plan.highest:g} in {plan.steps} steps on {dataset.fingerprint}"


def _cost(config: RunConfig, preflight: Preflight, plan: RangePlan, tests: int) -> str:
    seconds = preflight.seconds_a_batch * config.training.accumulate * plan.steps * tests
    what = "without decay and at a middle strength" if tests > 1 else "without decay"
    rates = f"rates {plan.lowest:.2g} to {plan.highest:.2g}"
    return f"Range test of {plan.steps} steps {what}, {rates}: about {about(seconds)} at most."


def _task(
    config: RunConfig, dataset: Dataset, run: Path, name: str, value: float, device: str, execution: Execution
) -> TrialTask:
    return TrialTask(
        folder=run / name,
        dataset=dataset.root,
        config=config,
        setting=name,
        value=value,
        fold=REFIT_FOLD,
        seed=config.search.seeds[0],
        train=pool_of(dataset),
        scored=(),
        device=device,
        checkpoint_every_s=execution.checkpoint_every_s,
    )


def _concluded(
    config: RunConfig,
    run: Path,
    dataset: Dataset,
    curves: tuple[RangeCurve, ...],
    preflight: Preflight,
) -> LrRange:
    found = suggest(curves[0])
    strength = None
    if len(curves) > 1:
        strength = strength_of(config, curves[1].strength, len(pool_of(dataset)), size=preflight.size)
    tune = ["segdecay", "tune", config.data.path, "--set", f"optimizer.lr={found.rate:g}"] if found.rate else None
    done = LrRange(
        run,
        config.optimizer.lr,
        found,
        judged(config.optimizer.lr, found),
        curves,
        suggest(curves[1]) if len(curves) > 1 else None,
        strength,
        run / "lr.svg",
        None if tune is None else shlex.join(tune),
    )
    write_bytes(done.picture, range_svg(curves, found, done.configured, strength).encode())
    write_json(run / "lr.json", done.to_dict())
    return done
