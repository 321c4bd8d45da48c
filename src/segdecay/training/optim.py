"""Optimizers and schedules by name. Optimizers are built with weight_decay 0, since a regularizer is attached later."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from segdecay.config.schema import OptimizerConfig, ScheduleConfig
from segdecay.errors import ConfigError, ModelError, SegdecayError, did_you_mean, unknown
from segdecay.models.zoo import import_build

Groups = list[dict[str, Any]]

FUSED: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
# Others under a short name. torch's Muon takes matrices only, timm's also convolutions, and AdamW for the rest.
SHORT = {"rmsprop": "torch:RMSprop", "lion": "timm:lion", "muon": "timm:muon"}
OPTIMIZERS = (*FUSED, *SHORT)
PREFIXES = ("torch", "timm")


def check_optimizer(config: OptimizerConfig) -> list[str]:
    """Faults of an optimizer: its name, and what its class says of the arguments."""
    try:
        example_optimizer(config)
    except SegdecayError as error:
        return [str(error)]
    return []


def example_optimizer(config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer over one small weight.

    Raises:
        ConfigError: as `build_optimizer`.
    """
    return build_optimizer(config, [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "name": "body"}], fused=False)


def build_optimizer(config: OptimizerConfig, groups: Groups, *, fused: bool = True) -> torch.optim.Optimizer:
    """The optimizer over torch parameter groups, each with an explicit weight_decay of 0.

    fused: adamw, adam and sgd with one kernel for all tensors. Not with a scaled loss (16-mixed): such a kernel
        unscales gradients itself, after clipping.

    Raises:
        ConfigError: a name or an option that does not exist, an argument that is missing, or another result than an
            optimizer.
    """
    explicit = [{**group, "weight_decay": 0.0} for group in groups]
    given: dict[str, Any] = {"lr": config.lr, **config.options}
    if "weight_decay" in given:
        raise ConfigError(
            "optimizer.options.weight_decay: the decay of a run is that of decay.regularizer; leave it out."
        )
    if config.name in FUSED:
        own = {"momentum": config.momentum} if config.name == "sgd" else {"betas": config.betas}
        return _made(config, lambda: FUSED[config.name](explicit, **{"fused": fused, **own, **given}))
    return _made(config, lambda: _constructor(config)(explicit, **given))


def _made(config: OptimizerConfig, make: Callable[[], Any]) -> torch.optim.Optimizer:
    try:
        found = make()
    except SegdecayError:
        raise
    except Exception as error:
        raise ConfigError(
            f"optimizer.name={config.name} cannot be built with lr and optimizer.options={config.options}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, torch.optim.Optimizer):
        raise ConfigError(f"optimizer.name={config.name} gives {type(found).__name__}; a torch optimizer is needed.")
    for group in found.param_groups:
        if group.get("weight_decay"):
            raise ConfigError(
                f"optimizer.name={config.name} sets weight_decay={group['weight_decay']} itself; the decay of a run is "
                "that of decay.regularizer. Take the groups as they are given."
            )
    return found


def _constructor(config: OptimizerConfig) -> Callable[..., Any]:
    """What makes an optimizer that is not among torch's fused ones, from groups and keyword arguments."""
    prefix, colon, name = SHORT.get(config.name, config.name).partition(":")
    if not colon:
        more = f"{unknown('optimizer', config.name, OPTIMIZERS)} Others: torch:NAME, timm:NAME, package.module:build."
        raise ConfigError(f"optimizer.name: {more}")
    if prefix == "torch":
        return _of_torch(name)
    if prefix == "timm":
        return _of_timm(name)
    try:
        return import_build(config.name, "optimizer.name")
    except ModelError as error:
        raise ConfigError(str(error)) from error


def _of_torch(name: str) -> Callable[..., Any]:
    known = {
        title: kind
        for title, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    by_lower = {title.lower(): kind for title, kind in known.items()}
    if name.lower() not in by_lower:
        raise ConfigError(f"optimizer.name: torch.optim has no '{name}'.{did_you_mean(name, known)}")
    return by_lower[name.lower()]


def _of_timm(name: str) -> Callable[..., Any]:
    timm: Any = import_module("timm.optim")  # late: a training with torch's optimizers needs none of it
    known = [str(one) for one in timm.list_optimizers()]
    if name not in known:
        raise ConfigError(f"optimizer.name: timm.optim has no '{name}'.{did_you_mean(name, known)}")
    return lambda groups, **given: timm.create_optimizer_v2(groups, opt=name, weight_decay=0.0, **given)


def constructor_text(config: OptimizerConfig, arguments: str) -> str:
    """The call that makes the optimizer, as Python to paste; `arguments` begin with a comma."""
    prefix, _, name = SHORT.get(config.name, config.name).partition(":")
    if prefix == "torch":
        return f"torch.optim.{_of_torch(name).__name__}(model.parameters(){arguments}, weight_decay=0.0)"
    if prefix == "timm":
        return f"timm.optim.create_optimizer_v2(list(model.parameters()), opt={name!r}{arguments}, weight_decay=0.0)"
    return f"{prefix}.{name}(model.parameters(){arguments})"


def import_text(config: OptimizerConfig) -> str:
    """The module that `constructor_text` needs."""
    prefix = SHORT.get(config.name, config.name).partition(":")[0]
    return {"torch": "torch", "timm": "timm.optim"}.get(prefix, prefix)


def momentum_of(config: OptimizerConfig) -> float:
    """μ of SGD; 0 for other optimizers, where momentum does not affect a strength."""
    return config.momentum if config.name == "sgd" else 0.0


def _fallen(done: float, schedule: ScheduleConfig) -> float:
    return float(schedule.factor ** sum(done >= share for share in schedule.milestones))


def _cooled(done: float, schedule: ScheduleConfig) -> float:
    return min(1.0, (1 - done) / schedule.cooldown)


# from the share of the steps after the warm-up that is done to the share of the peak
SCHEDULES: dict[str, Callable[[float, ScheduleConfig], float]] = {
    "cosine": lambda done, _schedule: 0.5 * (1 + math.cos(math.pi * done)),
    "poly": lambda done, schedule: (1 - done) ** schedule.power,
    "step": _fallen,
    "one-cycle": lambda done, _schedule: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda _done, _schedule: 1.0,
    "warmup-stable-decay": _cooled,
}
CYCLE_START = 25.0  # one-cycle begins at the peak divided by this, as torch's OneCycleLR


def check_schedule_name(name: str) -> list[str]:
    """Faults of a schedule's name."""
    return [] if name in SCHEDULES else [unknown("schedule", name, SCHEDULES)]


def learning_rates(schedule: ScheduleConfig, peak: float, steps: int) -> tuple[float, ...]:
    """The learning rate of every step: a rise to the peak, then the schedule.

    The rise is linear from 0; that of one-cycle is half a cosine from a 25th of the peak, after Smith and Topin 2019 as
    torch's OneCycleLR, which ends at a 250,000th of the peak where ours ends near 0.

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
        if step >= warm:
            rates.append(peak * shape((step - warm) / max(1, steps - warm), schedule))
        elif schedule.name == "one-cycle":
            risen = 0.5 * (1 - math.cos(math.pi * step / warm))
            rates.append(peak * (1 / CYCLE_START + (1 - 1 / CYCLE_START) * risen))
        else:
            rates.append(peak * (step + 1) / warm)
    return tuple(rates)
