"""Which strengths are tried, and how a grid grows at its strong edge.

Knows numbers on an axis; nothing of cells or scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from segdecay.errors import ConfigError

MOST_EXTENSIONS = 2
LONE_RATIO = 4.0  # the step of a grid with a single positive strength


def start_grid(wanted: Sequence[float] | None, default: Sequence[float], *, none: float, largest: float) -> list[float]:
    """The strengths of a search from none to the strongest; none is always among them.

    Where none is inf, as for bounds, less is stronger.

    >>> start_grid([4, 1], (0, 2, 8), none=0.0, largest=100.0)
    [0.0, 1.0, 4.0]
    >>> start_grid([1, 4], (), none=math.inf, largest=math.inf)
    [inf, 4.0, 1.0]

    Raises:
        ConfigError: a strength whose steps would make ηλ reach 1, or no positive one.
    """
    asked = {float(value) for value in (wanted if wanted is not None else default)}
    values = sorted({float(none), *asked}, reverse=math.isinf(none))
    if len(values) < 2:
        raise ConfigError(f"search.grid = {list(wanted or ())} holds no strength beside {none:g}; add at least one.")
    too_strong = [value for value in values if value >= largest and value != none]
    if wanted is not None and too_strong:
        shown = ", ".join(f"{value:g}" for value in too_strong)
        raise ConfigError(
            f"search.grid holds {shown}: a step would multiply weights by less than 0 (ηλ ≥ 1). "
            f"The largest allowed with this schedule is just under {largest:.6g}."
        )
    return [value for value in values if value < largest or value == none]


def next_strength(grid: Sequence[float], *, none: float, largest: float) -> float | None:
    """One step past the strong edge, at the ratio of the last two strengths that act; None past `largest`.

    >>> next_strength([0, 1, 4], none=0, largest=100.0), next_strength([0, 1, 4], none=0, largest=10.0)
    (16.0, None)
    >>> next_strength([math.inf, 4, 2], none=math.inf, largest=math.inf)
    1.0
    """
    acting = [value for value in grid if value != none]
    lone = 1 / LONE_RATIO if math.isinf(none) else LONE_RATIO
    ratio = acting[-1] / acting[-2] if len(acting) > 1 else lone
    value = float(f"{acting[-1] * ratio:.12g}")
    return value if value < largest else None
