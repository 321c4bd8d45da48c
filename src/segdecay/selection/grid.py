"""Which strengths are tried, and how a grid grows at its strong edge.

Knows numbers on an axis; nothing of cells or scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from segdecay.errors import ConfigError

MOST_EXTENSIONS = 2
LONE_RATIO = 4.0  # the step of a grid with a single positive strength


def start_grid(wanted: Sequence[float] | None, default: Sequence[float], *, none: float, largest: float) -> list[float]:
    """The strengths of a search from none to the strongest; none is always among them.

    >>> start_grid([4, 1], (0, 2, 8), none=0.0, largest=100.0)
    [0.0, 1.0, 4.0]

    Raises:
        ConfigError: a strength whose steps would make ηλ reach 1, or no positive one.
    """
    values = sorted({float(none), *(float(value) for value in (wanted if wanted is not None else default))})
    if len(values) < 2:
        raise ConfigError(f"search.grid = {list(wanted or ())} holds no strength beside {none:g}; add at least one.")
    too_strong = [value for value in values if value >= largest]
    if wanted is not None and too_strong:
        shown = ", ".join(f"{value:g}" for value in too_strong)
        raise ConfigError(
            f"search.grid holds {shown}: a step would multiply weights by less than 0 (ηλ ≥ 1). "
            f"The largest allowed with this schedule is just under {largest:.6g}."
        )
    return [value for value in values if value < largest]


def next_strength(grid: Sequence[float], *, none: float, largest: float) -> float | None:
    """One step past the strong edge, at the ratio of the last two positive strengths; None past `largest`.

    >>> next_strength([0, 1, 4], none=0, largest=100.0), next_strength([0, 1, 4], none=0, largest=10.0)
    (16.0, None)
    """
    positive = [value for value in grid if value > none]
    ratio = positive[-1] / positive[-2] if len(positive) > 1 else LONE_RATIO
    value = float(f"{positive[-1] * ratio:.12g}")
    return value if value < largest else None
