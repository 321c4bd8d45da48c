"""Where strengths stand on a horizontal axis: logarithmic, with none at the left, off the scale.

Shared by the interactive figures and the plain picture, so that both show the same thing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

# Colours that colour-blind readers tell apart (Okabe and Ito, 2008), the blue a little lighter to show on black too.
BLUE = "#1f83c1"
VERMILION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
GREY = "#80868e"


def positions(values: Sequence[float]) -> tuple[float, ...]:
    """Base-10 logarithms of positive strengths; 0 stands one typical step to the left of the smallest.

    Where inf (no bound) is among them less is stronger: inf stands at the left, the others from large to small.

    >>> positions([0, 1, 10, 100])
    (-1.0, 0.0, 1.0, 2.0)
    >>> positions([0])
    (0.0,)
    >>> positions([math.inf, 10, 1])
    (-2.0, -1.0, 0.0)
    """
    sign = -1 if any(math.isinf(value) for value in values) else 1
    at = {value: sign * math.log10(value) + 0.0 for value in values if 0 < value < math.inf}
    logs = sorted(at.values())
    if not logs:
        return tuple(0.0 for _ in values)
    steps = [after - before for before, after in itertools.pairwise(logs)]
    left = logs[0] - (statistics.median(steps) if steps else 1.0)
    return tuple(at.get(value, left) for value in values)


def padded(values: Sequence[float | None], share: float = 0.08) -> tuple[float, float]:
    """A range that holds all values with some air; one value gets a range of its own.

    >>> padded([0.2, None, 0.4], share=0.1) == (0.18, 0.42000000000000004)
    True
    >>> padded([None])
    (0.0, 1.0)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = share * (high - low) or max(abs(high) * share, 0.01)
    return low - air, high + air


def log_ticks(low: float, high: float, at_most: int = 7) -> tuple[float, ...]:
    """Round positive numbers inside a range, for a logarithmic axis: 1, 2, 5 a decade where there is room, else 1.

    >>> log_ticks(0.3, 30)
    (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    >>> log_ticks(0.001, 50)
    (0.001, 0.01, 0.1, 1.0, 10.0)
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= at_most:
            break
    return tuple(found)


def ticks(low: float, high: float, at_most: int = 6) -> tuple[float, ...]:
    """Round numbers inside a range.

    >>> ticks(0.21, 0.48)
    (0.25, 0.3, 0.35, 0.4, 0.45)
    """
    raw = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))
