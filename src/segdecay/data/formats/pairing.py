"""Which image belongs to which mask, from names alone. Opens no file."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks.findings import Level, Notebook, names_of
from segdecay.data.checks.scene_names import check_scene_names
from segdecay.data.dataset import POOL, Part
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import DataError, did_you_mean, unknown

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".npy", ".mat", ".gif", ".webp", ".bmp", ".ppm", ".pgm", ".pbm"}
)
OTHER_IMAGES = {  # suffixes of pictures that are not read, by the name of their format
    ".npz": "NumPy archive", ".jp2": "JPEG 2000", ".nii": "NIfTI", ".nii.gz": "NIfTI", ".dcm": "DICOM",
    ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".mha": "MetaImage", ".mhd": "MetaImage", ".nrrd": "NRRD",
    ".h5": "HDF5", ".hdf5": "HDF5", ".hdf": "HDF", ".psd": "Photoshop", ".svg": "SVG", ".dng": "raw photograph",
    ".cr2": "raw photograph", ".nef": "raw photograph", ".czi": "Zeiss CZI", ".svs": "whole slide", ".pdf": "PDF",
}  # fmt: skip
READABLE = "PNG, JPEG, TIFF, GIF, WebP, BMP, PNM, .npy or .mat"
PARTS = ("train", "val", "test")
PART_ALIASES = {
    "valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test",
}  # fmt: skip


def part_named(word: str) -> Part | None:
    """The part that a name stands for, in any case; None where it is none.

    >>> part_named("Validation"), part_named("TEST"), part_named("street")
    ('val', 'test', None)
    """
    plain = word.lower()
    part = PART_ALIASES.get(plain, plain)
    return cast("Part", part) if part in PARTS else None


def format_of_name(name: str) -> str:
    """The format that is not read, as a file's name tells it; empty for any other name.

    >>> format_of_name("a.nii.gz"), format_of_name("a.png")
    ('NIfTI', '')
    """
    plain = name.lower()
    return next((kind for suffix, kind in OTHER_IMAGES.items() if plain.endswith(suffix)), "")


@dataclass(frozen=True)
class Pair:
    """One image with its mask. image and mask: paths; the labels, relative to the data folder, are for people."""

    name: str  # stem relative to the images folder, "/" between its parts
    part: Part
    image: Path
    mask: Path
    image_label: str
    mask_label: str
    page: int | None = None  # of both files, TIFFs, from 0


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
    if os.path.isdir(folder):  # noqa: PTH112  (a name too long for the system is no folder)
        return folder
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    inside = [top for top in there if part_named(top) and os.path.isdir(root / top / name)]  # noqa: PTH112
    if inside:
        raise DataError(
            f"{root} holds {inside[0]}/{name}. Parts above their folders are read by templates, as in {kind}: "
            f'"{{split}}/{name}/{{stem}}.png"; segdecay init {root} --write writes them.'
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
            stems[unicodedata.normalize("NFC", str(path.with_suffix("")))].append(path)
        elif format_of_name(path.name):
            other.append(f"{name}/{path}")
    if other:
        kinds = ", ".join(dict.fromkeys(format_of_name(path) for path in other))
        message = (
            f"{len(other)} files are of a type that is not read ({kinds}: {names_of(other)}). "
            "Save them as PNG or remove them."
        )
        notebook.finding("warning", "type_not_read", message, other[0])
    for found in stems.values():
        if len(found) > 1:
            twins = " and ".join(path.name for path in found)
            notebook.fault(
                "wrong", "same_stem", f"{name}/{found[0]}", f"stands there twice: {twins}.", "Remove one of them."
            )
    return {stem: found[0] for stem, found in stems.items()}


def part_depth(paths: Sequence[PurePosixPath]) -> int | None:
    """At which place of their folders the paths name parts, the first such place; None where none does.

    >>> part_depth([PurePosixPath("urban/Train/a.png"), PurePosixPath("urban/Test/b.png")])
    1
    """
    deepest = max((len(path.parts) - 1 for path in paths), default=0)
    for depth in range(deepest):
        if any(len(path.parts) > depth + 1 and part_named(path.parts[depth]) for path in paths):
            return depth
    return None


def part_at(path: PurePosixPath, depth: int | None) -> Part | None:
    """The part that a path names at this place; train where there are no parts, None where it names none there.

    >>> part_at(PurePosixPath("Test/a.png"), 0), part_at(PurePosixPath("x/a.png"), 0)
    ('test', None)
    """
    if depth is None:
        return "train"
    return part_named(path.parts[depth]) if len(path.parts) > depth + 1 else None


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


def _note_outside(images: Iterable[PurePosixPath], depth: int | None, folder: str, notebook: Notebook) -> None:
    """Where images lie in train, val, test, what lies elsewhere is wrong."""
    for path in images:
        if part_at(path, depth) is None:
            fix = "Move it into one of them."
            seen = "lies outside of train, val and test."
            notebook.fault("wrong", "outside_parts", f"{folder}/{path}", seen, fix)


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
        raise DataError(f"{root / spec.images} holds no image ({READABLE}).{notes}")
    depth = part_depth(list(images.values()))
    _note_outside(images.values(), depth, spec.images, notebook)
    images = {stem: path for stem, path in images.items() if part_at(path, depth) is not None}
    wanted = {stem + spec.mask_suffix: stem for stem in images}
    alone = [f"{spec.images}/{path}" for stem, path in images.items() if stem + spec.mask_suffix not in masks]
    spare = [f"{spec.masks}/{path}" for stem, path in masks.items() if stem not in wanted]
    _report_unpaired(alone, spare, spec, notebook)
    return tuple(
        Pair(
            name=stem,
            part=part_at(path, depth) or "train",
            image=root / spec.images / path,
            mask=root / spec.masks / masks[stem + spec.mask_suffix],
            image_label=f"{spec.images}/{path}",
            mask_label=f"{spec.masks}/{masks[stem + spec.mask_suffix]}",
        )
        for stem, path in images.items()
        if stem + spec.mask_suffix in masks
    )


COLUMNS = ("name", "group", "fold", "split")
LABEL_COLUMNS = (*COLUMNS, "label")


@dataclass(frozen=True)
class Placed:
    """A pair with its group and, where given, its fold."""

    pair: Pair
    group: str
    fold: int | None


@dataclass(frozen=True)
class Row:
    """One line of groups.csv, or of a table of labels. Empty cells are None."""

    line: int
    name: str
    group: str | None
    fold: str | None
    split: str | None
    label: str | None = None


def read_rows(path: Path, known: Sequence[str] = COLUMNS) -> tuple[Row, ...]:
    """The lines of groups.csv; known: the columns that it may have.

    Raises:
        DataError: an unknown column, or no column "name".
        ConfigError: the file is missing or no text.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in first and "," not in first else ",")
    columns = [str(column).strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    needed = ("name", "label") if "label" in known else ("name",)
    strange = [unknown("column", column, known) for column in columns if column not in known]
    strange += [f"it has no column {column}." for column in needed if column not in columns]
    if strange:
        more = "".join(f"[,{column}]" for column in known if column not in needed)
        raise DataError(f"{path}: {' '.join(strange)} The columns are {','.join(needed)}{more}.")
    return tuple(
        Row(line, *((values.get(column) or "").strip() or None for column in LABEL_COLUMNS))  # type: ignore[arg-type]
        for line, values in enumerate(reader, start=2)
        if (values.get("name") or "").strip()
    )


class _Lookup:
    """Rows to pairs: a name may be the whole relative stem, the stem alone, and may carry its suffix."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._of: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            for key in {pair.name, pair.name.split("/", 1)[-1], pair.name.rsplit("/", 1)[-1]}:
                self._of[unicodedata.normalize("NFC", key)].append(pair)

    def find(self, row: Row) -> list[Pair]:
        path = PurePosixPath(row.name)
        stem = str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else row.name
        found = self._of.get(unicodedata.normalize("NFC", stem), [])
        same_part = [pair for pair in found if pair.part == row.split]
        return same_part if len(found) > 1 and same_part else found


def assign_rows(
    rows: Sequence[Row], pairs: Sequence[Pair], label: str, notebook: Notebook, absent_is: Level = "warning"
) -> dict[str, Row]:
    """The row of each pair, by the pair's name; absent_is: the level of a row that names no image."""
    lookup, row_of, absent = _Lookup(pairs), dict[str, Row](), []
    for row in rows:
        found = lookup.find(row)
        if not found:
            absent.append(row.name)
        elif len(found) > 1:
            names = " and ".join(pair.name for pair in found)
            notebook.fault(
                "wrong",
                "group_ambiguous",
                f"{label} line {row.line}",
                f"names '{row.name}', which is {names}.",
                "Write the longer name.",
            )
        elif found[0].name in row_of:
            other = row_of[found[0].name].line
            notebook.fault(
                "wrong",
                "group_twice",
                f"{label} line {row.line}",
                f"names '{row.name}' again (line {other}).",
                "Keep one line.",
            )
        else:
            row_of[found[0].name] = row
    if absent:
        message = (
            f"{label} names {len(absent)} images that are not there ({names_of(absent)}). Names are stems of images."
        )
        notebook.finding(absent_is, "group_of_nothing", message, label)
    return row_of


def _split_of(row: Row, pair: Pair, has_parts: bool, label: str, notebook: Notebook) -> Part:
    if row.split is None:
        return pair.part
    split = part_named(row.split)
    where = f"{label} line {row.line}"
    if split is None:
        notebook.fault("wrong", "split_unknown", where, f"has split '{row.split}'.", "Allowed: train, val, test.")
        return pair.part
    if has_parts and split != pair.part:
        fix = "Move the files, or correct the line."
        notebook.fault(
            "wrong", "split_differs", where, f"says {split}, but {pair.image_label} lies in {pair.part}.", fix
        )
        return pair.part
    return split


def _fold_of(row: Row, label: str, notebook: Notebook) -> int | None:
    if row.fold is None:
        return None
    if not row.fold.isdecimal():
        notebook.fault(
            "wrong",
            "fold_unknown",
            f"{label} line {row.line}",
            f"has fold '{row.fold}'.",
            "Folds are whole numbers from 0.",
        )
        return None
    return int(row.fold)


def _groups_of_pattern(pairs: Sequence[Pair], pattern: str, notebook: Notebook) -> dict[str, str]:
    found, without = dict[str, str](), []
    for pair in pairs:
        match = re.search(pattern, PurePosixPath(pair.name).name)
        if match and match.group(1):
            found[pair.name] = match.group(1)
        else:
            without.append(pair.name)
    if without:
        seen = f"{len(without)} names ({names_of(without)})"
        message = f"group_pattern '{pattern}' finds no group in {seen}. Change the pattern."
        notebook.finding("wrong", "group_missing", message, without[0])
    return found


def _check_complete(
    placed: Sequence[Placed], known: set[str], label: str, spec: DatasetSpec, notebook: Notebook
) -> None:
    """Groups and folds are given for all images or for none."""
    without = [one.pair.name for one in placed if one.pair.name not in known]
    if known and without:
        message = f"{label} gives {len(without)} images no group ({names_of(without)}). Give every image one."
        notebook.finding("wrong", "group_missing", message, label)
    pool = [one for one in placed if one.pair.part in POOL]
    unfolded = [one.pair.name for one in pool if one.fold is None]
    if len(unfolded) < len(pool) and unfolded:
        message = (
            f"{label} gives {len(unfolded)} images no fold ({names_of(unfolded)}). Give one to all of train and val."
        )
        notebook.finding("wrong", "fold_missing", message, label)
    parts = {one.pair.part for one in pool}
    if spec.folds == "given" and len(unfolded) == len(pool) and parts != {"train", "val"}:
        there = " and ".join(sorted(parts)) or "neither"
        message = f"folds: given needs a column fold in {label}, or images in both train and val; there is {there}."
        notebook.finding("wrong", "folds_not_given", message)


def place_pairs(root: Path, spec: DatasetSpec, pairs: Sequence[Pair], notebook: Notebook) -> tuple[Placed, ...]:
    """Every pair with its part, group and fold; where no groups are known every image is its own.

    Raises:
        DataError, ConfigError: groups.csv cannot be read, see `read_rows`.
    """
    path = root / (spec.groups or "groups.csv")
    rows = read_rows(path) if spec.groups or path.exists() else ()
    return place_by_rows(assign_rows(rows, pairs, path.name, notebook), path.name, spec, pairs, notebook)


def _without_parts(name: str) -> str:
    """A name without the folders that say its part, with or without a number.

    >>> _without_parts("train2017/site/a_1"), _without_parts("02_val/b")
    ('site/a_1', 'b')
    """
    *folders, stem = name.split("/")
    words = [folder.strip("0123456789_-. ") for folder in folders]
    kept = [folder for folder, word in zip(folders, words, strict=True) if part_named(word) is None]
    return "/".join([*kept, stem])


def place_by_rows(
    row_of: Mapping[str, Row], label: str, spec: DatasetSpec, pairs: Sequence[Pair], notebook: Notebook
) -> tuple[Placed, ...]:
    """As `place_pairs`, from the row of each pair, by the pair's name; label: the file of the rows, for people."""
    has_parts = any(pair.part != "train" for pair in pairs) or any(
        part_named(word) for pair in pairs for word in pair.name.split("/")[:-1]
    )
    groups = {name: row.group for name, row in row_of.items() if row.group}
    if spec.group_pattern:
        if groups:
            message = f"dataset.yaml has a group_pattern and {label} has a column group. Remove one of them."
            notebook.finding("wrong", "groups_twice", message, label)
        groups = _groups_of_pattern(pairs, spec.group_pattern, notebook)
    elif not groups and spec.folds != "given":
        notebook.note(check_scene_names([_without_parts(pair.name) for pair in pairs if pair.part in POOL]))
    placed = []
    for pair in pairs:
        row = row_of.get(pair.name)
        part = _split_of(row, pair, has_parts, label, notebook) if row else pair.part
        fold = _fold_of(row, label, notebook) if row else None
        placed.append(Placed(replace(pair, part=part), groups.get(pair.name, pair.name), fold))
    _check_complete(placed, set() if spec.group_pattern else set(groups), label, spec, notebook)
    return tuple(placed)
