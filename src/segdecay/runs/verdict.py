"""verdict.json: the result of a search. The search writes these records, the report reads them.

Values that are not available are None. docs/verdict_json.md describes every key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic

from segdecay.runs.records import StrengthRecord, kind_of

FIRST_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z0-9])")


def _known_limits(values: Any) -> Any:
    """None for an interval with a missing limit."""
    return None if isinstance(values, (list, tuple)) and None in values else values


def _with_lambda(values: Any) -> Any:
    """The JSON of a strength, with the key "lambda" renamed to the record's field."""
    if isinstance(values, Mapping) and "lambda" in values:
        rest = {key: value for key, value in values.items() if key != "lambda"}
        if "value" in rest and rest["value"] is None:
            rest["value"] = math.inf  # no bound
        return {**rest, "lambda_": values["lambda"]}
    return values


Kind = Literal["chosen", "zero", "flat", "edge", "undertrained"]
Limits = Annotated[tuple[float, float] | None, pydantic.BeforeValidator(_known_limits)]
Scores = Annotated[
    tuple[float | None, ...], pydantic.BeforeValidator(lambda values: values or ())
]  # () where not scored
StrengthField = Annotated[StrengthRecord, pydantic.BeforeValidator(_with_lambda)]


@dataclass(frozen=True)
class Interval:
    """A mean with its standard error and the interval around it."""

    mean: float | None
    standard_error: float | None = None
    interval: Limits = None


@dataclass(frozen=True)
class SettingSummary:
    """All trials of one setting."""

    strength: StrengthField
    folds: Scores  # score of each fold, mean over seeds
    mean: float | None
    standard_error: float | None
    dropped: str | None
    train_mean: float | None = None
    gap: float | None = None  # train minus validation score
    classes: Scores = ()  # score of each class, mean over the folds that hold it
    collapsed: int = 0  # trials that predict a single class
    difference: Interval | None = None  # to no decay, paired, all strengths at once; None for no decay itself
    interval: Limits = None  # of the mean, as if this setting had been named beforehand
    difference_named: Limits = None  # of the difference, as if this setting had been named beforehand

    @property
    def is_none(self) -> bool:
        """Whether this setting is training without regularization."""
        return self.strength.is_none


@dataclass(frozen=True)
class ClassSummary:
    """One class at the compared strength and without decay."""

    name: str
    support: int  # validation pixels over all folds
    chosen: float | None
    zero: float | None
    difference_interval: Limits = None
    chosen_interval: Limits = None  # of `chosen`, as if class and setting had been named beforehand
    zero_interval: Limits = None


@dataclass(frozen=True)
class ZeroScore:
    """The score without decay; the interval is that of the best strength minus no decay."""

    mean: float | None
    standard_error: float | None
    difference_interval: Limits = None


@dataclass(frozen=True)
class TrainingCheck:
    """Whether the best setting is trained enough to be compared (docs/verdict.md)."""

    is_enough: bool
    score: float | None  # validation score of the best setting
    train: float | None  # its train score
    trivial: str  # the better trivial predictor: "one class" or "class shares"
    trivial_score: float | None  # on the same validation masks
    above_trivial: Interval  # best minus trivial, paired
    not_learned: tuple[str, ...] = ()  # classes with next to no score on the training images, in most of its trials
    never_predicted: tuple[str, ...] = ()  # classes that most of its trials predict in no training image
    classes: int = 0  # in the training masks
    reason: str | None = None  # why it is not enough


@dataclass(frozen=True)
class Advice:
    """What to do next: a command, and about how long it takes; None where that is not known."""

    text: str
    command: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Caution:
    """What limits a figure of the verdict. figure: "score", "difference", "classes", "test" or "strength"."""

    code: str
    sentence: str
    figure: str


@dataclass(frozen=True)
class TestScores:
    """Scores of one refitted model on the test part."""

    __test__ = False  # not a test case of pytest

    miou: float | None
    iou: Mapping[str, float | None]
    score: float | None  # by the criterion
    classes: Mapping[str, float | None]  # by what classes are scored with


@dataclass(frozen=True)
class TestPart:
    """Both refits on the test part; they are the same if the verdict is no decay."""

    __test__ = False

    chosen: TestScores
    zero: TestScores

    def by_role(self) -> dict[str, TestScores]:
        """The scores at the chosen strength and without decay."""
        return {"chosen": self.chosen, "zero": self.zero}


@dataclass(frozen=True)
class Cost:
    """The cost of the trainings; `seconds` is the sum over all trainings."""

    trials: int
    epochs: int
    seconds: float
    refits: int = 0


@dataclass(frozen=True)
class Verdict:
    """The result of a search; the keys of verdict.json."""

    kind: Kind
    criterion: str
    regularizer: str
    strength: StrengthField
    one_se: StrengthField  # the strongest within one standard error of the best
    selection: Interval
    zero: ZeroScore
    settings: tuple[SettingSummary, ...]
    classes: tuple[ClassSummary, ...]
    seeds: tuple[int, ...]
    honest: Mapping[str, Any] | None  # method, mean, interval: the score corrected for selection
    test: TestPart | None
    cost: Cost
    indistinguishable: tuple[float, ...]  # axis values that cannot be told apart from no decay
    evidence: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""
    paste: str = ""
    task: Literal["segmentation", "classification"] = "segmentation"  # classification: classes are scored by recall
    training: TrainingCheck | None = None
    advice: tuple[Advice, ...] = ()
    cautions: tuple[Caution, ...] = ()

    @property
    def criterion_name(self) -> str:
        """The name of the score."""
        return "mIoU" if self.criterion == "miou" else self.criterion

    @property
    def headline(self) -> str:
        """The first sentence."""
        return FIRST_SENTENCE.split(self.sentence, maxsplit=1)[0]

    @property
    def rest(self) -> str:
        """The sentences after the first."""
        return self.sentence[len(self.headline) :].strip()

    @property
    def axis(self) -> str:
        """The name of the searched axis."""
        return self.strength.axis

    @property
    def kind_of_axis(self) -> str:
        """The searched quantity: decay, a bound, dropout or that of a user's axis."""
        return {"bound": "a bound"}.get(kind_of(self.axis), kind_of(self.axis))

    @property
    def has_timescale(self) -> bool:
        """Whether a strength has a τ."""
        return any(item.strength.timescale_epochs is not None for item in self.settings)

    @property
    def has_lambda(self) -> bool:
        """Whether the strengths have a λ."""
        return self.axis != "lambda" and any(item.strength.lambda_ is not None for item in self.settings)

    def setting_of(self, strength: StrengthRecord | None) -> SettingSummary | None:
        """The setting with this value on the axis."""
        return next((item for item in self.settings if strength and item.strength.value == strength.value), None)

    @property
    def none(self) -> SettingSummary | None:
        """The setting without decay."""
        return next((item for item in self.settings if item.is_none), None)

    @property
    def compared(self) -> SettingSummary | None:
        """The setting that the report compares with no decay: the chosen one, or else the best with decay."""
        if not self.strength.is_none:
            return self.setting_of(self.strength)
        decaying = [item for item in self.settings if not item.is_none and item.mean is not None]
        return max(decaying, key=lambda item: item.mean or 0.0, default=None)
