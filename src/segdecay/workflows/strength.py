"""A strength in every unit, from options to its report; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segdecay.decay import Numbers
from segdecay.errors import ConfigError, gather
from segdecay.training.strength_units import (
    StrengthReport,
    StrengthRequest,
    check_regularizer,
    check_request,
    report_strength,
)
from segdecay.workflows.request import Config, build_config

PLAN = {  # an option, and the keyword of the function, to the key that it sets
    "optimizer": "optimizer.name",
    "momentum": "optimizer.momentum",
    "regularizer": "decay.regularizer",
    "lr": "optimizer.lr",
    "schedule": "schedule.name",
    "warmup": "schedule.warmup",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "accumulate": "training.accumulate",
}


def strength(
    images: int | None,
    plan: Mapping[str, Any],  # keys of PLAN
    asked: StrengthRequest,
    *,
    numbers: Numbers,
    names: Sequence[str] = (),
    config: Config = None,
    changes: Sequence[str] | Mapping[str, Any] | None = None,
) -> StrengthReport:
    """The report of a strength on a training plan.

    Raises:
        ConfigError, DecayError: incomplete or out of range; all faults together.
    """
    try:
        built = build_config("any", config, changes, {PLAN[name]: value for name, value in plan.items()})
    except ConfigError as error:
        lines = [line.removeprefix("- ") for line in str(error).splitlines()]
        gather(ConfigError, [*lines, *check_request(images, asked, names)])
        raise
    gather(ConfigError, [*check_request(images, asked, names), *check_regularizer(built.decay.regularizer)])
    return report_strength(built, images or 0, asked, numbers=numbers, names=names)
