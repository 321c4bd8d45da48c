"""evaluation.json: scores of a model on images with masks, with intervals. Formulas: docs/scores.md.

Values that are not available are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic

from segdecay.runs.verdict import Interval, Limits

Count = Annotated[int, pydantic.Field(ge=0)]
Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
UNKNOWN = Interval(None)


@dataclass(frozen=True)
class EvaluatedClass:
    """One class over all images. Scores are None if the class is absent: iou, dice and boundary_iou from truth and
    prediction, recall and image_iou from the truth, precision from the prediction.
    """

    name: str
    colour: tuple[Byte, Byte, Byte]
    support: Count  # pixels in the masks
    predicted: Count  # pixels in the predictions, ignored ones left out
    images: Count  # whose masks hold the class
    iou: Interval
    dice: float | None
    precision: float | None
    recall: float | None
    boundary_iou: Interval = UNKNOWN
    image_iou: Interval = UNKNOWN  # mean over the images whose masks hold the class
    dice_interval: Limits = None
    precision_interval: Limits = None
    recall_interval: Limits = None

    @property
    def by_recall(self) -> Interval:
        """Recall with its interval."""
        return Interval(self.recall, None, self.recall_interval)


@dataclass(frozen=True)
class EvaluatedImage:
    """One image; miou is the mean over the classes present in its mask or its prediction."""

    name: str
    group: str | None
    part: str | None
    height: int
    width: int
    miou: float | None
    trained_on: bool


@dataclass(frozen=True)
class EvaluatedData:
    """The images that were scored."""

    path: str
    name: str
    fingerprint: str
    part: str
    images: Count
    groups: Count


@dataclass(frozen=True)
class EvaluatedModel:
    """The weights that were scored; of several models if their predictions were averaged."""

    weights_sha256: tuple[str, ...]
    made_by: Any


@dataclass(frozen=True)
class Evaluation:
    """The keys of evaluation.json."""

    run: str
    data: EvaluatedData
    model: EvaluatedModel
    how: Mapping[str, Any]  # tta, tile, overlap, models, size
    confidence: float
    resamples: int
    resampled_by: Literal["groups", "images"]
    miou: Interval
    accuracy: float | None
    classes: tuple[EvaluatedClass, ...]
    confusion: tuple[tuple[Count, ...], ...]  # rows are the truth, columns the prediction
    images: tuple[EvaluatedImage, ...]  # in the order of confusion.npz
    trained_on: Count  # images on which the model was trained, as far as known
    warnings: tuple[str, ...]
    seconds: float
    worst: Interval = UNKNOWN  # of the classes' IoU
    weighted: Interval = UNKNOWN  # IoU weighted by true pixels
    boundary_miou: Interval = UNKNOWN
    image_miou: Interval = UNKNOWN  # mean of the mIoU of single images
    image_worst: Interval = UNKNOWN
    image_weighted: Interval = UNKNOWN
    task: Literal["segmentation", "classification"] = "segmentation"
    balanced_accuracy: Interval | None = None  # if images have one label; then counts are of images
    accuracy_interval: Limits = None
    exclude_from_mean: tuple[str, ...] = ()  # left out of means over classes, not of the matrices
