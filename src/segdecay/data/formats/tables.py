"""A table of pairs, CSV or JSON: columns image and mask, and group, split and fold where they are known."""

from __future__ import annotations

import csv
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.formats.folders import FolderSource
from segdecay.data.formats.image_labels import Labelled, LabelledSource, Listing, image_of, part_of, validated_classes
from segdecay.data.formats.pairing import (
    LABEL_COLUMNS,
    READABLE,
    SUFFIXES,
    Pair,
    Placed,
    Row,
    assign_rows,
    files_by_stem,
    folder_of,
    natural_key,
    place_by_rows,
    place_pairs,
    read_rows,
)
from segdecay.data.spec import DatasetSpec, class_names, read_text
from segdecay.errors import ConfigError, DataError, did_you_mean


def inner_path(text: str, below: str = ".") -> PurePosixPath | None:
    r"""The path relative to the data folder, of a path relative to `below`; None where it leads out of the folder.

    >>> inner_path("../images/a b.png", "json"), inner_path("C:\\x.png"), inner_path("../a.png")
    (PurePosixPath('images/a b.png'), None, None)
    """
    plain = text.strip().replace("\\", "/")
    if not plain or "\0" in plain or plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return None
    path = PurePosixPath(posixpath.normpath(posixpath.join(below, plain)))
    return None if path.parts[:1] == ("..",) or not path.parts else path


def existing(root: Path, path: PurePosixPath) -> PurePosixPath | None:
    """The path as the folder spells it: a name may be composed differently there (é as one letter or as two).

    Where nothing stands, None.
    """
    if (root / path).is_file():
        return path
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        other = PurePosixPath(unicodedata.normalize(form, str(path)))
        if (root / other).is_file():
            return other
    return None


def find_inner(root: Path, text: str, below: str, where: str, notebook: Notebook) -> PurePosixPath | None:
    """The file that a line of a table or an annotation names; what is wrong with it is noted at `where`."""
    path = inner_path(text, below)
    if path is None:
        fix = "Name files by paths relative to the data folder, and keep them inside."
        notebook.fault("wrong", "path_outside", where, f"names '{text[:200]}', which is no path inside it.", fix)
        return None
    try:
        found = existing(root, path)
    except OSError:  # a name longer than the system takes
        found = None
    if found is None:
        fix = "Add the file, or remove the entry."
        notebook.fault("wrong", "file_absent", where, f"names {str(path)[:200]}, which is not there.", fix)
    return found


def note_unlisted(root: Path, listed: Iterable[Path], suffixes: Iterable[str], by: str, notebook: Notebook) -> None:
    """Note the visible pictures in the folders of listed files that are not listed; by: the name of the list."""
    known, wanted = set(listed), set(suffixes)
    spare = sorted(
        str(path.relative_to(root))
        for folder in {path.parent for path in known}
        for path in folder.iterdir()
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path not in known and path.is_file()
    )
    if spare:
        count = f"{len(spare)} file{'s lie' if len(spare) > 1 else ' lies'} beside listed ones"
        message = (
            f"{count}, and {by} does not name them ({names_of(spare)}): they are not used. List them, or leave them."
        )
        notebook.finding("note", "file_unlisted", message, spare[0])


COLUMNS = ("image", "mask", "group", "split", "fold")
NEEDED = ("image", "mask")


def table_source(root: Path, spec: DatasetSpec) -> FolderSource:
    """The source of a table of pairs.

    Raises:
        DataError, ConfigError: the table is missing or is none, or names no pair.
    """
    if spec.annotations is None:
        raise ConfigError(f"{root}: layout: table needs annotations: FILE, a CSV or JSON with columns image and mask.")
    return FolderSource(root, spec, partial(_find_rows, spec.annotations))


def read_table(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every row as ("FILE line 2", values by column), from a CSV with a head or a JSON list of objects.

    Raises:
        ConfigError: missing or no text.
        DataError: neither of them.
    """
    text = read_text(path)
    if path.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is no valid JSON: {error}.") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f'{path} needs a list of objects: [{{"image": "a.jpg", "mask": "a.png"}}, …].')
        return [(f"{path.name} entry {number}", row) for number, row in enumerate(rows, 1)]
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        reader = csv.DictReader(text.splitlines(), delimiter=separator)
        reader.fieldnames = [str(column).strip() for column in reader.fieldnames or ()]
        return [(f"{path.name} line {number}", dict(row)) for number, row in enumerate(reader, 2)]
    except csv.Error as error:
        raise DataError(f"{path} is no valid CSV: {error}.") from error


def columns_of(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """All columns of a table, in the order in which they first occur."""
    return list(dict.fromkeys(str(key) for _, row in rows for key in row if key is not None))


def _columns(path: Path, there: list[str], given: Mapping[str, str], notebook: Notebook) -> dict[str, str]:
    """The names of the table's columns, by our names for them.

    Raises:
        DataError: a column that is needed, or that `columns` names, is not there.
    """
    names = {name: given.get(name, name) for name in COLUMNS}
    faults = [f"columns names '{name}', which is none of {', '.join(COLUMNS)}." for name in given if name not in names]
    for name, column in names.items():
        if column not in there and (name in NEEDED or name in given):
            near = did_you_mean(column, there)
            faults.append(f"it has no column '{column}' ({name}); it has {', '.join(there) or 'none'}.{near}")
    if faults:
        fix = "Another name: columns: {image: ITS NAME} in dataset.yaml."
        raise DataError(f"{path}: {' '.join(faults)} {fix}")
    spare = [column for column in there if column not in names.values()]
    if spare:
        notebook.finding("note", "columns_unread", f"{path.name} has columns that are not read: {names_of(spare)}.")
    return {name: column for name, column in names.items() if column in there}


def _find_rows(table: str, root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    path = root / table
    rows = read_table(path)
    columns = _columns(path, columns_of(rows), spec.columns, notebook)
    below = PurePosixPath(table).parent.as_posix()
    pairs, row_of, line_of = list[Pair](), dict[str, Row](), dict[PurePosixPath, str]()
    for number, (where, values) in enumerate(rows, 1):
        cells = {name: _cell(values.get(column)) for name, column in columns.items()}
        empty = [name for name in NEEDED if cells[name] is None]
        if empty:
            notebook.fault("wrong", "cell_empty", where, f"has no {' and no '.join(empty)}.", "Every row needs both.")
            continue
        image, mask = (find_inner(root, str(cells[name]), below, where, notebook) for name in NEEDED)
        if image is None or mask is None:
            continue
        strange = [str(file) for file in (image, mask) if file.suffix.lower() not in SUFFIXES]
        if strange:
            notebook.fault("wrong", "type_not_read", where, f"names {strange[0]}.", "Save it as PNG.")
            continue
        if image in line_of:
            seen = f"names {image} again ({line_of[image]})."
            notebook.fault("wrong", "image_twice", where, seen, "Keep one row an image.")
            continue
        line_of[image] = where
        name = str(image.with_suffix(""))
        if name in row_of:
            seen = f"names {image}, whose stem {name} stands there already."
            notebook.fault("wrong", "same_stem", where, seen, "Rename one of them.")
            continue
        pairs.append(Pair(name, "train", root / image, root / mask, str(image), str(mask)))
        row_of[name] = Row(number + 1, name, cells.get("group"), cells.get("fold"), cells.get("split"))
    if not pairs:
        more = "".join(f" {finding.message}" for finding in notebook.summary())
        raise DataError(f"{path} names no pair of an image and a mask that are there.{more}")
    note_unlisted(root, (file for pair in pairs for file in (pair.image, pair.mask)), SUFFIXES, path.name, notebook)
    return place_by_rows(row_of, path.name, spec, pairs, notebook)


def _cell(value: Any) -> str | None:
    """A cell as text; a number of JSON as it is written, an empty cell as None."""
    if value is None or isinstance(value, (list, dict)):
        return None
    return str(value).strip() or None


def label_table_source(root: Path, spec: DatasetSpec) -> LabelledSource:
    """The source of a folder of images and a table of their labels.

    Raises:
        DataError, ConfigError: the folder or the table is missing or empty, or its classes cannot be.
    """
    return LabelledSource(root, spec, list_table(root, spec))


def list_table(root: Path, spec: DatasetSpec) -> Listing:
    """Every image with the label of its row.

    Raises:
        DataError: the folder or the table is missing, or no image has a row with a label.
    """
    folder_of(root, spec.images, "images")
    noted = Notebook()
    files = files_by_stem(root, spec.images, noted)
    tops = {path.parts[0] for path in files.values() if len(path.parts) > 1}
    pairs = [image_of(root, spec.images, path, part_of(path, tops)) for path in files.values()]
    if not pairs:
        raise DataError(f"{root / spec.images} holds no image ({READABLE}).")
    rows = read_rows(root / spec.labels, LABEL_COLUMNS)
    known = class_names(spec, root)
    labels = sorted({row.label for row in rows if row.label}, key=natural_key)
    classes = known or validated_classes(labels, root / spec.labels)
    row_of = assign_rows(rows, pairs, spec.labels, noted, "wrong")
    without = [pair.image_label for pair in pairs if pair.name not in row_of]
    if without:
        count = f"{len(without)} image{'s have' if len(without) > 1 else ' has'}"
        fix = f"Add what is missing to {spec.labels}, or move the images away."
        noted.finding("wrong", "label_missing", f"{count} no label ({names_of(without)}). {fix}", spec.labels)
    _note_labels(rows, classes, spec.labels, noted)
    named = [pair for pair in pairs if pair.name in row_of and row_of[pair.name].label in classes]
    if not named:
        more = "".join(f" {finding.message}" for finding in noted.summary())
        raise DataError(f"{root / spec.labels} gives no image a label that is a class.{more}")
    placed = (
        place_by_rows(row_of, spec.labels, spec, named, noted)
        if _has_places(root, spec, rows, noted)
        else place_pairs(root, spec, named, noted)
    )
    images = tuple(Labelled(one, classes.index(str(row_of[one.pair.name].label))) for one in placed)
    return Listing(classes, images, noted)


def _note_labels(rows: Sequence[Row], classes: Sequence[str], table: str, noted: Notebook) -> None:
    """Rows whose label is empty or no class."""
    for row in rows:
        where = f"{table} line {row.line}"
        if row.label is None:
            noted.fault("wrong", "label_empty", where, f"gives '{row.name}' no label.", "Every row needs one.")
        elif row.label not in classes:
            seen = f"gives '{row.name}' the label '{row.label}'; classes are {', '.join(classes)}."
            fix = f"Add it to classes, or correct the row.{did_you_mean(row.label, classes)}"
            noted.fault("wrong", "label_unknown", where, seen, fix)


def _has_places(root: Path, spec: DatasetSpec, rows: Sequence[Row], noted: Notebook) -> bool:
    """Whether the table itself says groups, folds or parts; it must not be said twice."""
    own = any(row.group or row.fold or row.split for row in rows)
    other = spec.groups or ("groups.csv" if (root / "groups.csv").exists() else None)
    if own and other:
        message = f"{spec.labels} has columns of groups, folds or parts, and so has {other}. Keep one of them."
        noted.finding("wrong", "groups_twice", message, spec.labels)
    return own
