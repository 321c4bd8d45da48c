"""The cache's bound: what was used longest ago goes first, and what somebody uses stays.

When a folder was used last stands in a file of our own, since a file system's times may be another clock's or frozen.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from segdecay.data.leases import LEASE, claim, end_lease
from segdecay.errors import ConfigError, DataError

LIMIT_VARIABLE = "SEGDECAY_CACHE_LIMIT"
DEFAULT_LIMIT = "100GB"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
PART_MARK = ".part-"
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
    """Delete unfinished folders that a kill left behind: at once where a lease tells it, else after a day."""
    for folder in cache.glob(f"*{PART_MARK}*"):
        handle = claim(folder)
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            end_lease(handle)
            continue
        if (folder / LEASE).exists():
            continue
        try:
            newest = max(entry.stat().st_mtime for entry in [folder, *folder.iterdir()])
        except OSError:  # another builder has just renamed or removed it
            continue
        if time.time() - newest > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
