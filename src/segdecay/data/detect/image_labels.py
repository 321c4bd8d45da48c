"""Guesses for folders of images with one label each: CIFAR-10, a table of labels, class folders.

Looks at names only, after `init` has found no images with masks.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from segdecay.data.checks.findings import names_of
from segdecay.data.detect.ambiguity import Idea
from segdecay.data.detect.image_or_mask import MASK_WORDS, words_of
from segdecay.data.formats.cifar10 import batches_of, find_cifar
from segdecay.data.formats.pairing import LABEL_COLUMNS, SUFFIXES, natural_key, part_named
from segdecay.data.spec import read_text
from segdecay.errors import ConfigError

TABLES = ("labels.csv", "train.csv", "annotations.csv")
FOLDERS = ("images", "image", "imgs", "img", "photos")
NOT_CLASSES = {*FOLDERS, "masks", "mask", "labels", "label", "annotations", "annot", "gt", "overlays", "predictions"}
FLIP = Idea(
    "flip",
    "horizontal",
    "assumed: left and right may be exchanged. Set none for text and digits, both for views from above",
)


def guess_labels(folder: Path) -> list[Idea] | None:
    """The keys of dataset.yaml for images with one label each; None where there are none."""
    for guess in (_cifar, _table, _class_folders):
        ideas = guess(folder)
        if ideas is not None:
            return [Idea("task", "classification", "every image has one label"), *ideas, FLIP]
    return None


def _cifar(folder: Path) -> list[Idea] | None:
    found = find_cifar(folder)
    if found is None:
        return None
    batches = batches_of(found)
    layout = "binary" if batches[0].path.suffix else "Python"
    tests = sum(batch.part == "test" for batch in batches)
    seen = f"{len(batches) - tests} batches of CIFAR-10 in the {layout} layout"
    seen += " and a test batch, which becomes the part test" if tests else "; there is no test batch"
    return [Idea("labels", "cifar10", seen)]


def _table(folder: Path) -> list[Idea] | None:
    for name in TABLES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            columns = next(csv.reader(read_text(path).splitlines()), [])
        except (ConfigError, csv.Error):
            continue
        known = {column.strip() for column in columns}
        if not {"name", "label"} <= known:
            continue
        strange = sorted(known - set(LABEL_COLUMNS))
        notes = [Idea(None, None, f"{name} has columns that are not read ({names_of(strange)}); remove them.")]
        images = _images_folder(folder)
        return [
            Idea("labels", name, f"{name} has columns name and label"),
            *([Idea("images", images, "the folder that holds images")] if images != "images" else []),
            *(notes if strange else []),
        ]
    return None


def _images_folder(folder: Path) -> str:
    there = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
    return next((there[name] for name in FOLDERS if name in there), ".")


def _class_folders(folder: Path) -> list[Idea] | None:
    """Class folders at the top, or inside one folder of images; with or without folders of parts above them."""
    tops = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
    if any(words_of(name) & MASK_WORDS for name in tops.values()):
        return None
    images = "." if not any(name in tops for name in FOLDERS) else _images_folder(folder)
    inside = _folders(folder / images)
    parts = sorted(name for name in inside if part_named(name))
    classes = sorted(
        {name for part in parts for name in _folders(folder / images / part)} if parts else {*inside}, key=natural_key
    )
    places = [folder / images / part for part in parts] if parts else [folder / images]
    filled = [name for name in classes if any(_has_image(place / name) for place in places)]
    if len(filled) < 2 or any(name.lower() in NOT_CLASSES for name in classes):
        return None
    where = f"folders of classes inside {', '.join(parts)}" if parts else "one folder a class"
    ideas = [Idea("labels", "folders", f"{where}: {names_of(classes)}")]
    ideas += [Idea("images", images, "the folder that holds them")] if images != "images" else []
    ideas.append(Idea("classes", classes, "the folders' names, in natural order: index 0 is the first"))
    empty = [name for name in classes if name not in filled]
    if empty:
        ideas.append(Idea(None, None, f"No image lies in {names_of(empty)}; check will say so."))
    return ideas


def _folders(folder: Path) -> Sequence[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]


def _has_image(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
