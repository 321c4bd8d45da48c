"""How long a worker may be silent before it counts as hung. Pure arithmetic on a clock that is handed in.

A worker gives a sign of life when it starts and at the end of every epoch. Knows durations; nothing of processes.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

MEDIANS = 5.0  # cells of median length that a worker may be silent
ESTIMATES = 20.0  # before any cell has ended: of the time that the trial step promises for a cell
LEAST_S = 300.0  # silent for less is never hung: starting, compiling and scoring take their time
LONGEST_LOOK_S = 5.0  # between two looks at the clock; a driver that slept longer was itself stopped


@dataclass
class Patience:
    """The bound on silence, from the cells that have ended.

    Args:
        estimate_s: of a cell, from the trial step; None: no bound until a cell has ended.
        least_s: the bound is never below.

    >>> patience = Patience(estimate_s=60.0)
    >>> patience.bound_s
    1200.0
    >>> patience.note(100.0)
    >>> patience.bound_s
    500.0
    """

    estimate_s: float | None = None
    least_s: float = LEAST_S
    _took: list[float] = field(default_factory=list)

    def note(self, seconds: float) -> None:
        """A cell has finished, after so many seconds."""
        self._took.append(seconds)

    @property
    def bound_s(self) -> float | None:
        """Seconds that a worker may be silent; None: any time."""
        if self._took:
            return max(self.least_s, MEDIANS * statistics.median(self._took))
        return None if self.estimate_s is None else max(self.least_s, ESTIMATES * self.estimate_s)

    def words(self) -> str:
        """Where the bound comes from."""
        if self._took:
            return f"{MEDIANS:g} times the median training of {statistics.median(self._took):.1f} s"
        return f"{ESTIMATES:g} times the {self.estimate_s or 0:.1f} s that a training was expected to take"


@dataclass
class AwakeClock:
    """Seconds in which the driver itself was running, from looks at the monotonic clock.

    A driver that was stopped (Ctrl-Z, a suspended machine) has heard nothing of its workers meanwhile: such time does
    not count.

    >>> clock = AwakeClock(10.0)
    >>> clock.look(11.0), clock.look(5000.0)
    (1.0, 6.0)
    """

    last: float  # of the monotonic clock
    awake_s: float = 0.0

    def look(self, now: float) -> float:
        """The awake seconds until now."""
        self.awake_s += min(max(0.0, now - self.last), LONGEST_LOOK_S)
        self.last = now
        return self.awake_s
