"""evaluation.json as frozen dataclasses: how a model scores on masks. The keys are those of docs/evaluation.md.

Values that are not available are None. Knows nothing of figures or pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from segdecay.report.facts.read import read_fact
from segdecay.report.facts.run import Colour, Data, Environment
from segdecay.report.facts.verdict import Interval
from segdecay.runs.comparison_record import ComparedArm, ComparedPair, Comparison

Count = Annotated[int, pydantic.Field(ge=0)]


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error and interval."""

    mean: float | None
    standard_error: float | None = None
    interval: Interval = None


UNKNOWN = Estimate(None)  # evaluations of older versions lack what was added later


@dataclass(frozen=True)
class EvaluatedClass:
    """One class: its true and predicted pixels, the images that hold it, its scores."""

    name: str
    colour: Colour
    support: Count
    predicted: Count
    images: Count
    iou: Estimate
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    boundary_iou: Estimate = UNKNOWN
    image_iou: Estimate = UNKNOWN
    dice_interval: Interval = None
    precision_interval: Interval = None
    recall_interval: Interval = None

    @property
    def by_recall(self) -> Estimate:
        """Recall as an estimate."""
        return Estimate(self.recall, None, self.recall_interval)


@dataclass(frozen=True)
class EvaluatedImage:
    """One image."""

    name: str
    group: str | None
    part: str | None
    height: int
    width: int
    miou: float | None
    trained_on: bool | None = None


@dataclass(frozen=True)
class EvaluatedData:
    """What was scored."""

    path: str
    name: str
    fingerprint: str
    part: str
    images: Count
    groups: int | None = None


@dataclass(frozen=True)
class EvaluatedModel:
    """Which weights."""

    weights_sha256: tuple[str, ...]
    made_by: Any = None


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json: `confusion` has a row a true class and a column a predicted one."""

    run: str
    data: EvaluatedData
    model: EvaluatedModel
    miou: Estimate
    accuracy: float | None
    classes: tuple[EvaluatedClass, ...]
    confusion: tuple[tuple[Count, ...], ...]
    images: tuple[EvaluatedImage, ...]
    confidence: float = 0.95
    resamples: int | None = None
    resampled_by: str | None = None
    how: Mapping[str, Any] = field(default_factory=dict)
    trained_on: int | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    worst: Estimate = UNKNOWN
    weighted: Estimate = UNKNOWN
    boundary_miou: Estimate = UNKNOWN
    image_miou: Estimate = UNKNOWN
    image_worst: Estimate = UNKNOWN
    image_weighted: Estimate = UNKNOWN
    task: Literal["segmentation", "classification"] = "segmentation"
    balanced_accuracy: Estimate | None = None  # where images have one label
    accuracy_interval: Interval = None
    exclude_from_mean: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparedRun:
    """What the page of a comparison is made of."""

    folder: Path
    found: Comparison
    data: Data
    environment: Environment

    def to_none(self, arm: ComparedArm) -> ComparedPair | None:
        """The pair of an arm with none, as arm less none; None for none itself."""
        for pair in self.found.pairs:
            if {pair.first, pair.second} == {arm.name, "none"}:
                return pair if pair.first == arm.name else turned(pair)
        return None


def turned(pair: ComparedPair) -> ComparedPair:
    """The second less the first."""
    ends = None if pair.interval is None else (-pair.interval[1], -pair.interval[0])
    return replace(pair, first=pair.second, second=pair.first, difference=-pair.difference or 0.0, interval=ends)


def better_first(pair: ComparedPair) -> ComparedPair:
    """The pair with a difference that is not negative."""
    return turned(pair) if pair.difference < 0 else pair


def read_comparison(folder: Path) -> ComparedRun:
    """The facts of a finished comparison.

    Raises:
        RunError: a file is missing or damaged; all faults of it are listed.
    """
    return ComparedRun(
        folder,
        read_fact(folder / "comparison.json", Comparison),
        read_fact(folder / "data.json", Data),
        read_fact(folder / "environment.json", Environment),
    )


@dataclass(frozen=True)
class ClassResult:
    """Recall of one class on the clean test images."""

    name: str
    images: Count
    recall: float | None
    interval: Interval = None


@dataclass(frozen=True)
class ClassDifference:
    """The first recipe minus the second, paired over the images of one class."""

    name: str
    mean: float | None
    interval: Interval = None


@dataclass(frozen=True)
class AuditFinding:
    """What `segdecay audit` said of the second recipe's code."""

    code: str
    level: Literal["wrong", "doubtful", "note"]
    message: str
    advice: str


@dataclass(frozen=True)
class AuditFacts:
    """The findings of an audit."""

    findings: tuple[AuditFinding, ...]


@dataclass(frozen=True)
class RecipeFacts:
    """The recipe done right."""

    mechanism: str
    accuracy: Estimate
    train_accuracy: float | None
    classes: tuple[ClassResult, ...]
    steps: int
    total_decay_if_decoupled: float
    seconds: float


@dataclass(frozen=True)
class ArticleFacts:
    """The recipe as articles write it; `reported` is on augmented test images."""

    lines: str
    audit: AuditFacts
    accuracy: Estimate
    reported: Estimate
    reported_minus_clean: Estimate
    train_accuracy: float | None
    classes: tuple[ClassResult, ...]
    seconds: float


@dataclass(frozen=True)
class ExampleData:
    """What both were trained and tested on."""

    name: str
    fingerprint: str
    train: Count
    test: Count
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]


@dataclass(frozen=True)
class ExampleAsked:
    """What both recipes share."""

    epochs: int
    seed: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class ExampleSearch:
    """Where the search lies, below the example's folder."""

    run: str


@dataclass(frozen=True)
class Example:
    """example.json."""

    command: str
    asked: ExampleAsked
    data: ExampleData
    confidence: float
    recipe: RecipeFacts
    article: ArticleFacts
    difference: Estimate
    classes: tuple[ClassDifference, ...]
    search: ExampleSearch
