"""The exceptions that segdecay raises, and `need()` for optional dependencies.

A message says what is wrong, what was found, what is allowed and what to do. The command line prints it without a
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
    """A data set has faults that must be mended before it can be used."""


class DecayError(SegdecayError):
    """A regularizer, a strength or a partition does not fit the model or the optimizer."""


class ModelError(SegdecayError):
    """A model cannot be built, loaded or applied."""


class RunError(SegdecayError):
    """A run folder cannot be used: it has another configuration or other data, is unfinished or is damaged."""


class ReadingInterrupted(KeyboardInterrupt):
    """Ctrl-C while a data set was read, before anything was trained."""


class DiskFullError(RunError):
    """The disk is full, or the user's quota on it is used up.

    >>> print(DiskFullError("runs/a", room_bytes=12_300_000))
    The disk is full at runs/a. Finished results are kept: free about 13 MB there and run the same command again.
    """

    ERRNOS = (errno.ENOSPC, errno.EDQUOT)

    def __init__(self, path: str, room_bytes: int | None = None) -> None:
        room = "some space" if room_bytes is None else f"about {-(-room_bytes // 1_000_000)} MB"
        super().__init__(
            f"The disk is full at {path}. Finished results are kept: free {room} there and run the same command again."
        )
        self.path = path

    @classmethod
    def is_told_by(cls, error: BaseException) -> bool:
        """Whether an error says that a disk is full."""
        return isinstance(error, cls) or (isinstance(error, OSError) and error.errno in cls.ERRNOS)


def describe_os_error(error: OSError) -> str:
    """The path and the reason of a failed file operation, in one line.

    >>> describe_os_error(PermissionError(13, "Permission denied", "runs/a"))
    'runs/a: Permission denied'
    """
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


class MissingPartError(SegdecayError):
    """An optional dependency is not installed."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A closing sentence that names the nearest allowed word; empty if no word is near.

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
    """Import an optional module, or name the extra that installs it.

    Raises:
        MissingPartError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{module} is not installed. It comes with: pip install 'segdecay[{extra}]'"
        raise MissingPartError(message) from error
