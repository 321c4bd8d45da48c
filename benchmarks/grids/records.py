"""The records of the atlas: benchmarks/records/atlas/NAME.npz read back, checked, and refused by name.

The keys of a file are listed in benchmarks/atlas.py, which writes them.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grids.packing import I64, MATRIX_KEYS, unpack_matrices
from segdecay.errors import RunError, gather
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.criteria import Criterion

RECORDS = Path(__file__).parents[1] / "records" / "atlas"
VERSION = 1
FINISHED, STATES = "finished", ("finished", "diverged", "failed")
SAME = 1e-5  # largest difference of a kept score from that of its matrices: scores are kept in single precision
SCORE_KEYS = ("iou", "recall", "precision", "support")
KEYS = (
    *("recipe", "values", "classes", "status", "train", "validation", "curve_epochs", "curves", "seconds", "steps"),
    *(f"train_{name}" for name in SCORE_KEYS),
    *("fold_of", "group_of", *MATRIX_KEYS),
)
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Facts:
    """What a grid was trained with.

    Attributes:
        name: of the grid and of its file.
        change: what differs from the base recipe of the data set.
        criterion: key of the score that decides.
        lambda_at_one: λ at which D = 1 in the fold with the median number of training images; D is proportional to λ.
        images: of the folds together.
        train_images: of that fold.
        excluded: indices of classes that are left out of the mean.
        method: how folds are made.
        config: the configuration in plain values, without the path of the data.
        versions: of the packages that trained.
    """

    name: str
    data: str
    change: str
    task: str
    criterion: str
    regularizer: str
    optimizer: str
    momentum: float
    lr: float
    lambda_at_one: float
    model: str
    width: int | None
    epochs: int
    batch: int
    size: tuple[int, int]
    images: int
    train_images: int
    excluded: tuple[int, ...]
    method: str
    seed: int
    config: dict[str, Any]
    versions: dict[str, str]

    def to_json(self) -> str:
        """One line, read back by `from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """The facts in a record.

        Raises:
            ValueError: the text is not JSON, or keys are missing or unknown.
        """
        values = json.loads(text)
        names = {one.name for one in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            seen = sorted(set(values) ^ names) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"its recipe lacks or adds {seen}")
        return cls(**{**values, "size": tuple(values["size"]), "excluded": tuple(values["excluded"])})


@dataclass(frozen=True)
class GridRecord:
    """All trials of a grid: V strengths from no decay to the strongest, F folds, S seeds, C classes."""

    facts: Facts
    values: tuple[float, ...]
    classes: tuple[str, ...]
    status: npt.NDArray[np.str_]  # (V, F, S)
    train: F32  # (V, F, S) score on the training images after the last step; NaN where it diverged
    train_scores: dict[str, F32]  # iou, recall, precision, support: (V, F, S, C); empty where not recorded
    curve_epochs: npt.NDArray[np.int32]  # (E,)
    curves: F32  # (V, F, S, E) validation scores
    seconds: F32  # (V, F, S)
    steps: int  # of a trial, median
    groups: tuple[tuple[int, ...], ...]  # of the validation images, fold by fold
    counts: tuple[tuple[tuple[Counts, ...], ...], ...]  # [v][f][s]

    @property
    def criterion(self) -> Criterion:
        """The score that decides."""
        return Criterion(
            self.facts.criterion, of_recall=self.facts.task == "classification", excluded=self.facts.excluded
        )

    def reason_dropped(self, v: int) -> str | None:
        """Why a strength cannot be compared; None if all its trials finished."""
        lost = int((self.status[v] != FINISHED).sum())
        return f"{lost} of {self.status[v].size} trials did not finish" if lost else None


def read_record(path: Path) -> GridRecord:
    """The grid in one file.

    Raises:
        RunError: the file cannot be read, is not a record of the atlas, has another version, or its parts do not fit
            together; all faults are listed with the name of the file.
    """
    parts = _arrays(path)
    try:
        facts = Facts.from_json(str(parts["recipe"]))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it; benchmarks/atlas.py records it anew.") from error
    faults = _faults(parts, facts, path)
    gather(RunError, faults, headline=f"{path} is damaged; remove it, and benchmarks/atlas.py records it anew:")
    record = _record(parts, facts)
    faults = [*_score_faults(record, parts["validation"]), *size_faults(record)]
    gather(RunError, faults, headline=f"{path} is damaged; remove it, and benchmarks/atlas.py records it anew:")
    return record


def read_records(folder: Path = RECORDS) -> list[GridRecord]:
    """All records of a folder, by name.

    Raises:
        RunError: as `read_record`.
    """
    return [read_record(path) for path in sorted(folder.glob("*.npz"))]


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            if "atlas" not in kept:
                raise RunError(
                    f"{path} is not a record of the atlas (it has no key atlas). benchmarks/atlas.py writes such files."
                )
            version = kept["atlas"].tolist()
            if version != VERSION:
                raise RunError(
                    f"{path} has format {version}; this version reads {VERSION}. Record it anew with "
                    "benchmarks/atlas.py."
                )
            missing = [key for key in KEYS if key not in kept]
            if missing:
                raise RunError(f"{path} lacks {', '.join(missing)}; record it anew with benchmarks/atlas.py.")
            return {key: kept[key] for key in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise RunError(f"{path} cannot be read ({error}). Remove it; benchmarks/atlas.py records it anew.") from error


def _faults(parts: dict[str, npt.NDArray[Any]], facts: Facts, path: Path) -> list[str]:
    """What does not fit together in a record."""
    if parts["status"].ndim != 3 or parts["fold_of"].ndim != 1:
        return [f"status has {parts['status'].ndim} axes and fold_of {parts['fold_of'].ndim}; 3 and 1 are written"]
    trials, n_classes = parts["status"].shape, len(parts["classes"])
    shapes = dict.fromkeys(("train", "validation", "seconds", "steps"), trials)
    shapes |= {f"train_{name}": (*trials, n_classes) for name in SCORE_KEYS}
    shapes |= {"curves": (*trials, *parts["curve_epochs"].shape), "values": trials[:1]}
    shapes |= {"group_of": parts["fold_of"].shape}
    faults = [
        f"{key} has shape {parts[key].shape}; the others make {shape}"
        for key, shape in shapes.items()
        if parts[key].shape != shape
    ]
    if facts.name != path.stem:
        faults.append(f"it holds the grid {facts.name}, not {path.stem}")
    unknown = sorted(set(parts["status"].ravel().tolist()) - set(STATES))
    if unknown:
        faults.append(f"status holds {unknown}; {', '.join(STATES)} are known")
    values = parts["values"].tolist()
    if not values or values[0] != 0 or sorted(set(values)) != values:
        faults.append(f"values are {values}; they begin with 0 and rise")
    if set(parts["fold_of"].tolist()) != set(range(trials[1])):
        faults.append(f"fold_of names folds {sorted(set(parts['fold_of'].tolist()))}; there are {trials[1]}")
    return faults + _matrix_faults(parts, trials[0] * len(parts["fold_of"]), n_classes)


def _matrix_faults(parts: dict[str, npt.NDArray[Any]], expected: int, n_classes: int) -> list[str]:
    lengths, found = parts["confusion_length"], len(parts["confusion_index"])
    faults = []
    if len(lengths) != expected:
        faults.append(f"it holds {len(lengths)} matrices; its strengths and images make {expected}")
    if int(lengths.sum()) != found or len(parts["confusion_count"]) != found:
        faults.append(
            f"its matrices have {int(lengths.sum())} entries; {found} places and {len(parts['confusion_count'])} "
            "counts are there"
        )
    if found and int(parts["confusion_index"].max()) >= n_classes**2:
        faults.append(f"a matrix has the place {int(parts['confusion_index'].max())}; {n_classes} classes end at "
                      f"{n_classes**2 - 1}")  # fmt: skip
    return faults


def trial_counts(
    parts: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], classes: int
) -> tuple[tuple[tuple[Counts, ...], ...], ...]:
    """The counts [v][f][s] of a record with this shape (V, F, S), from its matrices in the order V, F, S, image."""
    n_values, n_folds, n_seeds = shape
    images = [int((parts["fold_of"] == fold).sum()) for fold in range(n_folds)]
    every = [images[fold] for fold in range(n_folds) for _ in range(n_seeds)] * n_values
    split: Sequence[I64] = np.split(unpack_matrices(parts, classes), np.cumsum(every)[:-1])
    trials = iter([Counts.of(own) for own in split])
    return tuple(tuple(tuple(next(trials) for _ in range(n_seeds)) for _ in range(n_folds)) for _ in range(n_values))


def groups_by_fold(parts: dict[str, npt.NDArray[Any]], n_folds: int) -> tuple[tuple[int, ...], ...]:
    """The group of every validation image, fold by fold."""
    return tuple(tuple(parts["group_of"][parts["fold_of"] == fold].tolist()) for fold in range(n_folds))


def _record(parts: dict[str, npt.NDArray[Any]], facts: Facts) -> GridRecord:
    shape = parts["status"].shape
    return GridRecord(
        facts=facts,
        values=tuple(float(value) for value in parts["values"]),
        classes=tuple(str(name) for name in parts["classes"]),
        status=parts["status"],
        train=parts["train"],
        train_scores={name: parts[f"train_{name}"] for name in SCORE_KEYS},
        curve_epochs=parts["curve_epochs"],
        curves=parts["curves"],
        seconds=parts["seconds"],
        steps=int(np.median(parts["steps"])),
        groups=groups_by_fold(parts, shape[1]),
        counts=trial_counts(parts, shape, len(parts["classes"])),
    )


def _score_faults(record: GridRecord, kept: F32) -> list[str]:
    """Trials whose kept score is not that of their matrices."""
    faults = []
    for v, f, s in np.ndindex(record.status.shape):
        if record.status[v, f, s] != FINISHED:
            continue
        score = record.counts[v][f][s].score(record.criterion)
        if not abs(score - float(kept[v, f, s])) <= SAME:
            faults.append(
                f"D = {record.values[v]:g}, fold {f + 1}: its matrices score {score:.6f}, and {kept[v, f, s]:.6f} is "
                "kept"
            )
    return faults


def size_faults(record: GridRecord) -> list[str]:
    """Whether an image has more labelled pixels than its size allows (one label an image in classification)."""
    height, width = record.facts.size
    most = 1 if record.facts.task == "classification" else height * width
    found = max(int(trial.true.sum(axis=1).max()) for fold in record.counts[0] for trial in fold)
    return [f"an image has {found} labelled pixels; images of {height}×{width} hold {most}"] if found > most else []
