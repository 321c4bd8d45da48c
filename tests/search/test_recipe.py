"""Whether learning rate and length look right: judgements of curves made by hand, and the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from segdecay.config.schema import RunConfig
from segdecay.runs.records import StrengthRecord, TrialRecord
from segdecay.search.recipe import Recipe, Seen, judge_recipe, late_rise, recipe_line, scored_epochs
from segdecay.workflows.advice import recipe_commands


def _trial(
    losses: Sequence[float], rates: Sequence[float], scores: Sequence[float | None] = (), status: Any = "finished"
) -> Seen:
    scores = scores or [None] * len(losses)
    curve = [
        {"epoch": at + 1, "lr": rate, "loss": loss, "validation_miou": score}
        for at, (loss, rate, score) in enumerate(zip(losses, rates, scores, strict=True))
    ]
    strength = StrengthRecord("total_decay", 0.0, 0.0)
    reason = "the loss became nan in epoch 2, step 9" if status == "diverged" else None
    record = TrialRecord("total_decay=0", strength, 0, 0, status, reason, None, None, 1, 1, 1.0, (1, 1), {})
    return Seen(curve, record)


FULL = (1.0, 1.0, 0.6, 0.1)


@pytest.mark.parametrize(
    ("trial", "rate", "is_short"),
    [
        (_trial((2.0, 0.8, 0.3, 0.2), FULL, (0.1, 0.5, 0.5, 0.51)), "fits", False),
        (_trial((2.0, 0.8, 0.3, 0.2), FULL, (0.1, 0.4, 0.5, 0.56)), "fits", True),
        (_trial((2.0, 2.1, 2.0, 0.4), FULL), "high", False),
        (_trial((2.0, 1.8, 1.6, 1.5), FULL), "low", False),
        (_trial((2.0, 9.9), FULL[:2], status="diverged"), "high", False),
    ],
)
def test_a_recipe_is_judged_by_its_curve(trial: Seen, rate: str, is_short: bool) -> None:
    found = judge_recipe([trial])
    assert found is not None
    assert (found.rate, found.is_short) == (rate, is_short)
    assert found.looks_right == (rate == "fits" and not is_short)


def test_a_users_function_without_losses_is_not_judged() -> None:
    assert judge_recipe([]) is None
    record = _trial((1.0,), (1.0,)).record
    assert judge_recipe([Seen([{"epoch": 1, "validation_miou": 0.2}], record)]) is None


def test_what_is_said_names_what_was_seen_and_the_command_that_tries_better() -> None:
    found = judge_recipe([_trial((2.0, 0.8, 0.3, 0.2), FULL, (0.1, 0.4, 0.5, 0.56))])
    assert found is not None
    assert recipe_line(found, 0.003, 4) == (
        "4 epochs look short: without decay the training loss went from 2 in the first epoch to 0.2 in the last, and "
        "validation mIoU rose by 0.160 over the last third of the epochs."
    )
    config = RunConfig.model_validate({"data": {"path": "cells"}, "training": {"epochs": 4}})
    command = "segdecay tune cells --model small-cnn --out runs/a"
    assert recipe_commands(found, config, command) == [
        "To train longer: segdecay tune cells --model small-cnn --epochs 16 --out runs/cells-16epochs"
    ]
    low = Recipe("low", is_short=False, seen="the loss fell little")
    assert (
        recipe_line(low, 0.003, 1)
        == "Learning rate 0.003 looks low, or 1 epoch too few: without decay the loss fell little."
    )
    assert recipe_commands(low, config, command)[0] == "To find a rate: segdecay lr cells --model small-cnn"
    high = Recipe("high", is_short=False, seen="it diverged")
    assert recipe_line(high, 3.0, 4) == "Learning rate 3 looks too high: without decay it diverged."
    assert recipe_commands(Recipe("fits", is_short=False, seen=""), config, command) == []


def test_the_last_third_of_a_curve() -> None:
    assert late_rise([(30, 0.5)]) is None
    assert late_rise([(10, 0.3), (20, 0.49), (30, 0.5)]) == pytest.approx(0.01)
    lines: list[dict[str, Any]] = [{"epoch": 1, "validation_miou": None}, {"epoch": 2, "validation_miou": 0.25}]
    assert scored_epochs(lines) == [(2, 0.25)]
