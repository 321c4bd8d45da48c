"""A finished run as the report shows it: the records of its folder, its curves, and the counts of its trials.

`segdecay.report.facts.read` fills it from disk. Values that are not available are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic

from segdecay.data.records import DataRecord, FoldsRecord
from segdecay.errors import RunError
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.counts import I64, read_counts
from segdecay.runs.example import Example
from segdecay.runs.examples import Examples
from segdecay.runs.facts import Environment, PartitionRecord
from segdecay.runs.joint import JointSearch
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import Verdict


def _or_nothing(values: Any) -> Any:
    return () if values is None else values


Numbers = Annotated[tuple[float | None, ...], pydantic.BeforeValidator(_or_nothing)]


@dataclass(frozen=True)
class LayerFacts:
    """One weight at one reading; `ratio` is its angle a step over that of equilibrium."""

    name: str
    group: str
    norm: float | None
    stable_rank: float | None = None
    zeros: float | None = None
    channels: int = 0
    zero_channels: int = 0
    ratio: float | None = None


@dataclass(frozen=True)
class GroupFacts:
    """All parameters of a group at one reading."""

    group: str
    numbers: int
    zeros: float | None
    channels: int = 0
    zero_channels: int = 0


@dataclass(frozen=True)
class ActivationFacts:
    """One ReLU: channels, those that were zero throughout, share of zero outputs."""

    name: str
    channels: int
    dead: int
    zeros: float | None


@dataclass(frozen=True)
class HeadFacts:
    """One weight of the head: the norms of its rows, and their correlation with class frequency."""

    name: str
    row_norms: Numbers
    spearman: float | None = None


@dataclass(frozen=True)
class DiagnosticsFacts:
    """One reading."""

    layers: tuple[LayerFacts, ...]
    groups: tuple[GroupFacts, ...] = ()
    activations: tuple[ActivationFacts, ...] = ()
    head: tuple[HeadFacts, ...] = ()
    penalty_share: float | None = None


@dataclass(frozen=True)
class StageScores:
    """Validation scores at the end of a stage."""

    miou: float | None = None
    iou: Numbers = ()


@dataclass(frozen=True)
class Stage:
    """One stage of a training; what only the second, of weight balancing, has is empty in the first."""

    stage: int
    epochs: int
    loss: str = ""
    row_norms: Mapping[str, Numbers] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    examples: Numbers = ()
    class_weights: Numbers = ()
    total_decay: float | None = None
    validation: StageScores | None = None


@dataclass(frozen=True)
class Validated:
    """What the record keeps of the diagnostics beside the last reading."""

    validation_activations: tuple[ActivationFacts, ...] = ()


@dataclass(frozen=True)
class Extras:
    """The part of a trial's `extra` that the report shows."""

    log_frequencies: Numbers = ()  # natural logarithm of each class's share of the training pixels
    stages: tuple[Stage, ...] = ()
    diagnostics: Validated | None = None


@dataclass(frozen=True)
class KeptTrial:
    """Counts of one scored training: `total` is the confusion matrix (C, C) of all its images."""

    fold: int
    counts: Counts
    total: I64


Kept = Mapping[float, tuple[KeptTrial, ...]]  # by the setting's value on the axis


def read_kept(folders: Sequence[tuple[Path, TrialRecord]], classes: int) -> Kept:
    """The counts of every training with validation images, by setting.

    Raises:
        RunError: a file is missing or damaged, or has another number of classes.
    """
    found: dict[float, tuple[KeptTrial, ...]] = {}
    for folder, record in folders:
        if record.validation is None:
            continue
        path = folder / "confusion.npz"
        kept = read_counts(path)
        if len(kept.total) != classes:
            raise RunError(f"{path} holds {len(kept.total)} classes; the data has {classes}. Run in a new folder.")
        trial = KeptTrial(record.fold, Counts(kept.hit, kept.union, kept.true), kept.total)
        found[record.strength.value] = (*found.get(record.strength.value, ()), trial)
    return found


def of_verdict(kept: Kept, verdict: Verdict) -> Kept:
    """Without the trainings that no verdict rests on: idle workers run ahead of a race, which may never get there."""
    found: dict[float, tuple[KeptTrial, ...]] = {}
    for setting in verdict.settings:
        scored = {fold for fold, score in enumerate(setting.folds or ()) if score is not None}
        trials = tuple(trial for trial in kept.get(setting.strength.value, ()) if trial.fold in scored)
        if trials:
            found[setting.strength.value] = trials
    return found


def by_fold(trials: Sequence[KeptTrial]) -> dict[int, list[Counts]]:
    """Fold to seeds."""
    found: dict[int, list[Counts]] = {}
    for trial in trials:
        found.setdefault(trial.fold, []).append(trial.counts)
    return found


def shared_folds(one: Sequence[KeptTrial], other: Sequence[KeptTrial]) -> tuple[int, ...]:
    """The folds that both settings have: a race leaves some out."""
    return tuple(sorted({trial.fold for trial in one} & {trial.fold for trial in other}))


def total_of(trials: Sequence[KeptTrial], folds: Sequence[int]) -> I64:
    """(C, C) the summed matrix of these folds."""
    return np.asarray(np.sum([trial.total for trial in trials if trial.fold in folds], axis=0))


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
    diagnostics: DiagnosticsFacts | None = None

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
    """One trial or refit with its curve."""

    label: str
    record: TrialRecord
    curve: tuple[CurveRow, ...]
    extras: Extras = field(default_factory=Extras)


@dataclass(frozen=True)
class Run:
    """Everything that the report shows. `verdict` and `folds` are None for a run of `train`."""

    folder: Path
    data: DataRecord
    partition: PartitionRecord
    environment: Environment
    regularizer: str
    verdict: Verdict | None
    folds: FoldsRecord | None
    zero: tuple[Training, ...]  # the trials at none
    compared: tuple[Training, ...]  # the trials at the compared strength, or the one training of `train`
    trials: tuple[TrialRecord, ...]
    examples: Examples = field(default_factory=Examples)
    kept: Kept = field(default_factory=dict)  # counts of all scored trainings
    joint: JointSearch | None = None  # points of a joint search
    optimizer: str = ""  # as configured; empty where a user's function trains
    example: Example | None = None  # the worked example, of which this search is a part
