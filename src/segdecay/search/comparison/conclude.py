"""The record of a comparison from its finished trials: scores, ranking, gap, sparsity and cost of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.config.schema import CompareConfig
from segdecay.errors import RunError
from segdecay.runs.comparison import ClassDifference, ComparedArm, ComparedStrength, Comparison
from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Cost, TrainingCheck
from segdecay.search.comparison.arm_trials import ArmSetting, ArmTrials, zeros_and_norm
from segdecay.search.comparison.arms import ARMS, NONE
from segdecay.search.comparison.judge import (
    Contest,
    Judged,
    by_groups,
    class_differences,
    judge,
    ranking,
    sentence_of,
)
from segdecay.search.trials import cost_of
from segdecay.search.undertrained import training_check_of
from segdecay.search.verdict import Candidate
from segdecay.training.batches import derive_seed


def conclude(trials: ArmTrials, config: CompareConfig) -> Comparison:
    """The comparison from finished trials.

    Raises:
        RunError: training without decay could not be scored.
    """
    shared, settings = trials.config, trials.settings()
    dropped = {setting: trials.reason_dropped(trials.tasks(setting)) for setting in settings}
    if dropped[settings[0]] is not None:
        raise RunError(f"The trials without decay cannot be scored: {dropped[settings[0]]}.")
    usable = [setting for setting in settings if dropped[setting] is None]
    contest, resampled = by_groups(_contest(trials, usable))
    judged = judge(contest)
    order, marks = ranking(judged)
    classes = class_differences(contest, judged, trials.dataset.classes)
    finished = _Finished(trials, dropped, usable, judged)
    labels = {name: ARMS[name].label for name in judged.names}
    training = _training_check(trials, finished.chosen(order[0]))
    return Comparison(
        criterion=trials.criterion.name,
        task=trials.dataset.task,
        arms=tuple(
            finished.arm(index, rank, marks[judged.names[index]], classes[index])
            for rank, index in enumerate(order, start=1)
        ),
        pairs=judged.pairs,
        strengths=config.compare.strengths,
        folds=len(trials.folds.folds),
        fold_method=trials.folds.method,
        seeds=shared.search.seeds,
        confidence=shared.search.confidence,
        resamples=shared.search.resamples,
        resampled=resampled,
        classes=tuple(trials.dataset.classes),
        cost=_cost(trials, settings),
        sentence=undertrained_text(training) + sentence_of(judged, labels, trials.criterion.name),
        training=training,
    )


def _contest(trials: ArmTrials, usable: Sequence[ArmSetting]) -> Contest:
    """The counts of all settings that can be scored, and which of them each arm may choose from."""
    search = trials.config.search
    return Contest(
        [list(trials.counts(trials.tasks(setting)).values()) for setting in usable],
        {name: [0, *(i for i, one in enumerate(usable) if one.arm == name and i)] for name in trials.strengths},
        trials.criterion,
        search.confidence,
        search.resamples,
        derive_seed(trials.config.seed, "resamples") % 2**32,
        trials.groups,
    )


@dataclass(frozen=True)
class _Finished:
    """Everything that the record of an arm is made from. dropped: every setting, with why it cannot be scored."""

    trials: ArmTrials
    dropped: Mapping[ArmSetting, str | None]
    usable: Sequence[ArmSetting]
    judged: Judged

    def chosen(self, index: int) -> list[ArmSetting]:
        """The setting of an arm in every fold."""
        return [self.usable[v] for v in self.judged.chosen[index]]

    def arm(self, index: int, rank: int, letters: str, classes: tuple[ClassDifference, ...]) -> ComparedArm:
        """The record of one arm."""
        name, trials, config = self.judged.names[index], self.trials, self.trials.config
        own = self.judged.own.interval(index, 1 - config.search.confidence)
        train, zeros, norm = _at_chosen(trials, self.chosen(index))
        mean = float(self.judged.scores[index].mean())
        axis = ARMS[name].axis
        about = None if axis is None else axis(config, min(len(fold.train) for fold in trials.folds.folds))
        return ComparedArm(
            name=name,
            label=ARMS[name].label,
            axis=about.name if about else None,
            unit=about.unit if about else None,
            strengths=tuple(
                _strength(trials, setting, reason)
                for setting, reason in self.dropped.items()
                if setting.arm in (NONE, name)
            ),
            chosen=tuple(setting.shown for setting in self.chosen(index)),
            overall=self.usable[int(self.judged.overall[index])].shown,
            rank=rank,
            letters=letters,
            mean=mean,
            standard_error=own.standard_error,
            interval=None if own.interval is None else (max(0.0, own.interval[0]), min(1.0, own.interval[1])),
            folds=tuple(float(score) for score in self.judged.scores[index]),
            train_mean=train,
            gap=None if train is None else train - mean,
            zeros=zeros,
            norm=norm,
            classes=classes,
            cost=_cost(trials, [setting for setting in self.dropped if setting.arm == name]),
        )


def undertrained_text(training: TrainingCheck) -> str:
    """What stands before the conclusion where the best arm is not trained enough; else nothing."""
    if training.is_enough or training.reason is None:
        return ""
    reason = f"{training.reason[:1].upper()}{training.reason[1:]}"
    return f"Not trained enough to tell. {reason}. So the ranking says nothing about the arms: train longer. "


def _training_check(trials: ArmTrials, chosen: Sequence[ArmSetting]) -> TrainingCheck:
    """Whether the best arm is trained enough; chosen: its setting in every fold."""
    tasks = [task for fold, setting in enumerate(chosen) for task in trials.tasks(setting) if task.fold == fold]
    counts = trials.counts(tasks)
    none = StrengthRecord("total_decay", 0.0)  # plays no part here
    best = Candidate(none, list(counts.values()), None, None, 0, tuple(counts))
    return training_check_of(trials, best, tasks)


def _at_chosen(trials: ArmTrials, chosen: Sequence[ArmSetting]) -> tuple[float | None, float | None, float | None]:
    """Train score, share of zeros and norm of the weights: means over the trials that score an arm."""
    records = [
        record
        for fold, setting in enumerate(chosen)
        for record in trials.records(trials.tasks(setting))
        if record.fold == fold
    ]
    criterion = trials.criterion
    train = [criterion.of_record(record.train) for record in records if record.train is not None]
    sizes = [found for record in records if (found := zeros_and_norm(record)) is not None]
    means = np.mean(sizes, axis=0) if sizes else (None, None)
    zeros, norm = (None if value is None else float(value) for value in means)
    return (float(np.mean(train)) if train else None), zeros, norm


def _strength(trials: ArmTrials, setting: ArmSetting, dropped: str | None) -> ComparedStrength:
    """One setting with its scores."""
    if dropped is not None:
        return ComparedStrength(setting.value, setting.shown, None, None, None, dropped)
    criterion, records = trials.criterion, trials.records(trials.tasks(setting))
    by_fold = [[record for record in records if record.fold == fold] for fold in range(len(trials.folds.folds))]
    folds = tuple(
        float(np.mean([criterion.of_record(record.validation) for record in own if record.validation is not None]))
        for own in by_fold
    )
    train = float(np.mean([criterion.of_record(record.train) for record in records if record.train is not None]))
    return ComparedStrength(setting.value, setting.shown, float(np.mean(folds)), folds, train, None)


def _cost(trials: ArmTrials, settings: Sequence[ArmSetting]) -> Cost:
    return cost_of([record for setting in settings for record in trials.records(trials.tasks(setting))])
