"""A comparison in a terminal of 80 columns and on its page: nothing is cut off, every pair has its interval."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paths import ROOT
from rich.console import Console

from segdecay.report.facts.comparison import better_first
from segdecay.report.figures.compare import least_px, pairs_figure
from segdecay.report.pages.compare import result_text
from segdecay.runs.comparison import ComparedArm, ComparedPair, Comparison
from segdecay.runs.read import read_record
from segdecay.workflows.progress import arms_table, left_out

RECORD = ROOT / "docs" / "records" / "compare" / "nuclei.json"


@pytest.fixture(scope="module")
def found() -> Comparison:
    return read_record(RECORD, Comparison)


def arm(found: Comparison, name: str) -> ComparedArm:
    return next(one for one in found.arms if one.name == name)


def test_the_table_fits_80_columns_and_shows_the_paired_interval(found: Comparison) -> None:
    longest = replace(arm(found, "dropout"), name="weight_balancing", letters="abc")
    names = (*found.arms, longest)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(arms_table(replace(found, arms=names)))
    said = captured.get()
    assert "…" not in said
    for part in ("weight_balancing", "letters", "-0.070 +0.151", "none\u00a0×3"):
        assert part in said
    assert "-0.000 " not in next(line for line in said.splitlines() if "dropout" in line)


def test_what_took_none_or_could_not_be_scored_is_not_said_to_be_alike(found: Comparison) -> None:
    pair = found.pairs[0]
    taken, own = arm(found, "dropout"), arm(found, "l1")
    assert result_text(taken, pair) == "chose no decay in every fold"
    assert result_text(own, replace(pair, told_apart=False)) == "cannot be told apart"
    assert result_text(own, replace(pair, told_apart=True)) == "told apart"
    failed = [one if one.value is None else replace(one, folds=None, dropped="diverged") for one in taken.strengths]
    assert result_text(replace(taken, strengths=tuple(failed)), pair) == "no strength could be scored"
    assert result_text(arm(found, "none"), None) == ""


def test_a_strength_that_could_not_be_scored_is_told_with_its_reason(found: Comparison) -> None:
    own = arm(found, "l1")
    last = replace(own.strengths[-1], folds=None, dropped="diverged in fold 2: the loss is not finite at step 12")
    changed = replace(found, arms=(replace(own, strengths=(*own.strengths[:-1], last)),))
    assert left_out(found) == []
    assert left_out(changed) == [f"left out: l1 {last.shown}: diverged in fold 2: the loss is not finite at step 12"]


def test_a_pair_is_turned_so_that_the_better_is_first() -> None:
    pair = ComparedPair("a", "b", -0.1, 0.02, (-0.3, 0.1), 0.2, 0.4, told_apart=False)
    turned = better_first(pair)
    assert (turned.first, turned.second, turned.difference, turned.interval) == ("b", "a", 0.1, (-0.1, 0.3))
    assert better_first(turned) == turned


def test_the_field_of_a_pair_says_its_interval_from_both_sides(found: Comparison) -> None:
    texts = [text for line in pairs_figure(found).data[0].hovertext for text in line]
    assert sum("+0.041 (−0.070 to +0.151)" in text for text in texts) == 2  # to none, and to dropout, which took none
    assert sum("−0.041 (−0.151 to +0.070)" in text for text in texts) == 2  # to none, and to dropout, which took none


def test_more_arms_need_more_room() -> None:
    assert least_px(10) - least_px(4) == 6 * 44
