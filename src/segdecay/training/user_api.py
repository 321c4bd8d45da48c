"""A training that is the caller's own: its axis, and what it is told of the setting, fold and seed it is to train.

Knows values and names; nothing of files of a run or other trials.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segdecay.config.schema import AxisConfig, RunConfig
from segdecay.data.dataset import Dataset, open_dataset
from segdecay.decay.axes import StrengthAxis
from segdecay.errors import ConfigError, RunError, gather

USER = "user function"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Axis:
    """What the caller's own training is tuned along.

    Attributes:
        name: what is set, as in "label_smoothing": letters, digits and underscores; it names folders and is shown.
        grid: the strengths of the search; none is added where it is missing.
        unit: of the values, for people.
        none: the value that regularizes nothing: 0 where higher is stronger, inf where lower is.
        stronger: which end of the axis regularizes harder, "higher" or "lower".

    Raises:
        ConfigError: naming all faults.

    Example:
        >>> Axis("label_smoothing", [0.05, 0.1, 0.2]).none
        0.0
        >>> Axis("max_depth", [16, 8, 4], stronger="lower").none
        inf
    """

    name: str
    grid: Sequence[float]
    unit: str = ""
    none: float | None = None
    stronger: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        gather(ConfigError, self._faults())
        none = math.inf if self.stronger == "lower" else 0.0
        object.__setattr__(self, "grid", tuple(float(value) for value in self.grid))
        object.__setattr__(self, "none", none)

    def _faults(self) -> list[str]:
        faults = []
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            faults.append(
                f"axis: name takes letters, digits and underscores, as in label_smoothing; saw {self.name!r}."
            )
        if self.stronger not in ("higher", "lower"):
            return [*faults, f"axis: stronger is 'higher' or 'lower'; saw {self.stronger!r}."]
        lower = self.stronger == "lower"
        if self.none is not None and self.none != (math.inf if lower else 0):
            own = "inf where lower is stronger" if lower else "0 where higher is stronger"
            faults.append(
                f"axis: none is {own}; saw {self.none!r}. Count the axis from what regularizes nothing, for example as "
                "a distance from it."
            )
        try:
            values = [float(value) for value in self.grid]
        except (TypeError, ValueError):
            return [*faults, f"axis: grid is a sequence of numbers, as in [0, 0.1, 0.2]; saw {self.grid!r}."]
        wrong = [value for value in values if math.isnan(value) or value < 0 or (lower and value == 0)]
        wrong += [] if lower else [value for value in values if math.isinf(value)]
        if wrong or not values or len(set(values)) != len(values):
            allowed = "above 0, or inf" if lower else "finite, 0 or more"
            faults.append(f"axis: grid holds different numbers, {allowed}, at least one; saw {values}.")
        return faults

    def to_config(self) -> AxisConfig:
        """As a run's configuration keeps it."""
        grid = [value for value in self.grid if math.isfinite(value)]
        return AxisConfig(name=self.name, unit=self.unit, grid=tuple(grid), stronger=self.stronger)


def user_axis(config: AxisConfig) -> StrengthAxis:
    """An axis of the caller's own as a search sees it: without any λ."""
    none = math.inf if config.stronger == "lower" else 0.0
    return StrengthAxis(
        name=config.name,
        unit=config.unit,
        default_grid=config.grid,
        stronger=config.stronger,
        none=none,
        exact=False,
        reason="it is the caller's own.",
        has_lambda=False,
    )


def regularizer_of(config: RunConfig) -> str:
    """The name of what is searched: a regularizer, or "user function" along an axis of the caller's own."""
    return config.decay.regularizer if config.decay.axis is None else USER


@dataclass(frozen=True)
class Setting:
    """The setting that a call trains.

    Attributes:
        name: of the axis: the caller's own, or "total_decay", "lambda", ... of a regularizer.
        value: on that axis.
        is_none: whether it regularizes nothing.
        regularizer: to attach, where the axis is a regularizer's; None on an axis of one's own.
        lambda_, total_decay, timescale_epochs: the value in the units that it has, for the images of this fold.
        learning_rates: of all optimizer steps, by the configuration's schedule; empty on an axis of one's own.
        config: what else was asked for.
    """

    name: str
    value: float
    is_none: bool
    regularizer: str | None
    lambda_: float | None
    total_decay: float | None
    timescale_epochs: float | None
    learning_rates: tuple[float, ...]
    config: RunConfig


@dataclass(frozen=True)
class UserFold:
    """The images that a call trains and validates on, and where it is run.

    Attributes:
        number: of the fold, from 0; −1 for the final training on the whole pool.
        train, validation: indices of images, ascending.
        train_names, validation_names: the same images by name, in the same order.
        classes: names of the C classes; rows and columns of a confusion matrix stand in their order.
        device: "cpu" or "cuda:N", where this worker is meant to work.
        folder: of this training; whatever is written there stays.
    """

    number: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    train_names: tuple[str, ...]
    validation_names: tuple[str, ...]
    classes: tuple[str, ...]
    device: str
    folder: Path
    root: Path | None = None  # where the decoded data lie, where they are ours to decode

    @property
    def is_refit(self) -> bool:
        """Whether this is the final training, scored on the test part."""
        return self.number < 0

    def open(self) -> Dataset:
        """The decoded data set: `image(i)` is (H, W, B) uint8, `mask(i)` (H, W) uint8 with 255 where ignored.

        Raises:
            RunError: `data` was only described, so that there is nothing to open.
        """
        if self.root is None:
            raise RunError("fold.open(): data was described by UserData, so only you know where its images are.")
        return open_dataset(self.root)


Function = Callable[[Setting, UserFold, int], Any]


@dataclass(frozen=True)
class UserFunction:
    """What a trial needs in order to be trained by the caller's function."""

    function: Function
    names: tuple[str, ...]  # of all images
    classes: tuple[str, ...]
    is_described: bool  # there are no decoded data


def name_of(function: Function) -> str:
    """How a function is called in messages and records.

    >>> name_of(sum)
    'builtins.sum'
    """
    own: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{own}" if module else own  # made by exec: of no module
