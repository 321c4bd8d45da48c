"""The decoded data set: uint8 arrays of images and masks in a cache folder, memory-mapped.

A cache folder holds images.u8, masks.u8 and dataset.json. Every worker opens the folder itself, which is cheap, and all
share the same memory pages.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import Task
from segdecay.data.cache_lock import end_lease, take_lease
from segdecay.data.images.bit_depth import PLAIN, Depth, depth_from_json, depth_to_json
from segdecay.errors import DataError
from segdecay.utils.files import read_json

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Part = Literal["train", "val", "test"]

COUNTED_AT_ONCE = 1 << 20  # pixels of a mask
IGNORE = 255  # value of ignored pixels in every decoded mask
MOST_CLASSES = 255  # class indices are 0-254, since 255 is IGNORE
POOL: tuple[Part, ...] = ("train", "val")  # for cross-validation; "test" is not used before the verdict


@dataclass(frozen=True)
class Item:
    """One image with its mask. height and width in pixels, as decoded."""

    name: str  # relative stem, unique in the data set
    part: Part
    group: str
    fold: int | None  # only if the data set gives folds
    height: int
    width: int
    sha256: str  # of the image's and the mask's content


@dataclass(frozen=True)
class Dataset:
    """Decoded images and masks (or labels). Views are read-only; the arrays are opened at first use."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    bands: int
    flip: str  # "none", "horizontal" or "both": mirroring under which labels stay correct
    fold_method: str  # "groups", "blocks" or "given", as in dataset.yaml
    fingerprint: str  # sha256 over classes, how files are read, size and every item
    root: Path  # cache folder
    items: tuple[Item, ...]
    task: Task = field(default="segmentation", kw_only=True)
    counts: tuple[tuple[int, ...], ...] | None = field(
        default=None, kw_only=True
    )  # described, not decoded: class_pixels
    exclude_from_mean: tuple[str, ...] = field(default=(), kw_only=True)
    depth: Depth = field(default=PLAIN, kw_only=True)  # how values of files became 8 bits
    chosen_bands: tuple[int, ...] | None = field(default=None, kw_only=True)  # of the files; None: all

    @property
    def excluded(self) -> tuple[int, ...]:
        """Indices of the classes that are left out of means over classes."""
        return tuple(self.classes.index(name) for name in self.exclude_from_mean)

    @cached_property
    def starts(self) -> I64:
        """Pixels before each item, and the total: (items + 1,)."""
        return pixel_starts(self.items)

    @cached_property
    def _images(self) -> U8:
        return np.memmap(self.root / "images.u8", dtype=np.uint8, mode="r")

    @cached_property
    def _masks(self) -> U8:
        return np.memmap(self.root / "masks.u8", dtype=np.uint8, mode="r")

    def image(self, index: int) -> U8:
        """A read-only view, (H, W, B) uint8."""
        item, start = self.items[index], int(self.starts[index])
        pixels = item.height * item.width
        flat = self._images[start * self.bands : (start + pixels) * self.bands]
        return np.asarray(flat).reshape(item.height, item.width, self.bands)

    def mask(self, index: int) -> U8:
        """A read-only view, (H, W) uint8: class indices or IGNORE; a label is a mask of one pixel, (1, 1)."""
        if self.task == "classification":
            return np.asarray(self._masks[index : index + 1]).reshape(1, 1)
        item, start = self.items[index], int(self.starts[index])
        flat = self._masks[start : start + item.height * item.width]
        return np.asarray(flat).reshape(item.height, item.width)

    def part(self, *names: str) -> tuple[int, ...]:
        """Indices of the items of these parts."""
        return tuple(index for index, item in enumerate(self.items) if item.part in names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process as the path of its folder, without pixels."""
        return open_dataset, (self.root,)


def pixel_starts(items: tuple[Item, ...]) -> I64:
    """Pixels before each item, and the total: (items + 1,) int64."""
    pixels = [item.height * item.width for item in items]
    return np.concatenate([[0], np.cumsum(pixels, dtype=np.int64)]).astype(np.int64)


def dataset_to_json(dataset: Dataset) -> dict[str, Any]:
    """The values of dataset.json: everything except the path of its folder."""
    return {
        item.name: getattr(dataset, item.name)
        for item in fields(Dataset)
        if item.name not in {"root", "items", "counts"}
    } | {"items": [vars(item) for item in dataset.items], "depth": depth_to_json(dataset.depth)}


def _dataset_from_json(values: Mapping[str, Any], root: Path) -> Dataset:
    depth, chosen = values.get("depth") or {}, values.get("chosen_bands")
    return Dataset(
        name=values["name"],
        classes=tuple(values["classes"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
        bands=values["bands"],
        flip=values["flip"],
        fold_method=values["fold_method"],
        fingerprint=values["fingerprint"],
        root=root,
        items=tuple(Item(**{item.name: one[item.name] for item in fields(Item)}) for one in values["items"]),
        task=values.get("task", "segmentation"),
        exclude_from_mean=tuple(values.get("exclude_from_mean", ())),
        depth=depth_from_json(depth),
        chosen_bands=None if chosen is None else tuple(chosen),
    )


def open_dataset(root: Path) -> Dataset:
    """Open the decoded data set in a cache folder; the folder is not removed while the data set is in use.

    Raises:
        DataError: the folder is missing, unfinished or damaged.
    """
    lease = take_lease(root) if (root / "dataset.json").is_file() else None
    try:
        dataset = _dataset_from_json(read_json(root / "dataset.json"), root)
        pixels = int(dataset.starts[-1])
        labels = len(dataset.items) if dataset.task == "classification" else pixels
        sizes = {"images.u8": pixels * dataset.bands, "masks.u8": labels}
        for name, expected in sizes.items():
            seen = (root / name).stat().st_size
            if seen != expected:
                raise DataError(
                    f"{root / name} holds {seen} bytes instead of {expected}. Delete {root}: it will be rebuilt."
                )
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        end_lease(lease)
        raise DataError(f"{root} holds no decoded data set ({error}). Delete it: it will be rebuilt.") from error
    except DataError:
        end_lease(lease)
        raise
    weakref.finalize(dataset, end_lease, lease)
    return dataset


def class_pixels(dataset: Dataset, indices: tuple[int, ...] | None = None) -> I64:
    """Pixels of each class in each mask, ignored ones left out: (indices, classes) int64."""
    chosen = range(len(dataset.items)) if indices is None else indices
    n = len(dataset.classes)
    if dataset.counts is not None:
        return np.array([dataset.counts[index] for index in chosen], dtype=np.int64).reshape(-1, n)
    if dataset.task == "classification":
        labels = np.array([dataset.mask(index)[0, 0] for index in chosen], dtype=np.int64)
        return np.asarray(labels[:, None] == np.arange(n), dtype=np.int64)
    rows = [_counts_of_mask(dataset, index)[:n] for index in chosen]
    return np.asarray(rows, dtype=np.int64).reshape(len(rows), n)


def _counts_of_mask(dataset: Dataset, index: int) -> I64:
    """How often each of the 256 values occurs; read a piece at a time, so that no page of the mask stays mapped."""
    item, start = dataset.items[index], int(dataset.starts[index])
    counts, left = np.zeros(256, dtype=np.int64), item.height * item.width
    with (dataset.root / "masks.u8").open("rb") as file:
        file.seek(start)
        while left:
            piece = np.frombuffer(file.read(min(left, COUNTED_AT_ONCE)), dtype=np.uint8)
            if not piece.size:
                raise DataError(f"{file.name} is cut short. Delete {dataset.root}: it is rebuilt.")
            counts += np.bincount(piece, minlength=256)
            left -= piece.size
    return counts
