"""What sections of a configuration are made of, and the sections of a training that is the caller's own.

Checks shape and range only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[tuple[int, int], Field(description="height, width in pixels")]
Task = Literal["segmentation", "classification"]  # what is labelled: every pixel, or the image


class Section(pydantic.BaseModel):
    """A part of the configuration: unknown keys are refused, values are frozen."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class AxisConfig(Section):
    """What a training of the caller's own is tuned along; none is 0, or inf where lower is stronger."""

    name: str
    unit: str = ""
    grid: tuple[NonNegative, ...]
    stronger: Literal["higher", "lower"] = "higher"

    @pydantic.field_validator("grid", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class OwnConfig(Section):
    """A training of the caller's own, in Python (docs/python.md)."""

    function: str | None = Field(None, description="name of the function that trains; null: segdecay trains")
