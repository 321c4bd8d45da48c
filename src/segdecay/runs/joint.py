"""search.json: the points of a joint search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segdecay.runs.verdict import StrengthField


@dataclass(frozen=True)
class JointDimension:
    """A parameter searched together with the strength: a range of numbers, or choices."""

    name: str
    label: str
    is_log: bool
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    default: float | str = 0.0


@dataclass(frozen=True)
class JointPoint:
    """One point, trained on every fold; `score` is None if a training failed or diverged."""

    number: int
    name: str
    strength: StrengthField
    lr: float
    values: Mapping[str, float | str]
    folds: tuple[float, ...] | None
    score: float | None


@dataclass(frozen=True)
class JointSearch:
    """A joint search: its parameters and its points."""

    sampler: str
    dimensions: tuple[JointDimension, ...]
    points: tuple[JointPoint, ...]
