"""Optimizers without decay of their own, and schedules worked by hand."""

from __future__ import annotations

import pytest
import torch

from segdecay.config.schema import OptimizerConfig, ScheduleConfig
from segdecay.errors import ConfigError
from segdecay.training.optim import OPTIMIZERS, build_optimizer, learning_rates


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


@pytest.mark.parametrize("name", ["cosine", "poly", "constant"])
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
