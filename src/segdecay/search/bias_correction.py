"""Bias-corrected scores of the whole procedure: nested cross-validation, or a fold held out.

Both repeat the search without one fold and score the selected strength on that fold. The verdict's default correction
(BBC-CV) costs no training; these two cost trainings and assume less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from segdecay.config.schema import RunConfig
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import Fold, FoldPlan, make_plan
from segdecay.errors import ConfigError, DataError, RunError, gather
from segdecay.metrics import bootstrap as ev
from segdecay.runs.records import StrengthRecord, TrialRecord
from segdecay.runs.verdict import Verdict
from segdecay.search.ledger import Ledger
from segdecay.search.race_runner import Budget
from segdecay.search.study import Study, grid_of, known_trials, run_study
from segdecay.search.verdict import Candidate, ScoredCandidates, by_group
from segdecay.training.batches import derive_seed
from segdecay.training.setup import TrialTask

PROCEDURE = "the whole procedure, selection included, on images that it did not use"
LEAST_OUTER = 3  # nested: two folds remain for the selection when one is held out


def check_honest(config: RunConfig, *, has_time_budget: bool) -> list[str]:
    """Faults of the configured correction of the score."""
    if config.search.honest == "bbc-cv" or not has_time_budget:
        return []
    message = (
        f"--honest {config.search.honest} repeats the search, and a search limited by time is not repeatable. "
        "Give --budget as a number of trials, for example 20trials, or use --honest bbc-cv."
    )
    return [message]


def without_fold(plan: FoldPlan, outer: int, dataset: Dataset) -> FoldPlan:
    """The other folds, without all images that fold `outer` validates or leaves out."""
    allowed = set(plan.folds[outer].train)
    folds = []
    for number, fold in enumerate(plan.folds):
        if number == outer:
            continue
        train = tuple(i for i in fold.train if i in allowed)
        validation = tuple(i for i in fold.validation if i in allowed)
        rest = {*plan.folds[outer].train, *plan.folds[outer].validation, *plan.folds[outer].left_out}
        folds.append(Fold(train, validation, tuple(sorted(rest - {*train, *validation}))))
    return make_plan(plan.method, folds, dataset)


def check_nested(plan: FoldPlan, dataset: Dataset, *, allow_missing: bool) -> list[str]:
    """Faults of nesting these folds: too few folds or groups, or a class that an inner search cannot score."""
    if len(plan.folds) < LEAST_OUTER:
        message = (
            f"--honest nested needs at least {LEAST_OUTER} folds, so that two remain for the selection; there are "
            f"{len(plan.folds)}. Use more folds, or --honest bbc-cv, which costs no training."
        )
        return [message]
    faults = []
    for outer in range(len(plan.folds)):
        inner = without_fold(plan, outer, dataset)
        empty = [n for n, fold in enumerate(inner.folds) if not fold.train or not fold.validation]
        if empty:
            faults.append(
                f"--honest nested: without fold {outer + 1}, too few images are left to train and to validate on. "
                "Use fewer folds or a smaller search.block_gap, or --honest bbc-cv."
            )
            continue
        table = np.array(inner.table)
        lost = [dataset.classes[c] for c in np.flatnonzero((table > 0).sum(axis=1) < 2)]
        if lost and not allow_missing:
            faults.append(
                f"--honest nested: without fold {outer + 1}, {', '.join(lost)} can be scored in fewer than two of the "
                "other folds: too few groups hold it. Use --honest bbc-cv, merge classes, or give --allow-missing."
            )
    return faults


def validate_nested(study: Study) -> None:
    """Refuse a nested search that cannot succeed, before anything is trained.

    Raises:
        DataError: as `check_nested`.
        ConfigError: a strength that is too large for the smaller training sets.
    """
    gather(DataError, check_nested(study.folds, study.dataset, allow_missing=study.config.search.allow_missing))
    for outer in range(len(study.folds.folds)):
        try:
            grid_of(replace(study, folds=without_fold(study.folds, outer, study.dataset)))
        except ConfigError as error:
            raise ConfigError(f"--honest nested, without fold {outer + 1}: {error}") from error


def hold_out(plan: FoldPlan, dataset: Dataset) -> tuple[FoldPlan, Fold]:
    """The folds of the search, and the last fold, which is held out.

    Raises:
        DataError: fewer than three folds.
    """
    if len(plan.folds) < LEAST_OUTER:
        raise DataError(
            f"--honest holdout holds out one fold and needs two for the selection; there are {len(plan.folds)} folds. "
            "Use more folds, or --honest bbc-cv, which costs no training."
        )
    return without_fold(plan, len(plan.folds) - 1, dataset), plan.folds[-1]


@dataclass
class Outer:
    """Results of the outer folds: the strength selected without each fold, and its counts on that fold."""

    taken: list[StrengthRecord] = field(default_factory=list)
    counts: list[list[ev.Counts]] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    records: list[TrialRecord] = field(default_factory=list)


def nested_score(study: Study, whole: StrengthRecord, say: Callable[[str], None]) -> dict[str, Any]:
    """The bias-corrected score (`honest` of the verdict) by nested cross-validation.

    whole: the strength selected over all folds. say: receives a line for every damaged trial, which is trained again.

    Raises:
        DataError: as `check_nested`.
        RunError: an inner search, or a training at its selected strength, failed.
    """
    found = Outer()
    trained = 0
    for number, fold in enumerate(study.folds.folds):
        inner = _inner_study(study, number)
        for line in inner.ledger.forget_damaged(known_trials(inner)):
            say(f"warning: without fold {number + 1}: {line}")
        verdict, decision = run_study(inner)
        inner.ledger.forget_predictions()
        trained += verdict.cost.trials
        taken = decision.settings[decision.taken].strength
        tasks = [task for task in study.tasks(taken.value) if task.fold == number]
        _score_outer(study, tasks, taken, fold, found)
    honest = _summary(study, found, "nested")
    return honest | {
        "strengths": [one.value for one in found.taken],
        "agree": sum(one.value == whole.value for one in found.taken),
        "trainings": trained + len(found.records),
    }


def holdout_score(study: Study, taken: StrengthRecord, held: Fold) -> dict[str, Any]:
    """The score on the fold held out: trained on the search's images, scored once.

    Raises:
        RunError: the training at the selected strength failed.
    """
    ledger = Ledger(study.ledger.run / "holdout")
    outside = replace(study, folds=make_plan(study.folds.method, [held], study.dataset), ledger=ledger)
    found = Outer()
    _score_outer(outside, outside.tasks(taken.value), taken, held, found)
    return _summary(outside, found, "holdout") | {"trainings": len(found.records)}


def honest_score(
    study: Study, taken: StrengthRecord, held: Fold | None, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The configured bias-corrected score; None for BBC-CV, which is already in the verdict."""
    kind = study.config.search.honest
    if kind == "nested":
        return nested_score(study, taken, say)
    return None if held is None else holdout_score(study, taken, held)


def with_honest(verdict: Verdict, honest: dict[str, Any] | None) -> Verdict:
    """The verdict with this bias-corrected score instead of that of BBC-CV; None changes nothing."""
    if honest is None:
        return verdict
    of = {**verdict.evidence["intervals_of"], "honest": honest["of"]}
    return replace(verdict, honest=honest, evidence={**verdict.evidence, "intervals_of": of})


def _inner_study(study: Study, outer: int) -> Study:
    """The same search over the other folds, with a separate ledger."""
    inner = replace(
        study,
        folds=without_fold(study.folds, outer, study.dataset),
        ledger=Ledger(study.ledger.run / "nested" / f"without-{outer}"),
        budget=Budget(study.budget.trials),
        keep_models=False,
        failures={},
    )
    inner.ledger.forget_leftovers()
    return inner


def _score_outer(study: Study, tasks: Sequence[TrialTask], taken: StrengthRecord, fold: Fold, found: Outer) -> None:
    missing = [task for task in tasks if study.ledger.record(task.folder) is None]
    if missing:
        study.executor.run(missing, study.note)
        study.ledger.forget_predictions()  # needed only for the examples, which are written by now
    counts = []
    for task in tasks:
        record = study.ledger.record(task.folder)
        if record is None or record.status != "finished":
            reason = study.failures.get(task.folder, "unfinished") if record is None else record.reason
            raise RunError(
                f"The training for the bias-corrected score at {taken.value:g} failed on fold {task.fold + 1}: "
                f"{reason}. The search in {study.ledger.run} is finished; the same command resumes, or use "
                "--honest bbc-cv in a new run."
            )
        found.records.append(record)
        counts.append(ev.Counts.of(study.ledger.confusions(task.folder)))
    found.taken.append(taken)
    found.counts.append(counts)
    found.groups.append([study.dataset.items[index].group for index in fold.validation])


def _summary(study: Study, found: Outer, method: str) -> dict[str, Any]:
    """Mean over the outer folds; the interval needs no correction, since nothing was selected on these folds."""
    config = study.config
    criterion = study.criterion
    candidate = Candidate(found.taken[0], found.counts, None, None, 0)
    groups = ev.known_groups(found.groups)
    if groups is not None and ev.resampled_by(groups) == "groups":
        candidate, groups = by_group(candidate, groups), None
    seed = derive_seed(config.seed, "honest") % 2**32
    scored = ScoredCandidates.of([candidate], criterion, resamples=config.search.resamples, seed=seed, groups=groups)
    own = scored.own.interval(0, 1 - config.search.confidence)
    interval = None if own.interval is None else (max(0.0, own.interval[0]), min(1.0, own.interval[1]))
    return {
        "method": method,
        "of": PROCEDURE,
        "mean": own.mean,
        "interval": interval,
        "folds": [float(score) for score in scored.surface.scores[0]],
    }
