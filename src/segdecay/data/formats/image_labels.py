"""Images with one label each as a source: every file is read once, hashed, decoded, checked.

Labels come from class folders (here) or from a table (tables.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.base import Memory, Sample
from segdecay.data.formats.pairing import (
    READABLE,
    Pair,
    Placed,
    files_by_stem,
    folder_of,
    natural_key,
    part_named,
    place_pairs,
)
from segdecay.data.formats.reader import PairReader, check_bands, digests_of, facts_of
from segdecay.data.images.label_maps import tables_of
from segdecay.data.spec import DatasetSpec, class_names, validate_classes
from segdecay.errors import DataError, did_you_mean


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
    return (part_named(path.parts[0]) if path.parts[0] in tops else None) or "train"


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
        self._memory: Memory | None = None
        reading = spec.model_dump_json(include={"task", "exif", "bands"})
        self.facts = facts_of(spec, root, listing.classes, reading, "classification")

    def recall_from(self, memory: Memory) -> None:
        """Use this store of earlier readings."""
        self._memory = memory

    @cached_property
    def _digests(self) -> dict[Path, str]:
        paths = (one.placed.pair.image for one in self._listing.images)
        return digests_of(paths, self._memory)

    def key(self) -> str:
        """A hash of every file's content, label and place, of what was noted about names, and of the spec."""
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
        reader = PairReader(self._spec, tables, self._digests, notebook, self.facts.classes, self._memory)

        def read(own: PairReader, one: Labelled, _: Notebook) -> Sample | None:
            return own.read_labelled(one.placed, one.label)

        yield from reader.read_each(self._listing.images, read, lambda one: one.placed.pair.image)
        notebook.note(check_bands(reader.bands, self._spec.bands))


INSIDE = {True: "PART/CLASS", False: "CLASS"}  # where images lie, by whether there are folders of parts


def class_folder_source(root: Path, spec: DatasetSpec) -> LabelledSource:
    """The source of a folder of class folders.

    Raises:
        DataError, ConfigError: the folder is missing or empty, or its classes cannot be.
    """
    return LabelledSource(root, spec, list_class_folders(root, spec))


def list_class_folders(root: Path, spec: DatasetSpec) -> Listing:
    """Every image with the class of its folder.

    Raises:
        DataError: the folder is missing, or holds no image in a class folder.
    """
    folder_of(root, spec.images, "class folders")
    noted = Notebook()
    files = files_by_stem(root, spec.images, noted)
    tops = {path.parts[0] for path in files.values() if len(path.parts) > 1}
    has_parts = any(part_named(top) for top in tops)
    folders = _class_folders(root / spec.images, has_parts=has_parts)
    known = class_names(spec, root)
    classes = known or tuple(sorted({path.name for path in folders}, key=natural_key))
    classes = classes if known else validated_classes(classes, root / spec.images)
    found: list[tuple[Pair, str]] = []
    for path in files.values():
        inner = path.parts[has_parts:-1]
        if has_parts and part_named(path.parts[0]) is None:
            fix = "Move it into one of them."
            noted.fault(
                "wrong", "outside_parts", shown_path(spec.images, path), "lies outside of train, val and test.", fix
            )
        elif not inner:
            fix = f"Move it into the folder of its class: {shown_path(spec.images, PurePosixPath(INSIDE[has_parts]))}."
            noted.fault("wrong", "outside_classes", shown_path(spec.images, path), "lies in no class folder.", fix)
        elif inner[0] not in classes:
            near = did_you_mean(inner[0], classes)
            seen = f"is in the folder of '{inner[0]}', which is no class; classes are {', '.join(classes)}."
            noted.fault(
                "wrong", "label_unknown", shown_path(spec.images, path), seen, f"Add it to classes, or rename it.{near}"
            )
        else:
            found.append((image_of(root, spec.images, path, part_of(path, tops)), inner[0]))
    if not found:
        more = "".join(f" {finding.message}" for finding in noted.summary())
        raise DataError(f"{root / spec.images} holds no image ({READABLE}) in a class folder.{more}")
    _note_empty(folders, files.values(), spec.images, classes, noted, has_parts=has_parts)
    placed = place_pairs(root, spec, [pair for pair, _ in found], noted)
    images = tuple(Labelled(place, classes.index(name)) for place, (_, name) in zip(placed, found, strict=True))
    return Listing(classes, images, noted)


def _class_folders(folder: Path, *, has_parts: bool) -> list[PurePosixPath]:
    """Folders that stand for a class, relative to the folder of images."""
    above = [entry for entry in folder.iterdir() if entry.is_dir() and part_named(entry.name)]
    above = above if has_parts else [folder]
    inside = [entry for one in above for entry in one.iterdir() if entry.is_dir()]
    return [
        PurePosixPath(entry.relative_to(folder).as_posix())
        for entry in inside
        if not entry.name.startswith((".", "__"))
    ]


def _note_empty(
    folders: Sequence[PurePosixPath],
    files: Iterable[PurePosixPath],
    images: str,
    classes: Sequence[str],
    noted: Notebook,
    *,
    has_parts: bool,
) -> None:
    """A class folder without an image: wrong where its class has none anywhere, else a remark."""
    filled = {PurePosixPath(*path.parts[: has_parts + 1]) for path in files}
    named = {path.name for path in filled}
    for path in sorted(folders, key=lambda one: natural_key(str(one))):
        if path in filled or path.name not in classes:
            continue
        label = f"{shown_path(images, path)}/"
        if path.name in named:
            noted.fault("warning", "class_folder_empty", label, f"holds no image ({READABLE}).", "")
        else:
            fix = "Add images of this class, or remove the folder."
            noted.fault("wrong", "class_folder_empty", label, f"holds no image ({READABLE}).", fix)
