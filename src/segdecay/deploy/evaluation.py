"""What an evaluation found: scores of a model on images with masks, with intervals. The keys of evaluation.json.

Pure arithmetic on per-image confusion matrices; knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segdecay.records import Interval, Scores
from segdecay.selection.criteria import Criterion
from segdecay.selection.evidence import Counts, known_groups, resampled_by, surface_of
from segdecay.selection.intervals import own_estimates
from segdecay.training.metrics import I64, intersection_union, iou, mean_present, scores_of

NAME = "this model"  # the one setting of the surface; its noise draws are not used with a single fold


@dataclass(frozen=True)
class ClassScore:
    """One class over all images. None where the class is absent: from truth and prediction (iou, dice), from the truth
    (recall), from the prediction (precision).
    """

    name: str
    colour: tuple[int, int, int]
    support: int  # pixels in the masks
    predicted: int  # pixels in the predictions, ignored ones left out
    images: int  # whose masks hold the class
    iou: Interval
    dice: float | None
    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None = None  # where images have one label


@dataclass(frozen=True)
class ImageScore:
    """One image; miou is the mean over the classes present in its mask or its prediction."""

    name: str
    group: str
    part: str
    height: int
    width: int
    miou: float | None
    trained_on: bool


@dataclass(frozen=True)
class Evaluation:
    """The keys of evaluation.json."""

    run: str
    data: Mapping[str, Any]  # path, name, fingerprint, part, images, groups
    model: Mapping[str, Any]  # weights_sha256 of each model, made_by
    how: Mapping[str, Any]  # tta, tile, overlap, models, size
    confidence: float
    resamples: int
    resampled_by: str  # "groups" or "images"
    miou: Interval
    accuracy: float | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows are the truth, columns the prediction
    images: tuple[ImageScore, ...]  # in the order of confusion.npz
    trained_on: int  # images that the model was trained on, as far as that is known
    warnings: tuple[str, ...]
    seconds: float
    task: str = "segmentation"
    balanced_accuracy: Interval | None = None  # where images have one label; there pixels are images
    accuracy_interval: tuple[float, float] | None = None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def interval_of(
    confusions: I64, groups: Sequence[str], criterion: Criterion, *, confidence: float, resamples: int, seed: int = 0
) -> Interval:
    """A score of all images summed, with the interval that the choice of images (or groups) gives it.

    The luck of the training is not in it: this is one model. Limits are cut at 0 and 1. None where nothing is present;
    no interval where a single image or group speaks.

    >>> same = np.array([[[8, 2], [0, 10]]] * 4)
    >>> interval_of(same, list("abcd"), Criterion(), confidence=0.95, resamples=100).interval
    (0.8166666666666667, 0.8166666666666667)
    """
    counts = Counts.of(confusions)
    score = counts.score(criterion) if len(confusions) else float("nan")
    units = len(set(groups))
    if not np.isfinite(score) or units < 2:
        return Interval(_number(score), None, None)
    known = known_groups([groups])
    if known is not None and resampled_by(known) == "groups":
        counts, known = counts.by_group(groups), None
    surface, _ = surface_of(
        [{0: [counts]}],
        [NAME],
        criterion=criterion,
        resamples=resamples,
        seed=seed,
        groups=known,
    )
    found = own_estimates(surface).interval(0, 1 - confidence)
    if found.interval is None:
        return found
    low, high = found.interval
    return Interval(found.mean, found.standard_error, (max(0.0, low), min(1.0, high)))


def class_scores(
    confusions: I64,  # (N, C, C)
    names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    groups: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    of_images: bool = False,
) -> tuple[ClassScore, ...]:
    """Scores of every class over all images."""
    total = confusions.sum(axis=0)
    scores: Scores = scores_of(total)
    hit, predicted, true = np.diagonal(total), total.sum(axis=0), total.sum(axis=1)
    rows = []
    for index, name in enumerate(names):
        criterion = Criterion("classes", (index,), (name,))
        by_recall = replace(criterion, of_recall=True)
        recall = (
            interval_of(confusions, groups, by_recall, confidence=confidence, resamples=resamples)
            if of_images
            else None
        )
        rows.append(
            ClassScore(
                name=name,
                colour=palette[index],
                support=int(true[index]),
                predicted=int(predicted[index]),
                images=int((confusions[:, index].sum(axis=1) > 0).sum()),
                iou=interval_of(confusions, groups, criterion, confidence=confidence, resamples=resamples),
                dice=_number(scores.dice[index]),
                precision=float(hit[index] / predicted[index]) if predicted[index] else None,
                recall=float(hit[index] / true[index]) if true[index] else None,
                recall_interval=None if recall is None else recall.interval,
            )
        )
    return tuple(rows)


def image_mious(confusions: I64) -> list[float | None]:
    """The mIoU of every image; None for one without a valid pixel."""
    return [_number(value) for value in mean_present(iou(*intersection_union(confusions)))]


def accuracy_of(confusions: I64) -> float | None:
    """The share of valid pixels that are right."""
    total = int(confusions.sum())
    return float(np.trace(confusions.sum(axis=0)) / total) if total else None
