"""What earlier readings left in the cache: digests of files, and decoded pairs one by one.

Every folder of the cache has, beside its arrays, digests.json (the digest of each file with its size and times) and
read.jsonl (a line for each pair: where its arrays begin, and what reading it noted). A folder that was left unfinished
has them too, so a reading that was interrupted goes on where it stopped, and another size needs no file decoded again.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.cache_lock import claim, end_lease, take_lease
from segdecay.data.formats.base import Recalled, Sample, SeenFile
from segdecay.data.formats.reader import digest_of
from segdecay.data.images.perceptual_hash import Content
from segdecay.utils.files import write_bytes
from segdecay.utils.parallel import ordered_map

U8 = npt.NDArray[np.uint8]

LAYOUT = 4  # raise it when the files in a cache folder, how pixels are made, or what is checked, change
PART_MARK = ".part-"
DIGESTS, READ = "digests.json", "read.jsonl"
KEY_LENGTH = 64
SETTLED_S = 2.0  # a file that was written to less long before its digest may change again within one tick of its clock
MOST_FOLDERS = 8  # earlier readings that are looked into, those used last
SYNC_BYTES = 1 << 26  # arrays are forced to the disk while the next ones are decoded
Stamp = tuple[int, int, int, int]  # of a file: size, time of content, time of change, number


def plain_name(name: str) -> str:
    """A data set's name as its folders in the cache begin.

    >>> plain_name("blood cells")
    'blood-cells'
    """
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name)[:40]


def reading_version() -> str:
    """What must be the same for arrays of an earlier reading to be taken."""
    return f"{LAYOUT} {importlib.metadata.version('segdecay')}"


def sized_key(key: str, size: tuple[int, int] | None) -> str:
    """The key of a pair in a size; of 64 letters, as every key."""
    return key if size is None else f"{key[:40]}{size[0]:012}{size[1]:012}"


def stamp_of(path: Path) -> Stamp | None:
    """The size and times of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@dataclass
class _Folder:
    """A folder of an earlier reading, held while it is looked into. lines: where the line of each key lies."""

    path: Path
    lease: int
    is_left: bool  # unfinished: it may be removed once its pairs are in a finished one
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)

    def line(self, key: str) -> dict[str, Any]:
        start, length = self.lines[key]
        with (self.path / READ).open("rb") as file:
            file.seek(start)
            values: dict[str, Any] = json.loads(file.read(length))
        return values


class ReadMemory:
    """What earlier readings of a data set of this name left in a cache.

    size: in which pairs are asked for; one of that size is taken before one as it was read.
    """

    def __init__(self, cache: Path, name: str, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self._folders = list(_held(cache, plain_name(name)))
        self._stamps = dict[Path, tuple[Stamp, str]]()
        self._is_indexed = False
        self._lock = threading.Lock()
        self.has_new_digests = False

    def close(self) -> None:
        """Let go of all folders: from now on nothing is recalled."""
        with self._lock:
            self._is_indexed = True
            while self._folders:
                end_lease(self._folders.pop().lease)

    @property
    def left(self) -> dict[Path, int]:
        """Unfinished folders that are held, and how many pairs each has."""
        self._index()
        return {folder.path: len(folder.lines) for folder in self._folders if folder.is_left}

    def digests(self, paths: Iterable[Path]) -> dict[Path, str]:
        """sha256 of every file: the known one where size and times are the same, else read with all cores."""
        known = dict[str, list[Any]]()
        for folder in reversed(self._folders):
            known |= _read_digests(folder.path / DIGESTS)
        found, unread = dict[Path, str](), list[Path]()
        for path in paths:
            *stamp, digest = known.get(os.path.abspath(path), [None])  # noqa: PTH100  (links stay as they are)
            here = stamp_of(path)
            if here is not None and tuple(stamp) == here:
                found[path] = str(digest)
                self._stamps[path] = here, str(digest)
            else:
                found[path] = ""
                unread.append(path)
        for path, (stamped, digest) in zip(unread, ordered_map(_stamped_digest, unread), strict=True):
            found[path] = digest
            if stamped is not None:
                self._stamps[path] = stamped, digest
        self.has_new_digests = bool(unread)
        return found

    def is_unchanged(self, path: Path) -> bool:
        """Whether a file has surely not been written to since `digests` told its digest."""
        return path in self._stamps and stamp_of(path) == self._stamps[path][0]

    def write_digests(self, folder: Path) -> None:
        """Keep the digests in a folder of the cache."""
        files = {os.path.abspath(path): [*stamp, digest] for path, (stamp, digest) in self._stamps.items()}  # noqa: PTH100
        write_bytes(folder / DIGESTS, json.dumps({"files": files}, ensure_ascii=False).encode(errors="surrogatepass"))

    def recall(self, key: str) -> Recalled | None:
        """The pair of this key, in the size asked for or as it was read; None where no reading left it whole."""
        self._index()
        for wanted in dict.fromkeys((sized_key(key, self._size), key)):
            for folder in self._folders:
                if wanted in folder.lines:
                    with suppress(OSError, ValueError, KeyError, TypeError):  # damaged: it is read anew
                        return _recalled(folder.path, folder.line(wanted))
        return None

    def _index(self) -> None:
        with self._lock:
            if self._is_indexed:
                return
            for folder in self._folders:
                with suppress(OSError):
                    folder.lines = dict(_lines_of(folder.path / READ))
            self._is_indexed = True


def _stamped_digest(path: Path) -> tuple[Stamp | None, str]:
    """The digest of a file, and its stamp where that will tell a later change."""
    stamp, now = stamp_of(path), time.time()
    digest = digest_of(path)
    is_settled = stamp is not None and stamp == stamp_of(path) and now - max(stamp[1:3]) / 1e9 > SETTLED_S
    return (stamp if is_settled else None), digest


def _held(cache: Path, plain: str) -> Iterator[_Folder]:
    """Folders of earlier readings that nobody writes to, those used last first."""
    pattern = re.compile(re.escape(plain) + r"-[0-9a-f]{24}(" + re.escape(PART_MARK) + r".*)?")
    try:
        found = [entry for entry in cache.iterdir() if pattern.fullmatch(entry.name) and (entry / READ).is_file()]
        found.sort(key=lambda entry: -(entry / READ).stat().st_mtime)
    except OSError:
        return
    for path in found[:MOST_FOLDERS]:
        is_left = PART_MARK in path.name
        lease = claim(path) if is_left else take_lease(path)
        if lease is not None:
            yield _Folder(path, lease, is_left)


def _read_digests(path: Path) -> dict[str, list[Any]]:
    try:
        files = json.loads(path.read_bytes())["files"]
        return files if isinstance(files, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lines_of(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where the line of each key lies; nothing of a log of another version, or of a line cut short."""
    with path.open("rb") as file:
        if file.readline().decode(errors="replace").rstrip("\n") != reading_version():
            return
        place = file.tell()
        for line in file:
            if line.endswith(b"\n") and len(line) > KEY_LENGTH:
                key = line[:KEY_LENGTH].decode(errors="replace")
                yield key, (place + KEY_LENGTH, len(line) - KEY_LENGTH)
            place += len(line)


def _recalled(folder: Path, values: dict[str, Any]) -> Recalled:
    """The arrays of a line.

    Raises:
        OSError, ValueError, KeyError, TypeError: the folder does not hold them whole.
    """
    arrays = []
    for name in ("images.u8", "masks.u8"):
        start, *shape = values[name]
        n_bytes = int(np.prod(shape))
        with (folder / name).open("rb") as file:
            file.seek(start)
            content = file.read(n_bytes)
        arrays.append(np.frombuffer(content, dtype=np.uint8).reshape(shape))
    packed = values["pattern"]
    pattern = None if packed is None else np.frombuffer(base64.b64decode(packed), dtype=np.float32)
    counts = np.zeros(256, dtype=np.int64)
    counts[[int(value) for value in values["values"]]] = list(values["values"].values())
    seen = SeenFile(Content(values["digest"], pattern, values["is_flat"]), counts)
    return Recalled(arrays[0], arrays[1], seen, values["notes"])


def line_of_sample(sample: Sample, starts: tuple[int, int], size: tuple[int, int] | None) -> bytes | None:
    """The line of a pair whose arrays begin at these bytes; None for one that is not kept one by one."""
    if sample.memo is None or sample.seen is None:
        return None
    content, counts = sample.seen.content, sample.seen.values
    values = {
        "images.u8": [starts[0], *sample.image.shape],
        "masks.u8": [starts[1], *sample.mask.shape],
        "values": {int(value): int(counts[value]) for value in np.flatnonzero(counts)},
        "digest": content.digest,
        "is_flat": content.is_flat,
        "pattern": None if content.pattern is None else base64.b64encode(content.pattern.tobytes()).decode(),
        "notes": sample.memo.notes,
    }
    return f"{sized_key(sample.memo.key, size)}{json.dumps(values, ensure_ascii=False)}\n".encode()


class ArrayFiles:
    """images.u8 and masks.u8 of a folder with their log, which names a pair only once its arrays are on the disk.

    A thread forces them there while the next pairs are decoded.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None) -> None:
        self._size = size
        self._arrays = [(folder / name).open("wb") for name in ("images.u8", "masks.u8")]
        self._log = (folder / READ).open("wb")
        self._log.write(f"{reading_version()}\n".encode())
        self._log.flush()
        self._starts = [0, 0]
        self._waiting = list[bytes]()
        self._unsynced = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self.pairs = 0

    def add(self, sample: Sample) -> None:
        """Append a pair.

        Raises:
            OSError: the disk is full, or fails.
        """
        line = line_of_sample(sample, (self._starts[0], self._starts[1]), self._size)
        for number, (file, array) in enumerate(zip(self._arrays, (sample.image, sample.mask), strict=True)):
            file.write(np.ascontiguousarray(array).data)
            self._starts[number] += array.nbytes
            self._unsynced += array.nbytes
        if line is not None:
            self._waiting.append(line)
            self.pairs += 1
        if self._unsynced >= SYNC_BYTES:
            self._join()
            lines, self._waiting, self._unsynced = self._waiting, [], 0
            for file in self._arrays:
                file.flush()
            self._thread = threading.Thread(target=self._sync, args=(lines,), daemon=True, name="sync")
            self._thread.start()

    def flush(self) -> None:
        """All pairs so far are on the disk and in the log.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self._log.closed:
            return
        self._join()
        for file in self._arrays:
            file.flush()
        lines, self._waiting, self._unsynced = self._waiting, [], 0
        self._sync(lines)
        self._join()

    def close(self) -> None:
        """No more is written."""
        with suppress(OSError):
            self._join()
        for file in (*self._arrays, self._log):
            with suppress(OSError):
                file.close()

    def _sync(self, lines: list[bytes]) -> None:
        try:
            for file in self._arrays:
                os.fsync(file.fileno())
            self._log.writelines(lines)
            self._log.flush()
            os.fsync(self._log.fileno())
        except OSError as error:
            self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
