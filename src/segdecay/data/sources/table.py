"""A table of pairs, CSV or JSON: columns image and mask, and group, split and fold where they are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from segdecay.data.checks import Notebook, names_of
from segdecay.data.sources.folders import FolderSource
from segdecay.data.sources.grouping import Placed, Row, place_by_rows
from segdecay.data.sources.inner import find_inner, note_unlisted
from segdecay.data.sources.pairs import SUFFIXES, Pair
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import ConfigError, DataError, did_you_mean

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
    """Our word for a column: its name in the table.

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
