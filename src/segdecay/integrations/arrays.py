"""Arrays as the files of a data set, without loss; and what was wrong with arrays. Knows numpy and files only."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import yaml
from PIL import Image

from segdecay.errors import DataError, gather

U8 = npt.NDArray[np.uint8]
IGNORED = 255
SHOWN = 3


@dataclass(frozen=True)
class Scale:
    """From the values of images to 0–255, in 256 steps; None: they are uint8 and stay as they are.

    >>> Scale.of([np.array([[[0.0], [2.0]]])]).apply(np.array([[[1.0], [9.0]]]))[..., 0].tolist()
    [[128, 255]]
    """

    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, images: Sequence[npt.NDArray[Any]]) -> Scale:
        """From the smallest to the largest value."""
        if all(image.dtype == np.uint8 for image in images):
            return cls()
        return cls(float(min(image.min() for image in images)), float(max(image.max() for image in images)))

    def apply(self, image: npt.NDArray[Any]) -> U8:
        """An image (H, W, B) as uint8; what lies outside is clipped."""
        if self.low is None or self.high is None:
            return np.asarray(image, np.uint8)
        width = (self.high - self.low) or 1.0
        return np.rint((image.astype(np.float64) - self.low) / width * 255).clip(0, 255).astype(np.uint8)


def checked_images(values: Any, bands: int | None = None) -> list[npt.NDArray[Any]]:
    """A list of (H, W, B) arrays from (N, H, W, B), (N, H, W) or a sequence of images.

    Raises:
        DataError: listing every image that cannot be used.
    """
    try:
        images = [np.asarray(one) for one in values]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"X takes (N, H, W, B) or a list of (H, W, B); saw {type(values).__name__} ({error})."
        ) from error
    images = [one[..., None] if one.ndim == 2 else one for one in images]
    if not images:
        raise DataError("X holds no image.")
    wanted = bands or (images[0].shape[2] if images[0].ndim == 3 else None)
    faults = []
    for number, one in enumerate(images):
        if one.ndim != 3 or one.size == 0 or one.shape[2] != wanted:
            faults.append(f"X[{number}] is {one.shape}; (H, W, {wanted or 'B'}) is needed, bands last.")
        elif one.dtype.kind not in "uif":
            faults.append(f"X[{number}] is {one.dtype}; numbers are needed.")
        elif one.dtype.kind == "f" and not np.isfinite(one).all():
            faults.append(f"X[{number}] holds values that are not finite.")
    _refuse(faults)
    return images


def checked_masks(values: Any, images: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.int64]]:
    """A list of (H, W) arrays, one an image and of its size.

    Raises:
        DataError: listing every mask that cannot be used.
    """
    try:
        masks = [np.asarray(one) for one in values]
    except (TypeError, ValueError) as error:
        raise DataError(f"y takes (N, H, W) or a list of (H, W); saw {type(values).__name__} ({error}).") from error
    if len(masks) != len(images):
        raise DataError(f"y holds {len(masks)} masks for {len(images)} images; one each is needed.")
    faults = []
    for number, (mask, image) in enumerate(zip(masks, images, strict=True)):
        if mask.shape != image.shape[:2]:
            faults.append(f"y[{number}] is {mask.shape}; its image is {image.shape[:2]}.")
        elif mask.dtype.kind not in "uib":
            faults.append(f"y[{number}] is {mask.dtype}; integers are needed.")
    _refuse(faults)
    return [np.asarray(mask, np.int64) for mask in masks]


def _refuse(faults: Sequence[str]) -> None:
    more = [f"and {len(faults) - SHOWN} more."] if len(faults) > SHOWN else []
    gather(DataError, [*faults[:SHOWN], *more])


def write_arrays(
    folder: Path,
    images: Sequence[U8],  # (H, W, B) each
    masks: Sequence[U8],  # (H, W) each: class indices, or IGNORED
    classes: Sequence[str],
    groups: Sequence[Any] | None,
) -> Path:
    """A folder that `segdecay tune` reads: images/, masks/, groups.csv, dataset.yaml."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    digits = len(str(len(images)))
    with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "group"])
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            name = f"image-{number:0{digits}d}"
            _write_image(folder / "images" / name, image)
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
            rows.writerow([name, name if groups is None else str(groups[number])])
    said = {"classes": list(classes), "ignore": [IGNORED]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    return folder


def _write_image(stem: Path, image: U8) -> None:
    """PNG where it can hold the bands, else TIFF."""
    if image.shape[2] == 1:
        Image.fromarray(image[..., 0]).save(f"{stem}.png")
    elif image.shape[2] == 3:
        Image.fromarray(np.ascontiguousarray(image)).save(f"{stem}.png")
    else:
        tifffile.imwrite(f"{stem}.tif", image, photometric="minisblack", planarconfig="contig")
