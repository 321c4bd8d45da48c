"""Prediction on files and folders: index masks and overlays at the size of the input.

Knows a bundle and image files; nothing of training.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from segdecay.deploy.bundle import Bundle
from segdecay.deploy.overlay import overlay
from segdecay.errors import DataError, gather
from segdecay.records import write_bytes

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Predicted:
    """Where one image's results lie."""

    image: Path
    mask: Path
    overlay: Path
    pixels: dict[str, int]  # predicted pixels by class


def find_images(paths: list[Path]) -> list[tuple[Path, Path]]:
    """(file, relative name without suffix) of every image in files and folders, sorted.

    Raises:
        DataError: a path is missing, a file has another suffix, nothing is found, or two images share a name.
    """
    found: list[tuple[Path, Path]] = []
    faults = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                faults.append(f"{path} holds no image ({', '.join(SUFFIXES)}).")
            found += [(p, p.relative_to(path).with_suffix("")) for p in inside]
        elif not path.exists():
            faults.append(f"{path} does not exist.")
        elif path.suffix.lower() not in SUFFIXES:
            faults.append(f"{path} is no image that can be read here; allowed: {', '.join(SUFFIXES)}.")
        else:
            found.append((path, Path(path.stem)))
    names: dict[Path, Path] = {}
    for path, name in found:
        if name in names:
            faults.append(f"{path} and {names[name]} would both be written as {name}.png; predict them apart.")
        names[name] = path
    gather(DataError, faults)
    return found


def read_image(path: Path, bands: int) -> npt.NDArray[np.uint8]:
    """An image file as (H, W, bands) uint8, turned as its EXIF orientation says.

    Raises:
        DataError: unreadable, not 8 bit, or another number of bands.
    """
    modes = {"L": 1, "RGB": 3, "RGBA": 4, "P": 3, "1": 1}
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "P":
                picture = picture.convert("RGB")
            elif picture.mode == "1":
                picture = picture.convert("L")
            picture.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if picture.mode not in modes:
        raise DataError(f"{path} is of mode {picture.mode}; 8-bit grey, RGB or RGBA are read. Convert it first.")
    if modes[picture.mode] != bands:
        raise DataError(
            f"{path} has {modes[picture.mode]} band(s), the model was trained on {bands}. Convert it first."
        )
    array = np.asarray(picture, dtype=np.uint8)
    return array if array.ndim == 3 else array[..., None]


def predict_mask(
    bundle: Bundle,
    image: npt.NDArray[np.uint8],  # (H, W, B)
) -> npt.NDArray[np.uint8]:  # (H, W) class indices
    """The class of every pixel, at the size of the image."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return np.asarray(bundle.logits(tensor).argmax(dim=1)[0].to(torch.uint8).cpu().numpy())


def predict_files(
    bundle: Bundle, paths: list[Path], out: Path, on_done: Callable[[Predicted], None] = lambda _done: None
) -> list[Predicted]:
    """Write `out`/masks/NAME.png (indices, with the palette) and `out`/overlays/NAME.png for every image.

    Raises:
        DataError: something cannot be read or written; files before it are done.
    """
    done = []
    for path, name in find_images(paths):
        image = read_image(path, bundle.bands)
        mask = predict_mask(bundle, image)
        rgb = image[..., :3] if bundle.bands >= 3 else np.repeat(image[..., :1], 3, axis=-1)
        row = Predicted(
            image=path,
            mask=out / "masks" / name.parent / f"{name.name}.png",
            overlay=out / "overlays" / name.parent / f"{name.name}.png",
            pixels={label: int((mask == index).sum()) for index, label in enumerate(bundle.classes)},
        )
        picture = Image.fromarray(mask)
        picture.putpalette([channel for colour in bundle.palette for channel in colour])
        try:
            _save(picture, row.mask)
            _save(Image.fromarray(overlay(rgb, mask, bundle.palette)), row.overlay)
        except OSError as error:
            raise DataError(f"{error.filename or out} cannot be written: {error.strerror or error}.") from error
        on_done(row)
        done.append(row)
    return done


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_bytes(path, content.getvalue())
