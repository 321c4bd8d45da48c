"""Decoded data sets on disk: built beside, then renamed, so that a kill at any moment leaves nothing half.

One folder a data set, named by the key of its content and of how it was read. Several builders may run at once: the
first to finish wins, the others take its folder. Knows nothing of files' formats.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from segdecay.data.checks import CheckReport, report_from_json, report_to_json
from segdecay.data.dataset import Dataset, dataset_to_json, open_dataset
from segdecay.data.leases import end_lease, new_lease
from segdecay.data.room import PART_MARK, default_limit, make_room, remove_abandoned, stamp
from segdecay.data.sources.base import Sample
from segdecay.errors import DataError
from segdecay.records import read_json, sync_folder, write_json

VARIABLE = "SEGDECAY_CACHE"
LAYOUT = 2  # raise it when the files in a cache folder, how pixels are made, or what is checked, change
STEPS = 64  # of the limit: room is made so much at a time, so that the cache is not listed for every image


def default_cache() -> Path:
    """$SEGDECAY_CACHE, else $XDG_CACHE_HOME/segdecay, else ~/.cache/segdecay."""
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segdecay"


def folder_of(cache: Path, name: str, key: str, size: tuple[int, int] | None) -> Path:
    """Where a data set lies decoded, or will: readable name, then what makes it unique."""
    unique = hashlib.sha256(repr((LAYOUT, importlib.metadata.version("segdecay"), key, size)).encode()).hexdigest()[:24]
    plain = "".join(char if char.isalnum() or char in "-_" else "-" for char in name)[:40]
    return cache / f"{plain}-{unique}"


@contextmanager
def _explained(cache: Path) -> Iterator[None]:
    """Say which folder cannot be written and how to name another one."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        message = (
            f"The cache folder {cache} cannot be written ({reason}). "
            f"Set {VARIABLE} to a folder that can, with room for the decoded images."
        )
        raise DataError(message) from error


def find(folder: Path) -> tuple[Dataset, CheckReport] | None:
    """What lies finished and undamaged in a cache folder, or None."""
    try:
        found = open_dataset(folder), report_from_json(read_json(folder / "checks.json"))
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None
    stamp(folder)
    return found


class Builder:
    """Writes one data set beside its folder; `finish` renames it there, leaving without it removes everything.

    limit: bytes that the whole cache may take; None takes $SEGDECAY_CACHE_LIMIT, else 100 GB.

    Raises:
        DataError: the cache cannot be written, or the data set does not fit into its limit.
        ConfigError: $SEGDECAY_CACHE_LIMIT is no size.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder
        self._limit = default_limit() if limit is None else limit
        self._written = self._granted = 0
        self._lease: int | None = None
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        cache = self._folder.parent
        with _explained(cache):
            cache.mkdir(parents=True, exist_ok=True)
            remove_abandoned(cache)
            self._beside = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}{PART_MARK}", dir=cache))
            self._lease = new_lease(self._beside)
            self._files = [(self._beside / name).open("wb") for name in ("images.u8", "masks.u8")]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        shutil.rmtree(self._beside, ignore_errors=True)
        end_lease(self._lease)

    def add(self, sample: Sample) -> None:
        """Append one decoded pair."""
        self._written += sample.image.nbytes + sample.mask.nbytes
        if self._written > self._granted:
            self._grant(max(self._written, min(self._written + self._limit // STEPS, self._limit)))
        with _explained(self._folder.parent):
            for file, array in zip(self._files, (sample.image, sample.mask), strict=True):
                file.write(np.ascontiguousarray(array).data)

    def _grant(self, n_bytes: int) -> None:
        """Make room for so many bytes in all."""
        with _explained(self._folder.parent):
            make_room(self._folder.parent, self._beside, n_bytes, self._limit)
        self._granted = n_bytes

    def finish(self, dataset: Dataset, report: CheckReport) -> Dataset:
        """The data set in its final place; another builder's when that was faster."""
        with _explained(self._folder.parent):
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            write_json(self._beside / "checks.json", report_to_json(report))
            write_json(self._beside / "dataset.json", dataset_to_json(dataset))
            stamp(self._beside)
            self._beside.chmod(0o755)
            for _attempt in range(3):
                if self._move():
                    return open_dataset(self._folder)
        raise DataError(f"{self._folder} cannot be replaced. Delete it and repeat.")

    def _move(self) -> bool:
        """Rename into place; where something damaged stands in the way, take that away first."""
        try:
            self._beside.rename(self._folder)
        except OSError:
            if find(self._folder) is not None:
                return True
            if not self._folder.exists():
                raise
            grave = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}{PART_MARK}", dir=self._folder.parent))
            self._folder.rename(grave / "damaged")
            shutil.rmtree(grave, ignore_errors=True)
            return False
        sync_folder(self._folder.parent)
        return True
