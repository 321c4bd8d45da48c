"""An estimator's parameters as values of a configuration; numpy's numbers count as numbers. Knows no estimator."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from segdecay.errors import ConfigError, gather

T = TypeVar("T")


class Parameters:
    """Takes parameters one by one and remembers what was wrong with them, to tell all of it at once.

    >>> taken = Parameters()
    >>> taken.whole("cv", 3), taken.number("learning_rate", "0.1"), taken.wholes("ignore", 255)
    (3, 0.1, (255,))
    >>> taken.whole("epochs", 2.5), taken.faults
    (None, ['epochs takes a whole number; saw 2.5.'])
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def whole(self, name: str, value: Any, hint: str = "") -> int | None:
        """A whole number."""
        return self._taken(operator.index, value, f"{name} takes a whole number{hint}; saw {value!r}.")

    def number(self, name: str, value: Any) -> float | None:
        """A number."""
        return self._taken(float, value, f"{name} takes a number; saw {value!r}.")

    def numbers(self, name: str, values: Any) -> list[float] | None:
        """A sequence of numbers."""
        said = f"{name} takes a sequence of numbers, as in [0.5, 1, 2]; saw {values!r}."
        return self._taken(lambda given: [float(value) for value in given], values, said)

    def wholes(self, name: str, values: Any) -> tuple[int, ...] | None:
        """A whole number, or a sequence of them."""

        def taken(given: Any) -> tuple[int, ...]:
            is_many = hasattr(given, "__iter__")
            return tuple(operator.index(value) for value in (given if is_many else (given,)))

        said = f"{name} takes a whole number or a sequence of them, as in [255]; saw {values!r}."
        return self._taken(taken, values, said)

    def put(self, values: dict[str, Any], options: Any) -> None:
        """Put options at their dotted keys, in place."""
        if not isinstance(options, Mapping):
            self.faults.append(f"options takes a mapping of keys to values, as in {{'seed': 1}}; saw {options!r}.")
            return
        for key, value in options.items():
            *sections, last = str(key).split(".")
            place: Any = values
            for section in sections:
                place = place.setdefault(section, {}) if isinstance(place, dict) else None
            if isinstance(place, dict):
                place[last] = value
            else:
                self.faults.append(f"options: {key} leads through a value, not a section.")

    def refuse(self) -> None:
        """Tell what was wrong.

        Raises:
            ConfigError: all of it.
        """
        gather(ConfigError, self.faults)

    def _taken(self, take: Callable[[Any], T], value: Any, said: str) -> T | None:
        try:
            return take(value)
        except (TypeError, ValueError):
            self.faults.append(said)
            return None
