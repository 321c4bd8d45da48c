"""Scores of a set of images as records keep them, and how they are read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Scores of a set of images (docs/scores.md). Lists have one entry a class; NaN where a class is absent.

    What an older record does not hold is NaN, and so are boundaries where no predictions were at hand.
    """

    miou: float
    iou: tuple[float, ...]
    dice: tuple[float, ...]
    worst: float
    support: tuple[int, ...]  # pixels of each class in the truth
    loss: float = math.nan  # L_original, over the valid pixels
    weighted: float = math.nan  # IoU weighted by true pixels
    precision: tuple[float, ...] = ()
    recall: tuple[float, ...] = ()
    boundary_miou: float = math.nan
    boundary_iou: tuple[float, ...] = ()
    image_miou: float = math.nan  # scores of every image by itself, mean over images
    image_worst: float = math.nan
    image_weighted: float = math.nan
    image_iou: tuple[float, ...] = ()  # mean over the images whose masks hold the class
    excluded: tuple[int, ...] = ()  # classes that no mean over classes counts

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that the truth holds and that are not excluded.

        >>> Scores(0, (), (), 0, support=(9, 1), recall=(1.0, 0.0)).balanced_accuracy
        0.5
        """
        known = [
            value for index, value in enumerate(self.recall) if math.isfinite(value) and index not in self.excluded
        ]
        return sum(known) / len(known) if known else math.nan


def scores_from_json(values: Mapping[str, Any] | None) -> Scores | None:
    """The scores that a record holds."""
    if values is None:
        return None

    def number(value: float | None) -> float:
        return math.nan if value is None else float(value)

    def by_class(name: str) -> tuple[float, ...]:
        found = values.get(name) or [None] * len(values["iou"])  # added later: older records lack it
        return tuple(number(value) for value in found)

    return Scores(
        miou=number(values["miou"]),
        iou=by_class("iou"),
        dice=by_class("dice"),
        worst=number(values["worst"]),
        support=tuple(values["support"]),
        loss=number(values["loss"]),
        weighted=number(values.get("weighted")),
        precision=by_class("precision"),
        recall=by_class("recall"),
        boundary_miou=number(values.get("boundary_miou")),
        boundary_iou=by_class("boundary_iou"),
        image_miou=number(values.get("image_miou")),
        image_worst=number(values.get("image_worst")),
        image_weighted=number(values.get("image_weighted")),
        image_iou=by_class("image_iou"),
        excluded=tuple(values.get("excluded", ())),
    )
