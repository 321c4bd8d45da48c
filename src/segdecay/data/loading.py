"""Load a data set: find its source, read and check every file, write the cache, open it as `Dataset`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import DataConfig, Task
from segdecay.data import cache as caching
from segdecay.data.checks.duplicates import check_duplicates
from segdecay.data.checks.findings import (
    CheckReport,
    Notebook,
    check_classes,
    check_empty_masks,
    check_handfuls,
    check_parts,
    check_shared_groups,
    class_rows,
    ordered,
)
from segdecay.data.dataset import Dataset, Item
from segdecay.data.detect.detect import DoubtError, guess_spec
from segdecay.data.formats import Facts, Sample, Source, build_source
from segdecay.data.formats.base import PlacedSource, RecallingSource, measured
from segdecay.data.images.decode import resize_image, resize_mask
from segdecay.data.images.perceptual_hash import Content
from segdecay.data.read_log import ReadMemory
from segdecay.data.spec import SPEC_NAMES
from segdecay.errors import ConfigError, DataError, ReadingInterrupted, gather
from segdecay.utils.parallel import ordered_map

I64 = npt.NDArray[np.int64]
Watch = Callable[[int, int | None], None]


def load_dataset(
    config: DataConfig, *, cache: Path | None = None, cache_limit: int | None = None
) -> tuple[Dataset, CheckReport]:
    """The checked and decoded data set of a configuration, and the findings of the checks.

    cache: folder for decoded data; None takes $SEGDECAY_CACHE, else the user's cache folder.
    cache_limit: largest size in bytes of all decoded data there; None takes $SEGDECAY_CACHE_LIMIT, else 100 GB.

    Raises:
        DataError: DATA does not exist, the cache cannot be written or is too small, or files have faults; all are
            listed.
        ConfigError: dataset.yaml or classes.txt is not valid.
    """
    dataset, report = read_dataset(config, cache=cache, cache_limit=cache_limit)
    wrong = [finding.message for finding in report.of_level("wrong")]
    if wrong:  # the error lists the warnings too
        wrong += [f"warning: {finding.message}" for finding in report.of_level("warning")]
    gather(DataError, wrong, headline=f"{config.path} cannot be used:" if wrong else "")
    if dataset is None:
        raise DataError(f"{config.path} holds no image with its mask or label that can be used.")
    return dataset, report


def task_of(config: DataConfig) -> Task:
    """The task of a data set, found without decoding files.

    Raises:
        DataError, ConfigError: as `load_dataset`, except for faults of files.
    """
    return known_source(config).facts.task


def known_source(config: DataConfig) -> Source:
    """The source of a configuration; the error for a folder without a dataset.yaml contains the answer of `init`.

    Raises:
        DoubtError: there is no dataset.yaml, and the folder has several possible readings.
        DataError, ConfigError: as `load_dataset`, except for faults of files.
    """
    try:
        return build_source(config)
    except DataError as error:
        folder = Path(config.path).expanduser()
        if not folder.is_dir() or any((folder / name).exists() for name in SPEC_NAMES):
            raise
        try:
            guess_spec(folder)
        except DoubtError as doubt:
            raise doubt from error
        except (DataError, ConfigError) as reason:
            raise DataError(f"{error} What init says: {reason}") from error
        advice = f" segdecay init {folder} --write writes a dataset.yaml for it."
        raise DataError(f"{error}{'' if 'segdecay init' in str(error) else advice}") from error


def read_dataset(
    config: DataConfig,
    *,
    cache: Path | None = None,
    cache_limit: int | None = None,
    watch: Watch | None = None,
    source: Source | None = None,
) -> tuple[Dataset | None, CheckReport]:
    """As `load_dataset`, but faults of files are only reported: the data set is None if there are any.

    watch: called with the number of pairs read and of all pairs, or None if unknown. source: replaces that of the
    configuration.

    Raises:
        DataError, ConfigError: as `load_dataset`, except for faults of files.
    """
    source = known_source(config) if source is None else source
    place = cache or caching.default_cache()
    with closing(ReadMemory(place, source.facts.name, config.size)) as memory:
        if isinstance(source, RecallingSource):
            source.recall_from(memory)
        folder = caching.folder_of(place, source.facts.name, source.key(), config.size)
        stored = caching.find(folder)
        if stored is None:
            try:
                return _build(source, config, folder, memory, cache_limit, watch)
            except KeyboardInterrupt as error:
                raise ReadingInterrupted(f"interrupted while {config.path} was read") from error
        if memory.has_new_digests:
            with suppress(OSError):  # a cache that others filled is read all the same
                memory.write_digests(folder)
        return stored


def _build(
    source: Source,
    config: DataConfig,
    folder: Path,
    memory: ReadMemory,
    cache_limit: int | None,
    watch: Watch | None,
) -> tuple[Dataset | None, CheckReport]:
    """Read every file once, those alone that no earlier reading left: check it, and write it into the cache."""
    facts, notebook = source.facts, Notebook()
    items: list[Item] = []
    counts: list[I64] = []
    contents: list[Content] = []
    bands, is_kept = 0, True
    count = len(source.placed) if isinstance(source, PlacedSource) else None
    prepare = partial(_prepared, size=config.size, task=facts.task)
    samples = ordered_map(prepare, source.samples(notebook), cores=None if config.size else 1)
    with caching.Builder(folder, cache_limit, memory=memory, size=config.size) as builder, closing(samples):
        for sample in samples:
            if watch is not None:
                watch(len(items) + 1, count)
            bands = bands or sample.image.shape[2]
            height, width = sample.image.shape[:2]
            items.append(Item(sample.name, sample.part, sample.group, sample.fold, height, width, sample.sha256))
            assert sample.seen is not None  # noqa: S101  (of `measured`)
            counts.append(sample.seen.values[: len(facts.classes)])
            contents.append(sample.seen.content)
            if is_kept:
                is_kept = _is_added(builder, sample, notebook)
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
            exclude_from_mean=facts.exclude_from_mean,
            depth=facts.depth,
            chosen_bands=facts.chosen_bands,
        )
        return builder.finish(dataset, report), report


def _is_added(builder: caching.Builder, sample: Sample, notebook: Notebook) -> bool:
    """Whether the cache had room; where a set is refused anyway, a full cache only keeps less of it for the next time.

    Raises:
        DataError: it had none, and nothing else is wrong so far.
    """
    try:
        builder.add(sample)
    except DataError:
        if notebook.is_clean:
            raise
        return False
    return True


def _prepared(sample: Sample, *, size: tuple[int, int] | None, task: Task) -> Sample:
    """The sample in the configured size, with measurements of the original."""
    sample = measured(sample)
    if size is None:
        return sample
    mask = sample.mask if task == "classification" else resize_mask(sample.mask, size)
    return replace(sample, image=resize_image(sample.image, size), mask=mask)


def _report(facts: Facts, notebook: Notebook, items: list[Item], counts: I64, contents: list[Content]) -> CheckReport:
    findings = [*notebook.summary(), *check_parts(items)]
    if notebook.is_clean:  # otherwise these findings would only repeat faults of masks
        findings += check_classes(facts.classes, counts, items, facts.task)
        if facts.task == "segmentation":
            findings += check_handfuls(facts.classes, counts, items)
            findings += check_empty_masks(facts.classes, counts, items)
    findings += check_shared_groups(items, facts.fold_method)
    findings += check_duplicates(items, contents)
    parts: dict[str, int] = dict(Counter(item.part for item in items))
    return CheckReport(ordered(findings), class_rows(facts.classes, counts, items), parts, facts.task)


def _fingerprint(facts: Facts, config: DataConfig, items: list[Item]) -> str:
    """sha256 over everything that affects a training; the name of the set and the colours of classes do not."""
    rows = [[item.name, item.part, item.group, item.fold, item.sha256] for item in items]
    parts = [facts.classes, facts.reading, facts.flip, facts.fold_method, config.size, rows]
    parts += [facts.task] if facts.task == "classification" else []  # fingerprints of older runs lack it
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
