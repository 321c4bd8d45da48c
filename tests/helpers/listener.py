"""A watcher of runs that records how trials ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from segdecay.execution import Event
from segdecay.search.study import Study
from segdecay.training.preflight import Preflight
from segdecay.workflows.steps import Watcher


@dataclass
class Listener(Watcher):
    """Records how trials ended."""

    events: list[Event] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Nobody reads."""

    def plan(self, study: Study, grid: object, preflight: Preflight | None, refits: int, workers: int) -> None:
        """Nobody reads."""

    def begin(self, criterion: object, trainings: int, finished: int, workers: int) -> None:
        """Nobody reads."""

    def event(self, event: Event) -> None:
        self.events.append(event)
