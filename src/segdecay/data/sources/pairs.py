"""Which image belongs to which mask, from names alone. Opens no file."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks import Notebook, names_of
from segdecay.data.dataset import Part
from segdecay.data.spec import DatasetSpec
from segdecay.errors import DataError, did_you_mean

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".npy", ".mat"})
OTHER_IMAGES = frozenset({".bmp", ".webp", ".gif", ".npz", ".jp2", ".ppm", ".pgm"})
PARTS = ("train", "val", "test")
PART_ALIASES = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}


@dataclass(frozen=True)
class Pair:
    """One image with its mask. image and mask: paths; the labels, relative to the data folder, are for people."""

    name: str  # stem relative to the images folder, "/" between its parts
    part: Part
    image: Path
    mask: Path
    image_label: str
    mask_label: str


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which numbers count as numbers.

    >>> sorted(["f10", "f9", "e11"], key=natural_key)
    ['e11', 'f9', 'f10']
    """
    runs = re.findall("[0-9]+|[^0-9]+", text)
    return tuple((0, int(run), run) if run[0].isdigit() and run.isascii() else (1, 0, run) for run in runs)


def files_below(folder: Path) -> list[PurePosixPath]:
    """All visible files below a folder, relative to it, in natural order; links to folders are followed once."""
    found: list[PurePosixPath] = []
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        below = PurePosixPath(Path(place).relative_to(folder).as_posix())
        found += [below / name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(str(path)))


def folder_of(root: Path, name: str, kind: str) -> Path:
    """The folder of images or masks.

    Raises:
        DataError: it is not there; says what is.
    """
    folder = root / name
    if folder.is_dir():
        return folder
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if any((root / part / name).is_dir() for part in PARTS):
        raise DataError(
            f"{root} holds train/{name}; this layout is not read yet. Move it to {name}/train, {name}/val, …"
        )
    seen = f"It holds the folders {', '.join(there)}." if there else "It holds no folder at all."
    near = did_you_mean(name, there)
    raise DataError(
        f"{root} has no folder {name}/ for its {kind}. {seen}{near} Another name: {kind}: NAME in dataset.yaml."
    )


def files_by_stem(root: Path, name: str, notebook: Notebook) -> dict[str, PurePosixPath]:
    """Files that can be read, by stem relative to the folder `name`; the others become findings."""
    stems: dict[str, list[PurePosixPath]] = defaultdict(list)
    other = []
    for path in files_below(root / name):
        if path.suffix.lower() in SUFFIXES:
            stems[str(path.with_suffix(""))].append(path)
        elif path.suffix.lower() in OTHER_IMAGES:
            other.append(f"{name}/{path}")
    if other:
        message = (
            f"{len(other)} files are of a type that is not read ({names_of(other)}). Save them as PNG or remove them."
        )
        notebook.finding("warning", "type_not_read", message, other[0])
    for found in stems.values():
        if len(found) > 1:
            twins = " and ".join(path.name for path in found)
            notebook.fault(
                "wrong", "same_stem", f"{name}/{found[0]}", f"stands there twice: {twins}.", "Remove one of them."
            )
    return {stem: found[0] for stem, found in stems.items()}


def _part_of(stem: str, has_parts: bool) -> str:
    return stem.split("/", 1)[0] if has_parts else "train"


def _inner_stem(label: str) -> str:
    """The stem below the folder of images or masks.

    >>> _inner_stem("masks/train/a_mask.png")
    'train/a_mask'
    """
    path = PurePosixPath(label)
    return str(PurePosixPath(*path.parts[1:]).with_suffix(""))


def _report_unpaired(images: list[str], masks: list[str], spec: DatasetSpec, notebook: Notebook) -> None:
    seen = []
    if images:
        seen.append(f"{len(images)} image{'s have' if len(images) > 1 else ' has'} no mask ({names_of(images)})")
    if masks:
        seen.append(f"{len(masks)} mask{'s have' if len(masks) > 1 else ' has'} no image ({names_of(masks)})")
    if not seen:
        return
    stems = [_inner_stem(path) for path in images[:20]]
    tails = {mask[len(stem) :] for mask in map(_inner_stem, masks) for stem in stems if mask.startswith(stem)}
    tails -= {spec.mask_suffix}
    rule = f'exact stem + "{spec.mask_suffix}"' if spec.mask_suffix else "exact stem"
    fix = "Add what is missing, or remove the rest."
    if len(tails) == 1:
        fix = f'Set mask_suffix: "{tails.pop()}" in dataset.yaml.'
    message = f"{', '.join(seen)}. Paired by {rule}. {fix}"
    notebook.finding("wrong", "pairing", message, images[0] if images else masks[0])


def _has_parts(images: dict[str, PurePosixPath], spec: DatasetSpec, notebook: Notebook) -> bool:
    """Whether images lie in train, val, test; what lies elsewhere is then wrong."""
    tops = {path.parts[0] for path in images.values() if len(path.parts) > 1}
    if not tops & {*PARTS, *PART_ALIASES}:
        return False
    for path in images.values():
        top = path.parts[0] if len(path.parts) > 1 else ""
        if top in PARTS:
            continue
        fix = f"Move it into one of them{f': {top} is called {PART_ALIASES[top]} here' if top in PART_ALIASES else ''}."
        notebook.fault("wrong", "outside_parts", f"{spec.images}/{path}", "lies outside of train, val and test.", fix)
    return True


def find_pairs(root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Pair, ...]:
    """Every image with its mask, in natural order; what does not fit is noted.

    Raises:
        DataError: a folder is missing, or there is no image at all.
    """
    folder_of(root, spec.images, "images")
    folder_of(root, spec.masks, "masks")
    images = files_by_stem(root, spec.images, notebook)
    masks = files_by_stem(root, spec.masks, notebook)
    if not images:
        notes = "".join(f" {finding.message}" for finding in notebook.summary())
        raise DataError(f"{root / spec.images} holds no image (PNG, JPEG, TIFF, .npy or .mat).{notes}")
    has_parts = _has_parts(images, spec, notebook)
    images = {stem: path for stem, path in images.items() if _part_of(stem, has_parts) in PARTS}
    wanted = {stem + spec.mask_suffix: stem for stem in images}
    alone = [f"{spec.images}/{path}" for stem, path in images.items() if stem + spec.mask_suffix not in masks]
    spare = [f"{spec.masks}/{path}" for stem, path in masks.items() if stem not in wanted]
    _report_unpaired(alone, spare, spec, notebook)
    return tuple(
        Pair(
            name=stem,
            part=cast("Part", _part_of(stem, has_parts)),
            image=root / spec.images / path,
            mask=root / spec.masks / masks[stem + spec.mask_suffix],
            image_label=f"{spec.images}/{path}",
            mask_label=f"{spec.masks}/{masks[stem + spec.mask_suffix]}",
        )
        for stem, path in images.items()
        if stem + spec.mask_suffix in masks
    )
