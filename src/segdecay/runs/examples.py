"""examples.json: predictions for validation images, without decay and at the compared strength.

Files are named relative to the folder examples/.
"""

from __future__ import annotations

from dataclasses import dataclass

from segdecay.runs.verdict import StrengthField


@dataclass(frozen=True)
class ImageExample:
    """One validation image with its mask and both predictions."""

    kind: str
    name: str
    fold: int | None
    image: str
    truth: str
    zero: str
    chosen: str
    miou_zero: float | None = None
    miou_chosen: float | None = None


@dataclass(frozen=True)
class LabelExample:
    """One validation image with its label and both predicted labels."""

    kind: str
    name: str
    fold: int | None
    image: str
    truth: str
    zero: str
    chosen: str


@dataclass(frozen=True)
class Examples:
    """All examples; `shown` is the strength of the predictions called "chosen"."""

    shown: StrengthField | None = None
    cases: tuple[ImageExample, ...] = ()
    labels: tuple[LabelExample, ...] = ()  # in place of cases, if images have one label
