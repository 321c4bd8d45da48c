"""search.json: the points of a joint search, as the report reads them. Knows the shape of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segdecay.report.verdict_facts import StrengthField


@dataclass(frozen=True)
class DimensionFacts:
    """What was searched beside the strength."""

    name: str
    label: str
    is_log: bool
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    default: float | str = 0.0


@dataclass(frozen=True)
class TrialFacts:
    """One point, trained on every fold; `score` is None where a training failed or diverged."""

    number: int
    name: str
    strength: StrengthField
    lr: float
    values: Mapping[str, float | str]
    folds: tuple[float, ...] | None
    score: float | None


@dataclass(frozen=True)
class JointFacts:
    """A joint search."""

    sampler: str
    dimensions: tuple[DimensionFacts, ...]
    trials: tuple[TrialFacts, ...]
