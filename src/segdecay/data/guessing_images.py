"""Guesses from images' pixels: alpha and further bands, EXIF orientations, depth, pixels without data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segdecay.data.deep import Depth, raw_of
from segdecay.data.guessing import Idea
from segdecay.data.pictures import SIDEWAYS, Picture, UnusableError, read_image, read_mask
from segdecay.data.sources.reading import read_bytes

IMAGES_LOOKED_AT = 50


def spread(paths: Sequence[str], most: int) -> list[str]:
    """At most `most` of the names, evenly spread."""
    if not paths:
        return []
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), most)).round().astype(int))
    return [paths[i] for i in chosen]


def guess_images(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Idea]:
    """Keys that images need a word about. masks: by the same names, where there are files of them."""
    opaque, clear, unturned, deep, looked, n_bands = 0, 0, 0, 0, 0, 3
    empty = set[float]()
    for name in spread(list(images), IMAGES_LOOKED_AT):
        try:
            image, is_deep, nodata = _read(read_bytes(images[name]))
            mask = read_mask(read_bytes(masks[name])) if name in masks else None
        except UnusableError:
            continue
        looked, deep, n_bands = looked + 1, deep + is_deep, image.pixels.shape[2]
        empty |= set() if nodata is None else {nodata}
        if image.mode in {"LA", "RGBA"}:
            is_opaque = bool((image.pixels[..., -1] == 255).all())
            opaque, clear = opaque + is_opaque, clear + (not is_opaque)
        shape = image.pixels.shape[:2]
        unturned += mask is not None and image.orientation in SIDEWAYS and shape == mask.pixels.shape[:2] != shape[::-1]
    ideas = _ideas_of_depth(deep, looked, empty)
    if clear:
        text = "Images have an alpha band that is not opaque everywhere: set bands with or without it."
        ideas.append(Idea(None, None, text))
    elif opaque:
        chosen = list(range(n_bands - 1))
        ideas.append(Idea("bands", chosen, "images have an alpha band that is opaque everywhere: left out"))
    elif n_bands not in {1, 3}:
        text = f"Images have {n_bands} bands, numbered 0–{n_bands - 1}, and all are used; bands: chooses some."
        ideas.append(Idea(None, None, text))
    if unturned:
        ideas.append(Idea("exif", "ignore", "masks fit the images as stored, not as their EXIF orientation turns them"))
    return ideas


def _ideas_of_depth(deep: int, looked: int, empty: set[float]) -> list[Idea]:
    ideas = []
    if deep:
        why = f"{deep} of {looked} images have more than 8 bits: each band of each image is stretched between its "
        why += "1st and 99th percentile. scale: {max: N} keeps brightness comparable"
        ideas.append(Idea("scale", "percentile", why))
    numbers = sorted(value for value in empty if not math.isnan(value))
    if len(numbers) > 1:
        ideas.append(Idea(None, None, f"Files state different nodata values ({numbers}); only one can be set."))
    elif empty:
        value = numbers[0] if numbers else math.nan
        why = "files state it, or hold NaN: such pixels are filled with 0 and ignored"
        ideas.append(Idea("nodata", value, why))
    return ideas


def _read(content: bytes) -> tuple[Picture, bool, float | None]:
    """The image, whether it needs a scale, and the nodata value that it needs.

    Raises:
        UnusableError: it cannot be read in any way.
    """
    try:
        return read_image(content), False, None
    except UnusableError as error:
        if error.code not in {"deep", "nodata"}:
            raise
        raw = raw_of(content)
        told = raw.nodata if raw is not None and raw.nodata is not None else math.nan
        image = read_image(content, Depth("percentile", told))
        is_deep = raw is None or raw.values.dtype not in (np.uint8, np.bool_)
        return image, is_deep, told if image.empty is not None else None
