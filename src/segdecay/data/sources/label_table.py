"""A table of labels: a CSV with columns name and label, and group, split and fold where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segdecay.data.checks import Notebook, names_of
from segdecay.data.sources.grouping import LABEL_COLUMNS, Row, assign_rows, place_by_rows, place_pairs, read_rows
from segdecay.data.sources.labelled import Labelled, LabelledSource, Listing, image_of, part_of, validated_classes
from segdecay.data.sources.pairs import files_by_stem, folder_of, natural_key
from segdecay.data.spec import DatasetSpec, class_names
from segdecay.errors import DataError, did_you_mean


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
        raise DataError(f"{root / spec.images} holds no image (PNG, JPEG, TIFF, .npy or .mat).")
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
