"""Files that travel: a decoded data set to other machines, and a cell's files there and back.

Knows folders and bytes; nothing of Ray, tasks or training.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.records import write_bytes

U8 = npt.NDArray[np.uint8]
LAST = "cell.json"  # says that a cell is whole
Files = Mapping[str, bytes]  # by path inside a folder


def pack_data(folder: Path) -> dict[str, U8]:
    """A folder's files as arrays, mapped and not read; Ray's object store keeps arrays without a copy a worker."""
    return {
        path.relative_to(folder).as_posix(): (
            np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint8)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpack_data(parcel: Mapping[str, U8], folder: Path) -> Path:
    """The folder that holds these files: as it is where it is there, else written beside and renamed."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    for name, content in parcel.items():
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content.data)
            file.flush()
            os.fsync(file.fileno())
    try:
        beside.rename(folder)
    except OSError:  # another worker of this machine was faster
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def pack_cell(folder: Path) -> dict[str, bytes]:
    """All files of a cell, its checkpoint among them; nothing where there is no folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".part")
    }


def unpack_cell(files: Files, folder: Path) -> None:
    """Write a cell's files, each whole or not at all; cell.json comes last, and then its checkpoint goes.

    Raises:
        OSError: there is no room.
    """
    for name in sorted(files, key=lambda one: one == LAST):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, files[name])
    if LAST in files:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
