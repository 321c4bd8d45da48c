"""Optimizers without decay of their own, and schedules worked by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes import same_weights, small_config, small_task, stopped_and_resumed

from segdecay.config.schema import OptimizerConfig, ScheduleConfig, parse_config
from segdecay.decay.snippets import paste_lines
from segdecay.errors import ConfigError
from segdecay.training.loop import run_trial
from segdecay.training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    constructor_text,
    example_optimizer,
    import_text,
    learning_rates,
)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_group_carries_an_explicit_zero(name: str) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "name": "body"}]
    optimizer = build_optimizer(OptimizerConfig(name=name), groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]


def test_cosine_starts_at_the_peak_and_halves_half_way() -> None:
    rates = learning_rates(ScheduleConfig(name="cosine", warmup=0.0), 2.0, 4)
    assert rates == pytest.approx((2.0, 2.0 * (1 + 2**-0.5) / 2, 1.0, 2.0 * (1 - 2**-0.5) / 2))


def test_poly_falls_with_its_power() -> None:
    rates = learning_rates(ScheduleConfig(name="poly", warmup=0.0, power=2.0), 1.0, 2)
    assert rates == pytest.approx((1.0, 0.25))


def test_warm_up_rises_linearly_to_the_peak() -> None:
    rates = learning_rates(ScheduleConfig(name="constant", warmup=0.5), 4.0, 8)
    assert rates == pytest.approx((1, 2, 3, 4, 4, 4, 4, 4))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_no_rate_is_above_the_peak_or_below_zero(name: str) -> None:
    rates = learning_rates(ScheduleConfig(name=name), 0.3, 57)
    assert len(rates) == 57
    assert max(rates) <= 0.3
    assert min(rates) >= 0


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'adamw'"):
        build_optimizer(OptimizerConfig(name="adamww"), [])
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        learning_rates(ScheduleConfig(name="cosin"), 1.0, 3)


def _decayed(name: str, steps: int, **options: object) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2))
    config = OptimizerConfig(name=name, lr=0.01, options=dict(options))
    optimizer = build_optimizer(config, [{"params": [weight], "name": "body"}])
    for step in range(steps):
        weight.grad = torch.full_like(weight, float(step + 1))
        optimizer.step()
    return optimizer


def test_the_short_names_are_the_optimizers_of_torch_and_timm() -> None:
    from timm.optim.lion import Lion
    from timm.optim.muon import Muon

    built = {name: build_optimizer(OptimizerConfig(name=name), _one()) for name in ("rmsprop", "lion", "muon")}
    assert type(built["rmsprop"]) is torch.optim.RMSprop
    assert type(built["lion"]) is Lion
    assert type(built["muon"]) is Muon


def _one() -> list[dict[str, object]]:
    return [{"params": [torch.nn.Parameter(torch.ones(4, 3, 2, 2))], "name": "body"}]


def test_options_reach_the_optimizer() -> None:
    ours = _decayed("torch:rmsprop", 5, momentum=0.9, alpha=0.5)
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2))
    theirs = torch.optim.RMSprop([weight], lr=0.01, momentum=0.9, alpha=0.5)
    for step in range(5):
        weight.grad = torch.full_like(weight, float(step + 1))
        theirs.step()
    assert torch.equal(ours.param_groups[0]["params"][0], weight)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("torch:RMSpropp", {}, "torch.optim has no 'RMSpropp'. Did you mean 'RMSprop'"),
        ("timm:lionn", {}, "timm.optim has no 'lionn'. Did you mean 'lion'"),
        ("rmsprop", {"alpah": 0.9}, "cannot be built with lr and optimizer.options={'alpah': 0.9}: TypeError"),
        ("adamw", {"weight_decay": 0.1}, "optimizer.options.weight_decay: the decay of a run is that of decay"),
        ("nowhere.at.all:build", {}, "optimizer.name nowhere.at.all:build: nowhere.at.all cannot be imported"),
        ("lionne", {}, "Others: torch:NAME, timm:NAME, package.module:build"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_optimizer(OptimizerConfig(name=name, options=options), _one())
    assert told in str(error.value)


def test_a_build_function_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_optim.py").write_text(
        "import torch\n"
        "def build(groups, lr, **options):\n    return torch.optim.Adamax(groups, lr=lr, **options)\n"
        "def decaying(groups, lr):\n    return torch.optim.AdamW([p for g in groups for p in g['params']], lr=lr)\n"
        "def nothing(groups, lr):\n    return None\n"
    )
    monkeypatch.chdir(tmp_path)
    built = build_optimizer(OptimizerConfig(name="mine_optim:build", options={"eps": 1e-6}), _one())
    assert isinstance(built, torch.optim.Adamax)
    assert built.param_groups[0]["eps"] == 1e-6
    with pytest.raises(ConfigError, match=r"sets weight_decay=0.01 itself"):
        build_optimizer(OptimizerConfig(name="mine_optim:decaying"), _one())
    with pytest.raises(ConfigError, match="gives NoneType; a torch optimizer is needed"):
        build_optimizer(OptimizerConfig(name="mine_optim:nothing"), _one())


@pytest.mark.parametrize(
    "name", ["rmsprop", "lion", "muon", "timm:adopt", "timm:mars", "torch:NAdam", "torch:Adafactor"]
)
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, shapes: Path, name: str) -> None:
    config = small_config(shapes, optimizer={"name": name, "lr": 0.003}, training={"epochs": 2})
    whole, _ = small_task(tmp_path / "whole", config)
    assert run_trial(whole).status == "finished"
    assert same_weights(whole, stopped_and_resumed(whole, tmp_path / "broken", 3))


@pytest.mark.parametrize("name", ["rmsprop", "timm:lion", "torch:NAdam"])
def test_lines_to_paste_attach_the_decay_to_the_same_optimizer(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.01)
    text = paste_lines(
        "decoupled",
        example_optimizer(config),
        0.5,
        config.lr,
        construct=partial(constructor_text, config),
        imports=import_text(config),
    )
    values: dict[str, Any] = {"model": torch.nn.Conv2d(3, 4, 3)}
    exec(text, values)  # noqa: S102 - what a user would paste
    assert type(values["optimizer"]) is type(example_optimizer(config))
    assert values["handle"].strength == 0.5


def test_one_cycle_is_that_of_torch() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    steps, peak = 100, 0.3
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps + 1, pct_start=0.3, final_div_factor=1e9, cycle_momentum=False
    )
    ours = learning_rates(ScheduleConfig(name="one-cycle", warmup=0.3), peak, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    # torch reaches the peak at the step before the warm-up ends, we at the step after it
    assert max(abs(one - other) for one, other in zip(ours, rates, strict=True)) < 0.03 * peak


def test_step_falls_at_its_milestones() -> None:
    schedule = ScheduleConfig(name="step", warmup=0.0, milestones=(0.5, 0.75), factor=0.1)
    assert learning_rates(schedule, 1.0, 8) == pytest.approx((1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01))


def test_warmup_stable_decay_is_constant_until_its_cooldown() -> None:
    schedule = ScheduleConfig(name="warmup-stable-decay", warmup=0.2, cooldown=0.5)
    assert learning_rates(schedule, 1.0, 10) == pytest.approx((0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25))


@pytest.mark.parametrize("milestones", [[], [0.5, 0.5], [0.7, 0.2], [0.0, 0.5], [0.5, 1.0]])
def test_milestones_that_do_not_rise_within_the_training_are_refused(milestones: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"schedule.milestones.*rising order"):
        parse_config({"data": {"path": "x"}, "schedule": {"name": "step", "milestones": milestones}})
