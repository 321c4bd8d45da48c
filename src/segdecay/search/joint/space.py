"""The values that can be searched together with the strength, their ranges, and how they change the configuration.

A new dimension is one entry of DIMENSIONS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segdecay.config.schema import RunConfig
from segdecay.decay.regularizers.dropout import Dropout
from segdecay.errors import unknown
from segdecay.models.zoo import PRESETS
from segdecay.training.class_weights import KINDS
from segdecay.training.setup import multipliers_of

FACTOR = 8.0  # the default range: from the configured value divided by it to the value times it
MOST_DROPOUT = 0.5
DIGITS = 3  # significant digits of a proposed value, so that the folder's name holds all of them

Value = float | str


@dataclass(frozen=True)
class Dimension:
    """One value that is searched together with the strength.

    low, high: of a number; choices: of a name. is_for_none: whether it changes a training without decay.
    """

    name: str
    label: str
    default: Value
    low: float = 0.0
    high: float = 0.0
    is_log: bool = True
    choices: tuple[str, ...] = ()
    is_for_none: bool = True

    def rounded(self, value: Value) -> Value:
        """The value in few digits, inside the range.

        >>> Dimension("lr", "learning rate", 0.003, 0.001, 0.024).rounded(0.00312345)
        0.00312
        """
        if isinstance(value, str):
            return value
        return min(self.high, max(self.low, float(f"{value:.{DIGITS}g}")))


def _factors(config: RunConfig, name: str, around: float) -> tuple[float, float]:
    low, high = config.search.ranges.get(name, (around / FACTOR, around * FACTOR))
    return low, high


def _lr(config: RunConfig) -> Dimension:
    lr = config.optimizer.lr
    return Dimension("lr", "learning rate", lr, *_factors(config, "lr", lr))


def _multiplier(group: str) -> Callable[[RunConfig], Dimension]:
    def build(config: RunConfig) -> Dimension:
        set_to = multipliers_of(config.decay).get(group) or 1.0
        return Dimension(
            group,
            f"{group} strength (times the regularizer's)",
            set_to,
            *_factors(config, group, set_to),
            is_for_none=False,
        )

    return build


def _dropout(config: RunConfig) -> Dimension:
    low, high = config.search.ranges.get("dropout", (0.0, MOST_DROPOUT))
    return Dimension("dropout", "dropout p", config.model.dropout, low, high, is_log=False)


def _class_weights(config: RunConfig) -> Dimension:
    set_to = config.loss.class_weights
    return Dimension("class_weights", "class weights", set_to if isinstance(set_to, str) else "none", choices=KINDS)


DIMENSIONS: dict[str, Callable[[RunConfig], Dimension]] = {
    "lr": _lr,
    "head": _multiplier("head"),
    "encoder": _multiplier("encoder"),
    "dropout": _dropout,
    "class_weights": _class_weights,
}


def dimensions_of(config: RunConfig) -> tuple[Dimension, ...]:
    """The dimensions that a configuration searches together with the strength, in the configured order."""
    return tuple(DIMENSIONS[name](config) for name in config.search.joint)


def config_with(config: RunConfig, values: Mapping[str, Value]) -> RunConfig:
    """The configuration of one point of the search.

    >>> from segdecay.config.schema import DataConfig
    >>> config_with(RunConfig(data=DataConfig(path="digits")), {"lr": 0.01}).optimizer.lr
    0.01
    """
    sections: dict[str, dict[str, object]] = {}
    groups = dict(config.decay.groups)
    for name, value in values.items():
        if name == "lr":
            sections.setdefault("optimizer", {})["lr"] = value
        elif name == "dropout":
            sections.setdefault("model", {})["dropout"] = value
        elif name == "class_weights":
            sections.setdefault("loss", {})["class_weights"] = value
        else:
            groups[name] = float(value)
    if groups != config.decay.groups:
        sections["decay"] = {"groups": groups}
    parts = {name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    return config.model_copy(update=parts)


def check_joint(config: RunConfig) -> list[str]:
    """All faults in `search.joint` and `search.ranges`."""
    search = config.search
    names = search.joint
    faults = [f"search.joint: {unknown('name', name, DIMENSIONS)}" for name in names if name not in DIMENSIONS]
    faults += [f"search.joint: '{name}' is listed twice." for name in dict.fromkeys(names) if names.count(name) > 1]
    if search.ranges and not names:
        faults.append(f"search.ranges needs search.joint, which is empty; saw ranges for {', '.join(search.ranges)}.")
    elif search.ranges:
        faults += _check_ranges(search.ranges, names)
    if names and search.honest != "bbc-cv":
        faults.append(
            f"--honest {search.honest} cannot be combined with --search, which already scores every fold at values "
            "that the other folds chose. Use --honest bbc-cv."
        )
    if "dropout" in names and config.model.name not in PRESETS:
        faults.append(
            f"search.joint: dropout sets the Dropout2d of the built-in U-Net ({', '.join(PRESETS)}); saw "
            f"model.name={config.model.name}. Leave it out."
        )
    if "dropout" in names and config.decay.regularizer == Dropout.name:
        faults.append(
            "search.joint: dropout is already searched by decay.regularizer=dropout. Leave one of the two out."
        )
    if "class_weights" in names:
        faults += _check_class_weights(config)
    if "encoder" in names and config.model.name in PRESETS:
        faults.append(
            f"search.joint: encoder is the strength of a pretrained or smp encoder; {config.model.name} has no such "
            "group. Leave it out, or take model.name=smp:Unet."
        )
    return faults


def _check_ranges(ranges: Mapping[str, tuple[float, float]], names: Sequence[str]) -> list[str]:
    faults = [
        f"search.ranges: {name} is not in search.joint. Add it there, or leave its range out."
        for name in ranges
        if name not in names
    ]
    for name in [name for name in ranges if name in names]:
        low, high = ranges[name]
        if name == "class_weights":
            faults.append("search.ranges: class_weights is searched over names and has no range. Leave it out.")
        elif not (math.isfinite(low) and math.isfinite(high) and low < high):
            faults.append(f"search.ranges.{name} needs [low, high] with low < high; saw [{low:g}, {high:g}].")
        elif name == "dropout" and not 0 <= low < high < 1:
            faults.append(f"search.ranges.dropout must lie in [0, 1); saw [{low:g}, {high:g}].")
        elif name != "dropout" and low <= 0:
            faults.append(f"search.ranges.{name} has a log scale and must be above 0; saw [{low:g}, {high:g}].")
    return faults


def _check_class_weights(config: RunConfig) -> list[str]:
    loss = config.loss
    if not isinstance(loss.class_weights, str):
        return ["search.joint: class_weights searches kinds; loss.class_weights lists numbers. Leave one."]
    changed = {"class_weights_count", "class_weights_beta"} & loss.model_fields_set
    return [
        f"search.joint: class_weights tries every kind; loss.{key} is for effective_number only. Leave it out."
        for key in sorted(changed)
    ]
