"""Decoded data sets on disk: built beside, then renamed, so that a kill at any moment leaves nothing half.

One folder a data set, named by the key of its content and of how it was read. Several builders may run at once: the
first to finish wins, the others take its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from segdecay.data.cache_lock import LEASE, claim, end_lease, new_lease
from segdecay.data.checks.findings import CheckReport, report_from_json, report_to_json
from segdecay.data.dataset import Dataset, dataset_to_json, open_dataset
from segdecay.data.formats.base import Sample
from segdecay.data.read_log import PART_MARK, READ, ArrayFiles, ReadMemory, plain_name, reading_version
from segdecay.errors import ConfigError, DataError
from segdecay.utils.files import read_json, sync_folder, write_json

LIMIT_VARIABLE = "SEGDECAY_CACHE_LIMIT"
DEFAULT_LIMIT = "100GB"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
STAMP = "used"  # seconds since 1970 when a folder was used last, as text
ABANDONED_S = 24 * 3600  # an unfinished folder without a lease that nobody wrote to for so long was left by a kill


def parse_bytes(text: str, name: str = "--cache-limit") -> int:
    """Bytes from a number and its unit.

    >>> parse_bytes("500MB"), parse_bytes("1.5 GiB")
    (500000000, 1610612736)

    Raises:
        ConfigError: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?B)", text.strip().upper())
    size = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConfigError(f"{name} takes a size with its unit, as in 500MB, 20GB or 1.5TiB; saw '{text}'.")
    return size


def show_bytes(size: int) -> str:
    """Bytes for people, in units of a thousand, rounded up so that it can be given back as a limit.

    >>> show_bytes(1_234_567_890), show_bytes(2_000_001), show_bytes(12)
    ('1.3GB', '2.1MB', '0.1KB')
    """
    unit = next((unit for unit in ("TB", "GB", "MB") if size >= UNITS[unit]), "KB")
    tenths = -(-size * 10 // UNITS[unit])
    return f"{tenths // 10}.{tenths % 10}{unit}".replace(".0", "")


def default_limit() -> int:
    """$SEGDECAY_CACHE_LIMIT, else 100 GB.

    Raises:
        ConfigError: the variable is no size.
    """
    return parse_bytes(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT, LIMIT_VARIABLE)


@dataclass(frozen=True)
class Stored:
    """One folder of the cache. used: seconds since 1970, 0 where nothing says it."""

    folder: Path
    n_bytes: int
    used: float


def stored_in(cache: Path) -> list[Stored]:
    """All decoded data sets, also unfinished ones, the one used longest ago first; anything else is passed over."""
    found = []
    for folder in cache.iterdir():
        if PART_MARK not in folder.name and not (folder / "dataset.json").is_file():
            continue
        with contextlib.suppress(OSError):  # removed or renamed meanwhile
            n_bytes = sum(entry.stat().st_size for entry in folder.iterdir())
            found.append(Stored(folder, n_bytes, _used(folder)))
    return sorted(found, key=lambda one: (one.used, one.folder.name))


def _used(folder: Path) -> float:
    try:
        return float((folder / STAMP).read_text())
    except (OSError, ValueError):
        return 0.0


def stamp(folder: Path) -> None:
    """Note that a folder is used now; a cache that cannot be written to is left as it is."""
    with contextlib.suppress(OSError):
        beside = folder / f".{STAMP}.{os.getpid()}"
        beside.write_text(f"{time.time():.6f}")
        beside.replace(folder / STAMP)


def remove_folder(folder: Path) -> None:
    """Take a folder away: first its name, so that nobody sees it half gone. Open files of it stay readable."""
    grave = Path(tempfile.mkdtemp(prefix=f"{folder.name.split(PART_MARK)[0]}{PART_MARK}", dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(grave / "removed")
    shutil.rmtree(grave, ignore_errors=True)


def make_room(cache: Path, own: Path, needed: int, limit: int) -> None:
    """Remove what was used longest ago until `needed` bytes of `own`, which is being written, fit into the limit.

    Raises:
        DataError: it is larger than the limit, or everything else is in use.
    """
    if needed > limit:
        raise DataError(
            f"The decoded data set needs more than {show_bytes(limit)}, the limit of the cache {cache}. "
            f"Set --cache-limit (or {LIMIT_VARIABLE}) to more, or make images smaller with --size."
        )
    others = [one for one in stored_in(cache) if one.folder != own]
    total = sum(one.n_bytes for one in others)
    for one in others:
        if total + needed <= limit:
            return
        handle = _claimed(one.folder)
        if handle is None:
            continue
        remove_folder(one.folder)
        end_lease(handle)
        total -= one.n_bytes
    if total + needed > limit:
        raise DataError(
            f"The cache {cache} holds {show_bytes(total)} that other runs use, and {show_bytes(needed)} more do not "
            f"fit into its limit of {show_bytes(limit)}. Wait for these runs, or set --cache-limit "
            f"(or {LIMIT_VARIABLE}) to more."
        )


def _claimed(folder: Path) -> int | None:
    """A hold on a finished folder that nobody uses; one from before there were leases gets its file first."""
    if PART_MARK not in folder.name:
        with contextlib.suppress(OSError):
            os.close(os.open(folder / LEASE, os.O_RDWR | os.O_CREAT, 0o644))
    return claim(folder)


def remove_abandoned(cache: Path) -> None:
    """Delete unfinished folders that nobody writes to, after a day; at once where they hold no pair that was read."""
    for folder in cache.glob(f"*{PART_MARK}*"):
        handle = claim(folder)
        if handle is None and (folder / LEASE).exists():
            continue
        try:
            newest = max(entry.stat().st_mtime for entry in [folder, *folder.iterdir()])
        except OSError:  # another builder has just renamed or removed it
            newest = time.time()
        is_worthless = handle is not None and not (folder / READ).is_file()
        if is_worthless or time.time() - newest > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
        end_lease(handle)


VARIABLE = "SEGDECAY_CACHE"
WORTH_KEEPING = 1 << 20  # bytes that an unfinished reading must have written: fewer are sooner read again than kept
STEPS = 64  # of the limit: room is made so much at a time, so that the cache is not listed for every image


def default_cache() -> Path:
    """$SEGDECAY_CACHE, else $XDG_CACHE_HOME/segdecay, else ~/.cache/segdecay."""
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segdecay"


def folder_of(cache: Path, name: str, key: str, size: tuple[int, int] | None) -> Path:
    """Where a data set lies decoded, or will: readable name, then what makes it unique."""
    unique = hashlib.sha256(repr((reading_version(), key, size)).encode()).hexdigest()[:24]
    return cache / f"{plain_name(name)}-{unique}"


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
    """Writes one data set beside its folder; `finish` renames it there. What was read stays when it is left before,
    for the next reading; nothing stays where nothing was read, or the disk or the cache is full.

    limit: bytes that the whole cache may take; None takes $SEGDECAY_CACHE_LIMIT, else 100 GB. memory: what earlier
    readings left: their digests are kept with the new ones, and what they hold is removed where room is needed.

    Raises:
        DataError: the cache cannot be written, or the data set does not fit into its limit.
        ConfigError: $SEGDECAY_CACHE_LIMIT is no size.
    """

    def __init__(
        self,
        folder: Path,
        limit: int | None = None,
        *,
        memory: ReadMemory | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._folder, self._memory, self._size = folder, memory, size
        self._limit = default_limit() if limit is None else limit
        self._written = self._granted = 0
        self._lease: int | None = None
        self._is_finished = self._is_full = False

    def __enter__(self) -> Self:
        cache = self._folder.parent
        with _explained(cache):
            cache.mkdir(parents=True, exist_ok=True)
            remove_abandoned(cache)
            self._beside = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}{PART_MARK}", dir=cache))
            self._lease = new_lease(self._beside)
            self._files = ArrayFiles(self._beside, self._size)
            if self._memory is not None:
                self._memory.write_digests(self._beside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = self._kept()
        self._files.close()
        left = {} if self._memory is None else self._memory.left
        is_surpassed = kept is not None and any(pairs > kept for pairs in left.values())
        if kept is None or is_surpassed:
            shutil.rmtree(self._beside, ignore_errors=True)
        if self._is_finished or (kept is not None and not is_surpassed):
            for folder in left:
                shutil.rmtree(folder, ignore_errors=True)
        end_lease(self._lease)

    def _kept(self) -> int | None:
        """How many pairs the unfinished folder holds for the next reading; None where it is not worth keeping."""
        if self._is_finished or self._is_full or self._lease is None or self._written < WORTH_KEEPING:
            return None
        try:
            self._files.flush()
        except OSError:
            return None
        return self._files.pairs or None

    def add(self, sample: Sample) -> None:
        """Append one decoded pair."""
        self._written += sample.image.nbytes + sample.mask.nbytes
        if self._written > self._granted:
            self._grant(max(self._written, min(self._written + self._limit // STEPS, self._limit)))
        with self._worthless_where_full(), _explained(self._folder.parent):
            self._files.add(sample)

    def _grant(self, n_bytes: int) -> None:
        """Make room for so many bytes in all."""
        with self._worthless_where_full(), _explained(self._folder.parent):
            try:
                make_room(self._folder.parent, self._beside, n_bytes, self._limit)
            except DataError:
                if self._memory is None:
                    raise
                self._memory.close()  # what it holds may go
                make_room(self._folder.parent, self._beside, n_bytes, self._limit)
        self._granted = n_bytes

    @contextmanager
    def _worthless_where_full(self) -> Iterator[None]:
        """A cache or disk that is full gets its room back; an interrupt leaves what was read."""
        try:
            yield
        except DataError:
            self._is_full = True
            raise

    def finish(self, dataset: Dataset, report: CheckReport) -> Dataset:
        """The data set in its final place; another builder's when that was faster."""
        with _explained(self._folder.parent):
            self._files.flush()
            write_json(self._beside / "checks.json", report_to_json(report))
            write_json(self._beside / "dataset.json", dataset_to_json(dataset))
            stamp(self._beside)
            self._files.close()
            self._beside.chmod(0o755)
            for _attempt in range(3):
                if self._move():
                    self._is_finished = True
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
