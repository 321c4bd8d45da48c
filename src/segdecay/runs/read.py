"""Read the files of a run; a RunError names a missing or damaged file and lists all of its faults."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic

from segdecay.errors import RunError, gather

Record = TypeVar("Record")


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read a JSON file into the dataclass that describes it; keys that the dataclass does not have are ignored.

    Raises:
        RunError: the file is missing, is not JSON, or holds other values; all faults are listed.
    """
    return check_record(read_values(path), kind, str(path))


def read_values(path: Path) -> Any:
    """The values of a JSON file, unchecked.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    return parse_values(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a file of a run.

    Raises:
        RunError: the file is missing or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Run the command of this run again to write it.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error


def parse_values(text: str, where: str) -> Any:
    """Values from JSON text; `where` names the file in the error.

    Raises:
        RunError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is damaged: not JSON ({error}).") from error


def check_record(values: Any, kind: type[Record], where: str) -> Record:
    """Plain values as the dataclass that describes them.

    >>> from segdecay.runs.verdict import Interval
    >>> check_record({"mean": 0.5, "standard_error": None, "interval": [0.4, 0.6]}, Interval, "verdict.json")
    Interval(mean=0.5, standard_error=None, interval=(0.4, 0.6))

    Raises:
        RunError: the values do not fit; all faults are listed.
    """
    try:
        found: Record = _adapter(cast("Any", kind)).validate_python(values)
        return found
    except pydantic.ValidationError as error:
        faults = []
        for fault in error.errors():
            key, message = ".".join(str(part) for part in fault["loc"]) or "the file", fault["msg"]
            faults.append(f"{key}: {message[:1].lower()}{message[1:]}; saw {str(fault['input'])[:60]!r}")
        gather(RunError, faults, f"{where} is damaged:")
        raise AssertionError from error  # gather always raises here: a validation error has faults


@cache
def _adapter(kind: type[object]) -> pydantic.TypeAdapter[Any]:
    """Built once a class: building its schema takes far longer than checking a record."""
    return pydantic.TypeAdapter(kind)
