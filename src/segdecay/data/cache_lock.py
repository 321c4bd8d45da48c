"""Who uses a folder of the cache: a shared lock on a file in it, which the system lets go when a process dies.

Where the system has no such locks, nothing counts as in use or as left.
"""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  (not on POSIX)
    fcntl = None  # type: ignore[assignment]

LEASE = "lease"


def take_lease(folder: Path) -> int | None:
    """Say that this process uses a finished folder, until `end_lease`; None where that cannot be said.

    A folder that was removed meanwhile is missing afterwards, so look into it only once the lease is taken.
    """
    if fcntl is None:
        return None
    try:
        handle = _open(folder / LEASE)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # waits only while somebody removes the folder
        if os.path.samestat(os.fstat(handle), (folder / LEASE).stat()):
            return handle
    except OSError:  # it was removed, or the file system knows no locks
        pass
    os.close(handle)
    return None


def new_lease(folder: Path) -> int | None:
    """As `take_lease`, for a folder that is being written: its lease is there only once it is held."""
    if fcntl is None:
        return None
    beside = folder / f".{LEASE}"
    handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # the file system knows no locks: age alone tells then
        os.close(handle)
        beside.unlink()
        return None
    beside.rename(folder / LEASE)
    return handle


def end_lease(handle: int | None) -> None:
    """The folder is no longer used by this holder."""
    if handle is not None:
        os.close(handle)


def claim(folder: Path) -> int | None:
    """The sole hold on a folder that nobody uses, to remove it; None where somebody does, or nobody can tell."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder / LEASE, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _open(path: Path) -> int:
    """Reading and writing, made where it is missing; reading alone in a cache that others filled."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY)
