"""The layout of Pascal VOC: JPEGImages/, SegmentationClass/ and lists of names in ImageSets/Segmentation/.

A list train.txt, val.txt or test.txt gives its names that part; without lists every mask is training. Classes and
ignored values are as dataset.yaml says, also 255. Opens no image.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.dataset import Part
from segdecay.data.formats.folders import FolderSource
from segdecay.data.formats.pairing import PARTS, Pair, Placed, files_by_stem, folder_of, natural_key, place_pairs
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import DataError

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"


def voc_source(root: Path, spec: DatasetSpec) -> FolderSource:
    """The source of a folder like VOCdevkit/VOC2012.

    Raises:
        DataError, ConfigError: a folder is missing, or no listed image is there.
    """
    given = spec.model_fields_set
    images = spec.images if "images" in given else IMAGES
    masks = spec.masks if "masks" in given else MASKS
    return FolderSource(root, spec, partial(_find_listed, images, masks))


def read_lists(root: Path) -> dict[str, Part]:
    """The part of each listed name; trainval.txt, which repeats the others, counts only without them.

    Raises:
        ConfigError: a list is no text.
    """
    folder = root / LISTS
    there = [part for part in PARTS if (folder / f"{part}.txt").is_file()]
    if not there and (folder / "trainval.txt").is_file():
        return dict.fromkeys(read_text(folder / "trainval.txt").split(), "train")
    return {name: cast("Part", part) for part in reversed(there) for name in read_text(folder / f"{part}.txt").split()}


def _find_listed(images: str, masks: str, root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    folder_of(root, images, "images")
    folder_of(root, masks, "masks")
    shown, drawn = files_by_stem(root, images, notebook), files_by_stem(root, masks, notebook)
    listed = read_lists(root)
    part_of = listed or dict.fromkeys(drawn, "train")
    names = sorted(part_of, key=natural_key)
    _note_twice(root, notebook)
    for kind, folder, there in (("image", images, shown), ("mask", masks, drawn)):
        absent = [name for name in names if name not in there]
        if absent:
            message = (
                f"{len(absent)} listed name{'s have' if len(absent) > 1 else ' has'} no {kind} in {folder}/ "
                f"({names_of(absent)}). Add what is missing, or remove the names from the lists."
            )
            notebook.finding("wrong", "pairing", message, absent[0])
    spare = [name for name in drawn if listed and name not in listed]
    if spare:
        message = f"{len(spare)} masks are in no list of {LISTS} ({names_of(spare)}); they are not used."
        notebook.finding("note", "mask_unlisted", message, spare[0])
    pairs = [
        Pair(
            name,
            part_of[name],
            root / images / shown[name],
            root / masks / drawn[name],
            f"{images}/{shown[name]}",
            f"{masks}/{drawn[name]}",
        )
        for name in names
        if name in shown and name in drawn
    ]
    if not pairs:
        more = "".join(f" {finding.message}" for finding in notebook.summary())
        raise DataError(f"{root} holds no listed image with its mask.{more}")
    return place_pairs(root, spec, pairs, notebook)


def _note_twice(root: Path, notebook: Notebook) -> None:
    """Note names that are in two lists: images of the test part would be trained on."""
    lists = {
        part: set(read_text(root / LISTS / f"{part}.txt").split())
        for part in PARTS
        if (root / LISTS / f"{part}.txt").is_file()
    }
    for left, right in (("train", "val"), ("train", "test"), ("val", "test")):
        both = sorted(lists.get(left, set()) & lists.get(right, set()))
        if both:
            message = f"{left}.txt and {right}.txt both list {names_of(both)}. Keep each name in one list."
            notebook.finding("wrong", "listed_twice", message, both[0])
