"""Class folders: images/CLASS/…, or images/train/CLASS/… with val and test beside it. The folder is the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from segdecay.data.checks import Notebook
from segdecay.data.sources.grouping import place_pairs
from segdecay.data.sources.labelled import (
    Labelled,
    LabelledSource,
    Listing,
    image_of,
    part_of,
    shown_path,
    validated_classes,
)
from segdecay.data.sources.pairs import PART_ALIASES, PARTS, Pair, files_by_stem, folder_of, natural_key
from segdecay.data.spec import DatasetSpec, class_names
from segdecay.errors import DataError, did_you_mean

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
    has_parts = bool(tops & {*PARTS, *PART_ALIASES})
    folders = _class_folders(root / spec.images, has_parts=has_parts)
    known = class_names(spec, root)
    classes = known or tuple(sorted({path.name for path in folders}, key=natural_key))
    classes = classes if known else validated_classes(classes, root / spec.images)
    found: list[tuple[Pair, str]] = []
    for path in files.values():
        inner = path.parts[has_parts:-1]
        if has_parts and path.parts[0] not in PARTS:
            alias = PART_ALIASES.get(path.parts[0])
            fix = f"{path.parts[0]} is called {alias} here." if alias else "Move it into one of them."
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
        raise DataError(f"{root / spec.images} holds no image (PNG, JPEG, TIFF, .npy or .mat) in a class folder.{more}")
    _note_empty(folders, files.values(), spec.images, classes, noted, has_parts=has_parts)
    placed = place_pairs(root, spec, [pair for pair, _ in found], noted)
    images = tuple(Labelled(place, classes.index(name)) for place, (_, name) in zip(placed, found, strict=True))
    return Listing(classes, images, noted)


def _class_folders(folder: Path, *, has_parts: bool) -> list[PurePosixPath]:
    """Folders that stand for a class, relative to the folder of images."""
    above = [folder / part for part in PARTS if (folder / part).is_dir()] if has_parts else [folder]
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
    """A class folder without an image: wrong where its class has none anywhere, else worth a word."""
    filled = {PurePosixPath(*path.parts[: has_parts + 1]) for path in files}
    named = {path.name for path in filled}
    for path in sorted(folders, key=lambda one: natural_key(str(one))):
        if path in filled or path.name not in classes:
            continue
        label = f"{shown_path(images, path)}/"
        if path.name in named:
            noted.fault("warning", "class_folder_empty", label, "holds no image (PNG, JPEG, TIFF, .npy or .mat).", "")
        else:
            fix = "Add images of this class, or remove the folder."
            noted.fault("wrong", "class_folder_empty", label, "holds no image (PNG, JPEG, TIFF, .npy or .mat).", fix)
