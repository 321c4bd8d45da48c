"""Optimizers and schedules by name. Optimizers are built with weight_decay 0, since a regularizer is attached later."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from segdecay.config.schema import OptimizerConfig, ScheduleConfig
from segdecay.errors import ConfigError, unknown

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": lambda done, _power: 0.5 * (1 + math.cos(math.pi * done)),
    "poly": lambda done, power: (1 - done) ** power,
    "constant": lambda _done, _power: 1.0,
}


def check_optimizer_name(name: str) -> list[str]:
    """Faults of an optimizer's name."""
    return [] if name in OPTIMIZERS else [unknown("optimizer", name, OPTIMIZERS)]


def check_schedule_name(name: str) -> list[str]:
    """Faults of a schedule's name."""
    return [] if name in SCHEDULES else [unknown("schedule", name, SCHEDULES)]


def build_optimizer(
    config: OptimizerConfig, groups: list[dict[str, Any]], *, fused: bool = True
) -> torch.optim.Optimizer:
    """The optimizer over torch parameter groups, each with an explicit weight_decay of 0.

    fused: one kernel for all tensors. Not with a scaled loss (16-mixed): it unscales gradients itself, after clipping.

    Raises:
        ConfigError: unknown name.
    """
    faults = check_optimizer_name(config.name)
    if faults:
        raise ConfigError(faults[0])
    explicit = [{**group, "weight_decay": 0.0} for group in groups]
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": 0.0, "fused": fused}
    if config.name == "sgd":
        options["momentum"] = config.momentum
    else:
        options["betas"] = config.betas
    return OPTIMIZERS[config.name](explicit, **options)


def momentum_of(config: OptimizerConfig) -> float:
    """μ of SGD; 0 for other optimizers, where momentum does not affect a strength."""
    return config.momentum if config.name == "sgd" else 0.0


def learning_rates(schedule: ScheduleConfig, peak: float, steps: int) -> tuple[float, ...]:
    """The learning rate of every step: a linear rise to the peak, then the schedule down to 0 (or constant).

    >>> learning_rates(ScheduleConfig(name="constant", warmup=0.5), 1.0, 4)
    (0.5, 1.0, 1.0, 1.0)

    Raises:
        ConfigError: unknown name.
    """
    faults = check_schedule_name(schedule.name)
    if faults:
        raise ConfigError(faults[0])
    shape = SCHEDULES[schedule.name]
    warm = int(schedule.warmup * steps)
    rates = []
    for step in range(steps):
        if step < warm:
            rates.append(peak * (step + 1) / warm)
        else:
            rates.append(peak * shape((step - warm) / max(1, steps - warm), schedule.power))
    return tuple(rates)
