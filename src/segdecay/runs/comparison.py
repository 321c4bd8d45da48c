"""comparison.json: the results of a comparison, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from segdecay.runs.verdict import Cost, TrainingCheck


@dataclass(frozen=True)
class ComparedStrength:
    """One strength of an arm; `shown` is its value as text, since JSON has no inf."""

    value: float | None
    shown: str
    mean: float | None  # of the criterion over the folds, mean over seeds
    folds: tuple[float, ...] | None
    train_mean: float | None
    dropped: str | None


@dataclass(frozen=True)
class ClassDifference:
    """One class of an arm against no decay, over the folds that hold the class."""

    name: str
    score: float | None
    difference: float | None
    interval: tuple[float, float] | None  # of this class alone
    p_holm: float | None  # over all classes of all arms
    told_apart: bool


@dataclass(frozen=True)
class ComparedArm:
    """One arm, scored in every fold at the strength that the other folds chose."""

    name: str
    label: str
    axis: str | None
    unit: str | None
    strengths: tuple[ComparedStrength, ...]  # no decay first, then from the weakest to the strongest
    chosen: tuple[str, ...]  # for every fold, as `shown`
    overall: str  # chosen by all folds; for further trainings
    rank: int
    letters: str  # arms that share a letter cannot be told apart
    mean: float
    standard_error: float | None
    interval: tuple[float, float] | None  # as if the arm had been named beforehand
    folds: tuple[float, ...]
    train_mean: float | None
    gap: float | None
    zeros: float | None  # share of exact zeros among the weights of layers
    norm: float | None  # root of the summed squares of those weights
    classes: tuple[ClassDifference, ...]
    cost: Cost


@dataclass(frozen=True)
class ComparedPair:
    """A paired difference, first minus second; the interval has the level at which Holm's procedure tests it."""

    first: str
    second: str
    difference: float
    standard_error: float | None
    interval: tuple[float, float] | None
    p: float
    p_holm: float
    told_apart: bool


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison."""

    criterion: str
    task: str
    arms: tuple[ComparedArm, ...]  # the best first
    pairs: tuple[ComparedPair, ...]
    strengths: int  # per arm, no decay not counted
    folds: int
    fold_method: str
    seeds: tuple[int, ...]
    confidence: float
    resamples: int
    resampled: str
    classes: tuple[str, ...]
    cost: Cost
    sentence: str
    training: TrainingCheck | None = None  # whether the best arm is trained enough to be compared
