"""What a setting is scored by: one number from the summed counts of a fold, and what no class may lose.

Pure numpy: true positives, unions and true pixels of every class in, scores out. Everything else (folds, resamples,
intervals) follows from that function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdecay.config import SearchConfig
from segdecay.errors import ConfigError, gather, unknown

F64 = npt.NDArray[np.float64]
NAMES = {"miou": "mIoU", "worst": "worst-class IoU", "weighted": "frequency-weighted IoU", "classes": "IoU"}


@dataclass(frozen=True)
class Criterion:
    """A score of summed counts.

    kind: "miou" (mean over the classes present in truth or prediction), "worst" (the smallest of them), "weighted"
    (mean weighted by true pixels) or "classes" (mean over the classes named). most_loss: the largest loss of IoU
    against none that any class may have, or None.
    """

    kind: str = "miou"
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    most_loss: float | None = None

    @property
    def name(self) -> str:
        """How the score is called.

        >>> Criterion("classes", (2,), ("pole",)).name, Criterion(most_loss=0.02).name
        ('IoU of pole', 'mIoU such that no class loses more than 0.02')
        """
        of = f" of {', '.join(self.class_names)}" if self.kind == "classes" else ""
        limit = "" if self.most_loss is None else f" such that no class loses more than {self.most_loss:g}"
        return f"{NAMES[self.kind]}{of}{limit}"

    def score(
        self,
        class_iou: F64,  # (..., C), NaN where a class is absent
        true: F64,  # (..., C) true pixels of each class
    ) -> F64:  # (...)
        """The score of summed counts; NaN where no class that counts is present.

        >>> one, pixels = np.array([0.9, 0.5, np.nan]), np.array([30.0, 10.0, 0.0])
        >>> [round(float(Criterion(kind).score(one, pixels)), 2) for kind in ("miou", "worst", "weighted")]
        [0.7, 0.5, 0.8]
        """
        if self.kind == "classes":
            class_iou, true = class_iou[..., list(self.classes)], true[..., list(self.classes)]
        present = np.isfinite(class_iou)
        if self.kind == "worst":
            least = np.where(present, class_iou, np.inf).min(axis=-1)
            return np.asarray(np.where(np.isfinite(least), least, np.nan))
        weights = present * (true if self.kind == "weighted" else 1.0)
        total = weights.sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((np.where(present, class_iou, 0.0) * weights).sum(axis=-1) / total)

    def is_allowed(
        self,
        class_iou: F64,  # (..., V, C) of every setting, mean over folds
        none: F64,  # (..., C) of none
    ) -> npt.NDArray[np.bool_]:  # (..., V)
        """Whether no class loses more than `most_loss` against none; a class that either lacks is not compared."""
        if self.most_loss is None:
            return np.ones(class_iou.shape[:-1], dtype=np.bool_)
        loss = none[..., None, :] - class_iou
        over = np.where(np.isfinite(loss), loss, -np.inf) > self.most_loss + 1e-12
        return np.asarray(~over.any(axis=-1))


def build_criterion(search: SearchConfig, class_names: Sequence[str]) -> Criterion:
    """The criterion of a search on data with these classes.

    Raises:
        ConfigError: a class is named that the data do not have; all of them are listed.
    """
    named = search.criterion_classes
    gather(
        ConfigError,
        [
            f"search.criterion_classes: {unknown('class', name, class_names)}"
            for name in named
            if name not in class_names
        ],
    )
    indices = tuple(list(class_names).index(name) for name in named)
    return Criterion(search.criterion, indices, named, search.max_class_loss)
