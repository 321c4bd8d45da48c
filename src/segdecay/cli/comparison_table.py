"""The tables of a comparison for a terminal. Knows records; computes nothing."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.table import Table

from segdecay.cli.tables import show
from segdecay.selection.comparison_record import ComparedArm, Comparison

NOTE = (
    "Arms that share a letter cannot be told apart (all pairs, Holm). Every arm is scored in a fold at the strength "
    "that the other folds chose. Costs and all pairs stand in the report."
)


def arms_table(comparison: Comparison) -> Table:
    """The arms from the best to the worst, narrow enough for 80 columns; `chosen` breaks where it must."""
    table = Table(
        title=f"{comparison.criterion} by arm; differences to none are paired, intervals and p are Holm's",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    table.add_column("arm", no_wrap=True)
    for name in ("letters", comparison.criterion, "to none", "its interval", "p", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("chosen")
    for arm in comparison.arms:
        table.add_row(arm.name, *_cells(arm, comparison))
    return table


def _cells(arm: ComparedArm, comparison: Comparison) -> tuple[str, ...]:
    pair = next((one for one in comparison.pairs if {one.first, one.second} == {arm.name, "none"}), None)
    sign = -1 if pair is not None and pair.first == "none" else 1
    to_none, low_high, p = ("", "", "")
    if pair is not None:
        to_none, p = signed(sign * pair.difference), f"{pair.p_holm:.2g}"
        if pair.interval is not None:
            low, high = sorted(sign * end for end in pair.interval)
            low_high = f"{signed(low)} {signed(high)}"
    counted = Counter(arm.chosen).most_common() if arm.axis else []
    chosen = ", ".join(f"{value}\u00a0×{n}" for value, n in counted)
    return arm.letters, show(arm.mean), to_none, low_high, p, show(arm.gap, "+.3f"), chosen


def left_out(comparison: Comparison) -> list[str]:
    """A line for every strength that could not be scored, with the reason."""
    return [
        f"left out: {arm.name} {one.shown}: {one.dropped}"
        for arm in comparison.arms
        for one in arm.strengths
        if one.dropped is not None
    ]


def signed(value: float) -> str:
    """A difference in three digits; without a sign where it is 0.

    >>> signed(-0.0), signed(-0.0001), signed(0.0123)
    ('0.000', '-0.000', '+0.012')
    """
    return "0.000" if value == 0 else f"{value:+.3f}"
