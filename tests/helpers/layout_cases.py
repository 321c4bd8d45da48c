"""Small folders in common layouts, with the result that `init` should give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

U8 = npt.NDArray[np.uint8]
SIDE = 40
PALETTE = np.array([[0, 0, 0], [10, 200, 30], [200, 40, 180], [20, 60, 250]], dtype=np.uint8)


def scene(number: int, classes: int = 2) -> tuple[U8, U8]:
    """A photograph of noise, brighter on its objects, and its labels."""
    random = np.random.default_rng(number)
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    top, left = random.integers(2, 12, 2)
    labels[top : top + 12, left : left + 14] = 1
    if classes > 2:
        labels[28:34, 4 + number % 5 : 30] = 2
    if classes > 3:
        labels[36:39, 2:30] = 3
    return (random.integers(0, 90, (SIDE, SIDE, 3)) + 50 * labels[..., None]).astype(np.uint8), labels


def put(path: Path, array: npt.NDArray[np.generic], **options: Any) -> None:
    """Write an array in the format of its suffix, and create the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        is_rgb = array.ndim == 3 and array.shape[2] == 3
        tifffile.imwrite(path, array, photometric="rgb" if is_rgb else "minisblack")
    else:
        Image.fromarray(array).save(path, **options)


def pairs(
    root: Path,
    image: str,
    mask: str,
    *,
    parts: dict[str, int] | None = None,
    classes: int = 2,
    masked: Callable[[U8, int], npt.NDArray[np.generic]] = lambda labels, _: labels * np.uint8(255),
    pictured: Callable[[U8, int], npt.NDArray[np.generic]] = lambda pixels, _: pixels,
    **options: Any,
) -> Path:
    """Images and masks at these templates ({part}, {n}); parts: how many pairs in each."""
    number = 0
    for part, count in (parts or {"": 8}).items():
        for _ in range(count):
            pixels, labels = scene(number, classes)
            put(root / image.format(part=part, n=f"{number:03}"), pictured(pixels, number))
            put(root / mask.format(part=part, n=f"{number:03}"), masked(labels, number), **options)
            number += 1
    return root


def coco(
    root: Path, name: str, place: str, *, count: int, start: int = 0, edit: Callable[[Any], object] | None = None
) -> None:
    """Images below `place`, and a COCO file with one square of each of two categories, which `edit` may change."""
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 4, "name": "road"}, {"id": 9, "name": "car"}],
    }
    for number in range(start, start + count):
        put(root / place / f"{number:03}.jpg", scene(number)[0])
        content["images"].append({"id": number, "file_name": f"{number:03}.jpg", "width": SIDE, "height": SIDE})
        for category, x in ((4, 2), (9, 22)):
            outline = [[x, 5, x + 12, 5, x + 12, 20, x, 20]]
            row = {"id": len(content["annotations"]), "image_id": number, "category_id": category}
            content["annotations"].append({**row, "segmentation": outline})
    if edit is not None:
        edit(content)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def text_outlines(root: Path, parts: Iterator[tuple[str, str, int]], names: str) -> Path:
    """YOLO segmentation: (folder of images, folder of texts, count) a part, and data.yaml."""
    number = 0
    for image, text, count in parts:
        for _ in range(count):
            put(root / image / f"{number:03}.jpg", scene(number)[0])
            (root / text).mkdir(parents=True, exist_ok=True)
            lines = "0 .1 .1 .5 .1 .5 .5 .1 .5\n1 .6 .6 .9 .6 .9 .9\n"
            (root / text / f"{number:03}.txt").write_text(lines)
            number += 1
    (root / "data.yaml").write_text(names)
    return root
