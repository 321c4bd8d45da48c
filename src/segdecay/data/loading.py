"""From DATA to a checked, decoded data set: source → every file read and checked → the cache → `Dataset`.

The one place where the steps stand in order. Knows nothing of folds, augmentation or models.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.config import DataConfig, Task
from segdecay.data import cache as caching
from segdecay.data.checks import (
    CheckReport,
    Notebook,
    check_classes,
    check_parts,
    check_shared_groups,
    class_rows,
    ordered,
)
from segdecay.data.dataset import Dataset, Item
from segdecay.data.duplicate_checks import check_duplicates
from segdecay.data.likeness import Content, content_of
from segdecay.data.pictures import resize_image, resize_mask
from segdecay.data.sources import Facts, Sample, Source, build_source
from segdecay.errors import DataError, gather

I64 = npt.NDArray[np.int64]


def load_dataset(config: DataConfig, *, cache: Path | None = None) -> tuple[Dataset, CheckReport]:
    """The data set that a configuration names, checked and decoded, and what the checks found.

    cache: folder for decoded data; None takes $SEGDECAY_CACHE, else the user's cache folder.

    Raises:
        DataError: DATA does not exist, the cache cannot be written, or listing everything that is wrong with the files.
        ConfigError: dataset.yaml or classes.txt is not valid.
    """
    dataset, report = read_dataset(config, cache=cache)
    wrong = [finding.message for finding in report.of_level("wrong")]
    wrong += [f"warning: {finding.message}" for finding in report.of_level("warning") if wrong]
    gather(DataError, wrong, headline=f"{config.path} cannot be used:" if wrong else "")
    if dataset is None:
        raise DataError(f"{config.path} holds no image with its mask or label that can be used.")
    return dataset, report


def task_of(config: DataConfig) -> Task:
    """What a data set's labels are of, found without decoding.

    Raises:
        DataError, ConfigError: as `load_dataset`, faults of files apart.
    """
    return build_source(config).facts.task


def read_dataset(config: DataConfig, *, cache: Path | None = None) -> tuple[Dataset | None, CheckReport]:
    """As `load_dataset`, but faults of files are only reported: the data set is None when anything is wrong.

    Raises:
        DataError, ConfigError: as `load_dataset`, faults of files apart.
    """
    source = build_source(config)
    folder = caching.folder_of(cache or caching.default_cache(), source.facts.name, source.key(), config.size)
    stored = caching.find(folder)
    return stored if stored is not None else _build(source, config, folder)


def _build(source: Source, config: DataConfig, folder: Path) -> tuple[Dataset | None, CheckReport]:
    """Read every file once: check it, and write it into the cache as long as nothing is wrong."""
    facts, notebook = source.facts, Notebook()
    items: list[Item] = []
    counts: list[I64] = []
    contents: list[Content] = []
    bands = 0
    with caching.Builder(folder) as builder:
        for sample in source.samples(notebook):
            resized = _resized(sample, config.size, facts.task)
            bands = bands or resized.image.shape[2]
            height, width = resized.image.shape[:2]
            items.append(Item(sample.name, sample.part, sample.group, sample.fold, height, width, sample.sha256))
            counts.append(np.bincount(sample.mask.ravel(), minlength=256)[: len(facts.classes)])
            contents.append(content_of(sample.image))
            if notebook.is_clean and resized.image.shape[2] == bands:
                builder.add(resized)
        table = np.asarray(counts, dtype=np.int64).reshape(len(items), len(facts.classes))
        report = _report(facts, notebook, items, table, contents)
        if report.of_level("wrong") or not items:
            return None, report
        dataset = Dataset(
            name=facts.name,
            classes=facts.classes,
            palette=facts.palette,
            bands=bands,
            flip=facts.flip,
            fold_method=facts.fold_method,
            fingerprint=_fingerprint(facts, config, items),
            root=folder,
            items=tuple(items),
            task=facts.task,
        )
        return builder.finish(dataset, report), report


def _resized(sample: Sample, size: tuple[int, int] | None, task: Task) -> Sample:
    if size is None:
        return sample
    mask = sample.mask if task == "classification" else resize_mask(sample.mask, size)
    return replace(sample, image=resize_image(sample.image, size), mask=mask)


def _report(facts: Facts, notebook: Notebook, items: list[Item], counts: I64, contents: list[Content]) -> CheckReport:
    findings = [*notebook.summary(), *check_parts(items)]
    if notebook.is_clean:  # otherwise masks are not what they should be, and these would only repeat it
        findings += check_classes(facts.classes, counts, items, facts.task)
    findings += check_shared_groups(items, facts.fold_method)
    findings += check_duplicates(items, contents)
    parts: dict[str, int] = dict(Counter(item.part for item in items))
    return CheckReport(ordered(findings), class_rows(facts.classes, counts, items), parts, facts.task)


def _fingerprint(facts: Facts, config: DataConfig, items: list[Item]) -> str:
    """sha256 over whatever changes what a training sees; names of the set and colours of classes do not."""
    rows = [[item.name, item.part, item.group, item.fold, item.sha256] for item in items]
    parts = [facts.classes, facts.reading, facts.flip, facts.fold_method, config.size, rows]
    parts += [facts.task] if facts.task == "classification" else []  # runs of before have fingerprints without it
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
