"""Every error a user can meet, in one tree, and `need()` for optional parts.

An error says what was wrong, what we saw, what is allowed and what to do. The command line prints it without a
traceback and exits with 2.
"""

from __future__ import annotations

import difflib
import errno
import importlib
from collections.abc import Iterable
from types import ModuleType


class SegdecayError(Exception):
    """Base of all errors that a user can act on."""


class ConfigError(SegdecayError):
    """A key or value of a configuration is not allowed."""


class DataError(SegdecayError):
    """A data set cannot be used as it lies there."""


class DecayError(SegdecayError):
    """A regularizer, strength or partition that has no meaning for this model or optimizer."""


class ModelError(SegdecayError):
    """A model cannot be built, loaded or applied."""


class RunError(SegdecayError):
    """A run's folder does not fit what was asked: other configuration, other data, unfinished, damaged."""


class ReadingInterrupted(KeyboardInterrupt):
    """Ctrl-C while a data set was read, before anything was trained."""


class DiskFullError(RunError):
    """The disk that a file was to be written to is full, or its owner's share of it.

    >>> print(DiskFullError("runs/a", room_bytes=12_300_000))
    The disk is full at runs/a. What is finished is safe: free about 13 MB there and run the same command again.
    """

    ERRNOS = (errno.ENOSPC, errno.EDQUOT)

    def __init__(self, path: str, room_bytes: int | None = None) -> None:
        room = "some room" if room_bytes is None else f"about {-(-room_bytes // 1_000_000)} MB"
        super().__init__(
            f"The disk is full at {path}. What is finished is safe: free {room} there and run the same command again."
        )
        self.path = path

    @classmethod
    def is_told_by(cls, error: BaseException) -> bool:
        """Whether an error says that a disk is full."""
        return isinstance(error, cls) or (isinstance(error, OSError) and error.errno in cls.ERRNOS)


def describe_os_error(error: OSError) -> str:
    """Where and why the system refused a file, in one line.

    >>> describe_os_error(PermissionError(13, "Permission denied", "runs/a"))
    'runs/a: Permission denied'
    """
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


class MissingPartError(SegdecayError):
    """An optional part is not installed."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A closing sentence naming the nearest allowed word, or nothing.

    >>> did_you_mean("decoupld", ["l2", "decoupled"])
    " Did you mean 'decoupled'?"
    >>> did_you_mean("zzz", ["l2", "decoupled"])
    ''
    """
    near = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown(kind: str, word: str, allowed: Iterable[str]) -> str:
    """One line for a name that does not exist.

    >>> unknown("regularizer", "decouple", ["l2", "decoupled"])
    "Unknown regularizer 'decouple'; allowed: l2, decoupled. Did you mean 'decoupled'?"
    """
    names = list(allowed)
    return f"Unknown {kind} '{word}'; allowed: {', '.join(names)}.{did_you_mean(word, names)}"


def gather(kind: type[SegdecayError], faults: Iterable[str], headline: str = "") -> None:
    """Raise one error of `kind` that lists all faults; do nothing when there are none."""
    found = list(faults)
    if not found:
        return
    lines = found if len(found) == 1 and not headline else [f"- {fault}" for fault in found]
    raise kind("\n".join(([headline] if headline else []) + lines))


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises:
        MissingPartError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{module} is not installed. It comes with: pip install 'segdecay[{extra}]'"
        raise MissingPartError(message) from error
