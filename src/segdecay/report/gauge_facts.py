"""What a cell wrote of its gauges and of weight balancing, as frozen dataclasses: in its curve, and under `extra`.

Values that are not available are None; what a run did not write is empty. Knows nothing of files, figures or pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pydantic


def _or_nothing(values: Any) -> Any:
    return () if values is None else values


Numbers = Annotated[tuple[float | None, ...], pydantic.BeforeValidator(_or_nothing)]


@dataclass(frozen=True)
class LayerFacts:
    """One weight at one reading; `ratio` is its angle a step over that of equilibrium."""

    name: str
    group: str
    norm: float | None
    stable_rank: float | None = None
    zeros: float | None = None
    channels: int = 0
    zero_channels: int = 0
    ratio: float | None = None


@dataclass(frozen=True)
class GroupFacts:
    """All parameters of a group at one reading."""

    group: str
    numbers: int
    zeros: float | None
    channels: int = 0
    zero_channels: int = 0


@dataclass(frozen=True)
class ActivationFacts:
    """One ReLU: channels, those that were zero throughout, share of zero outputs."""

    name: str
    channels: int
    dead: int
    zeros: float | None


@dataclass(frozen=True)
class HeadFacts:
    """One weight of the head: the norms of its rows, and their correlation with class frequency."""

    name: str
    row_norms: Numbers
    spearman: float | None = None


@dataclass(frozen=True)
class GaugeFacts:
    """One reading."""

    layers: tuple[LayerFacts, ...]
    groups: tuple[GroupFacts, ...] = ()
    activations: tuple[ActivationFacts, ...] = ()
    head: tuple[HeadFacts, ...] = ()
    penalty_share: float | None = None


@dataclass(frozen=True)
class StageScores:
    """Validation scores at the end of a stage."""

    miou: float | None = None
    iou: Numbers = ()


@dataclass(frozen=True)
class Stage:
    """One stage of a training; what only the second, of weight balancing, has is empty in the first."""

    stage: int
    epochs: int
    loss: str = ""
    row_norms: Mapping[str, Numbers] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    examples: Numbers = ()
    class_weights: Numbers = ()
    total_decay: float | None = None
    validation: StageScores | None = None


@dataclass(frozen=True)
class Validated:
    """What the record keeps of the gauges beside the last reading."""

    validation_activations: tuple[ActivationFacts, ...] = ()


@dataclass(frozen=True)
class Extras:
    """The part of a cell's `extra` that the report shows."""

    log_frequencies: Numbers = ()  # natural logarithm of each class's share of the training pixels
    stages: tuple[Stage, ...] = ()
    gauges: Validated | None = None
