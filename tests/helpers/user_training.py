"""Training functions that train nothing: counts as a function of the setting, so that a search takes milliseconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import segdecay
from segdecay import Axis, Setting, UserData, UserFold

PIXELS = 1000  # of each of the two classes, in every image
BEST = 0.2
AXIS = Axis("smoothing", [0.1, 0.2, 0.4])
CALLS = "SEGDECAY_TEST_CALLS"  # a file that gets one line per call


def images(n: int = 12, *, test: int = 0) -> UserData:
    """Two classes; a group every two images."""
    names = [f"image-{i:02d}" for i in range(n)]
    parts = ["train"] * (n - test) + ["test"] * test
    return UserData(names, ["cell", "rest"], groups=[f"g{i // 2}" for i in range(n)], parts=parts, name="cells")


def counts(fold: UserFold, right: float) -> npt.NDArray[np.int64]:
    """Matrices with this share of each class right, a little different from image to image."""
    shares = [right + 0.002 * (index % 5) for index in fold.validation]
    hits = np.array([round(PIXELS * share) for share in shares], np.int64)
    return np.stack([[[hit, PIXELS - hit], [PIXELS - hit, hit]] for hit in hits])


def peak(setting: Setting, fold: UserFold, seed: int) -> npt.NDArray[np.int64]:
    """60 % correct without regularization, 75 % at BEST, 65 % elsewhere."""
    if CALLS in os.environ:
        with Path(os.environ[CALLS]).open("a") as file:
            file.write(f"{setting.name}={setting.value:g} {fold.number} {seed}\n")
    return counts(fold, 0.6 if setting.is_none else 0.75 if setting.value == BEST else 0.65)


def level(setting: Setting, fold: UserFold, seed: int) -> npt.NDArray[np.int64]:  # noqa: ARG001 - makes no difference
    """The setting makes no difference."""
    return counts(fold, 0.7)


def raises_at_04(setting: Setting, fold: UserFold, seed: int) -> npt.NDArray[np.int64]:
    """Fails at the strongest value."""
    if setting.value == 0.4:
        raise ValueError("the loss exploded\nsecond line")
    return peak(setting, fold, seed)


def tune(function: Any, out: Path, data: Any = None, **options: Any) -> segdecay.Tuned:
    """A search in this process, by default over AXIS with three folds."""
    given = {"axis": AXIS, "folds": 3, "workers": 0, "quiet": True, **options}
    given["set"] = {"search.resamples": 200, **given.get("set", {})}
    return segdecay.tune(images() if data is None else data, train=function, out=out, **given)
