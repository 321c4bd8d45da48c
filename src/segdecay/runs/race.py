"""race.json: where the race of a search stands, written after every trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RaceRecord:
    """The state of a race; settings are named as their folders are.

    Attributes:
        settings: of the grid, from no decay to the strongest, and those beyond it that were tried.
        leader: the setting with the best expected score; None before the first.
        finalists: settings that share all finished folds.
        dropped: eliminated settings, each with the reason.
        trials: of the plan, as far as they are finished.
        least, most: trials of the whole race.
    """

    settings: tuple[str, ...]
    leader: str | None
    finalists: tuple[str, ...]
    dropped: Mapping[str, str]
    trials: int
    least: int
    most: int
