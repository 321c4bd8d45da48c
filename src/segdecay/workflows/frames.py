"""Results as rows for data frames: trials, settings, classes, arms, images. Values that do not exist are None."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segdecay.runs.comparison import Comparison
from segdecay.runs.evaluation import Evaluation
from segdecay.runs.read import read_values
from segdecay.runs.records import Scores, StrengthRecord, TrialRecord, trial_from_json
from segdecay.runs.verdict import Interval, Limits, Verdict

Row = dict[str, Any]
SCORES = ("miou", "worst", "weighted", "boundary_miou", "image_miou", "image_worst", "balanced_accuracy", "loss")


def ends(name: str, limits: Limits) -> Row:
    """Both ends of an interval as columns.

    >>> ends("miou", (0.4, 0.6)), ends("miou", None)
    ({'miou_low': 0.4, 'miou_high': 0.6}, {'miou_low': None, 'miou_high': None})
    """
    low, high = limits or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _strength(strength: StrengthRecord) -> Row:
    return {
        "axis": strength.axis,
        "value": strength.value,
        "lambda": strength.lambda_,
        "timescale_epochs": strength.timescale_epochs,
        "total_decay": strength.total_decay,
    }


def trial_rows(run: Path) -> Iterator[Row]:
    """One row a finished trial of a run, those of a joint search too, with the IoU of every class on validation.

    Raises:
        RunError: a record is missing or damaged.
    """
    classes = read_values(run / "data.json")["classes"]
    for path in sorted([*run.glob("trials/*/*/trial.json"), *run.glob("points/*/*/trial.json")]):
        yield trial_row(trial_from_json(read_values(path)), classes)


def trial_row(record: TrialRecord, classes: Sequence[str]) -> Row:
    """One training: what it was, how it ended, its scores on validation and on training images."""
    row: Row = {"setting": record.setting, **_strength(record.strength), "fold": record.fold + 1, "seed": record.seed}
    row |= {"status": record.status, "reason": record.reason, "epochs": record.epochs, "steps": record.steps}
    row |= {"seconds": record.seconds, "images_trained": record.parts[0], "images_scored": record.parts[1]}
    for name, scores in (("", record.validation), ("train_", record.train)):
        row |= {f"{name}{score}": None if scores is None else getattr(scores, score) for score in SCORES}
    return row | _class_scores(record.validation, classes)


def _class_scores(scores: Scores | None, classes: Sequence[str]) -> Row:
    return {f"iou: {name}": None if scores is None else scores.iou[index] for index, name in enumerate(classes)}


def setting_rows(verdict: Verdict) -> Iterator[Row]:
    """One row a strength, as the table that `tune` prints, with intervals and the score of every fold."""
    folds = max((len(item.folds) for item in verdict.settings), default=0)
    for item in verdict.settings:
        found = item.difference or Interval(None)
        scores = [*item.folds, *[None] * (folds - len(item.folds))]
        yield {
            **_strength(item.strength),
            "score": item.mean,
            "standard_error": item.standard_error,
            **ends("score", item.interval),
            "train": item.train_mean,
            "gap": item.gap,
            "difference": found.mean,
            **ends("difference", found.interval),
            "collapsed": item.collapsed,
            "dropped": item.dropped,
            "is_chosen": item.strength.value == verdict.strength.value,
            **{f"fold {number}": score for number, score in enumerate(scores, 1)},
        }


def class_rows(verdict: Verdict) -> Iterator[Row]:
    """One row a class: without decay, at the compared strength, and on the test part where there is one."""
    for row in verdict.classes:
        test = verdict.test
        yield {
            "class": row.name,
            "support": row.support,
            "no_decay": row.zero,
            **ends("no_decay", row.zero_interval),
            "chosen": row.chosen,
            **ends("chosen", row.chosen_interval),
            "difference": None if row.chosen is None or row.zero is None else row.chosen - row.zero,
            **ends("difference", row.difference_interval),
            "test_no_decay": None if test is None else test.zero.classes.get(row.name),
            "test_chosen": None if test is None else test.chosen.classes.get(row.name),
        }


def trained_class_rows(record: TrialRecord, classes: Sequence[str]) -> Iterator[Row]:
    """One row a class of a single training: scores on validation, where there is any, and on training images."""
    for index, name in enumerate(classes):
        row: Row = {"class": name}
        for part, scores in (("validation", record.validation), ("train", record.train)):
            for score in ("iou", "precision", "recall"):
                values = () if scores is None else getattr(scores, score)
                row[f"{part}_{score}"] = values[index] if index < len(values) else None
        yield row


def arm_rows(found: Comparison) -> Iterator[Row]:
    """One row an arm, the best first."""
    for arm in found.arms:
        yield {
            "arm": arm.name,
            "rank": arm.rank,
            "letters": arm.letters,
            "score": arm.mean,
            "standard_error": arm.standard_error,
            **ends("score", arm.interval),
            "train": arm.train_mean,
            "gap": arm.gap,
            "chosen": arm.overall,
            "trials": arm.cost.trials,
            "seconds": arm.cost.seconds,
            **{f"fold {number}": score for number, score in enumerate(arm.folds, 1)},
        }


def pair_rows(found: Comparison) -> Iterator[Row]:
    """One row a pair of arms: first minus second."""
    for pair in found.pairs:
        yield {
            "first": pair.first,
            "second": pair.second,
            "difference": pair.difference,
            "standard_error": pair.standard_error,
            **ends("difference", pair.interval),
            "p": pair.p,
            "p_holm": pair.p_holm,
            "told_apart": pair.told_apart,
        }


def arm_class_rows(found: Comparison) -> Iterator[Row]:
    """One row a class and arm, against no decay."""
    for arm in found.arms:
        for one in arm.classes:
            yield {
                "arm": arm.name,
                "class": one.name,
                "score": one.score,
                "difference": one.difference,
                **ends("difference", one.interval),
                "p_holm": one.p_holm,
                "told_apart": one.told_apart,
            }


def evaluated_class_rows(found: Evaluation) -> Iterator[Row]:
    """One row a class of an evaluation."""
    for row in found.classes:
        yield {
            "class": row.name,
            "support": row.support,
            "predicted": row.predicted,
            "images": row.images,
            "iou": row.iou.mean,
            **ends("iou", row.iou.interval),
            "dice": row.dice,
            "precision": row.precision,
            **ends("precision", row.precision_interval),
            "recall": row.recall,
            **ends("recall", row.recall_interval),
            "boundary_iou": row.boundary_iou.mean,
            "image_iou": row.image_iou.mean,
        }


def image_rows(found: Evaluation) -> Iterator[Row]:
    """One row an image of an evaluation."""
    for row in found.images:
        yield {
            "image": row.name,
            "group": row.group,
            "part": row.part,
            "height": row.height,
            "width": row.width,
            "miou": row.miou,
            "trained_on": row.trained_on,
        }
