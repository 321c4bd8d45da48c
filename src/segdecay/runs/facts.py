"""environment.json and partition.json: the machine and command of a run, and the groups of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Environment:
    """The machine and packages of a run, and the command that repeats it."""

    command: str
    python: str
    packages: Mapping[str, str]
    machine: Any
    device: str
    segdecay: str
    started: str
    workers: int = 1
    trials: int | None = None  # upper bound, without refits


@dataclass(frozen=True)
class PartitionRow:
    """One parameter tensor: its group, the reason, and the multiplier of the strength."""

    name: str
    shape: tuple[int, ...]
    module: str
    group: str
    reason: str
    multiplier: float | None


@dataclass(frozen=True)
class PartitionRecord:
    """All parameters of the model; no rows if the model is not known, as with a user function."""

    rows: tuple[PartitionRow, ...]
