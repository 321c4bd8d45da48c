"""Scores of a model on images with masks, with intervals: arithmetic on per-image counts. Formulas: docs/scores.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from segdecay.metrics.bootstrap import Counts, known_groups, resampled_by, surface_of
from segdecay.metrics.boundary import BoundaryCounts
from segdecay.metrics.counts import F64, I64, counted, intersection_union, iou, least_present, mean_present, weighted_by
from segdecay.metrics.criteria import Criterion
from segdecay.metrics.intervals import own_estimates, ratio_intervals
from segdecay.runs.evaluation import EvaluatedClass
from segdecay.runs.verdict import Interval

NAME = "this model"  # the one setting of the surface; its noise draws are not used with a single fold


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def interval_of(
    counts: Counts, groups: Sequence[str], criterion: Criterion, *, confidence: float, resamples: int, seed: int = 0
) -> Interval:
    """A score of all images summed, with its interval over the choice of images (or groups).

    It does not include the variation between trainings, since there is one model. Limits are clipped to [0, 1]. None if
    nothing is present; no interval for a single image or group.

    >>> same = Counts.of(np.array([[[8, 2], [0, 10]]] * 4))
    >>> interval_of(same, list("abcd"), Criterion(), confidence=0.95, resamples=100).interval
    (0.8166666666666667, 0.8166666666666667)
    """
    score = counts.score(criterion) if len(counts.true) else float("nan")
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


@dataclass(frozen=True)
class Resampling:
    """Options of the intervals of the same images."""

    groups: Sequence[str]  # of every image
    confidence: float
    resamples: int
    excluded: tuple[int, ...] = ()  # classes left out of means over classes

    def of_score(self, counts: Counts, kind: str) -> Interval:
        """A score of all classes together: "miou", "worst" or "weighted"."""
        criterion = Criterion(kind, excluded=() if kind == "accuracy" else self.excluded)
        return interval_of(counts, self.groups, criterion, confidence=self.confidence, resamples=self.resamples)

    def of_ratios(self, pairs: Sequence[tuple[F64 | I64, F64 | I64]], counts: Counts) -> list[list[Interval]]:
        """Σ part / Σ whole of pairs of (N, K), for each pair its K intervals, all from the same draws."""
        part, whole = (np.concatenate([pair[at] for pair in pairs], axis=1).astype(np.float64) for at in (0, 1))
        found = ratio_intervals(part, whole, counts, self.groups, confidence=self.confidence, resamples=self.resamples)
        ends = np.cumsum([0, *(pair[0].shape[1] for pair in pairs)])
        return [found[start:stop] for start, stop in pairwise(int(end) for end in ends)]


def overall_scores(confusions: I64, boundary: BoundaryCounts, by: Resampling) -> dict[str, Any]:
    """The scores of all classes together, by their key in evaluation.json."""
    counts = Counts.of(confusions)
    values, true = counted(iou(*intersection_union(confusions)), by.excluded), confusions.sum(axis=-1)
    images = np.stack([mean_present(values), least_present(values), weighted_by(values, true)], axis=1)
    ((image_miou, image_worst, image_weighted),) = by.of_ratios([_mean_over_images(images)], counts)
    return {
        "miou": by.of_score(counts, "miou"),
        "worst": by.of_score(counts, "worst"),
        "weighted": by.of_score(counts, "weighted"),
        "boundary_miou": by.of_score(Counts(boundary.hit, boundary.union, counts.true), "miou"),
        "image_miou": image_miou,
        "image_worst": image_worst,
        "image_weighted": image_weighted,
    }


def accuracies(confusions: I64, by: Resampling, task: str) -> dict[str, Any]:
    """The scores of images with one label each, by their key in evaluation.json."""
    if task != "classification":
        return {}
    counts = Counts.of(confusions)
    found = by.of_score(counts, "accuracy")
    return {"balanced_accuracy": by.of_score(counts, "balanced_accuracy"), "accuracy_interval": found.interval}


def _mean_over_images(
    values: F64,  # (N, K), NaN if an image has no such score
) -> tuple[F64, F64]:
    """A mean over images as a ratio of sums: (N, K) each."""
    there = np.isfinite(values)
    return np.where(there, values, 0.0), there.astype(np.float64)


def class_scores(
    confusions: I64,  # (N, C, C)
    boundary: BoundaryCounts,
    names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    by: Resampling,
) -> tuple[EvaluatedClass, ...]:
    """Scores of every class over all images."""
    counts = Counts.of(confusions)
    hit, union, true, predicted = counts.hit, counts.union, counts.true, confusions.sum(axis=1)
    held = np.where(true > 0, iou(hit, union), np.nan)
    found = by.of_ratios(
        [
            (hit, union),
            (2 * hit, true + predicted),
            (hit, predicted),
            (hit, true),
            (boundary.hit, boundary.union),
            _mean_over_images(held),
        ],
        counts,
    )
    rows = []
    for index, (of_iou, dice, precision, recall, edges, of_images) in enumerate(zip(*found, strict=True)):
        rows.append(
            EvaluatedClass(
                name=names[index],
                colour=palette[index],
                support=int(true[:, index].sum()),
                predicted=int(predicted[:, index].sum()),
                images=int((true[:, index] > 0).sum()),
                iou=of_iou,
                dice=dice.mean,
                precision=precision.mean,
                recall=recall.mean,
                boundary_iou=edges,
                image_iou=of_images,
                dice_interval=dice.interval,
                precision_interval=precision.interval,
                recall_interval=recall.interval,
            )
        )
    return tuple(rows)


def image_mious(confusions: I64, excluded: Sequence[int] = ()) -> list[float | None]:
    """The mIoU of every image; None for one without a valid pixel."""
    return [_number(value) for value in mean_present(counted(iou(*intersection_union(confusions)), excluded))]


def accuracy_of(confusions: I64) -> float | None:
    """The share of valid pixels that are correct."""
    total = int(confusions.sum())
    return float(np.trace(confusions.sum(axis=0)) / total) if total else None
