"""COCO JSON: polygons, run lengths and crowds, drawn over a background.

A crowd region is ignored and lies under all objects. Categories of one name are one; images that the file lists
and that have no annotation are all background. Sizes are bounded before anything is drawn.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.dataset import IGNORE, Part
from segdecay.data.formats.annotations import Drawn, DrawnSource, Names, Shape
from segdecay.data.formats.folders import classes_of
from segdecay.data.formats.pairing import SUFFIXES, Pair, files_below, natural_key, part_named, place_pairs
from segdecay.data.formats.tables import existing, find_inner, inner_path, note_unlisted
from segdecay.data.images.rasterize import Bits, ShapeError, fill_polygon, fill_runs, parse_runs
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import ConfigError, DataError

MOST_BYTES = 1 << 30  # of one JSON file; instances_train2017.json has 449 MB
MOST_CORNERS = 1_000_000  # of one polygon
Row = Mapping[str, Any]
Entry = tuple[Pair, Sequence[Shape], tuple[int, int] | None, str]  # of an image; stated size; content as text


def coco_source(root: Path, spec: DatasetSpec) -> DrawnSource:
    """The source of COCO files.

    Raises:
        DataError, ConfigError: a file is missing or is none, or names no image that is there.
    """
    classes, noted = classes_of(spec, root), Notebook()
    names = Names(classes, spec.names)
    found: list[Entry] = []
    for path, part in annotation_files(root, spec):
        found += _CocoReader(root, spec, names, path, part, noted).images()
    if not found:
        more = "".join(f" {finding.message}" for finding in noted.summary())
        raise DataError(f"{root / str(spec.annotations)} names no image that is there.{more}")
    note_unlisted(root, (pair.image for pair, *_ in found), SUFFIXES, str(spec.annotations), noted)
    found.sort(key=lambda one: natural_key(one[0].name))
    placed = place_pairs(root, spec, [pair for pair, *_ in found], noted)
    drawn = [
        Drawn(place, shapes, size, content) for place, (_, shapes, size, content) in zip(placed, found, strict=True)
    ]
    return DrawnSource(root, spec, classes, drawn, noted)


def annotation_files(root: Path, spec: DatasetSpec) -> list[tuple[PurePosixPath, Part]]:
    """The JSON files, relative to root, and the part that each is of.

    Raises:
        ConfigError: `annotations` is missing.
        DataError: it names no file.
    """
    if spec.annotations is None:
        raise ConfigError(f"{root}: layout: coco needs annotations: FILE.json; {{split}} may stand for its part.")
    text = spec.annotations
    if "{split}" not in text:
        return [(PurePosixPath(text), "train")]
    first, *others = (re.escape(piece) for piece in text.split("{split}"))
    pattern = re.compile(first + "([A-Za-z]+)" + r"\1".join(others))
    there = [path for path in files_below(root) if path.suffix.lower() == ".json"]
    found = [(path, match[1]) for path in there if (match := pattern.fullmatch(str(path)))]
    files = [(path, part) for path, word in found if (part := part_named(word)) is not None]
    if not files:
        seen = names_of([str(path) for path in there]) or "no JSON"
        raise DataError(
            f"{root}: annotations: {text} names no file whose split is train, val or test; there is {seen}."
        )
    return files


def read_coco(path: Path) -> dict[str, list[Row]]:
    """The lists images, annotations and categories of a COCO file, each a list of objects.

    Raises:
        DataError: missing, too large, no JSON, or without these lists.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} does not exist.") from error
    if size > MOST_BYTES:
        raise DataError(f"{path} has {size / 2**30:.1f} GiB; at most 1 GiB is read. Split it by part.")
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"{path} is no valid JSON: {error}.") from error
    lists = ("images", "annotations", "categories")
    found: dict[str, Any] = {key: values.get(key) if isinstance(values, dict) else None for key in lists}
    wrong = [
        key for key, rows in found.items() if not isinstance(rows, list) or any(type(row) is not dict for row in rows)
    ]
    if wrong:
        raise DataError(f"{path} is no COCO file: {', '.join(wrong)} must be there, each a list of objects.")
    return found


class _CocoReader:
    """One COCO file to images with shapes; what is wrong in it is noted."""

    def __init__(
        self, root: Path, spec: DatasetSpec, names: Names, path: PurePosixPath, part: Part, noted: Notebook
    ) -> None:
        self._root, self._spec, self._names = root, spec, names
        self._label, self._part, self._noted = path.name, part, noted
        self._content = read_coco(root / path)
        self._folder = spec.images.replace("{split}", word_of(path, spec))

    def images(self) -> list[Entry]:
        meaning = self._categories()
        rows_of = defaultdict[str, list[Row]](list)
        ids = Counter(_key_of(row.get("id")) for row in self._content["images"])
        orphans = [row for row in self._content["annotations"] if _key_of(row.get("image_id")) not in ids]
        for row in self._content["annotations"]:
            rows_of[_key_of(row.get("image_id"))].append(row)
        if orphans:
            stray = names_of(list(dict.fromkeys(_key_of(row.get("image_id")) for row in orphans)))
            message = (
                f"{self._label} has {len(orphans)} of {len(self._content['annotations'])} annotations of images that "
                f"it does not list (image_id {stray}; ids of images: {names_of(list(ids))}). Correct these image_id, "
                "or list their images."
            )
            self._noted.finding("wrong", "annotation_orphaned", message, self._label)
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            message = f"{self._label} gives several images one id ({names_of(twice)}). Give each its own."
            self._noted.finding("wrong", "image_id_twice", message, self._label)
        found, seen = list[Entry](), set[str]()
        for number, row in enumerate(self._content["images"], 1):
            name, where = row.get("file_name"), f"{self._label} image {row.get('id', number)}"
            if not isinstance(name, str):
                self._noted.fault("wrong", "file_absent", where, "has no file_name.", "Add it, or remove the entry.")
                continue
            path = find_inner(self._root, self._local(name), self._folder, where, self._noted)
            if path is None:
                continue
            stem = str(path.with_suffix(""))
            if stem in seen:
                self._noted.fault("wrong", "image_twice", where, f"names {path} again.", "Keep one entry an image.")
                continue
            seen.add(stem)
            size = self._size(row, where)
            annotations = rows_of.get(_key_of(row.get("id")), [])
            shapes = [shape for one in annotations if (shape := self._shape(one, meaning)) is not None]
            content = repr([[shape.label, shape.under] for shape in shapes]) + json.dumps(annotations, sort_keys=True)
            image = self._root / path
            pair = Pair(stem, self._part, image, image, str(path), self._label)
            found.append((pair, shapes, size, content))
        return found

    def _local(self, name: str) -> str:
        """The name of a file that is there, where a file is named by an address on the web."""
        for short in path_of_address(name):
            inner = inner_path(short, self._folder)
            if inner is not None and existing(self._root, inner) is not None:
                return short
        return name

    def _categories(self) -> dict[str, int | None]:
        """Category id (as text): class index, IGNORE, or None where its name means nothing."""
        used = Counter(_key_of(row.get("category_id")) for row in self._content["annotations"])
        name_of: dict[str, str] = {}
        for row in self._content["categories"]:
            number, name = _key_of(row.get("id")), str(row.get("name"))
            if name_of.setdefault(number, name) != name:
                seen = f"has category {number} twice, as '{name_of[number]}' and '{name}'."
                self._noted.fault("wrong", "category_twice", self._label, seen, "Give each its own id.")
        for name, count in Counter(name_of.values()).items():
            if count > 1:
                ids = ", ".join(number for number, other in name_of.items() if other == name)
                text = f"has category '{name}' under several ids ({ids}); they are taken as one."
                self._noted.fault("note", "category_merged", self._label, text)
        for number, count in used.items():
            if number not in name_of:
                seen = f"has {count} annotations of category {number}, which it does not list."
                self._noted.fault("wrong", "category_absent", self._label, seen, "Add it to its categories.")
            elif self._names.find(name_of[number]) is None:
                seen = f"has {count} annotations of category '{name_of[number]}', which is no class."
                fix = self._names.missing(name_of[number])
                self._noted.fault("wrong", "category_unknown", self._label, seen, fix)
        return {number: self._names.find(name) for number, name in name_of.items()}

    def _size(self, row: Row, where: str) -> tuple[int, int] | None:
        height, width = row.get("height"), row.get("width")
        if type(height) is not int or type(width) is not int:
            return None
        limit = Image.MAX_IMAGE_PIXELS or 0
        if height < 1 or width < 1 or height * width > limit:
            seen = f"states {width}x{height} pixels; 1 to {limit} in all are read."
            self._noted.fault("wrong", "size_unusable", where, seen, "Correct width and height.")
            return None
        return height, width

    def _shape(self, row: Row, meaning: Mapping[str, int | None]) -> Shape | None:
        label = meaning.get(_key_of(row.get("category_id")))
        if label is None:
            return None
        where = f"{self._label} annotation {row.get('id')}"
        is_crowd = row.get("iscrowd") in (1, True)
        fill = partial(fill_segmentation, row.get("segmentation"))
        return Shape(IGNORE if is_crowd else label, where, fill, under=is_crowd)


def word_of(path: PurePosixPath, spec: DatasetSpec) -> str:
    """What {split} stands for in a file's path; {split} itself where it does not occur."""
    first, *others = (re.escape(piece) for piece in str(spec.annotations).split("{split}"))
    found = re.fullmatch(first + "([A-Za-z]+)" + r"\1".join(others), str(path)) if others else None
    return found[1] if found else "{split}"


def _key_of(number: Any) -> str:
    """An id as text: a number and the same number as a text are one.

    >>> _key_of(7), _key_of("7"), _key_of(7.0)
    ('7', '7', '7')
    """
    is_whole = isinstance(number, float) and number.is_integer()
    return str(int(number)) if is_whole else str(number)


def path_of_address(text: str) -> list[str]:
    """The file names that an address on the web may stand for, the longest first; nothing for a plain path.

    >>> path_of_address("https://x.org/o/images%2Fa%201.jpg?token=1")
    ['o/images/a 1.jpg', 'images/a 1.jpg', 'a 1.jpg']
    """
    if "://" not in text:
        return []
    words = [word for word in unquote(urlsplit(text).path).split("/") if word not in ("", ".", "..")]
    return ["/".join(words[start:]) for start in range(len(words))]


def fill_segmentation(segmentation: Any, size: tuple[int, int]) -> Bits:
    """The pixels (H, W) of a COCO segmentation: polygons, or run lengths, compressed or not.

    Raises:
        ShapeError: it is none of them, or does not fit the image.
    """
    if isinstance(segmentation, dict):
        return _fill_rle(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ShapeError("has no polygon and no run lengths.", "shape_empty", "A box is no mask: outline it.")
    flat = segmentation if isinstance(segmentation[0], list) else [segmentation]
    if all(isinstance(point, list) and len(point) == 2 for point in flat):  # corners as [x, y]
        flat = [[side for point in flat for side in point]]
    covered = np.zeros(size, dtype=np.bool_)
    for polygon in flat:
        covered |= fill_polygon(corners_of(polygon), size)
    return covered


def corners_of(numbers: Any) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(N, 2) corners of a flat list x, y, x, y, …

    Raises:
        ShapeError: fewer than three corners, an odd count, too many, or no finite numbers.
    """
    are_numbers = isinstance(numbers, list) and all(type(one) in (int, float) for one in numbers)
    if not are_numbers or len(numbers) < 6 or len(numbers) % 2 or len(numbers) > 2 * MOST_CORNERS:
        raise ShapeError("has a polygon that is no list of at least three corners x, y.")
    if not all(math.isfinite(one) and abs(one) < 1e7 for one in numbers):
        raise ShapeError("has a corner that is not finite, or beyond 10⁷.")
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def _fill_rle(segmentation: Row, size: tuple[int, int]) -> Bits:
    own, counts = segmentation.get("size"), segmentation.get("counts")
    if own != list(size):
        raise ShapeError(f"has run lengths of size {str(own)[:40]} (height, width), its image is {list(size)}.")
    try:
        if not isinstance(counts, str) and not (isinstance(counts, list) and all(type(one) is int for one in counts)):
            raise ValueError("counts must be a text or a list of whole numbers")
        return fill_runs(parse_runs(counts) if isinstance(counts, str) else counts, size)
    except (ValueError, OverflowError) as error:
        raise ShapeError(f"has run lengths that cannot be read: {error}.") from error
