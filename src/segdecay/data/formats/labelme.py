"""labelme: one JSON an image, with polygons, rectangles and circles, drawn over a background.

Points and lines cover nothing and are refused. The image inside a JSON (imageData) is not read: it must lie beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segdecay.data.checks.findings import Notebook
from segdecay.data.formats.annotations import Drawn, DrawnSource, Names, Shape
from segdecay.data.formats.coco import corners_of
from segdecay.data.formats.folders import classes_of
from segdecay.data.formats.pairing import SUFFIXES, Pair, files_below, folder_of, natural_key, part_named, place_pairs
from segdecay.data.formats.tables import find_inner, note_unlisted
from segdecay.data.images.rasterize import Bits, ShapeError, fill_polygon
from segdecay.data.spec import DatasetSpec
from segdecay.errors import DataError

MOST_BYTES = 1 << 28  # of one JSON; imageData makes them as large as the photograph
CIRCLE_CORNERS = 90


def labelme_source(root: Path, spec: DatasetSpec) -> DrawnSource:
    """The source of a folder of labelme files; `annotations` is that folder, else the data folder.

    Raises:
        DataError, ConfigError: no JSON of labelme is there, or no class is named.
    """
    classes, noted = classes_of(spec, root), Notebook()
    names, folder = Names(classes, spec.names), spec.annotations or "."
    folder_of(root, folder, "annotations")
    below = PurePosixPath(folder)
    paths = [below / path for path in files_below(root / folder) if path.suffix.lower() == ".json"]
    entries = [entry for path in paths if (entry := _read(root, path, names, noted)) is not None]
    seen, kept = set[str](), list[tuple[Pair, Sequence[Shape], str]]()
    for entry in sorted(entries, key=lambda one: natural_key(one[0].name)):
        if entry[0].name in seen:
            noted.fault("wrong", "image_twice", entry[0].mask_label, f"is a second JSON of {entry[0].image_label}.", "")
            continue
        seen.add(entry[0].name)
        kept.append(entry)
    if not kept:
        more = "".join(f" {finding.message}" for finding in noted.summary())
        raise DataError(f"{root / folder} holds no labelme JSON with its image.{more}")
    note_unlisted(root, (pair.image for pair, *_ in kept), SUFFIXES, "a JSON", noted)
    placed = place_pairs(root, spec, [pair for pair, *_ in kept], noted)
    drawn = [Drawn(place, shapes, None, content) for place, (_, shapes, content) in zip(placed, kept, strict=True)]
    return DrawnSource(root, spec, classes, drawn, noted)


def read_labelme(path: Path) -> dict[str, Any]:
    """A JSON of labelme without its imageData.

    Raises:
        ValueError: it is none.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 256 MiB")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error
    shapes = values.get("shapes") if isinstance(values, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError("it has no list of shapes")
    path = values.get("imagePath")
    return {"shapes": shapes, "imagePath": path.replace("\\", "/").lstrip("/") if isinstance(path, str) else path}


def _read(root: Path, path: PurePosixPath, names: Names, noted: Notebook) -> tuple[Pair, Sequence[Shape], str] | None:
    label = str(path)
    try:
        values = read_labelme(root / path)
    except ValueError as error:
        noted.fault("wrong", "labelme_unusable", label, f"is no JSON of labelme: {error}.", "Remove or replace it.")
        return None
    name = values["imagePath"]
    if not isinstance(name, str):
        noted.fault("wrong", "file_absent", label, "names no image (imagePath).", "Save it again with labelme.")
        return None
    image = find_inner(root, name, path.parent.as_posix(), label, noted)
    if image is None:
        return None
    shapes = [
        shape for number, one in enumerate(values["shapes"], 1) if (shape := _shape(one, number, label, names, noted))
    ]
    stem = str(image.with_suffix(""))
    parts = [part for word in image.parts[:-1] if (part := part_named(word)) is not None]
    pair = Pair(stem, parts[0] if parts else "train", root / image, root / image, str(image), label)
    content = repr([shape.label for shape in shapes]) + json.dumps(values["shapes"], sort_keys=True)
    return pair, shapes, content


def _shape(row: dict[str, Any], number: int, label: str, names: Names, noted: Notebook) -> Shape | None:
    name, where = str(row.get("label")), f"{label} shape {number}"
    index = names.find(name)
    if index is None:
        noted.fault("wrong", "category_unknown", where, f"is of '{name}', which is no class.", names.missing(name))
        return None
    return Shape(index, where, partial(fill_shape, row))


def fill_shape(row: dict[str, Any], size: tuple[int, int]) -> Bits:
    """The pixels (H, W) of one shape.

    Raises:
        ShapeError: a point or a line, an unknown type, or corners that are none.
    """
    kind, points = row.get("shape_type") or "polygon", row.get("points")
    if kind not in {"polygon", "rectangle", "circle"}:
        seen = f"is a {str(kind)[:20]}, which covers no pixels."
        raise ShapeError(seen, "shape_type", "Draw a polygon, a rectangle or a circle, or remove it.")
    are_points = isinstance(points, list) and all(isinstance(one, list) and len(one) == 2 for one in points)
    flat = [side for point in points for side in point] if are_points and points else None
    if kind == "polygon":
        return fill_polygon(corners_of(flat), size)
    if flat is None or len(flat) != 4:
        raise ShapeError(f"is a {kind} without its two points.")
    corners = corners_of([*flat, *flat[:2]])  # the check of numbers is the same
    (x0, y0), (x1, y1) = corners[0], corners[1]
    if kind == "rectangle":
        return fill_polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), size)
    turn = np.linspace(0, 2 * math.pi, CIRCLE_CORNERS, endpoint=False)
    radius = math.hypot(x1 - x0, y1 - y0)
    return fill_polygon(np.stack([x0 + radius * np.cos(turn), y0 + radius * np.sin(turn)], axis=1), size)
