"""Guesses from names and from counts of values, each with its reason. Pure: opens no file.

A guess is a key of dataset.yaml with a value and why; a remark has no key.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.data.checks.findings import names_of
from segdecay.data.checks.labels import MANY_VALUES
from segdecay.data.dataset import MOST_CLASSES
from segdecay.data.formats.pairing import natural_key
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.bit_depth import Depth, raw_of
from segdecay.data.images.decode import SIDEWAYS, Picture, UnusableError, read_image, read_mask
from segdecay.data.images.palette import Colour, colour_text

FEWEST_GROUPS = 3  # below the default number of folds a group guess would only make `check` fail
FRAMES_A_VIDEO = 30  # a group this long with frame numbers in steps is a video
MOST_VIDEOS = 10  # with more videos than this whole groups can be held out
STEADY_SHARE = 0.7  # of the steps between frame numbers that equal the usual one
MOST_VOID_VALUES = 2
PATTERNS = (
    ("^([^_]+)_", 'the text before the first "_"'),
    ("^([^-]+)-", 'the text before the first "-"'),
    ("^(.+)_[^_]*$", 'the text before the last "_"'),
    ("^(.+)-[^-]*$", 'the text before the last "-"'),
)


@dataclass(frozen=True)
class Idea:
    """One guessed key of dataset.yaml, or a remark (key None)."""

    key: str | None
    value: Any
    why: str


def guess_suffix(images: Sequence[str], masks: Sequence[str]) -> Idea | None:
    """The suffix of masks' stems that pairs most of them; None when they pair without one.

    >>> guess_suffix(["a", "b"], ["a_mask", "b_mask"]).value
    '_mask'
    """
    stems = set(images)
    tails = Counter(mask[len(image) :] for image in images[:50] for mask in masks if mask.startswith(image))
    paired = {
        tail: sum(mask.endswith(tail) and mask[: len(mask) - len(tail)] in stems for mask in masks) for tail in tails
    }
    if not paired:
        return None
    best = max(paired, key=lambda tail: (paired[tail], -len(tail)))
    if not best or paired[best] <= paired.get("", 0):
        return None
    return Idea("mask_suffix", best, f'{paired[best]} of {len(masks)} masks are named as their image + "{best}"')


def _default_names(n_classes: int) -> list[str]:
    return ["background", *(f"class {i}" for i in range(1, n_classes))]


def guess_values(counts: Mapping[int, int], classes: Sequence[str]) -> list[Idea]:
    """What the pixel values of index masks mean. counts: pixels by value; classes: of classes.txt, or none."""
    values = sorted(counts)
    if set(values) == {0, 255} and len(classes) in {0, 2}:
        names = list(classes) or ["background", "foreground"]
        mapping = {0: names[0], 255: names[1]}
        return [Idea("values", mapping, "masks hold 0 and 255 only: a binary mask, 255 taken as the second class")]
    if classes:
        return _values_of_named(values, counts, classes)
    inner = [value for value in values if value != 255]
    void = [Idea("ignore", [255], f"255 ({_share(counts, [255])} of all pixels) lies apart: taken as unlabelled")]
    if len(values) < 2:
        return [Idea(None, None, f"Every mask holds the value {values} only; at least two classes are needed.")]
    if len(inner) >= 2 and inner == list(range(len(inner))):
        why = f"masks hold the values 0–{inner[-1]} without a gap; give the classes their names"
        return [Idea("classes", _default_names(len(inner)), why), *(void if 255 in values else [])]
    if len(values) > MANY_VALUES * 4:
        text = f"Masks hold {len(values)} different values: lossy, interpolated, or numbered by object?"
        return [Idea(None, None, text)]
    mapping = {value: "background" if value == 0 else f"class {value}" for value in values}
    return [Idea("values", mapping, f"masks hold {len(values)} values with gaps; give the classes their names")]


def _values_of_named(values: Sequence[int], counts: Mapping[int, int], classes: Sequence[str]) -> list[Idea]:
    n = len(classes)
    from_one = values[0] == 1 and n in values
    void = [value for value in values if value > n or (value == n and not from_one)]
    ideas = []
    if from_one:
        mapping = dict(enumerate(classes, start=1))
        ideas.append(Idea("values", mapping, f"masks hold 1–{n} and never 0: numbered from 1"))
    if len(void) > MOST_VOID_VALUES or (void and len(values) - len(void) < 2):
        named = names_of([str(value) for value in void])
        text = f"Masks hold values that classes.txt does not name ({named}). Which classes are they? Left open."
        return [*ideas, Idea(None, None, text)]
    if void:
        listed = " and ".join(str(value) for value in void)
        seen = f"classes.txt names {n} classes, {listed} ({_share(counts, void)} of all pixels)"
        why = f"{seen} is none of them: taken as unlabelled"
        ideas.append(Idea("ignore", void, why))
    return ideas


def _share(counts: Mapping[int, int], values: Sequence[int]) -> str:
    return f"{100 * sum(counts[value] for value in values) / sum(counts.values()):.1f} %"


def guess_colours(counts: Mapping[Colour, int], classes: Sequence[str]) -> list[Idea]:
    """A template of colours for masks in colour, the darkest first."""
    if len(counts) > MOST_CLASSES:
        text = f"Masks hold {len(counts)} colours: lossy or interpolated. Re-export them as PNG, nearest neighbour."
        return [Idea(None, None, text)]
    total = sum(counts.values())
    ordered = sorted(counts, key=lambda colour: (sum(colour), colour))
    names = {
        colour_text(colour): "background" if i == 0 and sum(colour) == 0 else f"class {colour_text(colour)[1:]}"
        for i, colour in enumerate(ordered)
    }
    shares = ", ".join(f"{colour_text(colour)} {100 * counts[colour] / total:.1f} %" for colour in ordered[:12])
    why = f"masks are in {len(names)} colours ({shares}); give the classes their names"
    ideas = [Idea("classes", list(names.values()), "one class a colour"), Idea("colors", names, why)]
    if classes:
        text = f"classes.txt names {len(classes)} classes but not their colours: put its names for the guessed ones."
        ideas.append(Idea(None, None, text))
    return ideas


def guess_groups(stems: Sequence[str]) -> list[Idea]:
    """A pattern over names that gives groups; blocks where these are few long videos. stems: of train and val."""
    for pattern, words in PATTERNS:
        groups: dict[str, list[str]] = defaultdict(list)
        for stem in stems:
            match = re.search(pattern, stem)
            groups[match.group(1) if match else ""].append(stem)
        if "" in groups or len(groups) < 2 or 2 * len(groups) > len(stems):
            continue
        sizes = sorted((len(found) for found in groups.values()), reverse=True)
        span = f"{sizes[0]}" if sizes[-1] == sizes[0] else f"{sizes[-1]} to {sizes[0]}"
        seen = f"{words} gives {len(groups)} groups of {span} images"
        are_videos = sizes[0] >= FRAMES_A_VIDEO and len(groups) <= MOST_VIDEOS and _are_frames(groups)
        if are_videos:
            why = "few long groups with frame numbers in steady steps: videos, so blocks inside them are held out"
            return [Idea("group_pattern", pattern, seen), Idea("folds", "blocks", why)]
        if len(groups) >= FEWEST_GROUPS:
            return [Idea("group_pattern", pattern, f"{seen}; images of one group stay in one fold")]
    text = (
        "No groups are known: every image is its own. If several images show one patient, place or video, name groups."
    )
    if len(stems) >= FRAMES_A_VIDEO and _are_frames({"": list(stems)}):
        text += " Names are numbered in steady steps: frames of one video? Then set folds: blocks and "
        text += 'group_pattern: "^(.*?)[0-9]+$".'
    return [Idea(None, None, text)]


def _are_frames(groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether the last numbers in the names of most long groups rise in equal steps."""
    verdicts = []
    for stems in groups.values():
        if len(stems) < FRAMES_A_VIDEO // 3:
            continue
        numbers = [re.findall(r"\d+", stem)[-1:] for stem in sorted(stems, key=natural_key)]
        if not all(numbers):
            return False
        steps = np.diff([int(found[0]) for found in numbers])
        usual = Counter(steps.tolist()).most_common(2)
        steady = sum(count for step, count in usual if step > 0)
        verdicts.append(steady >= STEADY_SHARE * len(steps))
    return bool(verdicts) and sum(verdicts) * 2 > len(verdicts)


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
