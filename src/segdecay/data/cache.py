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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from segdecay.data.checks import CheckReport, report_from_json, report_to_json
from segdecay.data.dataset import Dataset, dataset_to_json, open_dataset
from segdecay.data.sources.base import Sample
from segdecay.errors import DataError
from segdecay.records import read_json, sync_folder, write_json

VARIABLE = "SEGDECAY_CACHE"
LAYOUT = 2  # raise it when the files in a cache folder, how pixels are made, or what is checked, change
PART_MARK = ".part-"
ABANDONED_S = 24 * 3600  # an unfinished folder nobody wrote to for so long was left by a kill


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
        return open_dataset(folder), report_from_json(read_json(folder / "checks.json"))
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


class Builder:
    """Writes one data set beside its folder; `finish` renames it there, leaving without it removes everything.

    Raises:
        DataError: the cache cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        cache = self._folder.parent
        with _explained(cache):
            cache.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(cache)
            self._beside = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}{PART_MARK}", dir=cache))
            self._files = [(self._beside / name).open("wb") for name in ("images.u8", "masks.u8")]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        shutil.rmtree(self._beside, ignore_errors=True)

    def add(self, sample: Sample) -> None:
        """Append one decoded pair."""
        with _explained(self._folder.parent):
            for file, array in zip(self._files, (sample.image, sample.mask), strict=True):
                file.write(np.ascontiguousarray(array).data)

    def finish(self, dataset: Dataset, report: CheckReport) -> Dataset:
        """The data set in its final place; another builder's when that was faster."""
        with _explained(self._folder.parent):
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            write_json(self._beside / "checks.json", report_to_json(report))
            write_json(self._beside / "dataset.json", dataset_to_json(dataset))
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


def _remove_abandoned(cache: Path) -> None:
    """Delete unfinished folders that a kill left behind."""
    for folder in cache.glob(f"*{PART_MARK}*"):
        try:
            newest = max(entry.stat().st_mtime for entry in [folder, *folder.iterdir()])
        except OSError:  # another builder has just renamed or removed it
            continue
        if time.time() - newest > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
