"""The records of a run's data and folds: data.json and folds.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pydantic

from segdecay.config.schema import Task
from segdecay.data.checks.findings import CheckReport, ClassRow, Finding
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import FoldPlan, names_of_fold

Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


@dataclass(frozen=True)
class DataRecord:
    """The data of a run; `images` is the number of images by part."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    bands: int
    fingerprint: str
    images: Mapping[str, int]
    class_rows: tuple[ClassRow, ...]
    findings: tuple[Finding, ...]
    task: Task = "segmentation"
    exclude_from_mean: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldNames:
    """Names of the images in one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldsRecord:
    """The folds of a run; `table` counts validation pixels, one row per class and one column per fold."""

    method: str
    fingerprint: str
    folds: tuple[FoldNames, ...]
    table: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...] = ()
    groups_of_class: tuple[int, ...] = ()


def data_record(dataset: Dataset, checks: CheckReport) -> DataRecord:
    """The content of data.json: the data set and the findings of its checks."""
    return DataRecord(
        name=dataset.name,
        classes=tuple(dataset.classes),
        palette=dataset.palette,
        bands=dataset.bands,
        fingerprint=dataset.fingerprint,
        images=checks.images,
        class_rows=checks.classes,
        findings=checks.findings,
        task=dataset.task,
        exclude_from_mean=tuple(dataset.exclude_from_mean),
    )


def folds_record(plan: FoldPlan, dataset: Dataset) -> FoldsRecord:
    """The content of folds.json: images by name, so that people can read and check the file."""
    return FoldsRecord(
        method=plan.method,
        fingerprint=plan.fingerprint,
        folds=tuple(
            FoldNames(**{part: tuple(names) for part, names in names_of_fold(fold, dataset).items()})
            for fold in plan.folds
        ),
        table=plan.table,
        classes=tuple(dataset.classes),
        groups_of_class=plan.groups_of_class,
    )
