"""The arms of a comparison: what each varies, along which axis, and the configurations that it does not fit.

An arm turns one of its values into a configuration and a strength. A new arm is one entry of ARMS.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import RunConfig
from segdecay.errors import ConfigError, DecayError
from segdecay.models.zoo import PRESETS, is_own
from segdecay.training.losses.weights import power_weights
from segdecay.training.setup import axis_for, largest_value

I64 = npt.NDArray[np.int64]

NONE = "none"
SECOND_STAGE = 0.2  # share of the epochs, taken from the first stage


@dataclass(frozen=True)
class ArmAxis:
    """The axis of an arm; `grid` goes from the weakest to the strongest value, all below `below`."""

    name: str
    unit: str
    grid: tuple[float, ...]
    none: float = 0.0
    stronger: str = "higher"
    below: float = math.inf


@dataclass(frozen=True)
class Settled:
    """One value of an arm as a configuration and a strength on its regularizer's axis."""

    config: RunConfig
    value: float


Axis = Callable[[RunConfig, int], ArmAxis]  # of the shared configuration and the images of the smallest training
Settle = Callable[[RunConfig, float, I64], Settled]  # and the pixels of every class in the training masks (C,)
Faults = Callable[[RunConfig], list[str]]


@dataclass(frozen=True)
class Arm:
    """One way to regularize: its name, axis and settings, and the faults of configurations that it does not fit."""

    name: str
    label: str
    axis: Axis | None  # None: a single setting, nothing to tune
    settle: Settle
    faults: Faults = lambda _config: []
    by_fold: bool = False  # whether a setting depends on the training masks


def thinned(grid: Sequence[float], n: int) -> tuple[float, ...]:
    """Strengths of a grid, n of them: the middles of n equal parts, or with added values in the widest steps.

    Widths are ratios. The order is kept.

    >>> thinned((0.25, 0.5, 1, 2, 4, 8, 16, 32), 3), thinned((1.0, 4.0), 3)
    ((0.5, 4.0, 16.0), (1.0, 2.0, 4.0))
    """
    values = [float(value) for value in grid]
    if n <= len(values):
        return tuple(values[int((2 * i + 1) * len(values) / (2 * n))] for i in range(n))
    while len(values) < n:
        if len(values) == 1:
            values.append(values[0] * 2)
            continue
        widths = [abs(math.log(b / a)) for a, b in itertools.pairwise(values)]
        at = int(np.argmax(widths))
        values.insert(at + 1, float(f"{math.sqrt(values[at] * values[at + 1]):.3g}"))
    return tuple(values)


def strengths_of(arm: Arm, config: RunConfig, n_images: int, n: int, own: Sequence[float] | None) -> tuple[float, ...]:
    """The n strengths of an arm, from the weakest to the strongest, without the value of no decay.

    n_images: of the smallest training. own: strengths given by the user in place of the default grid.

    Raises:
        ConfigError: the strengths are not n distinct values, or a value is not on the axis.
        DecayError: the regularizer does not fit the optimizer.
    """
    if arm.axis is None:
        return ()
    axis = arm.axis(config, n_images)
    if own is None:
        return thinned(axis.grid, n)
    values = sorted({float(value) for value in own} - {axis.none}, reverse=axis.stronger == "lower")
    if len(values) != n or len(own) != n:
        raise ConfigError(
            f"compare.grids.{arm.name} = {list(own)}: {n} distinct strengths other than {axis.none:g} are needed, "
            "as many as every arm has (compare.strengths)."
        )
    if not all(math.isfinite(value) and 0 < value < axis.below for value in values):
        below = f", and below {axis.below:.6g}" if math.isfinite(axis.below) else ""
        raise ConfigError(
            f"compare.grids.{arm.name} = {list(own)}: every strength must be finite and above 0{below} ({axis.unit})."
        )
    return tuple(values)


def _without(config: RunConfig, **changed: Mapping[str, object]) -> RunConfig:
    """The configuration without decay, and with these keys changed by section."""
    changes = {"decay": {"regularizer": NONE, "options": {}}, **changed}
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=dict(keys)) for name, keys in changes.items()}
    )


def _plain(config: RunConfig, _value: float, _pixels: I64) -> Settled:
    return Settled(_without(config), 0.0)


def _regularizer(name: str, label: str, faults: Faults = lambda _config: []) -> Arm:
    """An arm for one of the regularizers of segdecay.decay."""

    def with_regularizer(config: RunConfig) -> RunConfig:
        return _without(config, decay={"regularizer": name, "options": {}})

    def axis(config: RunConfig, n_images: int) -> ArmAxis:
        own = with_regularizer(config)
        found, largest = axis_for(own.decay, own.optimizer), largest_value(own, n_images)
        acting = tuple(value for value in found.default_grid if value != found.none and not value >= largest)
        return ArmAxis(found.name, found.unit, acting, found.none, found.stronger, largest)

    def settle(config: RunConfig, value: float, _pixels: I64) -> Settled:
        return Settled(with_regularizer(config), value)

    def check(config: RunConfig) -> list[str]:
        try:
            axis_for(with_regularizer(config).decay, config.optimizer)
        except (DecayError, ConfigError) as error:
            return [f"{name}: {error}"]
        return faults(config)

    return Arm(name, label, axis, settle, check)


def _needs_start(config: RunConfig) -> list[str]:
    """L2-SP pulls weights to their initial values, which needs pretrained weights."""
    if is_own(config.model.name) or config.model.weights is not None or config.model.pretrained:
        return []
    message = (
        "l2_sp: pulls weights to their initial values, which are random here: no pretrained weights are given. Set "
        "model.weights, or model.pretrained=true for an smp model, or leave the arm out."
    )
    return [message]


def _needs_dropout(config: RunConfig) -> list[str]:
    if config.model.name not in PRESETS:
        message = (
            f"dropout: sets the Dropout2d of the built-in U-Net ({', '.join(PRESETS)}); model.name={config.model.name} "
            "has none. Leave the arm out."
        )
        return [message]
    if config.model.dropout:
        return [f"dropout: model.dropout={config.model.dropout:g} is set for all arms. Leave one of the two out."]
    return []


def _fixed_axis(axis: ArmAxis) -> Axis:
    return lambda _config, _n_images: axis


def _adjusted(config: RunConfig, value: float, _pixels: I64) -> Settled:
    return Settled(_without(config, loss={"logit_adjustment": value}), 0.0)


def _no_adjustment_yet(config: RunConfig) -> list[str]:
    tau = config.loss.logit_adjustment
    return [f"logit_adjustment: τ={tau:g} is set for all arms. Leave one of the two out."] if tau else []


def _weighted(config: RunConfig, value: float, pixels: I64) -> Settled:
    weights = tuple(power_weights(pixels, value).tolist())
    return Settled(_without(config, loss={"class_weights": weights}), 0.0)


def _no_weights_yet(config: RunConfig) -> list[str]:
    kind = config.loss.class_weights
    if kind == NONE:
        return []
    shown = kind if isinstance(kind, str) else "a list"
    return [f"class_weights: loss.class_weights is given for all arms ({shown}). Leave one of the two out."]


def second_stage(epochs: int) -> int:
    """Epochs of the second stage, taken from the first, so that the arm trains as long as the others.

    >>> second_stage(80), second_stage(2)
    (16, 1)
    """
    return max(1, round(SECOND_STAGE * epochs))


def _balanced(config: RunConfig, value: float, _pixels: I64) -> Settled:
    epochs, second = config.training.epochs, second_stage(config.training.epochs)
    changed = _without(config, training={"epochs": epochs - second}, balancing={"epochs": second, "decay": value})
    return Settled(changed, 0.0)


def _balancing_axis(config: RunConfig, _n_images: int) -> ArmAxis:
    largest = 1 / (config.balancing.lr or config.optimizer.lr)
    grid = tuple(value for value in (0.01, 0.1, 1.0, 10.0) if value < largest)
    return ArmAxis("second_stage_lambda", "λ on the head's weights in the second stage", grid, below=largest)


def _has_room_for_stages(config: RunConfig) -> list[str]:
    faults = []
    if config.training.epochs < 2:
        faults.append("weight_balancing: its two stages need training.epochs of 2 or more; saw 1.")
    if config.loss.logit_adjustment:
        faults.append("weight_balancing: loss.logit_adjustment corrects for class frequencies too; set it to 0.")
    return faults


def _shortened(config: RunConfig, value: float, _pixels: I64) -> Settled:
    return Settled(_without(config, training={"epochs": epochs_at(config, value)}), 0.0)


def epochs_at(config: RunConfig, share: float) -> int:
    """Epochs of a training that ends at a share of the schedule; at least one."""
    return max(1, round(share * config.training.epochs))


def _short_axis(config: RunConfig, _n_images: int) -> ArmAxis:
    lengths = dict.fromkeys(epochs_at(config, share) for share in (0.75, 0.5, 0.25, 0.125))
    shorter = [length for length in lengths if length < config.training.epochs]
    grid = tuple(length / config.training.epochs for length in shorter)
    return ArmAxis(
        "share_of_epochs", "share of training.epochs, the learning rate ending with it", grid, 1.0, "lower", 1.0
    )


def _has_lengths(config: RunConfig) -> list[str]:
    if config.training.epochs > 1:
        return []
    return ["early_stopping: training.epochs=1 cannot be shortened. Train longer, or leave the arm out."]


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(NONE, "no decay", None, _plain),
        _regularizer("l2", "L2 penalty"),
        _regularizer("decoupled", "decoupled weight decay"),
        _regularizer("l1", "L1 penalty"),
        _regularizer("elastic_net", "elastic net"),
        _regularizer("group_lasso", "group lasso"),
        _regularizer("dropout", "dropout", _needs_dropout),
        _regularizer("max_norm", "max norm"),
        _regularizer("cpr", "CPR"),
        _regularizer("cautious", "cautious weight decay"),
        _regularizer("corrected", "corrected weight decay"),
        _regularizer("l2_sp", "L2-SP", _needs_start),
        Arm("weight_balancing", "weight balancing", _balancing_axis, _balanced, _has_room_for_stages),
        Arm(
            "logit_adjustment",
            "logit adjustment",
            _fixed_axis(ArmAxis("tau", "τ of τ·log(class share)", (0.25, 0.5, 1.0, 1.5))),
            _adjusted,
            _no_adjustment_yet,
        ),
        Arm(
            "class_weights",
            "class weights",
            _fixed_axis(ArmAxis("exponent", "γ of class share to the power −γ", (0.25, 0.5, 0.75, 1.0))),
            _weighted,
            _no_weights_yet,
            by_fold=True,
        ),
        Arm("early_stopping", "early stopping", _short_axis, _shortened, _has_lengths),
    )
}
