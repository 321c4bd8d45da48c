"""A zoo of data sets as people bring them, each a handful of tiny files: write one, read it, name its findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdecay.config import DataConfig
from segdecay.data.checks import Finding
from segdecay.data.dataset import Dataset
from segdecay.data.init import guess_spec
from segdecay.data.loading import read_dataset

U8 = npt.NDArray[np.uint8]
SIZE = (8, 10)  # height, width
NAMES = ("p1_a", "p1_b", "p2_a", "p2_b", "p3_a", "p3_b")


def picture(number: int, bands: int = 3) -> U8:
    """An image that no other number gives."""
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
    """What `check` finds, by code."""
    return {finding.code: finding for finding in _read(root)[1]}


def dataset(root: Path) -> Dataset:
    """The data set, which must be without fault."""
    found, said = _read(root)
    assert found is not None, said
    return found


def _read(root: Path) -> tuple[Dataset | None, tuple[Finding, ...]]:
    config = DataConfig.model_validate({"path": str(root)})
    found, report = read_dataset(config, cache=root.parent / "cache")
    return found, report.findings


def guessed(root: Path) -> str:
    """What `init --write` writes; the file is there afterwards."""
    text = guess_spec(root).spec_yaml
    spec(root, text)
    return text
