"""Whether a picture is a photograph or a mask, told by its number of values and by its share of equal neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.decode import Picture, UnusableError, read_mask

LOOKED_AT = 6  # files of a folder
PIXELS = 1 << 16  # of a file that are looked at, as whole rows
FEW = 8  # every photograph has more values
SOME, STEADY = 64, 0.6  # values of a mask of many classes, and the share of equal neighbours in it
PHOTO_STEADY, PHOTO_VALUES = 0.5, 16
MOST_BANDS = 16  # of an array with its bands first
PRIMES = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0])  # weights by which different colours stay different


@dataclass(frozen=True)
class Look:
    """Measures of one file. values: different ones among those looked at; steady: share of equal neighbours.

    mask: 1 for a mask, 0 for a photograph, between them where it might be either.
    """

    size: tuple[int, int]  # height, width
    values: int
    steady: float
    mask: float
    content: bytes


def look_at(path: Path) -> Look | None:
    """The measures of a file; None where it cannot be read."""
    try:
        content = read_bytes(path)
        picture = read_mask(content, wide=True)
    except UnusableError:
        return None
    values = values_of(picture)
    height, width = values.shape[:2]
    step = max(1, height * width // PIXELS)
    keys = values[::step].astype(np.float64) @ PRIMES[: values.shape[2]] if values.shape[2] <= len(PRIMES) else None
    keys = values[::step].argmax(axis=2) if keys is None else keys
    n_values = len(np.unique(keys))
    steady = float((keys[:, 1:] == keys[:, :-1]).mean()) if width > 1 else 1.0
    return Look((height, width), n_values, steady, _mask_score(n_values, steady), content)


def values_of(picture: Picture) -> npt.NDArray[np.generic]:
    """The stored values (H, W, B); bands that come first in an array are moved to the end."""
    values = picture.pixels if picture.wide is None else picture.wide
    is_first = values.shape[0] <= MOST_BANDS < min(values.shape[1:])
    return np.moveaxis(values, 0, -1) if is_first else values


def _mask_score(n_values: int, steady: float) -> float:
    if n_values == 1:
        return 0.5  # says nothing
    if n_values <= FEW or (n_values <= SOME and steady >= STEADY):
        return 1.0
    if steady < PHOTO_STEADY and n_values > PHOTO_VALUES:
        return 0.0
    return 0.7 if steady >= 0.9 else 0.5


def mask_score(looks: Sequence[Look]) -> float:
    """The mean score of files of one kind; 0.5 where each holds a single value.

    >>> mask_score([])
    0.5
    """
    telling = [look.mask for look in looks if look.values > 1]
    return sum(telling) / len(telling) if telling else 0.5


def are_blank(looks: Sequence[Look]) -> bool:
    """Whether every file is of one value, which labels nothing."""
    return len(looks) > 1 and all(look.values == 1 for look in looks)


def are_equal(looks: Sequence[Look]) -> bool:
    """Whether all files are the same, as a field of view is."""
    return len(looks) > 1 and len({look.content for look in looks}) == 1
