"""The facts of a comparison, and its pairs turned as the page needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from segdecay.data.records import DataRecord
from segdecay.runs.comparison import ComparedArm, ComparedPair, Comparison
from segdecay.runs.facts import Environment
from segdecay.runs.read import read_record


@dataclass(frozen=True)
class ComparedRun:
    """What the page of a comparison is made of."""

    folder: Path
    found: Comparison
    data: DataRecord
    environment: Environment

    def to_none(self, arm: ComparedArm) -> ComparedPair | None:
        """The pair of an arm with none, as arm less none; None for none itself."""
        for pair in self.found.pairs:
            if {pair.first, pair.second} == {arm.name, "none"}:
                return pair if pair.first == arm.name else turned(pair)
        return None


def turned(pair: ComparedPair) -> ComparedPair:
    """The second less the first."""
    ends = None if pair.interval is None else (-pair.interval[1], -pair.interval[0])
    return replace(pair, first=pair.second, second=pair.first, difference=-pair.difference or 0.0, interval=ends)


def better_first(pair: ComparedPair) -> ComparedPair:
    """The pair with a difference that is not negative."""
    return turned(pair) if pair.difference < 0 else pair


def read_comparison(folder: Path) -> ComparedRun:
    """The facts of a finished comparison.

    Raises:
        RunError: a file is missing or damaged; all faults of it are listed.
    """
    return ComparedRun(
        folder,
        read_record(folder / "comparison.json", Comparison),
        read_record(folder / "data.json", DataRecord),
        read_record(folder / "environment.json", Environment),
    )
