"""Random trees of images and masks whose correct reading is known; their names are not taken from lists of `init`.

Names of folders are random letters, foreign words or usual words, so that guessing only by names fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]
PHOTO_NAMES = ("images", "img", "RGB", "Fotos", "scans", "x", "A", "kuvat", "Input_Data", "raw")
LABEL_NAMES = ("masks", "labels", "GT", "Masken", "truth", "y", "B", "maskit", "annot", "out")
PART_NAMES = {
    "train": ("train", "Train", "TRAIN", "training", "Training"),
    "val": ("val", "Val", "valid", "validation", "dev"),
    "test": ("test", "Test", "TEST", "testing"),
}
ENDINGS = ("", "", "_m", "_mask", "-label", " seg", "_GT", ".gt")
KINDS = ("flat", "folders", "parts above", "parts below", "parts in names", "sites", "many sites", "deeper")
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif")
SIDE = 24


@dataclass(frozen=True)
class Tree:
    """A tree on disk and its truth: the part and the labels of every image, by its path relative to the tree."""

    kind: str
    truth: dict[str, tuple[str, U8]]


def random_tree(root: Path, seed: int) -> Tree:
    """A tree of pairs drawn by its seed, with masks of indices, of 0 and 255, or of colours."""
    random = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    photo, label = (str(random.choice(names)) for names in (PHOTO_NAMES, LABEL_NAMES))
    ending = str(random.choice(ENDINGS)) or ("_m" if kind == "flat" else "")
    suffix, mask_suffix = (str(random.choice(names)) for names in (SUFFIXES, MASK_SUFFIXES))
    n_classes = int(random.integers(2, 5))
    colours = random.choice(200, (n_classes, 3), replace=False).astype(np.uint8) + 20
    style = str(random.choice(("indices", "0 and 255", "colours")))
    parts = {"train": int(random.integers(6, 12))}
    if kind.startswith("parts"):
        parts |= {"val": 3, "test": 3} if random.random() < 0.5 else {"test": 4}
    words = {part: str(random.choice(PART_NAMES[part])) for part in parts}
    sites = {"sites": 3, "many sites": 16}.get(kind, 1)
    truth, number = dict[str, tuple[str, U8]](), int(random.integers(0, 500))
    for part, count in parts.items():
        for _ in range(count if sites == 1 else 2 * sites):
            number += 1
            site, name = f"s{number % sites:02}", f"{random.choice(['img', 'a', 'DSC'])}{number:04}"
            image, mask = _paths(kind, photo, label, words[part], site, name, ending)
            pixels, labels = _scene(random, n_classes)
            _save(root / (image + suffix), pixels)
            _save(root / (mask + mask_suffix), _drawn(labels, style, colours))
            truth[image + suffix] = part, (labels > 0).astype(np.uint8) if style == "0 and 255" else labels
    return Tree(kind, truth)


def _paths(kind: str, photo: str, label: str, part: str, site: str, name: str, ending: str) -> tuple[str, str]:
    if kind == "flat":
        return name, name + ending
    if kind == "parts in names":
        return f"{part}_{photo}/{name}", f"{part}_{label}/{name}{ending}"
    above = {"parts above": f"{part}/", "sites": f"{site}/", "many sites": f"{site}/", "deeper": "data/v2/"}.get(
        kind, ""
    )
    below = f"{part}/" if kind == "parts below" else ""
    return f"{above}{photo}/{below}{name}", f"{above}{label}/{below}{name}{ending}"


def _scene(random: np.random.Generator, n_classes: int) -> tuple[U8, U8]:
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for index in range(1, n_classes):
        top, left = random.integers(0, SIDE - 9, 2)
        labels[top : top + 8, left : left + 8] = index
    labels[SIDE - 1, :n_classes] = np.arange(n_classes)
    pixels = random.integers(0, 120, (SIDE, SIDE, 3)) + 30 * labels[..., None]
    return pixels.astype(np.uint8), labels


def _drawn(labels: U8, style: str, colours: U8) -> U8:
    if style == "indices":
        return labels
    return np.where(labels > 0, 255, 0).astype(np.uint8) if style == "0 and 255" else colours[labels]


def _save(path: Path, array: U8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 95} if path.suffix == ".jpg" else {"lossless": True} if path.suffix == ".webp" else {}
    picture = Image.fromarray(array)
    if path.suffix == ".gif" and array.ndim == 3:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(path, **options)
