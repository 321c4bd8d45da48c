"""Transforms as users write them, in a module that workers can import."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def shift(image: Any, mask: Any) -> tuple[Any, Any]:
    """Rolls both by what every global generator gives."""
    steps = random.randrange(8) + np.random.randint(8) + int(torch.randint(8, ()))  # noqa: NPY002 - users' code
    return np.roll(image, steps, axis=1), np.roll(mask, steps, axis=1)


def with_seed(image: Any, mask: Any, seed: int) -> dict[str, Any]:
    """Draws from a generator of its own, of the seed that it is given."""
    steps = int(np.random.default_rng(seed).integers(8))
    return {"image": np.roll(image, steps, axis=0), "mask": np.roll(mask, steps, axis=0)}


class Composed:
    """As a Compose of albumentations: keywords alone, a generator of its own, a mapping back."""

    def __init__(self, largest: int) -> None:
        self.largest, self.random = largest, np.random.default_rng()

    def set_random_seed(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def to_dict(self) -> dict[str, int]:
        return {"largest": self.largest}

    def __call__(self, **data: Any) -> dict[str, Any]:
        steps = int(self.random.integers(self.largest))
        return {key: np.roll(value, steps, axis=0) for key, value in data.items()}
