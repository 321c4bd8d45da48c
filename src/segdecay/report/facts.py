"""What a run's folder says, as frozen dataclasses: the shape that the report expects of every file but verdict.json.

`segdecay.report.reading` fills them from disk; figures and the page only look at them. Values that are not available
are None. Knows nothing of files, figures or pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from segdecay.records import CellRecord
from segdecay.report.gauge_facts import Extras, GaugeFacts
from segdecay.report.joint_facts import JointFacts
from segdecay.report.kept import Kept
from segdecay.report.verdict_facts import StrengthField, Verdict

Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


@dataclass(frozen=True)
class Finding:
    """One line of the data checks."""

    level: Literal["wrong", "warning", "note"]
    code: str
    file: str | None
    message: str


@dataclass(frozen=True)
class ClassRow:
    """How much of a class there is."""

    name: str
    pixels: int
    share: float
    images: int
    groups: int


@dataclass(frozen=True)
class Data:
    """data.json: what the run was trained on."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    bands: int
    fingerprint: str
    images: Mapping[str, int]
    class_rows: tuple[ClassRow, ...]
    findings: tuple[Finding, ...]
    task: Literal["segmentation", "classification"] = "segmentation"
    exclude_from_mean: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldNames:
    """Names of the images in one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folds:
    """folds.json; the table holds validation pixels, a row a class and a column a fold."""

    method: str
    fingerprint: str
    folds: tuple[FoldNames, ...]
    table: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ParameterLine:
    """One parameter tensor: its group, why, and the multiplier of the strength."""

    name: str
    shape: tuple[int, ...]
    module: str
    group: str
    reason: str
    multiplier: float | None


@dataclass(frozen=True)
class Partition:
    """partition.json."""

    rows: tuple[ParameterLine, ...]


@dataclass(frozen=True)
class Environment:
    """environment.json: where the run happened and the command that repeats it."""

    python: str
    packages: Mapping[str, str]
    machine: Any
    device: str
    command: str
    segdecay: str
    started: str


@dataclass(frozen=True)
class CurveRow:
    """One epoch of one training; `loss` is L_original and `penalty` λR, both over the training batches."""

    epoch: int
    loss: float | None
    penalty: float | None
    objective: float | None
    lr: float | None = None
    gradient_norm: float | None = None
    validation_loss: float | None = None
    validation_miou: float | None = None
    train_miou: float | None = None
    validation_iou: tuple[float | None, ...] | None = None  # a class each, where it was scored
    validation_balanced_accuracy: float | None = None
    train_balanced_accuracy: float | None = None
    stage: int = 1
    gauges: GaugeFacts | None = None

    @property
    def validation_score(self) -> float | None:
        """MIoU, or balanced accuracy where images have one label."""
        own = self.validation_balanced_accuracy
        return self.validation_miou if own is None else own

    @property
    def train_score(self) -> float | None:
        """As `validation_score`, of the training images."""
        own = self.train_balanced_accuracy
        return self.train_miou if own is None else own


@dataclass(frozen=True)
class Training:
    """One cell or refit with its curve."""

    label: str
    record: CellRecord
    curve: tuple[CurveRow, ...]
    extras: Extras = field(default_factory=Extras)


@dataclass(frozen=True)
class Example:
    """The same validation image at none and at the chosen strength; files are names inside examples/."""

    kind: str
    name: str
    fold: int | None
    image: str
    truth: str
    zero: str
    chosen: str
    miou_zero: float | None = None
    miou_chosen: float | None = None


@dataclass(frozen=True)
class LabelExample:
    """One validation image with its label, and what it is called at none and at the chosen strength."""

    kind: str
    name: str
    fold: int | None
    image: str  # name of a file inside examples/
    truth: str
    zero: str
    chosen: str


@dataclass(frozen=True)
class Examples:
    """examples.json; `shown` is the strength of the pictures called "chosen"."""

    cases: tuple[Example, ...] = ()
    labels: tuple[LabelExample, ...] = ()  # instead of cases, where images have one label
    shown: StrengthField | None = None


@dataclass(frozen=True)
class Run:
    """Everything that the report shows. `verdict` and `folds` are None for a run of `train`."""

    folder: Path
    data: Data
    partition: Partition
    environment: Environment
    policy: str
    verdict: Verdict | None
    folds: Folds | None
    zero: tuple[Training, ...]  # the cells at none
    compared: tuple[Training, ...]  # the cells at the compared strength, or the one training of `train`
    cells: tuple[CellRecord, ...]
    examples: Examples = Examples()
    kept: Kept = field(default_factory=dict)  # counts of all scored trainings
    joint: JointFacts | None = None  # points of a joint search
