"""Regularizers, data formats and losses that other packages register by entry point.

A package names its objects in its pyproject.toml, and segdecay finds them once it is installed:

    [project.entry-points."segdecay.losses"]
    boundary = "my_package.losses:Boundary"
"""

from __future__ import annotations

import warnings
from collections import UserDict
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


class Registry(UserDict[str, T]):
    """Objects by name: ours, then those that other packages register under an entry-point group.

    Entry points are loaded at the first look-up, since a package may import ours to define its object. One that cannot
    be imported, or that has the name of one of ours, is left out with a warning that names it; all others are found.

    >>> losses = Registry("segdecay.losses_of_nobody", {"dice": "Dice"})
    >>> list(losses), "lovasz" in losses
    (['dice'], False)
    """

    def __init__(self, group: str, ours: Mapping[str, T]) -> None:
        self._is_loaded = True  # so that filling in ours loads no entry point
        super().__init__(ours)
        self._group, self._is_loaded = group, False

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self.data

    def __getitem__(self, name: str) -> T:
        self._load()
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._load()
        return super().__iter__()

    def __len__(self) -> int:
        self._load()
        return super().__len__()

    def _load(self) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True
        for point in entry_points(group=self._group):
            package = point.dist.name if point.dist is not None else point.value
            if point.name in self.data:
                reason = "the name is taken; rename it in the package's entry points"
            else:
                try:
                    self.data[point.name] = point.load()
                    continue
                except Exception as error:  # noqa: BLE001 - whatever a foreign module raises when it is imported
                    reason = f"{point.value} cannot be imported ({type(error).__name__}: {error})"
            warnings.warn(
                f"{self._group}: '{point.name}' of {package} is left out: {reason}.", UserWarning, stacklevel=3
            )
