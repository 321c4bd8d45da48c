"""environment.json and partition.json: where a run happened, and which of its parameters decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Environment:
    """Where a run happened, and the command that repeats it."""

    command: str
    python: str
    packages: Mapping[str, str]
    machine: Any
    device: str
    segdecay: str
    started: str
    workers: int = 1
    trials: int | None = None  # trainings at most, refits not counted


@dataclass(frozen=True)
class PartitionRow:
    """One parameter tensor: its group, why, and the multiplier of the strength."""

    name: str
    shape: tuple[int, ...]
    module: str
    group: str
    reason: str
    multiplier: float | None


@dataclass(frozen=True)
class PartitionRecord:
    """Every parameter of the model; no rows where the model is not known, as for a user's function."""

    rows: tuple[PartitionRow, ...]
