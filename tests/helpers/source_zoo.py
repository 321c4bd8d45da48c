"""Tiny data sets in common layouts: write one, read it, get its findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Finding
from segdecay.data.dataset import Dataset
from segdecay.data.detect.detect import guess_spec
from segdecay.data.loading import read_dataset

U8 = npt.NDArray[np.uint8]
SIZE = (8, 10)  # height, width
NAMES = ("p1_a", "p1_b", "p2_a", "p2_b", "p3_a", "p3_b")


def picture(number: int, bands: int = 3) -> U8:
    """An image that is different for every number."""
    return np.random.default_rng(number).integers(0, 255, (*SIZE, bands), dtype=np.uint8)


def labels(number: int, classes: int = 2) -> U8:
    """A mask of `classes` indices: background with a block of each other class, placed by its number."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    for label in range(1, classes):
        top, left = (number + label) % 3, 3 * label - 2
        mask[top : top + 4, left : left + 3] = label
    return mask


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(
    root: Path, image: str, mask: str, *, values: tuple[int, ...] = (0, 1), names: tuple[str, ...] = NAMES
) -> Path:
    """Pairs at these templates ({stem}); values: of the classes in the masks."""
    table = np.array(values, dtype=np.uint8)
    for number, name in enumerate(names):
        save(root / image.format(stem=name), picture(number))
        save(root / mask.format(stem=name), table[labels(number, len(values))])
    return root


def spec(root: Path, text: str) -> Path:
    """Write dataset.yaml."""
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return root


def findings(root: Path) -> dict[str, Finding]:
    """The findings of `check`, by code."""
    return {finding.code: finding for finding in _read(root)[1]}


def dataset(root: Path) -> Dataset:
    """The data set, which must have no fault."""
    found, said = _read(root)
    assert found is not None, said
    return found


def _read(root: Path) -> tuple[Dataset | None, tuple[Finding, ...]]:
    config = DataConfig.model_validate({"path": str(root)})
    found, report = read_dataset(config, cache=root.parent / "cache")
    return found, report.findings


def guessed(root: Path) -> str:
    """The text that `init --write` writes; the file remains."""
    text = guess_spec(root).spec_yaml
    spec(root, text)
    return text


def coco(root: Path, *, edit: Callable[[dict[str, Any]], object] | None = None, text: str = "") -> Path:
    """images/ and annotations.json: a road polygon and a car as run lengths an image; edit: changes the JSON first."""
    values: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "road"}, {"id": 9, "name": "car"}],
    }
    car = np.zeros(SIZE, dtype=np.uint8)
    car[2:4, 3:5] = 1
    for number, name in enumerate(NAMES, 1):
        save(root / "images" / f"{name}.jpg", picture(number))
        values["images"].append({"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        shapes = ((7, [[1, 1, 8, 1, 8, 6, 1, 6]]), (9, {"size": list(SIZE), "counts": runs(car)}))
        for category, shape in shapes:
            row = {"id": len(values["annotations"]), "image_id": number, "category_id": category, "iscrowd": 0}
            values["annotations"].append({**row, "segmentation": shape})
    if edit is not None:
        edit(values)
    (root / "annotations.json").write_text(json.dumps(values))
    return spec(root, f"classes: [background, road, car]\nlayout: coco\nannotations: annotations.json\n{text}")


def runs(mask: U8) -> list[int]:
    """COCO's run lengths of a mask, counted one by one."""
    counts, last = [0], 0
    for value in mask.ravel(order="F").tolist():
        counts += [0] if value != last else []
        counts[-1] += 1
        last = value
    return counts


def labelme(root: Path, *, shape: dict[str, Any] | None = None, text: str = "") -> Path:
    """A JSON beside each image with one road rectangle; shape: one more in the first JSON."""
    for number, name in enumerate(NAMES):
        save(root / f"{name}.jpg", picture(number))
        shapes: list[dict[str, Any]] = [{"label": "road", "points": [[1, 1], [8, 6]], "shape_type": "rectangle"}]
        shapes += [shape] if shape and not number else []
        (root / f"{name}.json").write_text(json.dumps({"imagePath": f"{name}.jpg", "shapes": shapes}))
    return spec(root, f"classes: [background, road]\nlayout: labelme\n{text}")


def instances(root: Path, text: str = "") -> Path:
    """One mask file for each of two objects per image."""
    for number, name in enumerate(NAMES):
        save(root / "images" / f"{name}.png", picture(number))
        for label in (1, 2):
            save(root / "masks" / name / f"{label}.png", np.uint8(255) * (labels(number, 3) == label))
    yaml = 'classes: [background, cell]\nlayout: parts\nimages: "images/{stem}.png"\nmasks: "masks/{stem}/*.png"\n'
    return spec(root, yaml + text)


def voc(root: Path, text: str = "ignore: [255]\n") -> Path:
    """Pascal VOC with a list for train and one for val, palette masks and a border of 255."""
    for number, name in enumerate(NAMES):
        save(root / "JPEGImages" / f"{name}.jpg", picture(number))
        mask = Image.fromarray(np.where(picture(number)[..., 0] > 240, 255, labels(number, 3)).astype(np.uint8), "P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *range(3, 250), *[224] * 509, 192])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(root / "SegmentationClass" / f"{name}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(NAMES[:4]) + "\n")
    (lists / "val.txt").write_text("\n".join(NAMES[4:]) + "\n")
    return spec(root, f"classes: [background, road, car]\nlayout: voc\n{text}")


def tiff(root: Path, text: str = "scale: percentile\n", *, edit: Callable[[Any], object] | None = None) -> Path:
    """GeoTIFF-like images of five uint16 bands with PNG masks; edit: changes the first image's float copy."""
    for number, name in enumerate(NAMES):
        values = np.random.default_rng(number).integers(100, 10_000, (*SIZE, 5)).astype(np.uint16)
        if edit is not None:
            values = values.astype(np.float32)
            edit(values)
        (root / "images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / "images" / f"{name}.TIF", values, photometric="minisblack", planarconfig="contig")
        save(root / "masks" / f"{name}.png", labels(number))
    return spec(root, f"classes: [background, road]\n{text}")
