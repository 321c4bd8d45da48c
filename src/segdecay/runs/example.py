"""example.json: the worked example beside the search over its λ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segdecay.runs.verdict import Interval


@dataclass(frozen=True)
class AuditNote:
    """A finding of `segdecay audit` in the code of the second recipe."""

    code: str
    level: Literal["wrong", "doubtful", "note"]
    message: str
    advice: str


@dataclass(frozen=True)
class ExampleRow:
    """The share of correct clean test images, of one class or of all; None where there are no images."""

    name: str
    images: int
    right: float | None  # the recipe done right
    article: float | None  # as articles write it
    difference: Interval  # right minus article, paired over images


@dataclass(frozen=True)
class Example:
    """Both recipes on the same test images; `reported` is on augmented ones, `moved` its difference from clean ones."""

    rows: tuple[ExampleRow, ...]  # all images, then each class
    reported: float
    moved: Interval
    lines: str  # the code of the second recipe
    findings: tuple[AuditNote, ...]
