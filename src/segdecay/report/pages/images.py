"""Example images of a run as data URIs: the photograph once, masks in the palette of the data set.

Masks are PNGs with transparent ignored pixels, so that the page can lay them over the photograph.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from segdecay.data.records import Colour
from segdecay.errors import RunError
from segdecay.report.facts.run import Run
from segdecay.runs.examples import ImageExample, LabelExample

IGNORE = 255  # value of ignored pixels in a mask
SIDES = (640, 448, 320, 224, 160)  # px, longer side of an embedded image: about twice what a page shows, or less
OUTLINE = 320  # px, longer side at which outlines are drawn
LOSSLESS = 256  # px, up to which an image stays a PNG
LIMIT = 800_000  # bytes for all images of a page, so that it stays below 4 MB
PLAIN_NAME = re.compile(r"[^/\\\0]+")


@dataclass(frozen=True)
class Sheet:
    """One image, ready for the page: five data URIs and the size in pixels of the file."""

    example: ImageExample
    image: str
    truth: str
    zero: str
    chosen: str
    width: int
    height: int
    differing: str  # outline of the pixels that the predictions name differently
    kinds: tuple[str, ...]  # why it is shown
    agreement: float  # share of valid pixels where both predictions name the same class

    @property
    def size(self) -> int:
        """Size in the page, in bytes."""
        return sum(len(part) for part in (self.image, self.truth, self.zero, self.chosen, self.differing))


def read_sheets(
    folder: Path, examples: Sequence[ImageExample], palette: tuple[Colour, ...], *, limit: int = LIMIT
) -> tuple[Sheet, ...]:
    """All examples at the largest size at which they fit into `limit` bytes, or at the smallest size.

    Raises:
        RunError: as `read_sheet`.
    """
    sheets: tuple[Sheet, ...] = ()
    kinds: dict[tuple[str, int | None], list[str]] = {}
    for one in examples:
        kinds.setdefault((one.name, one.fold), []).append(one.kind)
    once = {(one.name, one.fold): one for one in reversed(examples)}  # an image is shown once, with all reasons
    for side in SIDES:
        sheets = tuple(
            replace(read_sheet(folder, once[key], palette, side), kinds=tuple(reasons))
            for key, reasons in kinds.items()
        )
        if sum(sheet.size for sheet in sheets) <= limit:
            break
    return sheets


def read_sheet(folder: Path, example: ImageExample, palette: tuple[Colour, ...], side: int = SIDES[0]) -> Sheet:
    """The four pictures of one example, their longer side at most `side` px.

    Raises:
        RunError: a file is missing, is no image, is outside the folder or has another size; a mask holds unknown
            values.
    """
    picture = open_example(folder, example.image).convert("RGB")
    masks = [_mask(folder, name, palette, picture.size) for name in (example.truth, example.zero, example.chosen)]
    valid = masks[0] != IGNORE
    same = float(np.mean((masks[1] == masks[2])[valid])) if valid.any() else 1.0
    truth, zero, chosen = (_mask_uri(mask, palette, side) for mask in masks)
    differing = _outline_uri((masks[1] != masks[2]) & valid, side)
    width, height = picture.size
    image = image_uri(picture, side)
    return Sheet(example, image, truth, zero, chosen, width, height, differing, (example.kind,), same)


def open_example(folder: Path, name: str) -> Image.Image:
    """A PNG that examples.json names.

    Raises:
        RunError: the file is missing, is no image, or is outside the folder.
    """
    path = folder / name
    if not PLAIN_NAME.fullmatch(name) or name in (".", ".."):
        raise RunError(f"{folder / 'examples.json'} lists '{name}'; only names of files in that folder are allowed.")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Run the command of this run again to write it.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RunError(f"{path} is damaged: no readable PNG ({error}).") from error


def _mask(folder: Path, name: str, palette: tuple[Colour, ...], size: tuple[int, int]) -> np.ndarray:
    image = open_example(folder, name)
    if image.mode not in ("P", "L"):
        raise RunError(f"{folder / name} is a {image.mode} image; a mask holds class indices (mode P or L).")
    if image.size != size:
        message = f"{folder / name} is {image.size[0]}x{image.size[1]}, its image {size[0]}x{size[1]}; run again."
        raise RunError(message)
    mask: np.ndarray = np.asarray(image)
    wrong = sorted({int(value) for value in np.unique(mask)} - set(range(len(palette))) - {IGNORE})
    if wrong:
        raise RunError(f"{folder / name} holds {wrong[:5]}; classes are 0–{len(palette) - 1}, {IGNORE} is ignored.")
    return mask


def _fitted(image: Image.Image, largest: int, resample: Image.Resampling) -> Image.Image:
    longer = max(image.size)
    if longer <= largest:
        return image
    width, height = (max(1, round(side * largest / longer)) for side in image.size)
    return image.resize((width, height), resample)


def image_uri(image: Image.Image, side: int) -> str:
    """An image as a data URI, its longer side at most `side` px."""
    if max(image.size) <= min(LOSSLESS, side):
        return _uri(image, "PNG", optimize=True)
    return _uri(_fitted(image, side, Image.Resampling.LANCZOS), "JPEG", quality=85)


def _mask_uri(mask: np.ndarray, palette: tuple[Colour, ...], side: int) -> str:
    image = _fitted(Image.fromarray(np.ascontiguousarray(mask)), side, Image.Resampling.NEAREST)
    coloured = Image.frombytes("P", image.size, image.tobytes())
    colours = [part for colour in palette for part in colour]
    coloured.putpalette(colours + [0] * (768 - len(colours)))
    return _uri(coloured, "PNG", transparency=IGNORE, optimize=True)


def _outline_uri(differs: np.ndarray, side: int) -> str:
    """The outline of a region (H, W) in white on black lines, as a PNG that is transparent elsewhere."""
    image = _fitted(Image.fromarray(differs), side, Image.Resampling.NEAREST)
    times = max(1, round(OUTLINE / max(image.size)))  # small images are enlarged, so that lines are thin
    region = np.pad(np.asarray(image).repeat(times, axis=0).repeat(times, axis=1), 2)
    inner, outer = (_shrunk(region), ~_shrunk(~region))
    lines = np.zeros(region.shape, np.uint8)
    lines[region & ~inner], lines[outer & ~region] = 1, 2
    drawn = Image.fromarray(lines[2:-2, 2:-2])
    coloured = Image.frombytes("P", drawn.size, drawn.tobytes())
    coloured.putpalette([0, 0, 0, 255, 255, 255, 0, 0, 0] + [0] * 759)
    return _uri(coloured, "PNG", transparency=0, optimize=True)


def _shrunk(region: np.ndarray) -> np.ndarray:
    """The pixels whose four neighbours are in the region too."""
    kept = region.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            kept &= np.roll(region, step, axis)
    return kept


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


SIDE = 160  # px, longer side of an embedded image


@dataclass(frozen=True)
class LabelSheet:
    """One image, ready for the page."""

    example: LabelExample
    image: str
    width: int
    height: int


def read_label_sheets(run: Run) -> tuple[LabelSheet, ...]:
    """All examples of a run whose images have one label; empty for masks.

    Raises:
        RunError: a file is missing, is no image, or is outside the folder.
    """
    sheets = []
    for example in run.examples.labels:
        picture = open_example(run.folder / "examples", example.image).convert("RGB")
        sheets.append(LabelSheet(example, image_uri(picture, SIDE), *picture.size))
    return tuple(sheets)
