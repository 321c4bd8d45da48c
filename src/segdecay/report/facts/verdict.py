"""verdict.json as frozen dataclasses: what a search concluded, and about which settings.

Values that are not available are None. Knows nothing of files, figures or pages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic

from segdecay.runs.records import RACED_OUT, Strength, kind_of

FIRST_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z0-9])")


def _known_bounds(values: Any) -> Any:
    """An interval of which a bound is not available is not available."""
    return None if isinstance(values, (list, tuple)) and None in values else values


Interval = Annotated[tuple[float, float] | None, pydantic.BeforeValidator(_known_bounds)]


def _with_lambda(values: Any) -> Any:
    """The JSON of a strength, its key "lambda" spelt as the record's field."""
    if isinstance(values, Mapping) and "lambda" in values:
        rest = {key: value for key, value in values.items() if key != "lambda"}
        if "value" in rest and rest["value"] is None:
            rest["value"] = math.inf  # no bound
        return {**rest, "lambda_": values["lambda"]}
    return values


def _or_empty(values: Any) -> Any:
    """What was not scored has no entries."""
    return () if values is None else values


Scored = Annotated[tuple[float | None, ...], pydantic.BeforeValidator(_or_empty)]
StrengthField = Annotated[Strength, pydantic.BeforeValidator(_with_lambda)]


def is_none(strength: Strength) -> bool:
    """Whether this strength regularizes nothing.

    >>> is_none(Strength("total_decay", 0.0, 0.0)), is_none(Strength("total_decay", 4.0, 1.0))
    (True, False)
    """
    return strength.is_none


@dataclass(frozen=True)
class Difference:
    """A paired difference to none, and where it may lie."""

    mean: float | None
    interval: Interval = None


@dataclass(frozen=True)
class Setting:
    """One strength over all folds."""

    strength: StrengthField
    folds: Scored
    mean: float | None
    standard_error: float | None
    dropped: str | None
    train_mean: float | None = None
    gap: float | None = None  # train minus validation
    classes: Scored = ()  # mean IoU of each class
    collapsed: int = 0  # trials that predict a single class
    difference: Difference | None = None

    @property
    def is_none(self) -> bool:
        return is_none(self.strength)


@dataclass(frozen=True)
class Selection:
    """The score by which the strength was chosen."""

    mean: float | None
    standard_error: float | None
    interval: Interval = None


@dataclass(frozen=True)
class Zero:
    """The same score without any regularization; the interval is of chosen minus none."""

    mean: float | None
    standard_error: float | None
    difference_interval: Interval = None


@dataclass(frozen=True)
class ClassVerdict:
    """IoU of one class at the compared strength and at none; the interval is of their difference."""

    name: str
    chosen: float | None
    zero: float | None
    difference_interval: Interval = None


@dataclass(frozen=True)
class TestScores:
    """Scores of one refitted model on the test part."""

    __test__ = False  # not a test case of pytest

    miou: float | None
    iou: Mapping[str, float | None] = field(default_factory=dict)
    score: float | None = None  # by the criterion; runs of before have mIoU only
    classes: Mapping[str, float | None] = field(default_factory=dict)  # by what classes are scored with

    @property
    def shown(self) -> float | None:
        """The criterion's score."""
        return self.miou if self.score is None else self.score

    def of_class(self, name: str) -> float | None:
        """The score of a class."""
        return self.classes.get(name, self.iou.get(name))


@dataclass(frozen=True)
class TestPart:
    """Both refits on the test part."""

    __test__ = False

    chosen: TestScores
    zero: TestScores


@dataclass(frozen=True)
class Cost:
    """What the run took."""

    trials: int
    epochs: int
    seconds: float
    refits: int = 0


@dataclass(frozen=True)
class Verdict:
    """verdict.json: what a search concluded."""

    kind: Literal["chosen", "zero", "flat", "edge"]
    sentence: str
    criterion: str
    regularizer: str
    strength: StrengthField
    selection: Selection
    zero: Zero
    settings: tuple[Setting, ...]
    classes: tuple[ClassVerdict, ...]
    cost: Cost
    one_se: StrengthField | None = None
    seeds: tuple[int, ...] = ()
    test: TestPart | None = None
    paste: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    indistinguishable: tuple[float, ...] = ()  # axis values
    honest: Mapping[str, Any] | None = None  # method, mean, interval

    @property
    def criterion_name(self) -> str:
        """How the score is called."""
        return "mIoU" if self.criterion == "miou" else self.criterion

    @property
    def headline(self) -> str:
        """The first sentence."""
        return FIRST_SENTENCE.split(self.sentence, maxsplit=1)[0]

    @property
    def rest(self) -> str:
        """What else the sentence says."""
        return self.sentence[len(self.headline) :].strip()

    @property
    def axis(self) -> str:
        return self.strength.axis

    @property
    def kind_of_axis(self) -> str:
        """What is compared with none: decay, a bound or dropout."""
        return {"bound": "a bound"}.get(kind_of(self.axis), kind_of(self.axis))

    @property
    def has_timescale(self) -> bool:
        """Whether a strength has a τ."""
        return any(item.strength.timescale_epochs is not None for item in self.settings)

    @property
    def has_lambda(self) -> bool:
        """Whether a λ stands beside the axis values."""
        return self.axis != "lambda" and any(item.strength.lambda_ is not None for item in self.settings)

    def setting_of(self, strength: Strength | None) -> Setting | None:
        """The setting with this value on the axis."""
        return next((item for item in self.settings if strength and item.strength.value == strength.value), None)

    @property
    def none(self) -> Setting | None:
        return next((item for item in self.settings if item.is_none), None)

    @property
    def compared(self) -> Setting | None:
        """What stands beside none in every comparison: the chosen setting, or else the best that acts."""
        if not is_none(self.strength):
            return self.setting_of(self.strength)
        decaying = [item for item in self.settings if not item.is_none and item.mean is not None]
        return max(decaying, key=lambda item: item.mean or 0.0, default=None)


def mark_of(item: Setting) -> str:
    """What stands at the foot of a setting that is out: nothing where the race kept its score."""
    if not (item.dropped or "").startswith(RACED_OUT):
        return "dropped"
    return "not tried" if item.mean is None else ""
