"""VGG Image Annotator: JSON files of regions, drawn over a background.

Polygons, rectangles, circles and ellipses cover pixels; points and lines are refused. The value of one attribute of a
region is its class; a set without attributes has one class of objects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.annotations import Drawn, DrawnSource, Names, Shape
from segdecay.data.formats.coco import annotation_files, corners_of, word_of
from segdecay.data.formats.folders import classes_of
from segdecay.data.formats.pairing import SUFFIXES, Pair, natural_key, place_pairs
from segdecay.data.formats.tables import find_inner, note_unlisted
from segdecay.data.images.rasterize import Bits, ShapeError, fill_polygon
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import ConfigError, DataError

MOST_BYTES = 1 << 28  # of one JSON
ROUND_CORNERS = 90


def read_via(path: Path) -> list[Mapping[str, Any]]:
    """The entries of a file of VIA (annotations, or a whole project), one an image, each with a list `regions`.

    Raises:
        ValueError: it is none.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 256 MiB")
        values = json.loads(read_text(path))
    except (OSError, RecursionError, ConfigError) as error:
        raise ValueError(str(error)) from error
    if isinstance(values, dict) and isinstance(values.get("_via_img_metadata"), dict):
        values = values["_via_img_metadata"]
    entries = list(values.values()) if isinstance(values, dict) else values if isinstance(values, list) else []
    found = list[Mapping[str, Any]]()
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str) or "regions" not in entry:
            raise ValueError("it is no file of VIA: entries need a filename and regions")
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
            raise ValueError(f"the regions of {entry['filename']} are no list")
        found.append({"filename": entry["filename"], "regions": regions})
    if not found:
        raise ValueError("it names no image")
    return found


def class_of_region(region: Mapping[str, Any], attribute: str | None) -> str | None:
    """What a region's attribute says: a text, or the one box that is ticked; None where it says nothing.

    >>> class_of_region({"region_attributes": {"kind": {"car": True, "bus": False}}}, "kind")
    'car'
    """
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) and attribute is not None else None
    if isinstance(value, dict):
        ticked = [str(name) for name, is_set in value.items() if is_set]
        return ticked[0] if len(ticked) == 1 else None
    return None if value in (None, "") else str(value)


def via_source(root: Path, spec: DatasetSpec) -> DrawnSource:
    """The source of files of VIA; file names are relative to `images`, where `images` is given, else to the JSON.

    Raises:
        DataError, ConfigError: a file is missing or is none, or names no image that is there.
    """
    classes, noted = classes_of(spec, root), Notebook()
    found = list[tuple[Pair, Sequence[Shape], str]]()
    for path, part in annotation_files(root, spec):
        found += _entries(root, spec, classes, path, part, noted)
    if not found:
        more = "".join(f" {finding.message}" for finding in noted.summary())
        raise DataError(f"{root / str(spec.annotations)} names no image that is there.{more}")
    note_unlisted(root, (pair.image for pair, *_ in found), SUFFIXES, str(spec.annotations), noted)
    found.sort(key=lambda one: natural_key(one[0].name))
    placed = place_pairs(root, spec, [pair for pair, *_ in found], noted)
    drawn = [Drawn(place, shapes, None, content) for place, (_, shapes, content) in zip(placed, found, strict=True)]
    return DrawnSource(root, spec, classes, drawn, noted)


def _entries(
    root: Path, spec: DatasetSpec, classes: tuple[str, ...], path: PurePosixPath, part: Part, noted: Notebook
) -> list[tuple[Pair, Sequence[Shape], str]]:
    try:
        entries = read_via(root / path)
    except ValueError as error:
        raise DataError(f"{root / path} is no file of VIA: {error}.") from error
    given = "images" in spec.model_fields_set
    folder = spec.images.replace("{split}", word_of(path, spec)) if given else path.parent.as_posix()
    names, found, seen = Names(classes, spec.names), list[tuple[Pair, Sequence[Shape], str]](), set[str]()
    for entry in entries:
        where = f"{path.name} image {entry['filename']}"
        image = find_inner(root, entry["filename"], folder, where, noted)
        if image is None:
            continue
        stem = str(image.with_suffix(""))
        if stem in seen:
            noted.fault("wrong", "image_twice", where, f"names {image} again.", "Keep one entry an image.")
            continue
        seen.add(stem)
        shapes = [
            shape
            for number, region in enumerate(entry["regions"], 1)
            if (shape := _shape(region, f"{where} region {number}", spec, names, noted)) is not None
        ]
        content = repr([shape.label for shape in shapes]) + json.dumps(entry["regions"], sort_keys=True)
        found.append((Pair(stem, part, root / image, root / image, str(image), path.name), shapes, content))
    return found


def _shape(region: Mapping[str, Any], where: str, spec: DatasetSpec, names: Names, noted: Notebook) -> Shape | None:
    if spec.attribute is None:
        others = [name for name in names.classes if name != spec.background and name != "background"]
        if len(others) != 1:
            seen = f"is of no class: attribute is not set, and there are {', '.join(names.classes)}."
            noted.fault("wrong", "category_unknown", where, seen, "Set attribute: NAME, or keep one class of objects.")
            return None
        return Shape(names.classes.index(others[0]), where, partial(fill_region, region.get("shape_attributes")))
    name = class_of_region(region, spec.attribute)
    index = None if name is None else names.find(name)
    if index is None:
        seen = f"has '{name}' as its {spec.attribute}, which is no class." if name else f"has no {spec.attribute}."
        noted.fault("wrong", "category_unknown", where, seen, names.missing(name or "NAME"))
        return None
    return Shape(index, where, partial(fill_region, region.get("shape_attributes")))


def fill_region(shape: Any, size: tuple[int, int]) -> Bits:
    """The pixels (H, W) of one region.

    Raises:
        ShapeError: a point or a line, an unknown shape, or numbers that are none.
    """
    kind = shape.get("name") if isinstance(shape, dict) else None
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ShapeError("is a polygon without as many x as y.")
        return fill_polygon(corners_of([side for point in zip(xs, ys, strict=True) for side in point]), size)
    if kind == "rect":
        x, y, width, height = _numbers(shape, "x", "y", "width", "height")
        return fill_polygon(np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]]), size)
    if kind == "circle":
        x, y, radius = _numbers(shape, "cx", "cy", "r")
        return fill_polygon(_round(x, y, radius, radius, 0.0), size)
    if kind == "ellipse":
        x, y, across, down = _numbers(shape, "cx", "cy", "rx", "ry")
        turn = shape.get("theta", 0.0)
        return fill_polygon(_round(x, y, across, down, float(turn) if type(turn) in (int, float) else 0.0), size)
    seen = f"is a {str(kind)[:20]}, which covers no pixels."
    raise ShapeError(seen, "shape_type", "Draw a polygon, a rectangle, a circle or an ellipse.")


def _numbers(shape: Mapping[str, Any], *keys: str) -> list[float]:
    numbers = [shape.get(key) for key in keys]
    if not all(type(one) in (int, float) and math.isfinite(one) and abs(one) < 1e7 for one in numbers):  # type: ignore[arg-type]
        raise ShapeError(f"is a {shape.get('name')} without the numbers {', '.join(keys)}.")
    return [float(one) for one in numbers]  # type: ignore[arg-type]


def _round(x: float, y: float, across: float, down: float, turn: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    angles = np.linspace(0, 2 * math.pi, ROUND_CORNERS, endpoint=False)
    right, below = across * np.cos(angles), down * np.sin(angles)
    return np.stack(
        [x + right * math.cos(turn) - below * math.sin(turn), y + right * math.sin(turn) + below * math.cos(turn)],
        axis=1,
    )
