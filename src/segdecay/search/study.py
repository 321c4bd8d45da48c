"""A search from its grid to its verdict: trials in the ledger, a longer grid if the strongest is best, the decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import numpy as np

from segdecay.config.schema import RunConfig
from segdecay.errors import ConfigError, RunError
from segdecay.execution import Event, Executor
from segdecay.metrics.bootstrap import MIOU, Counts, resampled_by
from segdecay.metrics.criteria import Criterion
from segdecay.runs.records import StrengthRecord, axis_names
from segdecay.runs.verdict import TrainingCheck, Verdict, ZeroScore
from segdecay.search.ledger import setting_name
from segdecay.search.race import Race
from segdecay.search.race_runner import Budget, Racing, Searched, build_race
from segdecay.search.sentences import recipe_of, sentence_of
from segdecay.search.trials import TrialStore, cost_of
from segdecay.search.undertrained import is_hopeless, training_check_of
from segdecay.search.verdict import Candidate, Decision, decide, is_strong_edge
from segdecay.training.batches import derive_seed
from segdecay.training.setup import TrialTask, axis_for, largest_value, strength_of
from segdecay.training.user_api import UserFunction, regularizer_of
from segdecay.utils.files import write_json

MOST_EXTENSIONS = 2
LONE_RATIO = 4.0  # the step of a grid with a single positive strength


def start_grid(wanted: Sequence[float] | None, default: Sequence[float], *, none: float, largest: float) -> list[float]:
    """The strengths of a search from no decay, which is always included, to the strongest.

    If `none` is infinite, as for bounds, smaller values are stronger.

    >>> start_grid([4, 1], (0, 2, 8), none=0.0, largest=100.0)
    [0.0, 1.0, 4.0]
    >>> start_grid([1, 4], (), none=math.inf, largest=math.inf)
    [inf, 4.0, 1.0]

    Raises:
        ConfigError: ηλ would reach 1 at a strength, or no strength is positive.
    """
    asked = {float(value) for value in (wanted if wanted is not None else default)}
    values = sorted({float(none), *asked}, reverse=math.isinf(none))
    if len(values) < 2:
        raise ConfigError(f"search.grid = {list(wanted or ())} holds no strength except {none:g}; add at least one.")
    too_strong = [value for value in values if value >= largest and value != none]
    if wanted is not None and too_strong:
        shown = ", ".join(f"{value:g}" for value in too_strong)
        raise ConfigError(
            f"search.grid holds {shown}: a step would remove the weights or flip their signs (ηλ ≥ 1). "
            f"The largest allowed with this schedule is just under {largest:.6g}."
        )
    return [value for value in values if value < largest or value == none]


def next_strength(grid: Sequence[float], *, none: float, largest: float) -> float | None:
    """One step past the strong edge, at the ratio of the two strongest values; None past `largest`.

    >>> next_strength([0, 1, 4], none=0, largest=100.0), next_strength([0, 1, 4], none=0, largest=10.0)
    (16.0, None)
    >>> next_strength([math.inf, 4, 2], none=math.inf, largest=math.inf)
    1.0
    """
    acting = [value for value in grid if value != none]
    lone = 1 / LONE_RATIO if math.isinf(none) else LONE_RATIO
    ratio = acting[-1] / acting[-2] if len(acting) > 1 else lone
    value = float(f"{acting[-1] * ratio:.12g}")
    return value if value < largest else None


@dataclass
class Study(TrialStore):
    """Everything a search needs: configuration, data, folds, ledger, executor."""

    executor: Executor
    on_event: Callable[[Event], None]
    _: KW_ONLY
    keep_models: bool = False  # keep the weights of all trials until the verdict
    size: float | None = None  # median initial size of the shrunk weights, if the axis is relative to it
    budget: Budget = field(default_factory=Budget)
    configs: dict[float, RunConfig] = field(default_factory=dict)  # by strength, from a joint search
    names: dict[float, str] = field(default_factory=dict)  # of the points of these configurations
    user: UserFunction | None = None  # trains the trials in place of the built-in loop

    def note(self, event: Event) -> None:
        """Record a failed trial, and pass the event to the watcher."""
        super().note(event)
        self.on_event(event)

    @property
    def fold_images(self) -> int:
        """Training images of a typical fold."""
        return int(np.median([len(fold.train) for fold in self.folds.folds]))

    @property
    def pool_images(self) -> int:
        """Images of everything but the test part; strengths are shown for a training on all of them."""
        return len(self.dataset.part("train", "val"))

    def config_at(self, value: float) -> RunConfig:
        """The configuration that a strength is trained with."""
        return self.configs.get(value, self.config)

    def name_of(self, value: float) -> str:
        """The name of a strength's trials: equal names are equal trainings."""
        return self.names.get(value) or setting_name(axis_for(self.config.decay, self.config.optimizer).name, value)

    def tasks(self, value: float) -> list[TrialTask]:
        """All trials of one setting."""
        setting = setting_name(axis_for(self.config.decay, self.config.optimizer).name, value)
        return [
            TrialTask(
                folder=self.ledger.trial(setting, number, seed),
                dataset=self.dataset.root,
                config=self.config_at(value),
                setting=setting,
                value=value,
                fold=number,
                seed=seed,
                train=fold.train,
                scored=fold.validation,
                keep_model=self.keep_models,
                checkpoint_every_s=self.checkpoint_every_s,
                user=self.user,
                transform=self.transform,
            )
            for seed in self.config.search.seeds
            for number, fold in enumerate(self.folds.folds)
        ]


def grid_of(study: Study) -> list[float]:
    """The grid that the search starts with.

    Raises:
        ConfigError: ηλ would reach 1 at a strength, or no strength is positive.
        DecayError: a value is not on the axis.
    """
    axis = axis_for(study.config.decay, study.config.optimizer)
    if axis.only_none:
        raise ConfigError(
            f"Regularizer '{study.config.decay.regularizer}' has no strength to search. Use `segdecay train` for one "
            "training, or search another regularizer: every search includes training without it."
        )
    largest = _largest(study)
    for value in study.config.search.grid or ():
        if value != axis.none and not axis.has_lambda:
            axis.validate(value)
    return start_grid(study.config.search.grid, axis.default_grid, none=axis.none, largest=largest)


def _largest(study: Study) -> float:
    """The value at which ηλ reaches 1 in some fold; every strength must be below it."""
    return largest_value(study.config, min(len(fold.train) for fold in study.folds.folds))


def possible_strengths(study: Study) -> tuple[list[float], int]:
    """The grid followed by possible extensions at the strong edge, and the number of strengths in the grid."""
    axis = axis_for(study.config.decay, study.config.optimizer)
    values = grid_of(study)
    asked = len(values)
    for _ in range(MOST_EXTENSIONS):
        more = next_strength(values, none=axis.none, largest=_largest(study))
        values += [more] if more is not None else []
    return values, asked


def stronger_than(study: Study, values: Sequence[float]) -> float | None:
    """The strength one step beyond these, from none to the strongest; None where no step allows it (ηλ ≥ 1)."""
    axis = axis_for(study.config.decay, study.config.optimizer)
    return next_strength(values, none=axis.none, largest=_largest(study)) if len(values) > 1 else None


def race_of(study: Study) -> tuple[Race, list[float]]:
    """The race of a study, and its strengths.

    Raises:
        ConfigError: the budget does not cover the first fold.
    """
    axis = axis_for(study.config.decay, study.config.optimizer)
    values, asked = possible_strengths(study)
    blocks = len(study.folds.folds) * len(study.config.search.seeds)
    return build_race(values, axis.none, blocks=blocks, asked=asked, most=study.budget.trials), values


def known_trials(study: Study) -> set[Path]:
    """The folders of all trials that the search may train."""
    return {task.folder for value in possible_strengths(study)[0] for task in study.tasks(value)}


def run_study(study: Study) -> tuple[Verdict, Decision]:
    """Run the trials that the search needs, in a race or the whole grid, then decide.

    Raises:
        RunError: no setting could be scored, or the budget ended before two could be compared; gives the reasons.
    """
    criterion = study.criterion
    return conclude(study, run_race(study, criterion) if study.config.search.race else _run_grid(study, criterion))


def conclude(study: Study, searched: Searched) -> tuple[Verdict, Decision]:
    """Decide on the finished trials of a search.

    Raises:
        RunError: no setting could be scored, with the reasons.
    """
    candidates = [_candidate(study, value, searched) for value in searched.blocks]
    if all(candidate.counts is None for candidate in candidates):
        reasons = "\n".join(f"- {c.strength.value:g}: {c.dropped}" for c in candidates)
        raise RunError(f"No strength could be scored:\n{reasons}")
    decision = decide_of(study, candidates, searched.best)
    value = decision.settings[decision.best].strength.value
    best = next(candidate for candidate in candidates if candidate.strength.value == value)
    training = None
    if best.counts is not None:
        training = training_check_of(study, best, [study.tasks(value)[block] for block in searched.blocks[value]])
        if not training.is_enough:
            decision = decide_of(study, candidates, searched.best, is_trained=False)
    return verdict_of(study, searched, decision, training), decision


def first_fold_is_hopeless(study: Study, tasks: Sequence[TrialTask]) -> bool:
    """Whether none of these finished trials of one fold learned anything."""
    counts = [Counts.of(study.ledger.confusions(task.folder)) for task in tasks]
    return is_hopeless(study.records(tasks), counts, study.criterion)


def decide_of(
    study: Study, candidates: Sequence[Candidate], best: float | None = None, *, is_trained: bool = True
) -> Decision:
    """The decision between settings of a study; best: the leader of a race, if there was one."""
    return decide(
        candidates,
        study.dataset.classes,
        confidence=study.config.search.confidence,
        resamples=study.config.search.resamples,
        seed=derive_seed(study.config.seed, "resamples") % 2**32,
        rule=study.config.search.rule,
        best_value=best,
        criterion=study.criterion,
        groups=study.groups,
        is_trained=is_trained,
    )


def run_race(study: Study, criterion: Criterion) -> Searched:
    """The grid in a race (search/race.py), within the budget."""
    race, values = race_of(study)
    tasks = [study.tasks(value) for value in values]
    groups = study.groups
    racing = Racing(
        race,
        tasks,
        study.ledger,
        study.failures,
        criterion,
        groups=groups if resampled_by(groups) == "groups" else None,
        stop_at=study.budget.stop_at,
        is_hopeless=lambda tasks: first_fold_is_hopeless(study, tasks),
    )

    def note(event: Event) -> None:
        study.note(event)
        if event.kind in ("finished", "failed"):
            write_json(study.ledger.run / "race.json", racing.record())

    study.executor.run(racing.next_task, note)
    return racing.result(values)


def _run_grid(study: Study, criterion: Criterion) -> Searched:
    """Every strength on every fold and seed; the grid is extended if its best mean is at the strong edge."""
    axis = axis_for(study.config.decay, study.config.optimizer)
    largest, grid = _largest(study), grid_of(study)
    asked, every = len(grid), tuple(range(len(study.tasks(grid[0]))))
    first = [study.tasks(value)[0] for value in grid]
    _run(study, first)
    scored = [task for task in first if _is_scored(study, task)]
    if scored and first_fold_is_hopeless(study, scored):
        return Searched(dict.fromkeys(grid, (0,)), {}, None)
    while True:
        _run(study, [task for value in grid for task in study.tasks(value)])
        searched = Searched(dict.fromkeys(grid, every), {}, None)
        candidates = [_candidate(study, value, searched) for value in grid]
        more = next_strength(grid, none=axis.none, largest=largest)
        if len(grid) - asked >= MOST_EXTENSIONS or more is None or not is_strong_edge(candidates, criterion):
            return searched
        grid = [*grid, more]


def _run(study: Study, tasks: Sequence[TrialTask]) -> None:
    missing = study.missing(tasks)
    if missing:
        study.executor.run(missing, study.note)


def _is_scored(study: Study, task: TrialTask) -> bool:
    record = study.ledger.record(task.folder)
    return record is not None and record.status == "finished"


def _candidate(study: Study, value: float, searched: Searched) -> Candidate:
    """One setting from its records; excluded if a trial diverged or failed, or if the race eliminated it (its folds
    are kept then).
    """
    strength = strength_of(study.config_at(value), value, study.pool_images, size=study.size)
    every = study.tasks(value)
    tasks = [every[block] for block in searched.blocks[value]]
    return candidate_from(study, strength, tasks, searched.dropped.get(value))


def candidate_from(
    study: Study, strength: StrengthRecord, tasks: Sequence[TrialTask], out: str | None = None
) -> Candidate:
    """A setting from the records of its trials; out: the reason why the search excluded it."""
    records = study.records(tasks)
    collapsed = sum(bool(record.extra.get("collapsed")) for record in records)
    reason = study.reason_dropped(tasks)
    if reason is not None or not records:
        return Candidate(strength, None, reason or out, None, collapsed)
    counts = study.counts(tasks)
    on_train = [study.criterion.of_record(record.train) for record in records if record.train is not None]
    train = float(np.mean(on_train)) if on_train else None
    return Candidate(strength, list(counts.values()), out, train, collapsed, tuple(counts))


def verdict_of(study: Study, searched: Searched, decision: Decision, training: TrainingCheck | None = None) -> Verdict:
    """The decision as the record of verdict.json."""
    config, settings = study.config, decision.settings
    records = study.records([task for value in searched.blocks for task in study.tasks(value)])
    difference = decision.best_difference
    return Verdict(
        kind=decision.kind,
        criterion="miou" if decision.criterion == MIOU else decision.criterion.name,
        regularizer=regularizer_of(config),
        strength=settings[decision.taken].strength,
        one_se=settings[decision.one_se].strength,
        selection=decision.selection,
        zero=ZeroScore(
            decision.zero.mean, decision.zero.standard_error, None if difference is None else difference.interval
        ),
        settings=settings,
        classes=decision.classes,
        seeds=config.search.seeds,
        honest=decision.honest,
        test=None,
        cost=cost_of(records),
        indistinguishable=decision.indistinguishable,
        evidence={
            **decision.evidence,
            "rule": config.search.rule,
            "confidence": config.search.confidence,
            "resamples": config.search.resamples,
            "fold_method": study.folds.method,
            "trials_of_plan": searched.trials,
            **_lambda_of_folds(study, settings[decision.taken].strength),
        },
        sentence=sentence_of(decision, study.dataset.classes, training, _recipe(study)),
        paste="",
        task=study.dataset.task,
        training=training,
    )


def _recipe(study: Study) -> str:
    """Length and learning rate of the trainings; empty where a user's function trains."""
    if study.user is not None:
        return ""
    is_searched = "lr" in (study.config.search.joint or ())
    return recipe_of(study.config.training.epochs, None if is_searched else study.config.optimizer.lr)


def _lambda_of_folds(study: Study, strength: StrengthRecord) -> dict[str, float | str]:
    """The λ of a fold's training, and why it differs from that of a training on all images."""
    of_fold = strength_of(study.config_at(strength.value), strength.value, study.fold_images, size=study.size).lambda_
    if not of_fold or not strength.lambda_ or f"{of_fold:.3g}" == f"{strength.lambda_:.3g}":
        return {}
    why = (
        f"A fold trains on {study.fold_images} of {study.pool_images} images and so makes fewer steps; the same "
        f"{axis_names(strength.axis)[0]} needs λ = {of_fold:.3g} there and λ = {strength.lambda_:.3g} on all images."
    )
    return {"lambda_in_folds": of_fold, "lambda_differs": why}
