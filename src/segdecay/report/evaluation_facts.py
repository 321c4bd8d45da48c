"""evaluation.json as frozen dataclasses: how a model scores on masks. The keys are those of docs/evaluation.md.

Values that are not available are None. Knows nothing of figures or pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic

from segdecay.report.facts import Colour
from segdecay.report.verdict_facts import Interval

Count = Annotated[int, pydantic.Field(ge=0)]


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error and interval."""

    mean: float | None
    standard_error: float | None = None
    interval: Interval = None


UNKNOWN = Estimate(None)  # evaluations of older versions lack what was added later


@dataclass(frozen=True)
class EvaluatedClass:
    """One class: its true and predicted pixels, the images that hold it, its scores."""

    name: str
    colour: Colour
    support: Count
    predicted: Count
    images: Count
    iou: Estimate
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    boundary_iou: Estimate = UNKNOWN
    image_iou: Estimate = UNKNOWN
    dice_interval: Interval = None
    precision_interval: Interval = None
    recall_interval: Interval = None

    @property
    def by_recall(self) -> Estimate:
        """Recall as an estimate."""
        return Estimate(self.recall, None, self.recall_interval)


@dataclass(frozen=True)
class EvaluatedImage:
    """One image."""

    name: str
    group: str | None
    part: str | None
    height: int
    width: int
    miou: float | None
    trained_on: bool | None = None


@dataclass(frozen=True)
class EvaluatedData:
    """What was scored."""

    path: str
    name: str
    fingerprint: str
    part: str
    images: Count
    groups: int | None = None


@dataclass(frozen=True)
class EvaluatedModel:
    """Which weights."""

    weights_sha256: tuple[str, ...]
    made_by: Any = None


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json: `confusion` has a row a true class and a column a predicted one."""

    run: str
    data: EvaluatedData
    model: EvaluatedModel
    miou: Estimate
    accuracy: float | None
    classes: tuple[EvaluatedClass, ...]
    confusion: tuple[tuple[Count, ...], ...]
    images: tuple[EvaluatedImage, ...]
    confidence: float = 0.95
    resamples: int | None = None
    resampled_by: str | None = None
    how: Mapping[str, Any] = field(default_factory=dict)
    trained_on: int | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    worst: Estimate = UNKNOWN
    weighted: Estimate = UNKNOWN
    boundary_miou: Estimate = UNKNOWN
    image_miou: Estimate = UNKNOWN
    image_worst: Estimate = UNKNOWN
    image_weighted: Estimate = UNKNOWN
    task: Literal["segmentation", "classification"] = "segmentation"
    balanced_accuracy: Estimate | None = None  # where images have one label
    accuracy_interval: Interval = None
    exclude_from_mean: tuple[str, ...] = ()
