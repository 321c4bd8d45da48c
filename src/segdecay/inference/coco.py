"""Masks as COCO annotations: outlines for parts without holes, compressed run lengths for parts with holes.

Outlines follow pixel edges, so that COCO's tools fill them to exactly the same pixels. Outlines through pixel centres
(OpenCV) or between them (marching squares) do not have this property; rasterio's do, but need GDAL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy import ndimage

from segdecay.errors import DataError
from segdecay.utils.files import read_json, write_json

Bits = npt.NDArray[np.bool_]
MOST_PIXELS = 1 << 27  # largest mask whose parts are traced; labels take four bytes per pixel

# steps along pixel edges with the part on the right hand: east, south, west, north, as (row, column)
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def outline(part: Bits) -> list[tuple[int, int]]:
    """The corners (x, y) of the outer edge of one part, clockwise from its first pixel, in pixels.

    part: (H, W), one piece whose pixels join by their sides.

    >>> outline(np.array([[True, True], [True, False]]))
    [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
    """
    padded = np.pad(part, 1)
    row, column = (int(place) for place in np.unravel_index(int(np.argmax(part)), part.shape))
    start = (row, column)
    corners: list[tuple[int, int]] = []
    y, x, heading, last = row, column, 0, -1
    while not corners or (y, x) != start or heading != 0:
        if heading != last:
            corners.append((x, y))
        last = heading
        y, x = y + STEPS[heading][0], x + STEPS[heading][1]
        heading = _next_heading(padded, y, x, heading)
    return corners


def _next_heading(padded: Bits, y: int, x: int, heading: int) -> int:
    """The next heading at a corner: right if the part ends, left if it continues beyond."""
    ahead_left, ahead_right = {
        0: ((y - 1, x), (y, x)),
        1: ((y, x), (y, x - 1)),
        2: ((y, x - 1), (y - 1, x - 1)),
        3: ((y - 1, x - 1), (y - 1, x)),
    }[heading]
    if not padded[ahead_right[0] + 1, ahead_right[1] + 1]:
        return (heading + 1) % 4
    if padded[ahead_left[0] + 1, ahead_left[1] + 1]:
        return (heading - 1) % 4
    return heading


def _has_hole(part: Bits) -> bool:
    return bool(ndimage.label(~np.pad(part, 1), structure=np.ones((3, 3)))[1] > 1)


def annotations_of(mask: npt.NDArray[np.uint8], classes: int, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """One annotation for every part of every class: pixels that join by their sides."""
    found: list[dict[str, Any]] = []
    height, width = mask.shape
    for index in range(classes):
        labels, _ = ndimage.label(mask == index)
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            part = labels[place] == number
            top, left = place[0].start, place[1].start
            if _has_hole(part):
                whole = np.zeros((height, width), dtype=np.bool_)
                whole[place] = part
                shape: Any = {
                    "size": [height, width],
                    "counts": coco.encode(np.asfortranarray(whole))["counts"].decode(),
                }
            else:
                shape = [[side for x, y in outline(part) for side in (x + left, y + top)]]
            found.append(
                {
                    "id": first_id + len(found),
                    "image_id": image_id,
                    "category_id": index,
                    "segmentation": shape,
                    "area": int(part.sum()),
                    "bbox": [left, top, part.shape[1], part.shape[0]],
                    "iscrowd": 0,
                }
            )
    return found


@dataclass
class CocoFile:
    """One COCO file for many images; categories carry the class indices of the masks."""

    path: Path
    classes: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, classes: Sequence[str]) -> Self:
        """The file of an earlier call, to add to; empty if there is none.

        Raises:
            DataError: the file holds something else.
        """
        if not path.exists():
            return cls(path, classes)
        try:
            held = read_json(path)
            names = [row["name"] for row in held["categories"]]
            images, annotations = list(held["images"]), list(held["annotations"])
            complete = all({"id", "file_name"} <= set(row) for row in images)
            complete &= all({"id", "image_id"} <= set(row) for row in annotations)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(f"{path} is damaged: {error}. Remove it, or choose another --out.") from error
        if names != list(classes) or not complete:
            raise DataError(f"{path} holds other annotations. Remove it, or choose another --out.")
        return cls(path, classes, images, annotations)

    def _forget(self, name: str) -> None:
        gone = {row["id"] for row in self.images if row["file_name"] == name}
        if gone:
            self.images = [row for row in self.images if row["id"] not in gone]
            self.annotations = [row for row in self.annotations if row["image_id"] not in gone]

    def add(self, name: str, mask: npt.NDArray[np.uint8]) -> None:
        """The parts of one image's mask, (H, W) class indices, in place of those of an earlier call."""
        self._forget(name)
        number = 1 + max((row["id"] for row in self.images), default=0)
        first = 1 + max((row["id"] for row in self.annotations), default=0)
        self.images.append({"id": number, "file_name": name, "height": mask.shape[0], "width": mask.shape[1]})
        self.annotations += annotations_of(mask, len(self.classes), number, first)

    def write(self) -> None:
        """Write the file."""
        write_json(
            self.path,
            {
                "images": self.images,
                "annotations": self.annotations,
                "categories": [{"id": index, "name": name} for index, name in enumerate(self.classes)],
            },
        )
