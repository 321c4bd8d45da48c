"""How the settings of a search are found and compared: the section `search` of a run's configuration.

Checks shape and range only; knows nothing of the other sections.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from segdecay.sections import Section


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(one) in (int, float) for one in value)


class SearchConfig(Section):
    """Which settings see which folds, and by which rule one of them is taken."""

    grid: tuple[float, ...] | None = Field(None, description="strengths on the axis; null takes the axis' own")
    race: bool = Field(True, description="train only the cells that may change the verdict; false: the whole grid")
    folds: int | None = Field(
        None, ge=2, le=100, description="null: 5, or as many down to 3 as the groups and classes allow"
    )
    method: Literal["groups", "leave-one-group-out", "blocks", "given"] | None = Field(
        None, description="null: what the data set says"
    )
    block_gap: int = Field(2, ge=0, description="blocks only: frames left out on each side of a validation block")
    seeds: tuple[int, ...] = (0,)
    rule: Literal["best", "one-se"] = "best"
    joint: tuple[str, ...] = Field(
        (), description="searched together with the strength: lr, head, encoder, dropout, class_weights (docs/joint.md)"
    )
    trials: int = Field(24, ge=6, le=10_000, description="joint only: settings tried, a third of them at none")
    sampler: Literal["tpe", "gp", "qmc", "random"] = Field("tpe", description="joint only: Optuna's sampler")
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="joint only: from and to of what is searched; default in docs/joint.md"
    )
    criterion: Literal["miou", "worst", "weighted", "classes", "accuracy", "balanced_accuracy"] | None = Field(
        None,
        description="mIoU, the worst class, the mean weighted by pixels, the mean of named classes, the share that is "
        "right, or the mean recall of the classes; null: miou for masks, balanced_accuracy for labels of images",
    )
    criterion_classes: tuple[str, ...] = Field((), description="names of classes; with criterion: classes only")
    max_class_loss: float | None = Field(
        None,
        ge=0,
        le=1,
        description="largest loss of IoU (or recall) against none that any class may have; null: no limit",
    )
    honest: Literal["bbc-cv", "nested", "holdout"] = Field(
        "bbc-cv",
        description="the score corrected for selection: computed, by a search without each fold, or on a fold held out",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    resamples: int = Field(2000, ge=100, le=100_000, description="of the image bootstrap")
    strict: bool = Field(False, description="warnings about the data are errors")
    allow_missing: bool = Field(False, description="go on where a class cannot be scored or learned in every fold")

    @pydantic.field_validator("ranges", mode="before")
    @classmethod
    def _ranges_from_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: tuple(map(float, one)) if _are_numbers(one) else one for name, one in value.items()}

    @pydantic.field_validator("grid", "seeds", "criterion_classes", "joint", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("grid")
    @classmethod
    def _grid_is_sane(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (len(set(value)) != len(value) or not value or not all(one >= 0 for one in value)):
            raise ValueError("must be different numbers, none below 0")
        return value

    @pydantic.model_validator(mode="after")
    def _classes_fit_the_criterion(self) -> Self:
        if (self.criterion == "classes") != bool(self.criterion_classes):
            raise ValueError("criterion: classes and criterion_classes: [names] go together; give both or neither")
        return self
