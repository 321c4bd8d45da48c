"""Whether a search trained its networks enough to compare them: against predictions that need no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.trivial import trivial_setting
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import TrainingCheck
from segdecay.search.trials import TrialStore
from segdecay.search.verdict import Candidate, by_group
from segdecay.training.batches import derive_seed
from segdecay.training.dead_classes import LIVED
from segdecay.training.setup import TrialTask

MOST = 0.5  # of the classes: if more are not learned, the networks are not trained enough
NAMED = 5  # classes that a sentence names; the others are counted
PREDICTIONS = {
    "one class": "predicting one class everywhere",
    "class shares": "drawing every pixel's class by the shares of the classes",
}


def not_learned(record: TrialRecord, criterion: Criterion) -> tuple[tuple[int, ...], int] | None:
    """Classes of the training masks that the network has not learned, and how many classes these masks hold.

    A class is learned from an IoU (or recall) of LIVED on the training images on; one that is never predicted has 0.
    None where the training images were not scored: a user's function returns validation counts only.
    """
    train = record.train
    if train is None:
        return None
    scores = train.recall if criterion.class_score == "recall" else train.iou
    held = [index for index, pixels in enumerate(train.support) if pixels and index not in criterion.excluded]
    return tuple(index for index in held if not scores[index] >= LIVED), len(held)


def never_predicted(record: TrialRecord) -> tuple[int, ...]:
    """Classes of the training masks that the network predicts in no training image."""
    train = record.train
    if train is None or not train.precision:
        return ()
    return tuple(i for i, pixels in enumerate(train.support) if pixels and math.isnan(train.precision[i]))


def check_training(
    candidate: Candidate,
    records: Sequence[TrialRecord],
    criterion: Criterion,
    class_names: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    groups: Sequence[Sequence[object]] | None = None,
) -> TrainingCheck:
    """Hold the best setting of a search against the better trivial predictor, on the same validation masks.

    It is not trained enough where the paired interval of its score minus the trivial one reaches 0 or below, or where
    most classes are not learned even on the training images (mean over its trials). The interval is that of the models
    that were fitted: whether they learned anything, not whether others would.

    Args:
        candidate: the best setting, with counts.
        records: of its trials.
        criterion: the score of the search; a limit on losses of classes plays no part here.
        class_names: of the data, in order.
        confidence, resamples, seed, groups: as in `decide`.
    """
    criterion = replace(criterion, most_loss=None)
    if groups is not None and ev.resampled_by(groups) == "groups":
        candidate, groups = by_group(candidate, groups), None
    name, trivial = trivial_setting(candidate.trials, criterion)
    surface, _ = ev.surface_of(
        [trivial, candidate.trials], [name, "best"], criterion=criterion, resamples=resamples, seed=seed, groups=groups
    )
    above = iv.difference_estimates(surface, 0).of_fitted_models().interval(1, 1 - confidence)
    scores = [float(np.nanmean(row)) for row in surface.scores]
    known = [found for record in records if (found := not_learned(record, criterion)) is not None]
    check = TrainingCheck(
        is_enough=True,
        score=scores[1],
        train=candidate.train_mean,
        trivial=name,
        trivial_score=scores[0],
        above_trivial=above,
        not_learned=_most_often([missing for missing, _ in known], class_names),
        never_predicted=_most_often([never_predicted(record) for record in records], class_names),
        classes=max((held for _, held in known), default=len(class_names)),
    )
    reason = _reason(check, criterion, _mean_share(known))
    return replace(check, is_enough=reason is None, reason=reason)


def training_check_of(store: TrialStore, best: Candidate, tasks: Sequence[TrialTask]) -> TrainingCheck:
    """`check_training` as a search or a comparison is configured; tasks: the trials of the best setting."""
    search = store.config.search
    return check_training(
        best,
        store.records(tasks),
        store.criterion,
        store.dataset.classes,
        confidence=search.confidence,
        resamples=search.resamples,
        seed=derive_seed(store.config.seed, "resamples") % 2**32,
        groups=store.groups,
    )


def is_hopeless(records: Sequence[TrialRecord], counts: Sequence[ev.Counts], criterion: Criterion) -> bool:
    """Whether no trial of the first fold learned anything: more folds of the same recipe would not help.

    Stricter than `check_training`, since one fold shows little: every trial scores no better than a trivial predictor,
    or has not learned most classes.

    Args:
        records: of the finished trials of one fold, one for each setting.
        counts: of their validation images, in the same order.
        criterion: the score of the search.
    """
    criterion = replace(criterion, most_loss=None)
    for record, found in zip(records, counts, strict=True):
        known = not_learned(record, criterion)
        if not _is_trivial(found, criterion) and (known is None or _mean_share([known]) <= MOST):
            return False
    return bool(records)


def _is_trivial(counts: ev.Counts, criterion: Criterion) -> bool:
    _, trivial = trivial_setting({0: [counts]}, criterion)
    least = float(np.nan_to_num(trivial[0][0].score(criterion)))
    return float(np.nan_to_num(counts.score(criterion))) <= least


def _mean_share(known: Sequence[tuple[tuple[int, ...], int]]) -> float:
    """The share of classes that are not learned, mean over trials; 0 where it is not known."""
    return float(np.mean([len(missing) / held for missing, held in known if held])) if known else 0.0


def _most_often(missing: Sequence[tuple[int, ...]], class_names: Sequence[str]) -> tuple[str, ...]:
    """The classes that are listed for more than half of the trials."""
    return tuple(
        name for index, name in enumerate(class_names) if sum(index in one for one in missing) > len(missing) / 2
    )


def _reason(check: TrainingCheck, criterion: Criterion, share: float) -> str | None:
    """Why the networks are not trained enough; None where they are."""
    found, score = check.above_trivial, f"validation {criterion.name} {check.score:.3f}"
    if found.mean is not None and found.interval is not None and found.interval[0] <= 0:
        low, high = found.interval
        return (
            f"the best setting scores {score}, which is not told apart from the {check.trivial_score:.3f} of "
            f"{PREDICTIONS[check.trivial]} (difference {found.mean:+.3f}, interval {low:+.3f} to {high:+.3f})"
        )
    if share > MOST:
        named = ", ".join(check.not_learned[:NAMED])
        rest = len(check.not_learned) - NAMED
        which = f" ({named}{f' and {rest} more' if rest > 0 else ''})" if check.not_learned else ""
        return (
            f"the best setting ({score}) has not learned {round(share * check.classes)} of {check.classes} classes: "
            f"even on its training images their {criterion.class_score} is below {LIVED:g}{which}"
        )
    return None
