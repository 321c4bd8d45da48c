"""Records of trials, scores and strengths, and their JSON.

They hold only plain values, so that reading a run needs neither torch nor a model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pydantic


@dataclass(frozen=True)
class Scores:
    """Scores of a set of images (docs/scores.md). Tuples have one entry per class, NaN for an absent class.

    Scores that an older record lacks are NaN, and so are boundary scores without predicted masks.
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
    image_miou: float = math.nan  # mean of the mIoU of single images
    image_worst: float = math.nan
    image_weighted: float = math.nan
    image_iou: tuple[float, ...] = ()  # mean over the images whose masks hold the class
    excluded: tuple[int, ...] = ()  # classes left out of means over classes

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
    """The scores of a record; None if it has none."""
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


RACED_OUT = "race: "  # prefix of the reason why the race eliminated a strength

# The name of an axis in words, and its symbol.
AXIS_NAMES = {
    "total_decay": ("total decay D", "D"),
    "lambda": ("λ", "λ"),
    "relative_shrinkage": ("relative shrinkage", "shrinkage"),
    "max_norm": ("max norm c", "c"),
    "kappa_factor": ("factor k of the bound", "k"),
    "dropout": ("dropout p", "p"),
}


def axis_names(axis: str) -> tuple[str, str]:
    """The name of an axis in words, and its symbol.

    >>> axis_names("max_norm"), axis_names("some_axis")
    (('max norm c', 'c'), ('some axis', 'some axis'))
    """
    words = axis.replace("_", " ")
    return AXIS_NAMES.get(axis, (words, words))


KINDS = {"max_norm": "bound", "kappa_factor": "bound", "dropout": "dropout"}


def kind_of(axis: str) -> str:
    """The quantity on an axis, as in "with no decay": decay, bound, dropout, or the name of a user's axis.

    >>> kind_of("total_decay"), kind_of("kappa_factor"), kind_of("label_smoothing")
    ('decay', 'bound', 'label smoothing')
    """
    return KINDS.get(axis) or ("decay" if axis in AXIS_NAMES else axis_names(axis)[0])


@dataclass(frozen=True)
class StrengthRecord:
    """One strength in all units; None for a unit that does not apply to the regularizer.

    A value of inf (no bound) is null in JSON, which has no infinity.

    >>> StrengthRecord.from_json(StrengthRecord("max_norm", math.inf).to_json()).value
    inf
    """

    axis: str
    value: float
    lambda_: float | None = None
    timescale_epochs: float | None = None
    total_decay: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "value": self.value if math.isfinite(self.value) else None,
            "lambda": self.lambda_,
            "timescale_epochs": self.timescale_epochs,
            "total_decay": self.total_decay,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StrengthRecord:
        names = ("axis", "timescale_epochs", "total_decay")
        value = math.inf if values["value"] is None else values["value"]
        return cls(value=value, lambda_=values["lambda"], **{name: values[name] for name in names})

    @property
    def is_none(self) -> bool:
        """Whether this is training without regularization.

        >>> StrengthRecord("total_decay", 0.0, 0.0).is_none, StrengthRecord("max_norm", 4.0).is_none
        (True, False)
        """
        return self.value in (0, math.inf) or self.lambda_ == 0


@dataclass(frozen=True)
class TrialRecord:
    """One finished training: (setting, fold, seed)."""

    setting: str  # folder name, for example "total_decay=4"
    strength: StrengthRecord
    fold: int
    seed: int
    status: str  # "finished", "diverged" or "failed"
    reason: str | None
    train: Scores | None
    validation: Scores | None
    epochs: int
    steps: int
    seconds: float
    parts: tuple[int, int]  # images trained on, images scored
    extra: dict[str, Any] = field(default_factory=dict)


def trial_from_json(values: Mapping[str, Any]) -> TrialRecord:
    """The record in a trial.json.

    Raises:
        ValueError, KeyError, TypeError: the values do not fit; the first fault is named.
    """
    plain = {item.name: values[item.name] for item in dataclasses.fields(TrialRecord)}
    record = TrialRecord(
        **{
            **plain,
            "strength": StrengthRecord.from_json(values["strength"]),
            "train": scores_from_json(values["train"]),
            "validation": scores_from_json(values["validation"]),
            "parts": tuple(values["parts"]),
        }
    )
    _check_kinds(record)
    return record


def _check_kinds(record: TrialRecord) -> None:
    """Check the types of an edited record, whose faults would otherwise appear far from the file."""
    try:
        _kinds().validate_python(record.__dict__ | {"strength": record.strength.__dict__})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; saw {first['input']!r:.60}") from error


@cache
def _kinds() -> pydantic.TypeAdapter[TrialRecord]:
    return pydantic.TypeAdapter(TrialRecord)
