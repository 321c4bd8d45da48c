"""Which group, fold and part each pair belongs to: groups.csv, a pattern over names, or nothing known."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks import Level, Notebook, names_of
from segdecay.data.dataset import POOL, Part
from segdecay.data.sources.pairs import PART_ALIASES, PARTS, SUFFIXES, Pair
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import DataError, unknown

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
                self._of[key].append(pair)

    def find(self, row: Row) -> list[Pair]:
        path = PurePosixPath(row.name)
        stem = str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else row.name
        found = self._of.get(stem, [])
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
    split = PART_ALIASES.get(row.split, row.split)
    where = f"{label} line {row.line}"
    if split not in PARTS:
        notebook.fault("wrong", "split_unknown", where, f"has split '{row.split}'.", "Allowed: train, val, test.")
        return pair.part
    if has_parts and split != pair.part:
        fix = "Move the files, or correct the line."
        notebook.fault(
            "wrong", "split_differs", where, f"says {split}, but {pair.image_label} lies in {pair.part}.", fix
        )
        return pair.part
    return cast("Part", split)


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


def place_by_rows(
    row_of: Mapping[str, Row], label: str, spec: DatasetSpec, pairs: Sequence[Pair], notebook: Notebook
) -> tuple[Placed, ...]:
    """As `place_pairs`, from the row of each pair, by the pair's name; label: the file of the rows, for people."""
    has_parts = any(pair.part != "train" for pair in pairs) or any(pair.name.startswith("train/") for pair in pairs)
    groups = {name: row.group for name, row in row_of.items() if row.group}
    if spec.group_pattern:
        if groups:
            message = f"dataset.yaml has a group_pattern and {label} has a column group. Remove one of them."
            notebook.finding("wrong", "groups_twice", message, label)
        groups = _groups_of_pattern(pairs, spec.group_pattern, notebook)
    placed = []
    for pair in pairs:
        row = row_of.get(pair.name)
        part = _split_of(row, pair, has_parts, label, notebook) if row else pair.part
        fold = _fold_of(row, label, notebook) if row else None
        placed.append(Placed(replace(pair, part=part), groups.get(pair.name, pair.name), fold))
    _check_complete(placed, set() if spec.group_pattern else set(groups), label, spec, notebook)
    return tuple(placed)
