"""The range test of the learning rate: what it suggests from known curves, its weights' law, and resuming."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from segdecay.config.schema import RunConfig
from segdecay.data import load_dataset
from segdecay.errors import RunError
from segdecay.training import lr_range
from segdecay.training.loop import train_step
from segdecay.training.lr_range import RangeCurve, RangePlan, judged, read_range, run_range, smoothed, suggest
from segdecay.training.setup import TrialTask
from segdecay.training.state import Trial

PLAN = RangePlan(1e-4, 1.0, 40)


def _curve(lowest: float, *, diverges: float | None = None) -> RangeCurve:
    """A loss that falls with the logarithm of the rate up to `lowest`, then rises."""
    rates = RangePlan(1e-5, 1.0, 250).rates
    losses = [2.0 + 0.3 * abs(math.log10(rate / lowest)) for rate in rates if diverges is None or rate <= diverges]
    reason = None if diverges is None else f"the loss became nan at a rate of {diverges:g}"
    return RangeCurve(0.0, rates[: len(losses)], tuple(losses), reason)


def test_a_tenth_of_the_rate_where_the_loss_stops_falling_is_suggested() -> None:
    found = suggest(_curve(0.03))
    assert found.rate is not None
    assert found.lowest is not None
    assert found.lowest == pytest.approx(0.03, rel=0.5)  # the running mean lags behind
    assert found.rate == pytest.approx(found.lowest / 10, rel=0.1)
    assert found.diverges is None
    assert "does not diverge" in found.reason
    assert judged(0.003, found) == "fits"
    assert judged(1e-5, found) == "low"
    assert judged(0.5, found) == "high"


def test_a_rate_near_divergence_is_too_high() -> None:
    found = suggest(_curve(0.9, diverges=0.1))
    assert found.diverges == pytest.approx(0.1, rel=0.05)
    assert judged(0.06, found) == "high"
    assert "diverges near" in found.reason


def test_a_loss_that_falls_to_the_end_asks_for_higher_rates() -> None:
    found = suggest(_curve(1.0))
    assert found.rate is not None
    assert "still falls at the last rates" in found.reason
    assert "raise --highest" in found.reason


@pytest.mark.parametrize(("reason", "said"), [(None, "does not fall up to"), ("it became nan", "diverges at")])
def test_a_loss_that_never_falls_gives_no_suggestion(reason: str | None, said: str) -> None:
    found = suggest(RangeCurve(0.0, PLAN.rates, (2.0,) * len(PLAN.rates), reason))
    assert found.rate is None
    assert said in found.reason
    assert judged(0.01, found) == "unknown"


def test_running_means_are_corrected_for_their_start() -> None:
    assert smoothed([1.0, 3.0], memory=0.5) == pytest.approx((1.0, (0.25 * 1 + 0.5 * 3) / 0.75))


@pytest.fixture
def task(shapes: Path, tmp_path: Path) -> TrialTask:
    config = RunConfig.model_validate({"data": {"path": str(shapes)}, "model": {"width": 4}})
    dataset, _ = load_dataset(config.data)
    return TrialTask(
        tmp_path / "test", dataset.root, config, "decay", 2.0, -1, 0, dataset.part("train", "val"), (), "cpu"
    )


def test_every_step_shrinks_weights_by_its_share_of_the_whole_decay(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrinks: list[float] = []

    def note(trial: Trial, window: list[Any]) -> Tensor:
        loss = train_step(trial, window)
        shrinks.append(trial.parts.handle.strength * trial.parts.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(lr_range, "train_step", note)
    curve = run_range(task, PLAN)
    steps = 80 * 3  # 18 images in batches of 6 (at most 8), 80 epochs
    assert len(shrinks) == len(curve.losses)
    assert shrinks == pytest.approx([2.0 / steps] * len(shrinks))
    assert curve.rates == PLAN.rates[: len(curve.losses)]


def test_an_interrupted_test_ends_with_the_losses_of_one_that_was_not(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_range(task, PLAN)
    assert read_range(task.folder / "range.json") == whole
    again = dataclasses.replace(task, folder=task.folder.with_name("again"), checkpoint_every_s=0.0)
    calls = 0

    def fail(trial: Trial, window: list[Any]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 11:
            raise KeyboardInterrupt
        return train_step(trial, window)

    monkeypatch.setattr(lr_range, "train_step", fail)
    with pytest.raises(KeyboardInterrupt):
        run_range(again, PLAN)
    monkeypatch.setattr(lr_range, "train_step", train_step)
    counted: list[int] = []
    assert run_range(again, PLAN, lambda done, _steps: counted.append(done)) == whole
    assert counted[0] == 11  # ten steps were kept
    assert not (again.folder / "checkpoint").exists()


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "range.json").write_text("{}")
    with pytest.raises(RunError, match=r"range\.json is damaged.*Remove it"):
        read_range(tmp_path / "range.json")
