"""The tables of a comparison for a terminal. Knows records; computes nothing."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from segdecay.cli.tables import show
from segdecay.selection.comparison_record import ComparedArm, Comparison

NOTE = (
    "Arms that share a letter cannot be told apart (all pairs, Holm). Every arm is scored in a fold at the strength "
    "that the other folds chose."
)


def arms_table(comparison: Comparison) -> Table:
    """The arms from the best to the worst."""
    table = Table(title=f"{comparison.criterion} by arm", title_justify="left")
    table.add_column("arm")
    for name in (comparison.criterion, "interval", "told apart", "to none", "p", "gap", "chosen", "epochs"):
        table.add_column(name, justify="right")
    for arm in comparison.arms:
        table.add_row(escape(arm.label), *_cells(arm, comparison))
    return table


def _cells(arm: ComparedArm, comparison: Comparison) -> tuple[str, ...]:
    low_high = "" if arm.interval is None else f"{arm.interval[0]:.3f} to {arm.interval[1]:.3f}"
    pair = next((one for one in comparison.pairs if {one.first, one.second} == {arm.name, "none"}), None)
    sign = -1 if pair is not None and pair.first == "none" else 1
    to_none, p = ("", "") if pair is None else (f"{sign * pair.difference:+.3f}", show(pair.p_holm))
    chosen = ", ".join(arm.chosen) if arm.axis else ""
    return show(arm.mean), low_high, arm.letters, to_none, p, show(arm.gap, "+.3f"), chosen, str(arm.cost.epochs)
