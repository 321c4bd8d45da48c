"""Images with one label each as a source: every file is read once, hashed, decoded, checked.

What the labels are and where they stand is the business of class_folders.py and label_table.py. Knows nothing of
caches or folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks import Notebook
from segdecay.data.dataset import Part
from segdecay.data.labels import tables_of
from segdecay.data.sources.bands import check_bands
from segdecay.data.sources.base import Sample
from segdecay.data.sources.digests import digests_of
from segdecay.data.sources.grouping import Placed
from segdecay.data.sources.pairs import PARTS, Pair
from segdecay.data.sources.reading import PairReader, facts_of
from segdecay.data.spec import DatasetSpec, validate_classes
from segdecay.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """An image in its place, and the index of its class."""

    placed: Placed
    label: int


@dataclass(frozen=True)
class Listing:
    """What a folder holds before any image is decoded; `noted` are the faults that its names and rows have."""

    classes: tuple[str, ...]
    images: tuple[Labelled, ...]
    noted: Notebook


def shown_path(folder: str, path: PurePosixPath) -> str:
    """A path as people are told it.

    >>> shown_path(".", PurePosixPath("cat/1.png")), shown_path("images", PurePosixPath("1.png"))
    ('cat/1.png', 'images/1.png')
    """
    return path.as_posix() if folder == "." else f"{folder}/{path}"


def image_of(root: Path, folder: str, path: PurePosixPath, part: str) -> Pair:
    """An image without a mask, named by its stem relative to the folder of images."""
    label = shown_path(folder, path)
    stem = str(path.with_suffix(""))
    file = root / folder / path
    return Pair(stem, cast("Part", part), file, file, label, label)


def part_of(path: PurePosixPath, tops: set[str]) -> str:
    """The part that an image lies in, where folders are named after parts; else train."""
    return path.parts[0] if tops & set(PARTS) and path.parts[0] in PARTS else "train"


def validated_classes(names: Sequence[str], root: Path) -> tuple[str, ...]:
    """The classes that were found.

    Raises:
        DataError: fewer than two, or names that cannot be.
    """
    try:
        validate_classes(tuple(names))
    except ValueError as error:
        raise DataError(f"{root}: the classes found are {', '.join(names) or 'none'}: {error}.") from error
    return tuple(names)


class LabelledSource:
    """Images with labels, as a listing names them."""

    def __init__(self, root: Path, spec: DatasetSpec, listing: Listing) -> None:
        self._spec, self._listing = spec, listing
        reading = spec.model_dump_json(include={"task", "exif", "bands"})
        self.facts = facts_of(spec, root, listing.classes, reading, "classification")

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return digests_of(one.placed.pair.image for one in self._listing.images)

    def key(self) -> str:
        """Over every file's content, its label and place, what was noted about names, and the spec."""
        noted = self._listing.noted.summary()
        content = hashlib.sha256(repr((self.facts, self._spec, sorted(self._spec.model_fields_set), noted)).encode())
        for one in self._listing.images:
            pair = one.placed.pair
            row = (pair.name, pair.part, one.placed.group, one.placed.fold, one.label, self._digests[pair.image])
            content.update(repr(row).encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every usable image, decoded, in natural order of names; each fault goes into the notebook.

        Raises:
            DataError: a file changed between its hash and its decoding.
        """
        notebook.note([*self._listing.noted.faults, *self._listing.noted.findings])
        tables = tables_of(self._spec, self.facts.classes)
        reader = PairReader(self._spec, tables, self._digests, notebook)
        yield from reader.read_each(self._listing.images, lambda own, one, _: own.read_labelled(one.placed, one.label))
        notebook.note(check_bands(reader.bands, self._spec.bands))
