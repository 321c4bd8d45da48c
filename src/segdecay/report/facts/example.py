"""example.json: the worked CIFAR-10 example, done right and as articles write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from segdecay.data.records import Colour
from segdecay.runs.verdict import Interval, Limits

Count = Annotated[int, pydantic.Field(ge=0)]


@dataclass(frozen=True)
class ClassRecall:
    """Recall of one class on the clean test images."""

    name: str
    images: Count
    recall: float | None
    interval: Limits = None


@dataclass(frozen=True)
class RecallDifference:
    """The first recipe minus the second, paired over the images of one class."""

    name: str
    mean: float | None
    interval: Limits = None


@dataclass(frozen=True)
class AuditNote:
    """What `segdecay audit` said of the second recipe's code."""

    code: str
    level: Literal["wrong", "doubtful", "note"]
    message: str
    advice: str


@dataclass(frozen=True)
class AuditFacts:
    """The findings of an audit."""

    findings: tuple[AuditNote, ...]


@dataclass(frozen=True)
class RecipeFacts:
    """The recipe done right."""

    mechanism: str
    accuracy: Interval
    train_accuracy: float | None
    classes: tuple[ClassRecall, ...]
    steps: int
    total_decay_if_decoupled: float
    seconds: float


@dataclass(frozen=True)
class ArticleFacts:
    """The recipe as articles write it; `reported` is on augmented test images."""

    lines: str
    audit: AuditFacts
    accuracy: Interval
    reported: Interval
    reported_minus_clean: Interval
    train_accuracy: float | None
    classes: tuple[ClassRecall, ...]
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
    difference: Interval
    classes: tuple[RecallDifference, ...]
    search: ExampleSearch
