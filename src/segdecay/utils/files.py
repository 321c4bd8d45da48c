"""Atomic writes of files, and records as JSON.

Every JSON record holds `schema_version`. NaN and infinite numbers are written as null.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


STALE_TRIES = 3  # attempts to read a file that a network file system replaces meanwhile


def _without_nan(value: Any) -> Any:
    """Plain JSON values: records to mappings, tuples to lists, numbers that are not finite to null."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name.rstrip("_"): _without_nan(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plain_values(record: Any) -> dict[str, Any]:
    """A record as the mapping that its JSON holds, with its schema version.

    >>> from segdecay.runs.verdict import Interval
    >>> plain_values(Interval(0.5))
    {'schema_version': 1, 'mean': 0.5, 'standard_error': None, 'interval': None}
    """
    return {"schema_version": SCHEMA_VERSION, **_without_nan(record)}


def to_json(record: Any) -> str:
    """A record or plain value as indented JSON, with its schema version when it is a mapping."""
    values = _without_nan(record)
    if isinstance(values, dict):
        values = {"schema_version": SCHEMA_VERSION, **values}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a kill at any moment leaves the old file or the new one.

    The content is written to a temporary file in the same folder, synced and renamed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # errors of write and fsync do not name the file
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable; does nothing outside POSIX."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, record: Any) -> None:
    """Write a record as JSON, atomically as `write_bytes`."""
    write_bytes(path, to_json(record).encode())


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Reading is tried again where a network file system replaced the file between opening and reading it (ESTALE).
    """
    tries = STALE_TRIES
    while True:
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            tries -= 1
            if error.errno != errno.ESTALE or not tries:
                raise
        else:
            return values
