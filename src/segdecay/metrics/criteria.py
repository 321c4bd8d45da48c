"""Criteria: the score of a setting from the summed counts of a fold, and the largest loss allowed to a class.

A class is scored by IoU, or by recall if images have one label each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import SearchConfig, Task
from segdecay.errors import ConfigError, gather, unknown
from segdecay.metrics.counts import counted
from segdecay.runs.records import Scores

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def _weighted(scores: F64, weights: F64) -> F64:
    present = np.isfinite(scores)
    weights = present * weights
    total = weights.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.where(present, scores, 0.0) * weights).sum(axis=-1) / total)


def _mean(scores: F64, _true: F64) -> F64:
    return _weighted(scores, np.ones(()))


def _least(scores: F64, _true: F64) -> F64:
    least = np.where(np.isfinite(scores), scores, np.inf).min(axis=-1)
    return np.asarray(np.where(np.isfinite(least), least, np.nan))


@dataclass(frozen=True)
class Metric:
    """A score of all classes together.

    Attributes:
        name: for people; {score} stands for IoU or recall.
        of: class scores (..., C), NaN where a class is absent, and its true pixels (..., C), to the score (...).
        of_recall: classes are scored by recall, also where images have masks.
        has_all: no class is left out of it by exclude_from_mean.
    """

    name: str
    of: Callable[[F64, F64], F64]
    of_recall: bool = False
    has_all: bool = False


METRICS: Mapping[str, Metric] = {  # the whole of a metric: its key of search.criterion, its name and its formula
    "miou": Metric("m{score}", _mean),
    "worst": Metric("worst-class {score}", _least),
    "weighted": Metric("frequency-weighted {score}", _weighted),
    "classes": Metric("{score}", _mean, has_all=True),
    "accuracy": Metric("accuracy", _weighted, of_recall=True, has_all=True),
    "balanced_accuracy": Metric("balanced accuracy", _mean, of_recall=True),
}
DEFAULTS: dict[Task, str] = {"segmentation": "miou", "classification": "balanced_accuracy"}


@dataclass(frozen=True)
class Criterion:
    """A score of summed counts.

    kind: "miou" (mean over the classes present in truth or prediction), "worst" (the smallest of them), "weighted"
    (mean weighted by true pixels), "classes" (mean over the named classes), "accuracy" (the share that is correct) or
    "balanced_accuracy" (mean recall over the classes of the truth). most_loss: the largest loss of a class's score
    against no decay that is allowed, or None. of_recall: the class score is recall whatever the kind. excluded:
    classes that "miou", "worst", "weighted" and "balanced_accuracy" leave out; most_loss applies to them too.
    """

    kind: str = "miou"
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    most_loss: float | None = None
    of_recall: bool = False
    excluded: tuple[int, ...] = ()
    excluded_names: tuple[str, ...] = ()

    @property
    def by_class(self) -> Criterion:
        """The criterion of single classes: IoU for masks, recall for labels of images."""
        return Criterion("classes", of_recall=self.of_recall)

    @property
    def class_score(self) -> str:
        """The name of the score of a class: "IoU" or "recall"."""
        return "recall" if self.of_recall or METRICS[self.kind].of_recall else "IoU"

    def class_scores(self, hit: I64 | F64, union: I64 | F64, true: I64 | F64) -> F64:
        """The score of every class from its counts, NaN for an absent class; all arguments (..., C).

        >>> one = np.array([3.0])
        >>> [float(Criterion(kind).class_scores(one, one + 3, one + 1)[0]) for kind in ("miou", "accuracy")]
        [0.5, 0.75]
        """
        whole = true if self.class_score == "recall" else union
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(whole > 0, hit / whole, np.nan), dtype=np.float64)

    def of_record(self, scores: Scores) -> float:
        """The score of a record."""
        values = scores.recall if self.class_score == "recall" else scores.iou
        return float(self.score(np.array(values), np.array(scores.support, dtype=np.float64)))

    @property
    def name(self) -> str:
        """The name of the score.

        >>> Criterion("classes", (2,), ("pole",)).name, Criterion(most_loss=0.02).name
        ('IoU of pole', 'mIoU such that no class loses more than 0.02')
        """
        of = f" of {', '.join(self.class_names)}" if self.kind == "classes" else ""
        of += f" without {', '.join(self.excluded_names)}" if self.excluded else ""
        limit = "" if self.most_loss is None else f" such that no class loses more than {self.most_loss:g}"
        return f"{METRICS[self.kind].name.format(score=self.class_score)}{of}{limit}"

    def score(
        self,
        class_iou: F64,  # (..., C) or recall, as `class_scores`; NaN where a class is absent
        true: F64,  # (..., C) true pixels of each class
    ) -> F64:  # (...)
        """The score of summed counts; NaN if no counted class is present.

        >>> one, pixels = np.array([0.9, 0.5, np.nan]), np.array([30.0, 10.0, 0.0])
        >>> [round(float(Criterion(kind).score(one, pixels)), 2) for kind in ("miou", "worst", "weighted")]
        [0.7, 0.5, 0.8]
        """
        if self.kind == "classes":
            class_iou, true = class_iou[..., list(self.classes)], true[..., list(self.classes)]
        return METRICS[self.kind].of(counted(class_iou, self.excluded), true)

    def is_allowed(
        self,
        class_iou: F64,  # (..., V, C) of every setting, mean over folds
        none: F64,  # (..., C) without decay
    ) -> npt.NDArray[np.bool_]:  # (..., V)
        """Whether no class loses more than `most_loss` against no decay; a class that either lacks is not compared."""
        if self.most_loss is None:
            return np.ones(class_iou.shape[:-1], dtype=np.bool_)
        loss = none[..., None, :] - class_iou
        over = np.where(np.isfinite(loss), loss, -np.inf) > self.most_loss + 1e-12
        return np.asarray(~over.any(axis=-1))


def check_criterion(search: SearchConfig) -> list[str]:
    """Faults of the name of a search's criterion."""
    known = search.criterion is None or search.criterion in METRICS
    return [] if known else [f"search.criterion: {unknown('metric', str(search.criterion), METRICS)}"]


def build_criterion(
    search: SearchConfig, class_names: Sequence[str], task: Task = "segmentation", exclude_from_mean: Sequence[str] = ()
) -> Criterion:
    """The criterion of a search on data with these classes; with labels of images classes are scored by recall.

    Raises:
        ConfigError: classes that the data do not have or leave out of means, or mIoU of labels; all faults are listed.
    """
    named = search.criterion_classes
    faults = [
        f"search.criterion_classes: {unknown('class', name, class_names)}" for name in named if name not in class_names
    ]
    faults += [
        f"search.criterion_classes lists {name}, which exclude_from_mean of dataset.yaml leaves out. Remove it from "
        "one of them."
        for name in named
        if name in exclude_from_mean
    ]
    if task == "classification" and search.criterion == "miou":
        faults.append(
            "search.criterion=miou scores masks, but these data have one label per image. Use balanced_accuracy, "
            "accuracy, worst or classes."
        )
    gather(ConfigError, faults)
    indices = tuple(list(class_names).index(name) for name in named)
    kind = search.criterion or DEFAULTS[task]
    left_out = () if METRICS[kind].has_all else tuple(exclude_from_mean)
    excluded = tuple(list(class_names).index(name) for name in left_out)
    return Criterion(
        kind,
        indices,
        named,
        search.max_class_loss,
        task == "classification",
        excluded=excluded,
        excluded_names=left_out,
    )
