"""A comparison of regularizers at equal budget, in the order in which things happen: data, folds, trials, judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdecay.config.schema import CompareConfig, RunConfig
from segdecay.data import load_dataset, task_of
from segdecay.data.checks.findings import CheckReport
from segdecay.data.splits.folds import check_folds, plan_folds
from segdecay.data.transforms.user import UserTransform
from segdecay.errors import ConfigError, SegdecayError, gather, unknown
from segdecay.execution import Event, find_devices
from segdecay.execution.options import Execution
from segdecay.metrics.criteria import build_criterion
from segdecay.report import build_report
from segdecay.report.text.format import duration
from segdecay.runs.comparison import Comparison
from segdecay.runs.folder import check_folder, check_same, open_run, write_environment
from segdecay.search.comparison.arm_trials import ArmSetting, ArmTrials
from segdecay.search.comparison.arms import ARMS, NONE, strengths_of
from segdecay.search.comparison.conclude import conclude
from segdecay.search.ledger import Ledger
from segdecay.training.precision import with_precision
from segdecay.training.preflight import Preflight, run_preflight
from segdecay.training.setup import TrialTask, count_batches, count_epochs
from segdecay.utils.files import plain_values, write_json
from segdecay.utils.tables import data_frame
from segdecay.workflows.frames import arm_class_rows, arm_rows, pair_rows, trial_rows
from segdecay.workflows.notebook import comparison_html
from segdecay.workflows.request import check_names
from segdecay.workflows.steps import (
    Watcher,
    fitted_to_task,
    refuse_unlearnable,
    refuse_warnings,
    say_all,
    write_facts,
)
from segdecay.workflows.user_training import TRANSFORM_SOURCE, check_source
from segdecay.workflows.workers import executor_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Compared:
    """What `compare` returns; a notebook shows the arms, the best first."""

    run: Path
    comparison: Comparison
    report: Path

    def __repr__(self) -> str:
        arms = ", ".join(f"{arm.name} {arm.mean:.3f} {arm.letters}" for arm in self.comparison.arms)
        return f"Compared({str(self.run)!r}: {arms})"

    def _repr_html_(self) -> str:
        return comparison_html(self.comparison, self.report)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, as comparison.json has it, and the paths."""
        return {**plain_values(self.comparison), "run": str(self.run), "report": str(self.report)}

    def trials_dataframe(self) -> pd.DataFrame:
        """One row a trial, as `Tuned.trials_dataframe`."""
        return data_frame(trial_rows(self.run))

    def arms_dataframe(self) -> pd.DataFrame:
        """One row an arm, the best first: score, interval, letters, gap, cost."""
        return data_frame(arm_rows(self.comparison))

    def pairs_dataframe(self) -> pd.DataFrame:
        """One row a pair of arms: the paired difference, its interval and p, adjusted by Holm."""
        return data_frame(pair_rows(self.comparison))

    def classes_dataframe(self) -> pd.DataFrame:
        """One row a class and arm: score and difference from no decay."""
        return data_frame(arm_class_rows(self.comparison))


def prepared(config: CompareConfig) -> CompareConfig:
    """The configuration that all arms share: no decay, and no class weights unless they were asked for.

    Raises:
        ConfigError: arms that do not exist or do not fit, and keys that arms vary; all are listed.
    """
    shared, section = config.shared, config.compare
    loss = shared.loss
    if "class_weights" not in loss.model_fields_set:
        loss = loss.model_copy(update={"class_weights": NONE})
    faults = [*_check_shared(shared), *_check_section(config)]
    plain = shared.decay.model_copy(update={"regularizer": NONE, "options": {}})
    shared = shared.model_copy(update={"decay": plain, "loss": loss})
    faults += [fault for name in section.arms if name in ARMS for fault in ARMS[name].faults(shared)]
    names = check_names(shared)
    gather(ConfigError, [*names, *(faults if not names else [f for f in faults if f not in names])])
    arms = (NONE, *(name for name in dict.fromkeys(section.arms) if name != NONE))
    section = section.model_copy(update={"arms": arms})
    values = {name: getattr(shared, name) for name in RunConfig.model_fields}
    return CompareConfig.model_construct(**values, compare=section)


def _check_shared(shared: RunConfig) -> list[str]:
    """Keys that have no meaning where arms are compared."""
    faults = []
    given = shared.decay.model_fields_set
    if "regularizer" in given and shared.decay.regularizer != NONE:
        faults.append(f"decay.regularizer={shared.decay.regularizer}: the arms name the regularizers. Leave it out.")
    faults += [
        f"decay.{key}: every arm sets this key itself. Leave it out."
        for key in ("value", "lambda_", "options")
        if getattr(shared.decay, key)
    ]
    if shared.search.grid is not None:
        faults.append("search.grid: every arm has its own axis. Use compare.grids: {ARM: [STRENGTHS]}.")
    if shared.balancing.epochs:
        faults.append(
            f"balancing.epochs={shared.balancing.epochs}: the arm weight_balancing sets this key itself. Leave it at 0."
        )
    if shared.search.max_class_loss is not None:
        faults.append("search.max_class_loss: arms are ranked by the criterion alone. Leave it out.")
    return faults


def _check_section(config: CompareConfig) -> list[str]:
    arms, grids = config.compare.arms, config.compare.grids
    faults = [unknown("arm", name, ARMS) for name in arms if name not in ARMS]
    faults += [f"arm '{name}' is listed twice." for name in dict.fromkeys(arms) if arms.count(name) > 1]
    faults += [f"compare.grids: {unknown('arm', name, ARMS)}" for name in grids if name not in ARMS]
    faults += [
        f"compare.grids.{name}: the arm is not among --arms ({', '.join(arms)}). Add it, or leave its grid out."
        for name in grids
        if name in ARMS and name not in arms and name != NONE
    ]
    if NONE in grids:
        faults.append("compare.grids.none: none is a single setting, without strengths. Leave it out.")
    if not [name for name in arms if name in ARMS and name != NONE] and not faults:
        faults.append("none alone cannot be compared: add at least one arm to --arms.")
    return faults


def compare(
    config: CompareConfig, run: Path, execution: Execution, watcher: Watcher, transform: UserTransform | None = None
) -> Compared:
    """Train every arm at equal budget, judge and report; the same call on the same `run` goes on.

    Args:
        transform: a callable of the user's that changes training images, given in Python.

    Raises:
        SegdecayError: anything a user can act on; nothing that was finished is lost.
    """
    devices = find_devices(execution.device)
    fitted = with_precision(fitted_to_task(config.shared, task_of(config.data)), devices[0])
    config = prepared(config.model_copy(update={"model": fitted.model, "training": fitted.training}))
    check_folder(run, config, "compare")
    trials, notes = _plan(config, run, execution, watcher)
    dataset, trials.transform = trials.dataset, transform
    preflights = _try_arms(trials, devices[0])
    preflight = preflights[NONE]
    executor = executor_of(transform, execution, devices, watcher)
    workers = executor.workers
    with open_run(run, config, "compare", wait=execution.wait, say=watcher.say) as opened:
        opened.room_bytes = preflight.room_bytes(workers, refits=1)
        check_same(run, "data.json", "fingerprint", dataset.fingerprint, "data")
        check_same(run, "folds.json", "fingerprint", trials.folds.fingerprint, "folds")
        tasks = trials.all_tasks()
        trials.ledger.forget_leftovers()
        say_all([f"warning: {line}" for line in trials.ledger.forget_damaged({t.folder for t in tasks})], watcher)
        write_facts(run, trials.config, dataset, notes, trials.folds, preflight)
        write_environment(run, execution.command, devices, workers, len(tasks))
        if transform is not None:
            check_source(run, transform.function, watcher, TRANSFORM_SOURCE)
        missing = trials.missing(tasks)
        say_all(plan_lines(trials, preflights, tasks, missing, workers), watcher)
        watcher.begin(trials.criterion, len(tasks), len(tasks) - len(missing), workers)

        def note(event: Event) -> None:
            trials.note(event)
            watcher.event(event)

        if missing:
            executor.run(missing, note)
        comparison = conclude(trials, config)
        write_json(run / "comparison.json", comparison)
        watcher.say(comparison.sentence)
        return Compared(run, comparison, build_report(run))


def _plan(config: CompareConfig, run: Path, execution: Execution, watcher: Watcher) -> tuple[ArmTrials, CheckReport]:
    """The data, its folds and the strengths of every arm; whatever is wrong with these is told here."""
    shared = config.shared
    dataset, checks = load_dataset(config.data, cache=execution.cache)
    build_criterion(shared.search, dataset.classes, dataset.task, dataset.exclude_from_mean)
    folds = plan_folds(dataset, shared)
    unfit = check_folds(folds, dataset, allow_missing=shared.search.allow_missing)
    refuse_warnings(shared, [*checks.findings, *unfit], watcher)
    refuse_unlearnable(shared, dataset, [fold.train for fold in folds.folds], watcher)
    smallest = min(len(fold.train) for fold in folds.folds)
    strengths, faults = {}, []
    for name in config.compare.arms:
        try:
            own = config.compare.grids.get(name)
            strengths[name] = strengths_of(ARMS[name], shared, smallest, config.compare.strengths, own)
        except SegdecayError as error:
            faults.append(str(error))
    gather(ConfigError, faults)
    trials = ArmTrials(shared, dataset, folds, Ledger(run), strengths, checkpoint_every_s=execution.checkpoint_every_s)
    gather(ConfigError, _check_settings(trials))
    return trials, checks


def _check_settings(trials: ArmTrials) -> list[str]:
    """Faults of the configurations that strengths become, and strengths that become the same training."""
    faults = []
    for name, values in trials.strengths.items():
        seen = set()
        for value in values:
            config = trials.settle(ArmSetting(name, value), trials.folds.folds[0].train).config
            faults += [f"{name}: {fault}" for fault in check_names(config)]
            if config.training.epochs in seen or (name == "early_stopping" and config == trials.config):
                faults.append(
                    f"early_stopping: {len(values)} different lengths below training.epochs="
                    f"{trials.config.training.epochs} are needed; give more epochs or fewer --strengths."
                )
            if name == "early_stopping":
                seen.add(config.training.epochs)
    return list(dict.fromkeys(faults))


def _try_arms(trials: ArmTrials, device: str) -> dict[str, Preflight]:
    """A few real steps of every arm at its strongest, on a throw-away model.

    Raises:
        ConfigError: with what every arm that fails says.
    """
    found, faults = {}, []
    for name, values in trials.strengths.items():
        task = trials.tasks(ArmSetting(name, values[-1] if values else None))[0]
        try:
            found[name] = run_preflight(replace(task, device=device))
        except SegdecayError as error:
            faults.append(f"{name}: {error}")
    gather(ConfigError, faults)
    return found


def plan_lines(
    trials: ArmTrials,
    preflights: dict[str, Preflight],
    tasks: Sequence[TrialTask],
    missing: Sequence[TrialTask],
    workers: int,
) -> list[str]:
    """What will be trained, and about how long it takes."""
    seconds = 0.0
    for task in missing:
        preflight = preflights[task.setting.partition("-")[0]]
        batches = count_batches(len(task.train), task.config.training.batch_size)
        seconds += preflight.seconds_a_batch * batches * count_epochs(task.config)
    n_folds, n_seeds = len(trials.folds.folds), len(trials.config.search.seeds)
    n_each = max(len(values) for values in trials.strengths.values())
    grids = [f"{name}: {', '.join(f'{v:.6g}' for v in values)}" for name, values in trials.strengths.items() if values]
    done = f", {len(tasks) - len(missing)} of them finished" if len(missing) < len(tasks) else ""
    of_none, of_each = n_folds * n_seeds, n_each * n_folds * n_seeds
    head = (
        f"{trials.dataset.name}: {len(trials.strengths)} arms, {n_each} strength{'s' if n_each > 1 else ''} each "
        "beside "
        f"none, {n_folds} folds by {trials.folds.method}, {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    )
    left = f"about {duration(seconds / workers)} left" if missing else "nothing is left to train"
    foot = (
        f"{len(tasks)} trainings{done}: {of_none} of none, which all arms share, and {of_each} of every other arm; "
        f"{workers} at a time, {left}."
    )
    return [head, *grids, foot]
