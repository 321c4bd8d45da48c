"""What may be done after a verdict: the same search with one thing changed, and about how long that takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segdecay.config.schema import RunConfig
from segdecay.runs.read import read_record
from segdecay.runs.verdict import Cost, Kind, Verdict
from segdecay.search.recipe import Recipe
from segdecay.workflows.advice import Asked, advice_lines, advice_of, next_steps

RECORD = Path(__file__).parents[2] / "docs" / "records" / "digits" / "verdict.json"
COMMAND = "segdecay tune digits --folds 4 --out runs/a"
FINE = Recipe("fits", is_short=False, seen="")


@pytest.fixture(scope="module")
def asked() -> Asked:
    verdict = replace(read_record(RECORD, Verdict), cost=Cost(10, 800, 400.0, 0))
    config = RunConfig.model_validate({"data": {"path": "digits"}})
    return Asked(config, verdict, COMMAND, "runs/a", trials=20, workers=2, epoch_steps=25)


def _of_kind(asked: Asked, kind: Kind) -> Asked:
    return replace(asked, verdict=replace(asked.verdict, kind=kind))


def test_a_clear_verdict_leaves_nothing_open(asked: Asked) -> None:
    assert next_steps(_of_kind(asked, "chosen"), FINE, 64.0) == ()
    assert next_steps(_of_kind(asked, "zero"), None, None) == ()


def test_a_best_value_at_the_end_is_searched_beyond_it(asked: Asked) -> None:
    (one,) = next_steps(_of_kind(asked, "edge"), FINE, 64.0)
    values = ",".join(f"{item.strength.value:g}" for item in asked.verdict.settings)
    assert one.command == f"segdecay tune digits --folds 4 --out runs/a-stronger --set search.grid=[{values},64]"
    assert next_steps(_of_kind(asked, "edge"), FINE, None) == ()  # no step allows it


def test_no_difference_is_looked_at_again_with_another_seed(asked: Asked) -> None:
    (one,) = next_steps(_of_kind(asked, "flat"), FINE, 64.0)
    assert one.command == "segdecay tune digits --folds 4 --out runs/a-seeds --set search.seeds=[0,1]"
    assert one.seconds == 2 * 400 / 10 * 20 / 2


def test_a_recipe_that_looks_wrong_is_looked_at_first(asked: Asked) -> None:
    rates, longer = next_steps(_of_kind(asked, "chosen"), Recipe("low", is_short=True, seen=""), None)
    assert rates.command == "segdecay lr digits"
    assert rates.seconds == 400 / 800 * 600 / 25
    assert longer.command == "segdecay tune digits --folds 4 --epochs 320 --out runs/a-320epochs"
    assert longer.seconds == 4 * 400 / 10 * 20 / 2


def test_networks_that_learned_nothing(asked: Asked) -> None:
    found = advice_of(_of_kind(asked, "undertrained"))
    assert [one.command.split()[1] for one in found if one.command] == ["lr", "tune", "tune", "tune"]
    assert advice_lines(found)[0] == "- See which learning rates learn; nothing is changed. About 12 s."
