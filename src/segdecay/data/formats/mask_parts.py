"""Masks in several files an image: one a class ({class} in the template), or one an object (* in the template).

A file says where its object is: a pixel that is not 0, or that is 0 with `invert: true`. Objects are drawn over the
background, the largest first unless `overlap: file order`; what then stands on top counts.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.formats.annotations import Drawn, DrawnSource, Names, Shape, background_of
from segdecay.data.formats.folders import Template, classes_of, compile_template, part_of_fields
from segdecay.data.formats.pairing import SUFFIXES, Pair, Placed, files_below, place_pairs
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.decode import UnusableError, read_mask
from segdecay.data.images.label_maps import count_values
from segdecay.data.images.rasterize import Bits, ShapeError
from segdecay.data.spec import DatasetSpec
from segdecay.errors import ConfigError, DataError


def parts_source(root: Path, spec: DatasetSpec) -> DrawnSource:
    """The source of images with several mask files each.

    Raises:
        DataError, ConfigError: templates that cannot be, no image, or objects without a class.
    """
    classes, noted = classes_of(spec, root), Notebook()
    images, masks = compile_template(spec.images), compile_template(spec.masks, "masks")
    only = _only_class(spec, classes, masks)
    if set(images.fields) != set(masks.fields) - {"class"}:
        raise ConfigError(
            f"dataset.yaml: images has the fields {', '.join(images.fields)}, masks {', '.join(masks.fields)}. Both "
            "need the same ones, {class} of masks apart: they pair the files."
        )
    readable = [path for path in files_below(root) if path.suffix.lower() in SUFFIXES]
    drawn = _matches(readable, masks, images.fields)
    taken = {path for found in drawn.values() for path, _ in found}
    shown = [(path, fields) for path in readable if path not in taken and (fields := images.read(path)) is not None]
    if not shown:
        raise DataError(f"{root} holds no image named as {spec.images}.")
    names = Names(classes, spec.names)
    pairs, shapes = list[Pair](), dict[str, list[Shape]]()
    for path, fields in shown:
        found = drawn.pop(tuple(fields[name] for name in images.fields), [])
        name = "/".join(fields[field].rstrip("/") for field in images.fields if fields[field])
        part = part_of_fields(fields, str(path), noted)
        if name in shapes:
            noted.fault("wrong", "same_stem", str(path), f"is a second image of '{name}'.", "Remove one of them.")
            continue
        pairs.append(Pair(name, part, root / path, root / path, str(path), spec.masks))
        shapes[name] = [shape for one in found if (shape := _shape(root, *one, only, names, spec, noted)) is not None]
    _report([str(one.image_label) for one in pairs if not shapes[one.name]], drawn, spec, noted)
    placed = place_pairs(root, spec, pairs, noted)
    listing = [_drawn(root, place, shapes[place.pair.name]) for place in placed]
    return DrawnSource(root, spec, classes, listing, noted)


def _only_class(spec: DatasetSpec, classes: tuple[str, ...], masks: Template) -> int | None:
    """The class of every object where files do not say it.

    Raises:
        ConfigError: more than one class beside the background.
    """
    if "class" in masks.fields:
        return None
    others = [index for index in range(len(classes)) if index != background_of(spec, classes)]
    if len(others) != 1:
        raise ConfigError(
            f"dataset.yaml: masks: {spec.masks} does not say of which class a file is, and there are "
            f"{', '.join(classes)}. Put {{class}} into it, or name two classes: the background and the object."
        )
    return others[0]


def _matches(
    paths: list[PurePosixPath], masks: Template, fields: tuple[str, ...]
) -> dict[tuple[str, ...], list[tuple[PurePosixPath, str]]]:
    """Mask files with the class that they name, by the fields of their image."""
    found = defaultdict[tuple[str, ...], list[tuple[PurePosixPath, str]]](list)
    for path in paths:
        read = masks.read(path)
        if read is not None:
            found[tuple(read[name] for name in fields)].append((path, read.get("class", "")))
    return found


def _shape(
    root: Path, path: PurePosixPath, name: str, only: int | None, names: Names, spec: DatasetSpec, noted: Notebook
) -> Shape | None:
    label = names.find(name) if only is None else only
    if label is None:
        noted.fault("wrong", "category_unknown", str(path), f"is of '{name}', which is no class.", names.missing(name))
        return None
    return Shape(label, str(path), partial(fill_from_file, root / path, spec.invert))


def _drawn(root: Path, placed: Placed, shapes: list[Shape]) -> Drawn:
    content = repr([(shape.label, shape.where) for shape in shapes])
    return Drawn(placed, shapes, None, content, tuple(root / shape.where for shape in shapes))


def _report(
    alone: list[str],
    left: dict[tuple[str, ...], list[tuple[PurePosixPath, str]]],
    spec: DatasetSpec,
    noted: Notebook,
) -> None:
    spare = [str(path) for found in left.values() for path, _ in found]
    if spare:
        message = f"{len(spare)} mask files have no image ({names_of(spare)}). Paired by images: {spec.images} and "
        noted.finding("wrong", "pairing", f"{message}masks: {spec.masks}. Add what is missing, or remove the rest.")
    if alone:
        count = f"{len(alone)} image{'s have' if len(alone) > 1 else ' has'} no mask file ({names_of(alone)})"
        noted.finding("warning", "no_object", f"{count}: all background. If that is not meant, add their masks.")


def fill_from_file(path: Path, invert: bool, size: tuple[int, int]) -> Bits:
    """The pixels (H, W) of one object.

    Raises:
        ShapeError: the file cannot be read, has another size, or is no mask of one object.
    """
    try:
        picture = read_mask(read_bytes(path))
    except UnusableError as error:
        raise ShapeError(error.seen, error.code, error.fix) from error
    pixels = picture.pixels[..., : 3 if picture.pixels.shape[2] > 2 else 1]
    if pixels.shape[:2] != size:
        seen = f"is {pixels.shape[1]}x{pixels.shape[0]} (width x height), its image {size[1]}x{size[0]}."
        raise ShapeError(seen, "size_mismatch", "Re-export both in one size.")
    covered = pixels[..., 0] != 0 if pixels.shape[2] == 1 else (pixels != 0).any(axis=2)
    if picture.lossy or not _holds_two(pixels, covered):
        n_values = int(np.count_nonzero(count_values(pixels)))
        if picture.lossy or n_values > 2:
            seen = f"holds {n_values} values; a mask of one object holds 0 and one other."
            raise ShapeError(seen, "lossy_mask", "Re-export it as PNG with two values.")
    return np.asarray(~covered if invert else covered)


def _holds_two(pixels: npt.NDArray[np.uint8], covered: Bits) -> bool:
    """Whether a mask of one band surely holds 0 and one other value: the highest alone is not 0."""
    n_highest, n_covered = np.count_nonzero(pixels == pixels.max()), np.count_nonzero(covered)
    return pixels.shape[2] == 1 and bool(n_highest == n_covered)
