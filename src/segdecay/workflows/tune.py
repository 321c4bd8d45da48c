"""A search from its plan to its report: trials, verdict, bias-corrected score, refits, model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdecay.config.schema import RunConfig
from segdecay.data import Dataset
from segdecay.data.splits.folds import check_folds
from segdecay.data.transforms.user import UserTransform
from segdecay.errors import RunError
from segdecay.execution import Event
from segdecay.execution.options import Execution
from segdecay.inference.model import Model, load_predictor
from segdecay.metrics.criteria import Criterion
from segdecay.report import build_report
from segdecay.runs.folder import check_same, check_same_mean, no_model_text, open_run, write_environment
from segdecay.runs.records import TrialRecord, axis_names
from segdecay.runs.verdict import Advice, Cost, TestPart, TestScores, Verdict
from segdecay.search.bias_correction import honest_score, with_honest
from segdecay.search.cautions import Evidence, cautions_of
from segdecay.search.costs import Estimate, count_trials, estimate_of
from segdecay.search.examples import write_examples
from segdecay.search.joint.search import run_joint
from segdecay.search.ledger import setting_name
from segdecay.search.recipe import Seen, judge_recipe, recipe_line
from segdecay.search.sentences import with_length
from segdecay.search.study import Study, grid_of, known_trials, run_study, stronger_than
from segdecay.search.verdict import Decision
from segdecay.training.setup import TrialTask, count_steps
from segdecay.utils.files import plain_values, read_json, write_json
from segdecay.utils.tables import data_frame
from segdecay.workflows.advice import Asked, advice_of, next_steps, recipe_commands
from segdecay.workflows.frames import class_rows, setting_rows, trial_rows
from segdecay.workflows.notebook import search_html, title_of
from segdecay.workflows.prepare import Prepared, prepare
from segdecay.workflows.steps import (
    REFIT_FOLD,
    Watcher,
    paste_of,
    pool_of,
    refuse_small_budget,
    say_all,
    ship,
    write_facts,
)
from segdecay.workflows.user_training import (
    TRANSFORM_SOURCE,
    UserSearch,
    check_source,
    prepare_user_function,
    write_user_facts,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Tuned:
    """What `tune` returns; a notebook shows the verdict, its figure and its cautions."""

    run: Path
    verdict: Verdict
    report: Path
    model: Path | None  # None: trained by the caller's function, or no model is recommended

    def __repr__(self) -> str:
        found, strength = self.verdict, self.verdict.strength
        score = "n/a" if found.selection.mean is None else f"{found.selection.mean:.3f}"
        at = f"{axis_names(strength.axis)[1]} = {strength.value:g}, {found.criterion_name} {score}"
        return f"Tuned({str(self.run)!r}: {title_of(found)}; {at})"

    def _repr_html_(self) -> str:
        return search_html(self.verdict, self.report)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values, as verdict.json has it, and the paths."""
        paths = {"run": self.run, "report": self.report, "model": self.model}
        return {**plain_values(self.verdict), **{name: path and str(path) for name, path in paths.items()}}

    def trials_dataframe(self) -> pd.DataFrame:
        """One row a trial: strength, fold, seed, status, scores on validation and training images, IoU by class."""
        return data_frame(trial_rows(self.run))

    def settings_dataframe(self) -> pd.DataFrame:
        """One row a strength: score, interval, paired difference from no decay, score of every fold."""
        return data_frame(setting_rows(self.verdict))

    def classes_dataframe(self) -> pd.DataFrame:
        """One row a class: without decay, at the compared strength, the difference, and on the test part."""
        return data_frame(class_rows(self.verdict))

    def load(self, *, model: str | None = None, device: str = "cpu") -> Model:
        """The refitted model, ready to predict.

        Args:
            model: for a model of your own code, the same package.module:build again.
            device: where to put it.

        Raises:
            RunError: the caller's function trained: it keeps its own models.
        """
        if self.model is None and self.verdict.kind == "undertrained":
            raise RunError(no_model_text(self.run, self.verdict.sentence))
        if self.model is None:
            raise RunError(f"{self.run} was trained by a function of your own, which keeps its own models.")
        return Model(load_predictor([self.model], model=model, device=device))


def tune(
    config: RunConfig,
    run: Path,
    execution: Execution,
    watcher: Watcher,
    search: UserSearch | None = None,
    transform: UserTransform | None = None,
) -> Tuned:
    """Choose λ by cross-validation, refit and report; the same call on the same `run` goes on.

    Args:
        config: what is searched.
        run: the run's folder.
        execution: workers, devices and budget; they do not change what is found.
        watcher: receives progress.
        search: a user's function that trains, and its data; None: segdecay trains, and ships a model.
        transform: a callable of the user's that changes training images, given in Python.

    Raises:
        SegdecayError: anything a user can act on; nothing that was finished is lost.
    """
    if search is None:
        found = prepare(config, run, execution, watcher, transform)
    else:
        found = prepare_user_function(config, run, execution, watcher, search)
    study = found.study
    if found.preflight is not None:
        refuse_small_budget(study, found.preflight, study.executor.workers, execution.budget_s)
    with _opened(found, run, execution, watcher):
        if transform is not None:
            check_source(run, transform.function, watcher, TRANSFORM_SOURCE)
        if search is not None:
            check_source(run, search.function, watcher)
        else:
            _tell_recipe(found, watcher, execution.command)
        verdict, decision = run_joint(study) if found.config.search.joint else run_study(study)
        is_trained = verdict.kind != "undertrained"
        evidence = _evidence(found, run, verdict)
        recipe = judge_recipe(evidence.without_decay)
        if is_trained and recipe is not None and recipe.is_short:
            verdict = replace(verdict, sentence=with_length(verdict.sentence, found.config.training.epochs))
        verdict = replace(
            verdict,
            advice=_advice(found, verdict, execution.command, evidence),
            cautions=cautions_of(verdict, evidence),
        )
        if search is None:
            verdict = _with_examples_and_paste(found, run, verdict, decision)
        else:
            write_user_facts(run, study, decision, search)
        write_json(run / "verdict.json", verdict)
        watcher.say(verdict.sentence)

        if is_trained:
            verdict = with_honest(verdict, honest_score(study, verdict.strength, found.held, watcher.say))
            write_json(run / "verdict.json", verdict)

        is_refitted = found.refits > 0 and (is_trained or execution.refit == "anyway")
        if is_refitted:
            refits = refit(study, verdict, none=grid_of(study)[0])
            test = scores_on_test(refits, study.dataset, study.criterion)
            verdict = replace(verdict, test=test, cost=cost_with(verdict.cost, list(refits.values())))
            write_json(run / "verdict.json", verdict)
            if search is None:
                taken = study.config_at(verdict.strength.value)
                ship(run, taken, study.dataset, refits["chosen"], study.ledger.refit("chosen"), verdict)
        return Tuned(run, verdict, build_report(run), run / "model" if is_refitted and search is None else None)


def _advice(found: Prepared, verdict: Verdict, command: str, evidence: Evidence) -> tuple[Advice, ...]:
    """What may be done next, with commands."""
    study = found.study
    is_trained = verdict.kind != "undertrained"
    if study.user is not None:
        return () if is_trained else (Advice("Train longer or at a higher learning rate, in your function."),)
    most = count_trials(study, grid_of(study)).most
    steps = count_steps(found.config, study.fold_images, epochs=1)
    asked = Asked(found.config, verdict, command, str(study.ledger.run), most, max(1, study.executor.workers), steps)
    if not is_trained:
        return advice_of(asked)
    tried = [one.strength.value for one in verdict.settings]
    return next_steps(asked, judge_recipe(evidence.without_decay), stronger_than(study, tried))


def _evidence(found: Prepared, run: Path, verdict: Verdict) -> Evidence:
    """What limits the verdict: findings of the checks, the trials that it rests on, and earlier looks at the test."""
    study = found.study
    scored = {item.strength.value: item.folds for item in verdict.settings if item.folds}
    tasks = [
        task
        for value, folds in scored.items()
        for task in study.tasks(value)
        if task.fold < len(folds) and folds[task.fold] is not None
    ]
    none = verdict.none.strength.value if verdict.none is not None else None
    without_decay = [seen for task in tasks if task.value == none and (seen := _seen(study, task)) is not None]
    unfit = check_folds(study.folds, study.dataset, allow_missing=True)
    return Evidence(
        study.dataset,
        study.folds,
        [*found.checks.findings, *unfit],
        study.records(tasks),
        without_decay,
        _tested_before(run, study.dataset),
        found.config.data.size,
    )


def _seen(study: Study, task: TrialTask) -> Seen | None:
    """A finished trial with its curve; None without one, as where a user's function trains."""
    record = study.ledger.record(task.folder)
    if record is None or not (task.folder / "curve.jsonl").is_file():
        return None
    name = "balanced accuracy" if study.dataset.task == "classification" else "mIoU"
    return Seen(study.ledger.curve(task.folder), record, name)


def _tell_recipe(found: Prepared, watcher: Watcher, command: str) -> None:
    """Let the first finished trial without decay say whether learning rate and length look right."""
    study, none, config = found.study, grid_of(found.study)[0], found.config
    pass_on = study.on_event

    def note(event: Event) -> None:
        pass_on(event)
        if event.task.value != none or event.task.fold == REFIT_FOLD or event.kind != "finished":
            return
        study.on_event = pass_on
        seen = _seen(study, event.task)
        judged = judge_recipe([seen]) if seen is not None else None
        if judged is not None:
            watcher.say(recipe_line(judged, config.optimizer.lr, config.training.epochs))
            say_all([f"    {line}" for line in recipe_commands(judged, config, command)], watcher)

    study.on_event = note


def _tested_before(run: Path, dataset: Dataset) -> list[str]:
    """Other runs beside this one that scored the test part of the same data."""
    if not dataset.part("test"):
        return []
    found = []
    for path in sorted(run.resolve().parent.glob("*/verdict.json")):
        other = path.parent
        try:
            is_same = read_json(other / "data.json")["fingerprint"] == dataset.fingerprint
            if other != run.resolve() and is_same and read_json(path)["test"] is not None:
                found.append(other.name)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody else's file, or a damaged run
    return found


@contextmanager
def _opened(found: Prepared, run: Path, execution: Execution, watcher: Watcher) -> Iterator[None]:
    """Hold the run's folder, with what the search rests on written and the leftovers of a kill removed."""
    study, preflight, grid = found.study, found.preflight, grid_of(found.study)
    workers = study.executor.workers
    with open_run(run, found.config, "tune", wait=execution.wait, say=watcher.say) as opened:
        if preflight is not None:
            opened.room_bytes = preflight.room_bytes(workers, refits=2)
        clear_ledger(study, watcher)
        write_facts(run, found.config, study.dataset, found.checks, study.folds, preflight)
        write_environment(run, execution.command, found.devices, workers, count_trials(study, grid).most)
        watcher.plan(study, grid, preflight, found.refits, workers)
        if execution.budget_s is not None:
            study.budget = replace(study.budget, stop_at=time.monotonic() + execution.budget_s)
        yield


def clear_ledger(study: Study, watcher: Watcher) -> None:
    """Refuse a run of other data or folds; remove what a kill or damage left.

    Raises:
        RunError: the fingerprints differ.
    """
    run = study.ledger.run
    check_same(run, "data.json", "fingerprint", study.dataset.fingerprint, "data")
    check_same_mean(run, study.dataset.exclude_from_mean)
    check_same(run, "folds.json", "fingerprint", study.folds.fingerprint, "folds")
    study.ledger.forget_leftovers()
    damaged = study.ledger.forget_damaged(known_trials(study), ships=study.user is None)
    say_all([f"warning: {line}" for line in damaged], watcher)


def _with_examples_and_paste(found: Prepared, run: Path, verdict: Verdict, decision: Decision) -> Verdict:
    """The verdict with its lines to paste, where it recommends any; draws examples, removes other weights."""
    study = found.study
    write_examples(study, decision, run / "examples")
    study.ledger.forget_models(but=setting_name(verdict.strength.axis, verdict.strength.value))
    if found.preflight is None:
        raise AssertionError("the built-in training is tried before a search")
    if verdict.kind == "undertrained":
        return verdict
    taken = study.config_at(verdict.strength.value)
    return replace(verdict, paste=paste_of(taken, verdict, found.preflight, len(pool_of(study.dataset))))


def estimate(
    config: RunConfig, run: Path, execution: Execution, watcher: Watcher, transform: UserTransform | None = None
) -> Estimate:
    """Trials, time and disk of a search, beforehand: nothing is trained but a few steps on a throw-away model, nothing
    written to `run`.

    Raises:
        SegdecayError: whatever would stop the search before its first trial.
    """
    found = prepare(config, run, execution, watcher, transform)
    study = found.study
    if found.preflight is None:
        raise AssertionError("the built-in training is tried before a search")
    return estimate_of(study, grid_of(study), found.preflight, found.refits, study.executor.workers)


def refit(study: Study, verdict: Verdict, *, none: float) -> dict[str, TrialRecord]:
    """Train on the whole pool at the taken axis value, and at none when there is a test part to compare on.

    The test part is scored once, after the last step of each.

    Raises:
        DiskFullError: there is no room for one.
        RunError: a refit failed or diverged.
    """
    test = study.dataset.part("test")
    values = {"chosen": verdict.strength.value}
    if test and verdict.strength.value != none:
        values["zero"] = none
    tasks = {role: _refit_task(study, role, value, test) for role, value in values.items()}
    for task in tasks.values():  # a trial that failed before may have changed the verdict
        study.ledger.forget_other_setting(task.folder, task.setting)
    failures: dict[Path, str] = {}

    def note(event: Event) -> None:
        if event.kind == "failed":
            failures[event.task.folder] = event.reason or "failed"
        study.on_event(event)

    missing = [task for task in tasks.values() if study.ledger.record(task.folder) is None]
    if missing:
        study.executor.run(missing, note)
    records: dict[str, TrialRecord] = {}
    for role, task in tasks.items():
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            raise RunError(_refit_failed(values[role], record, failures.get(task.folder, "unfinished"), study))
        records[role] = record
    return records


def _refit_failed(value: float, record: TrialRecord | None, failure: str, study: Study) -> str:
    if record is None:
        remedy = "Remove the cause and run the same command again: only the refit is left to do."
    else:
        remedy = "Train at a neighbouring strength, or lower optimizer.lr in a new run."
    reason = failure if record is None else record.reason
    return f"The refit at {value:g} did not succeed: {reason}. The verdict is in {study.ledger.run}. {remedy}"


def _refit_task(study: Study, role: str, value: float, test: tuple[int, ...]) -> TrialTask:
    return TrialTask(
        folder=study.ledger.refit(role),
        dataset=study.dataset.root,
        config=study.config_at(value),
        setting=study.name_of(value),
        value=value,
        fold=REFIT_FOLD,
        seed=study.config.search.seeds[0],
        train=pool_of(study.dataset),
        scored=test,
        keep_model=True,
        is_refit=True,
        scores_on_the_way=0,
        checkpoint_every_s=study.checkpoint_every_s,
        user=study.user,
        transform=study.transform,
    )


def scores_on_test(refits: dict[str, TrialRecord], dataset: Dataset, criterion: Criterion) -> TestPart | None:
    """The test scores of the refits; where no decay was taken, both are those of the one refit."""
    if not dataset.part("test"):
        return None

    def scores(role: str) -> TestScores:
        found = refits.get(role, refits["chosen"]).validation
        if found is None:
            raise AssertionError("a refit is scored where there is a test part")
        by_class = found.recall if criterion.by_class.class_score == "recall" else found.iou
        return TestScores(
            miou=found.miou,
            iou=dict(zip(dataset.classes, found.iou, strict=True)),
            score=criterion.of_record(found),
            classes=dict(zip(dataset.classes, by_class, strict=True)),
        )

    return TestPart(scores("chosen"), scores("zero"))


def cost_with(cost: Cost, refits: Sequence[TrialRecord]) -> Cost:
    """The cost of a search with that of its refits added."""
    return Cost(
        cost.trials,
        cost.epochs + sum(record.epochs for record in refits),
        round(cost.seconds + sum(record.seconds for record in refits), 1),
        len(refits),
    )
