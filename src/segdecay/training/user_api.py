"""The arguments of a user function: its axis, setting and fold."""

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
    """The axis along which a user function is tuned.

    Attributes:
        name: the tuned quantity, as in "label_smoothing": letters, digits and underscores; used for folders and labels.
        grid: the strengths of the search; `none` is added if missing.
        unit: of the values, for display.
        none: the value without regularization: 0 if higher is stronger, inf if lower is.
        stronger: the end of the axis with stronger regularization, "higher" or "lower".

    Raises:
        ConfigError: lists all faults.

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
            return [*faults, f"axis: stronger must be 'higher' or 'lower'; saw {self.stronger!r}."]
        lower = self.stronger == "lower"
        if self.none is not None and self.none != (math.inf if lower else 0):
            needed = "inf if lower is stronger" if lower else "0 if higher is stronger"
            faults.append(
                f"axis: none must be {needed}; saw {self.none!r}. Shift the axis so that it begins without "
                "regularization."
            )
        try:
            values = [float(value) for value in self.grid]
        except (TypeError, ValueError):
            return [*faults, f"axis: grid must be a sequence of numbers, as in [0, 0.1, 0.2]; saw {self.grid!r}."]
        wrong = [value for value in values if math.isnan(value) or value < 0 or (lower and value == 0)]
        wrong += [] if lower else [value for value in values if math.isinf(value)]
        if wrong or not values or len(set(values)) != len(values):
            allowed = "above 0, or inf" if lower else "finite, 0 or more"
            faults.append(f"axis: grid must hold distinct numbers, {allowed}, at least one; saw {values}.")
        return faults

    def to_config(self) -> AxisConfig:
        """The axis in the configuration of a run."""
        grid = [value for value in self.grid if math.isfinite(value)]
        return AxisConfig(name=self.name, unit=self.unit, grid=tuple(grid), stronger=self.stronger)


def user_axis(config: AxisConfig) -> StrengthAxis:
    """A user's axis for a search; it has no λ."""
    none = math.inf if config.stronger == "lower" else 0.0
    return StrengthAxis(
        name=config.name,
        unit=config.unit,
        default_grid=config.grid,
        stronger=config.stronger,
        none=none,
        exact=False,
        reason="it is defined by the user.",
        has_lambda=False,
    )


def regularizer_of(config: RunConfig) -> str:
    """The name of what is searched: a regularizer, or "user function" along a user's axis."""
    return config.decay.regularizer if config.decay.axis is None else USER


@dataclass(frozen=True)
class Setting:
    """The setting that a call of the user function trains.

    Attributes:
        name: of the axis: the user's, or "total_decay", "lambda", ... of a regularizer.
        value: on that axis.
        is_none: whether it is the setting without regularization.
        regularizer: the one to attach; None on a user's axis.
        lambda_, total_decay, timescale_epochs: the value in other units, for the images of this fold, or None.
        learning_rates: of all optimizer steps, by the configuration's schedule; empty on a user's axis.
        config: the configuration of the run.
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
    """The images that a call trains and validates on, its device and its folder.

    Attributes:
        number: of the fold, from 0; −1 for the final training on the whole pool.
        train, validation: indices of images, ascending.
        train_names, validation_names: the same images by name, in the same order.
        classes: names of the C classes, in the order of the rows and columns of a confusion matrix.
        device: "cpu" or "cuda:N", for this worker.
        folder: of this training; files of the user in it are kept.
    """

    number: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    train_names: tuple[str, ...]
    validation_names: tuple[str, ...]
    classes: tuple[str, ...]
    device: str
    folder: Path
    root: Path | None = None  # folder of the decoded data; None for UserData

    @property
    def is_refit(self) -> bool:
        """Whether this is the final training, scored on the test part."""
        return self.number < 0

    def open(self) -> Dataset:
        """The decoded data set: `image(i)` is (H, W, B) uint8, `mask(i)` (H, W) uint8 with 255 where ignored.

        Raises:
            RunError: `data` was described by UserData, so there is nothing to open.
        """
        if self.root is None:
            raise RunError("fold.open(): data was described by UserData, which holds no images. Read your own files.")
        return open_dataset(self.root)


Function = Callable[[Setting, UserFold, int], Any]


@dataclass(frozen=True)
class UserFunction:
    """A user function with everything that a trial needs to call it."""

    function: Function
    names: tuple[str, ...]  # of all images
    classes: tuple[str, ...]
    is_described: bool  # whether data is a UserData, without decoded images


def name_of(function: Function) -> str:
    """The name of a function in messages and records.

    >>> name_of(sum)
    'builtins.sum'
    """
    own: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{own}" if module else own  # a function made by exec has no module
