"""YOLO segmentation: a text file an image; a line is a class number and an outline, as shares of the sides.

`values` gives the numbers their classes. An image without a text file, or with an empty one, is all background.
Lines of a box (four numbers) cover no outline and are refused.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.formats.annotations import Drawn, DrawnSource, Shape
from segdecay.data.formats.coco import corners_of
from segdecay.data.formats.folders import classes_of, compile_template, part_of_fields
from segdecay.data.formats.pairing import SUFFIXES, Pair, files_below, place_pairs
from segdecay.data.images.rasterize import Bits, ShapeError, fill_polygon
from segdecay.data.spec import DatasetSpec
from segdecay.errors import ConfigError, DataError

BOX_NUMBERS = 4
MOST_BYTES = 1 << 26  # of one text file
BEYOND = 0.05  # of a side: how far a corner may lie outside of its image


def yolo_source(root: Path, spec: DatasetSpec) -> DrawnSource:
    """The source of images with outlines in text files; `images` and `annotations` are templates.

    Raises:
        DataError, ConfigError: templates that cannot be, or no image.
    """
    classes, noted = classes_of(spec, root), Notebook()
    if spec.annotations is None or not spec.values:
        raise ConfigError(
            f"{root}: layout: yolo needs annotations: a template such as labels/{{stem}}.txt, and values: {{0: CLASS}}."
        )
    images, texts = compile_template(spec.images), compile_template(spec.annotations, "annotations")
    if set(images.fields) != set(texts.fields):
        raise ConfigError(
            f"dataset.yaml: images has the fields {', '.join(images.fields)}, annotations {', '.join(texts.fields)}. "
            "Both need the same ones: they pair the files."
        )
    labels = {value: classes.index(name) for value, name in spec.values.items()}
    drawn_at = dict[tuple[str, ...], PurePosixPath]()
    shown = list[tuple[PurePosixPath, dict[str, str]]]()
    for path in files_below(root):
        if path.suffix.lower() == ".txt" and (fields := texts.read(path)) is not None:
            drawn_at[tuple(fields[name] for name in images.fields)] = path
        elif path.suffix.lower() in SUFFIXES and (fields := images.read(path)) is not None:
            shown.append((path, fields))
    if not shown:
        raise DataError(f"{root} holds no image named as {spec.images}.")
    pairs, outlines = list[Pair](), dict[str, tuple[list[Shape], str]]()
    without = []
    for path, fields in shown:
        text = drawn_at.pop(tuple(fields[name] for name in images.fields), None)
        name = "/".join(fields[field].rstrip("/") for field in images.fields if fields[field])
        if name in outlines:
            noted.fault("wrong", "same_stem", str(path), f"is a second image of '{name}'.", "Remove one of them.")
            continue
        if text is None:
            without.append(str(path))
        part = part_of_fields(fields, str(path), noted)
        pairs.append(Pair(name, part, root / path, root / path, str(path), str(text or "")))
        outlines[name] = ([], "") if text is None else _read(root, text, labels, noted)
    _report(without, [str(path) for path in drawn_at.values()], len(pairs), noted)
    placed = place_pairs(root, spec, pairs, noted)
    drawn = [Drawn(place, outlines[place.pair.name][0], None, outlines[place.pair.name][1]) for place in placed]
    return DrawnSource(root, spec, classes, drawn, noted)


def _report(without: list[str], spare: list[str], n_images: int, noted: Notebook) -> None:
    if len(without) == n_images:
        raise DataError("No image has a text file of outlines: annotations: does not fit images: in dataset.yaml.")
    if without:
        message = f"{len(without)} of {n_images} images have no text file ({names_of(without)}): all background. "
        noted.finding("warning", "no_object", f"{message}If they show objects, their files are missing.", without[0])
    if spare:
        message = f"{len(spare)} text files have no image ({names_of(spare)}); they are not used."
        noted.finding("warning", "text_without_image", message, spare[0])


def _read(root: Path, path: PurePosixPath, labels: dict[int, int], noted: Notebook) -> tuple[list[Shape], str]:
    """The outlines of a text file and its content."""
    try:
        if (root / path).stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 64 MiB")
        text = (root / path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        noted.fault("wrong", "text_unusable", str(path), f"cannot be read ({error}).", "Export it again.")
        return [], ""
    shapes = []
    for number, line in enumerate(text.splitlines(), 1):
        words, where = line.split(), f"{path} line {number}"
        if not words:
            continue
        try:
            kind, numbers = int(float(words[0])), [float(word) for word in words[1:]]
        except (ValueError, OverflowError):
            noted.fault("wrong", "text_unusable", where, f"is no class and corners: {line[:60]!r}.", "Export it again.")
            continue
        if kind not in labels:
            known = ", ".join(map(str, labels))
            seen = f"is of class {kind}; values: names {known}."
            noted.fault("wrong", "category_unknown", where, seen, "Add the class to values.")
            continue
        shapes.append(Shape(labels[kind], where, partial(fill_outline, numbers)))
    return shapes, text


def fill_outline(numbers: list[float], size: tuple[int, int]) -> Bits:
    """The pixels (H, W) inside an outline of x, y, x, y, … from 0 to 1.

    >>> fill_outline([0, 0, 0.5, 0, 0.5, 1, 0, 1], (1, 4)).astype(int).tolist()
    [[1, 1, 0, 0]]

    Raises:
        ShapeError: a box, fewer than three corners, or corners far outside of the image.
    """
    if len(numbers) == BOX_NUMBERS:
        fix = "Boxes are no masks: draw outlines, and export them as YOLO segmentation."
        raise ShapeError("is a box (x, y, width, height).", "box", fix)
    corners = corners_of(numbers)
    if corners.min() < -BEYOND or corners.max() > 1 + BEYOND:
        raise ShapeError("has a corner outside of the image; corners are shares of its sides, 0 to 1.")
    return fill_polygon(np.clip(corners, 0, 1) * (size[1], size[0]), size)
