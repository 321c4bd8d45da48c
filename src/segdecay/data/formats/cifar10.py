"""CIFAR-10 as it is published: the binary layout, or the Python one.

Binary: one byte of label, then 3,072 bytes of red, green and blue planes of 32x32, any whole number of images a file;
data_batch_*.bin, test_batch.bin and batches.meta.txt. Python: data_batch_*, test_batch and batches.meta, which are
pickles. A pickle can run code, so only the published files are unpickled, known by their MD5 sums.
Source of the layouts: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, and the page of the
data set. Source of the sums: torchvision.datasets.CIFAR10.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.base import Facts, Sample
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.decode import UnusableError
from segdecay.data.spec import DatasetSpec, class_palette, read_text
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]

SIDE, PIXELS = 32, 3 * 32 * 32
RECORD = PIXELS + 1
MOST_BYTES = 64 << 20  # of a file; the largest of the real set has 31 MB
MOST_META_BYTES = 1 << 20
BATCH = re.compile(r"data_batch_(\d+)(\.bin)?")
INSIDE = ("cifar-10-batches-bin", "cifar-10-batches-py")  # folders that the archives unpack to, the plain one first
PUBLISHED_MD5: Mapping[str, str] = {  # of the files in cifar-10-python.tar.gz
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
LAYOUT = "data_batch_1.bin …, test_batch.bin and batches.meta.txt, or data_batch_1 …, test_batch and batches.meta"


@dataclass(frozen=True)
class Batch:
    """One file of images."""

    path: Path
    name: str  # "batch-1" or "test"
    part: Part


def find_cifar(root: Path) -> Path | None:
    """The folder that holds the batches: `root`, or what an archive unpacked inside it; None where there is none."""
    for folder in (root, *(root / name for name in INSIDE)):
        if folder.is_dir() and batches_of(folder):
            return folder
    return None


def batches_of(folder: Path) -> tuple[Batch, ...]:
    """The files of images, in their order; the binary ones where both layouts lie there."""
    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    numbers = {name: found for name in names if (found := BATCH.fullmatch(name))}
    suffix = ".bin" if any(found[2] for found in numbers.values()) else ""
    training = sorted((int(found[1]), name) for name, found in numbers.items() if (found[2] or "") == suffix)
    batches = [Batch(folder / name, f"batch-{number}", "train") for number, name in training]
    test = f"test_batch{suffix}"
    return (*batches, *([Batch(folder / test, "test", "test")] if test in names and batches else []))


class CifarSource:
    """CIFAR-10 below a folder.

    Raises:
        DataError: no batches there, or the names of the classes are missing or damaged.
    """

    def __init__(self, root: Path, spec: DatasetSpec) -> None:
        folder = find_cifar(root)
        if folder is None:
            there = sorted(entry.name for entry in root.iterdir())[:5] if root.is_dir() else []
            raise DataError(
                f"{root} holds no CIFAR-10. Needed are {LAYOUT}, there or in {' or '.join(INSIDE)}; it holds "
                f"{', '.join(there) or 'nothing'}."
            )
        self._batches = batches_of(folder)
        self._is_binary = self._batches[0].path.suffix == ".bin"
        classes = spec.classes or _class_names(folder, is_binary=self._is_binary)
        reading = f"cifar10 {spec.model_dump_json(include={'bands'})}"
        self._spec = spec
        name, palette = spec.name or "cifar10", class_palette(spec, classes)
        self.facts = Facts(
            name,
            classes,
            palette,
            spec.flip,
            spec.folds,
            reading,
            "classification",
            spec.exclude_from_mean,
            chosen_bands=spec.bands,
        )

    @cached_property
    def _contents(self) -> dict[str, bytes | UnusableError]:
        """Every file once, or why it cannot be used."""
        return {batch.name: _content(batch.path) for batch in self._batches}

    def key(self) -> str:
        """A hash of every file's content and of the spec."""
        content = hashlib.sha256(repr((self.facts, self._spec)).encode())
        for batch in self._batches:
            found = self._contents[batch.name]
            own = found if isinstance(found, bytes) else str(found).encode()
            content.update(f"{batch.name} {hashlib.sha256(own).hexdigest()}".encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every image, file by file; faults of files go into the notebook."""
        if not any(batch.part == "test" for batch in self._batches):
            notebook.finding("note", "no_test_batch", "There is no test_batch: nothing is kept apart as test part.")
        for batch in self._batches:
            try:
                content = self._contents[batch.name]
                if isinstance(content, UnusableError):
                    raise content
                labels, pixels = _from_binary(content) if self._is_binary else _from_python(content, batch.path.name)
                self._check_labels(labels)
            except UnusableError as error:
                notebook.fault("wrong", error.code, batch.path.name, error.seen, error.fix)
                continue
            yield from self._samples_of(batch, labels, pixels)

    def _check_labels(self, labels: U8) -> None:
        wrong = np.flatnonzero(labels >= len(self.facts.classes))
        if len(wrong):
            raise UnusableError(
                "label_unknown",
                f"holds label {labels[wrong[0]]} (image {wrong[0]}, {len(wrong)} in all); labels are "
                f"0–{len(self.facts.classes) - 1}.",
                "Is it CIFAR-10, and whole? Fetch the file again.",
            )

    def _samples_of(self, batch: Batch, labels: U8, pixels: U8) -> Iterator[Sample]:
        images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        bands = None if self._spec.bands is None else list(self._spec.bands)
        for number, (label, image) in enumerate(zip(labels, images, strict=True), start=1):
            name = f"{batch.part}/{batch.name}-{number:05d}"
            shown = np.ascontiguousarray(image if bands is None else image[..., bands])
            digest = hashlib.sha256(bytes([label]) + pixels[number - 1].tobytes()).hexdigest()
            yield Sample(name, batch.part, name, None, digest, shown, np.full((1, 1), label, dtype=np.uint8))


def _content(path: Path) -> bytes | UnusableError:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            fix = "Is it a batch of CIFAR-10?"
            return UnusableError("too_large", f"has {size:,} bytes; at most {MOST_BYTES:,} are read.", fix)
        return read_bytes(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return UnusableError("unreadable", f"cannot be read ({reason}).", "Check the file and its permissions.")
    except UnusableError as error:
        return error


def _from_binary(content: bytes) -> tuple[U8, U8]:
    """Labels (N,) and planes (N, 3072) of a file of the binary layout.

    Raises:
        UnusableError: empty, or no whole number of images.
    """
    if not content or len(content) % RECORD:
        seen = f"has {len(content):,} bytes, which is no whole number of images of {RECORD:,} bytes"
        left = f" ({len(content) % RECORD:,} are left over)." if content else "."
        raise UnusableError("cut_short", seen + left, "It is cut short or another file: fetch it again.")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    return records[:, 0], records[:, 1:]


def _from_python(content: bytes, name: str) -> tuple[U8, U8]:
    """Labels (N,) and planes (N, 3072) of the published file of that name.

    Raises:
        UnusableError: it is another file.
    """
    values = _unpickle_published(content, name)
    return np.array(values[b"labels"], dtype=np.uint8), np.asarray(values[b"data"], dtype=np.uint8)


def _unpickle_published(content: bytes, name: str) -> dict[bytes, Any]:
    """The mapping in a file of the Python layout, once its MD5 is the published one.

    Finding another content with a given MD5 is not feasible, although two contents with the same MD5 can be made.

    Raises:
        UnusableError: the file is not the published one; nothing in it has run.
    """
    found, published = hashlib.md5(content, usedforsecurity=False).hexdigest(), PUBLISHED_MD5.get(name)
    if found != published:
        allowed = f"only {published} is read" if published else f"only {', '.join(PUBLISHED_MD5)} are read"
        raise UnusableError(
            "pickle_refused",
            f"is a pickle, which can run code, and not the published file: its MD5 is {found}; {allowed}.",
            "Fetch cifar-10-python.tar.gz again, or use the binary layout (cifar-10-binary.tar.gz), which is read "
            "with any content.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy about how Python 2's numpy wrote a dtype
        values: dict[bytes, Any] = pickle.loads(content, encoding="bytes")  # noqa: S301 - the sum is that of the published file
    return values


def _class_names(folder: Path, *, is_binary: bool) -> tuple[str, ...]:
    """The names in batches.meta.txt or batches.meta.

    Raises:
        DataError: the file is missing, damaged, or names fewer than two classes.
    """
    path = folder / ("batches.meta.txt" if is_binary else "batches.meta")
    if not path.exists():
        raise DataError(f"{path} is missing: it names the classes. Fetch it again, or give classes: in dataset.yaml.")
    if path.stat().st_size > MOST_META_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes; names of classes take at most {MOST_META_BYTES:,}.")
    if is_binary:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    else:
        try:
            names = [one.decode("ascii") for one in _unpickle_published(read_bytes(path), path.name)[b"label_names"]]
        except UnusableError as error:
            raise DataError(f"{path} {error}") from error
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{path} names {len(names)} classes; at least two different names are needed.")
    return tuple(names)
