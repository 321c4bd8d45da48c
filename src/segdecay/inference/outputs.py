"""Output files of a prediction: masks, overlays, confidence, entropy, probabilities; written band by band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.data.images.bit_depth import Bits
from segdecay.errors import DataError, unknown
from segdecay.inference.image_io import BandWriter, Palette
from segdecay.inference.sliding_window import TileBlock

U8 = npt.NDArray[np.uint8]


def colour_mask(
    mask: npt.NDArray[np.integer],  # (H, W) class indices, or `ignore`
    palette: Sequence[tuple[int, int, int]],  # RGB of every class, 0-255
    ignore: int = 255,
) -> U8:  # (H, W, 3) RGB
    """Every pixel in the colour of its class; ignored pixels are black.

    Raises:
        DataError: the mask is not two-dimensional, or holds a value without a colour.

    >>> colour_mask(np.array([[0, 1, 255]]), [(10, 20, 30), (200, 0, 0)]).tolist()
    [[[10, 20, 30], [200, 0, 0], [0, 0, 0]]]
    """
    if mask.ndim != 2:
        raise DataError(f"A mask has height and width; saw an array of shape {mask.shape}.")
    seen = {int(value) for value in np.unique(mask)}
    wrong = sorted(value for value in seen if value != ignore and not 0 <= value < len(palette))
    if wrong:
        shown = ", ".join(str(value) for value in wrong[:5])
        raise DataError(
            f"The mask holds {shown}; the palette has colours for 0–{len(palette) - 1}, {ignore} is ignored."
        )
    colours = np.zeros((len(palette) + 1, 3), np.uint8)
    colours[:-1] = np.asarray(palette, np.uint8).reshape(-1, 3)
    return colours[np.where(mask == ignore, len(palette), mask)]


def overlay(
    image: U8,  # (H, W, 3) RGB, or (H, W) or (H, W, 1) grey
    mask: npt.NDArray[np.integer],  # (H, W)
    palette: Sequence[tuple[int, int, int]],
    opacity: float = 0.5,  # 0 shows the image alone, 1 the mask alone
    ignore: int = 255,
) -> U8:  # (H, W, 3) RGB
    """The mask's colours over the image: round((1 − opacity)·image + opacity·colour); ignored pixels stay the image.

    Raises:
        DataError: sizes differ, the image is neither grey nor RGB of 8 bits, or opacity is not in 0 to 1.

    >>> overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0, 255]]), [(200, 0, 50)]).tolist()
    [[[150, 50, 75], [100, 100, 100]]]
    """
    if not 0 <= opacity <= 1:
        raise DataError(f"Opacity is {opacity:g}; it goes from 0 (image alone) to 1 (mask alone).")
    if image.dtype != np.uint8:
        raise DataError(f"The image has values of type {image.dtype}; uint8 is needed. Scale it to 0–255 first.")
    picture = image[..., None] if image.ndim == 2 else image
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise DataError(f"The image has the shape {image.shape}; (H, W), (H, W, 1) or (H, W, 3) is needed.")
    if picture.shape[:2] != mask.shape:
        raise DataError(f"The image is {picture.shape[0]}x{picture.shape[1]}, its mask {mask.shape}; sizes must agree.")
    picture = np.broadcast_to(picture, (*mask.shape, 3))
    blended = (1 - opacity) * picture.astype(np.float32) + opacity * colour_mask(mask, palette, ignore)
    return np.where((mask == ignore)[..., None], picture, np.rint(blended).astype(np.uint8))


FOLDERS = {  # values of --save and their folders; coco is one file for all images
    "mask": "masks",
    "overlay": "overlays",
    "probabilities": "probabilities",
    "confidence": "confidence",
    "entropy": "entropy",
    "coco": "",
}
FLOATS = ("probabilities", "confidence", "entropy")
DEFAULT = ("mask", "overlay")


def check_save(names: Sequence[str]) -> list[str]:
    """Faults of the names of --save."""
    faults = [f"--save: {unknown('result', name, FOLDERS)}" for name in names if name not in FOLDERS]
    return faults if faults or names else [f"--save: at least one of {', '.join(FOLDERS)} is needed; saw none."]


def path_of(out: Path, kind: str, name: Path, image: Path) -> Path:
    """The path of a result: TIFF for float results, else PNG, or TIFF for a TIFF."""
    is_tiff = kind in FLOATS or image.suffix.lower() in (".tif", ".tiff")
    return out / FOLDERS[kind] / name.parent / f"{name.name}{'.tif' if is_tiff else '.png'}"


def entropy_of(
    probabilities: Tensor,  # (C, …), sums to 1 over C
) -> Tensor:  # (…) 0 … 1
    """−Σ p·log p / log C: 0 if one class has probability 1, 1 if all are equal.

    >>> entropy_of(torch.tensor([[1.0, 0.5], [0.0, 0.5]])).tolist()
    [0.0, 1.0]
    """
    found: Tensor = torch.special.entr(probabilities).sum(dim=0).clamp(min=0) / math.log(len(probabilities))
    return found


@dataclass
class Band:
    """Finished rows of an image: the image's pixels, class indices and, if requested, the float results."""

    top: int
    image: U8  # (h, W, B)
    mask: U8  # (h, W)
    confidence: npt.NDArray[np.float32]  # (h, W) probability of the predicted class
    floats: dict[str, npt.NDArray[np.float16]]  # (h, W) or (h, W, C)


def bands_of(blocks: Iterable[TileBlock], width: int, kinds: Sequence[str] = ()) -> Iterator[Band]:
    """Blocks of a row of windows joined to bands of full width, with the most probable class of every pixel.

    Every block is reduced at once into preallocated arrays: probabilities of a whole band would dominate the memory,
    and small arrays between large ones would fragment it.
    """
    band: Band | None = None
    for block in blocks:
        if band is None:
            band = _empty_band(block, width, kinds)
        _reduce_into(band, block)
        if block.left + block.values.shape[2] == width:
            yield band
            band = None


def _empty_band(block: TileBlock, width: int, kinds: Sequence[str]) -> Band:
    classes, height = block.values.shape[:2]
    samples = {"probabilities": (classes,), "confidence": (), "entropy": ()}
    return Band(
        block.top,
        np.empty((height, width, block.image.shape[2]), np.uint8),
        np.empty((height, width), np.uint8),
        np.empty((height, width), np.float32),
        {kind: np.empty((height, width, *samples[kind]), np.float16) for kind in FLOATS if kind in kinds},
    )


def _reduce_into(band: Band, block: TileBlock) -> None:
    columns = slice(block.left, block.left + block.values.shape[2])
    confidence, taken = block.values.max(dim=0)
    band.image[:, columns] = block.image
    band.mask[:, columns] = taken.numpy()
    band.confidence[:, columns] = confidence.numpy()
    for kind, values in band.floats.items():
        if kind == "probabilities":
            values[:, columns] = block.values.permute(1, 2, 0).numpy()
        elif kind == "confidence":
            values[:, columns] = confidence.numpy()
        else:
            values[:, columns] = entropy_of(block.values).numpy()


class Writers:
    """The files of one image. `add` its bands; files appear when the block ends without an error."""

    def __init__(
        self, files: dict[str, Path], shape: tuple[int, int, int], palette: Palette, empty: Bits | None = None
    ) -> None:
        height, width, _ = shape
        self._palette, self._stack, self._empty = palette, ExitStack(), empty
        shown = palette if empty is None else [*palette, *[(0, 0, 0)] * (256 - len(palette))]
        samples = {"overlay": 3, "probabilities": len(palette)}
        self._writers = {
            kind: BandWriter(
                path,
                (height, width, samples.get(kind, 1)),
                "float16" if kind in FLOATS else "uint8",
                shown if kind == "mask" else None,
            )
            for kind, path in files.items()
        }

    def __enter__(self) -> Self:
        for writer in self._writers.values():
            self._stack.enter_context(writer)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)  # type: ignore[arg-type]

    def add(self, band: Band) -> None:
        """Write finished rows; pixels without data are 255 in the mask and black in the overlay."""
        empty = None if self._empty is None else self._empty[band.top : band.top + len(band.mask)]
        for kind, writer in self._writers.items():
            if kind == "mask":
                writer.add(band.mask if empty is None else np.where(empty, np.uint8(IGNORE), band.mask))
            elif kind == "overlay":
                seen = band.image[..., :3] if band.image.shape[2] >= 3 else band.image[..., :1]
                drawn = overlay(seen, band.mask, self._palette)
                writer.add(drawn if empty is None else np.where(empty[..., None], np.uint8(0), drawn))
            else:
                writer.add(band.floats[kind])
