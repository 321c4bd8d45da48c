"""Guesses from names and from counts of values, each with its reason. Only `guess_images` opens files.

A guess is a key of dataset.yaml with a value and why; a remark has no key.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.data.checks.findings import names_of
from segdecay.data.checks.labels import MANY_VALUES
from segdecay.data.dataset import MOST_CLASSES
from segdecay.data.detect.ambiguity import Answer, Idea, Question, lines_of
from segdecay.data.detect.class_name_files import Named, is_ignored
from segdecay.data.formats.pairing import natural_key
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.bit_depth import Depth, raw_of
from segdecay.data.images.decode import SIDEWAYS, Picture, UnusableError, read_image, read_mask
from segdecay.data.images.palette import Colour, colour_text

FEWEST_GROUPS = 3  # below the default number of folds a group guess would only make `check` fail
FRAMES_A_VIDEO = 30  # a group this long with frame numbers in steps is a video
MOST_VIDEOS = 10  # with more videos than this whole groups can be held out
STEADY_SHARE = 0.7  # of the steps between frame numbers that equal the usual one
LITTLE = 0.01  # share of the pixels up to which values that nothing names are taken as unlabelled
TOP_VALUES = (255, 254, 65535, 128, 127, 100, 1000)  # usual values of an object in a binary mask
SHOWN = 8
PATTERNS = (
    ("^([^_]+)_", 'the text before the first "_"'),
    ("^([^-]+)-", 'the text before the first "-"'),
    ("^(.+)_[^_]*$", 'the text before the last "_"'),
    ("^(.+)-[^-]*$", 'the text before the last "-"'),
)


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


def share_text(counts: Mapping[Any, int], values: Sequence[Any] | None = None) -> str:
    """The share of all pixels that these values have, one by one without `values`; with a count where it is next to 0.

    >>> share_text({0: 3, 1: 1}), share_text({0: 9999, 7: 1}, [7])
    ('0: 75.0 %, 1: 25.0 %', '0.0 %, 1 px')
    """
    total = sum(counts.values())
    if values is not None:
        n = sum(counts[value] for value in values)
        few = f", {n} px" if n < 0.0005 * total else ""
        return f"{100 * n / total:.1f} %{few}"
    shown = list(counts.items())[:SHOWN]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{value:g}: {share_text(counts, [value])}" for value, _ in shown) + more


def _default_names(n_classes: int) -> list[str]:
    return ["background", *(f"class {i}" for i in range(1, n_classes))]


def guess_values(counts: Mapping[int, int], named: Named | None) -> list[Idea]:
    """What the pixel values of index masks mean. counts: pixels by value; named: the classes in a file beside.

    Raises:
        Question: several meanings are equally likely.
    """
    values = sorted(counts)
    seen = share_text({value: counts[value] for value in values})
    if len(values) < 2 and not (named is not None and len(named.names) > 1 and set(values) <= set(named.by_value)):
        return [Idea(None, None, f"Every mask holds the value {values} only; at least two classes are needed.")]
    names = [] if named is None else named.names
    high = max(values)
    if len(values) == 2 and values[0] == 0 and high > 1 and (len(names) == 2 or (not names and high in TOP_VALUES)):
        mapping = dict(zip(values, names or ("background", "foreground"), strict=True))
        source = f", names of {named.file}" if named is not None else ""
        why = f"masks hold 0 and {high} only ({seen} of the pixels): a binary mask, {high} taken as the second class"
        return [Idea("values", mapping, f"{why}{source}")]
    if named is not None and named.by_value:
        return _values_of_named(values, counts, named)
    inner = [value for value in values if value != 255]
    void = []
    if 255 in counts:
        why = f"255 ({share_text(counts, [255])} of all pixels) lies apart: taken as unlabelled"
        void.append(Idea("ignore", [255], why))
    if len(inner) >= 2 and inner == list(range(len(inner))):
        why = f"masks hold the values 0–{inner[-1]} without a gap ({seen} of the pixels); give the classes their names"
        return [Idea("classes", _default_names(len(inner)), why), *void]
    if len(values) > MANY_VALUES * 4:
        text = f"Masks hold {len(values)} different values: lossy, interpolated, or numbered by object?"
        lines = lines_of(values={0: "background"}, other="object")
        wide = "# save class indices as 8-bit grey PNG, without smoothing"
        raise Question(text, [Answer("numbers of objects of one class", lines), Answer("lossy, or other", wide)])
    mapping = {value: "background" if value == 0 else f"class {value}" for value in values}
    is_run = values == list(range(values[0], values[-1] + 1))
    held = f"the values {values[0]}–{values[-1]}" if is_run else f"{len(values)} values with gaps"
    why = f"masks hold {held} ({seen} of the pixels); give the classes their names"
    return [Idea("values", mapping, why)]


def _values_of_named(values: Sequence[int], counts: Mapping[int, int], named: Named) -> list[Idea]:
    classes = {value: name for value, name in named.by_value.items() if not is_ignored(name)}
    ignored = [value for value, name in named.by_value.items() if is_ignored(name)]
    seen = share_text({value: counts[value] for value in values})
    n = len(classes)
    in_order = list(classes) == list(range(n))
    from_one = in_order and values[0] == 1 and n in values and len(values) <= n + 1
    if from_one:
        classes = {value + 1: name for value, name in classes.items()}
    strange = [value for value in values if value not in classes and value not in ignored]
    ideas = [Idea(None, None, f"{named.file} names {n} classes; masks hold {seen} of the pixels.")]
    by_index = in_order and not from_one
    is_read_anyway = named.file == "classes.txt" and not ignored
    if n >= 2 and by_index and not is_read_anyway:
        ideas.append(Idea("classes", list(classes.values()), f"names of {named.file}; masks hold {seen} of the pixels"))
    if n >= 2 and not by_index:
        why = f"masks hold 1–{n} and never 0: numbered from 1" if from_one else f"values and names of {named.file}"
        ideas.append(Idea("values", classes, f"{why} ({seen} of the pixels)"))
    if strange == [255] or (strange and sum(counts[value] for value in strange) < LITTLE * sum(counts.values())):
        listed = " and ".join(map(str, strange))
        why = f"{named.file} names {n} classes, {listed} ({share_text(counts, strange)} of all pixels)"
        ignored = [*ignored, *strange]
        reason = f"{why} is none of them: taken as unlabelled"
    elif strange or n < 2:
        _ask_for_strange(strange, values, counts, named, classes)
    else:
        reason = f"{named.file} calls it ignored"
    found = [value for value in ignored if value in counts]
    return [*ideas, *([Idea("ignore", found, reason)] if found else [])]


def _ask_for_strange(
    strange: Sequence[int], values: Sequence[int], counts: Mapping[int, int], named: Named, classes: Mapping[int, str]
) -> None:
    """Values that the list of names leaves out: they may be a class, the background, or unlabelled.

    Raises:
        Question: always.
    """
    names = list(classes.values())
    answers = []
    if list(values) == list(range(len(names) + 1)) and "background" not in names:
        shifted = {0: "background", **dict(enumerate(names, 1))}
        lines = lines_of(classes=list(shifted.values()), values=shifted)
        answers.append(Answer("0 is the background, and the names begin at 1", lines))
    if len(names) > 1:
        keyed = lines_of(values=dict(classes), ignore=list(strange))
        answers.append(Answer(f"{', '.join(map(str, strange))} is unlabelled", keyed))
    mapping = {value: classes.get(value, f"class {value}") for value in values}
    answers.append(Answer("they are classes of their own", lines_of(classes=list(mapping.values()), values=mapping)))
    seen = share_text({value: counts[value] for value in values})
    stray = names_of([str(value) for value in strange])
    text = f"{named.file} names {len(names)} classes ({names_of(names)}), and masks hold {seen} of the pixels. "
    text += f"They hold values that {named.file} does not name ({stray}): what are they?"
    raise Question(text, answers)


def guess_colours(counts: Mapping[Colour, int], classes: Sequence[str], n_clear: int = 0) -> list[Idea]:
    """A template of colours for masks in colour, the darkest first. counts: pixels; n_clear: those with alpha 0.

    Raises:
        Question: they hold more colours than there can be classes.
    """
    if len(counts) > MOST_CLASSES:
        text = f"Masks hold {len(counts)} colours: lossy or interpolated."
        raise Question(text, [Answer("any way", "# re-export them as PNG, nearest neighbour, without smoothing")])
    total = sum(counts.values()) + n_clear
    ordered = sorted(counts, key=lambda colour: (sum(colour), colour))
    names = {
        colour_text(colour): "background" if i == 0 and sum(colour) == 0 else f"class {colour_text(colour)[1:]}"
        for i, colour in enumerate(ordered)
    }
    shares = ", ".join(f"{colour_text(colour)} {100 * counts[colour] / total:.1f} %" for colour in ordered[:12])
    why = f"masks are in {len(names)} colours ({shares}); give the classes their names"
    ideas = [Idea("classes", list(names.values()), "one class a colour"), Idea("colors", names, why)]
    if classes:
        text = f"{len(classes)} classes are named beside the data, but not their colours: "
        text += f"put these names ({names_of(list(classes))}) for the guessed ones."
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


def guess_images(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    page: int | None = None,
    *,
    settled: Collection[str] = (),
) -> list[Idea]:
    """The keys of dataset.yaml that images need.

    masks: by the same names, where there are files of them; page: of stacks; settled: keys that are known.

    Raises:
        Question: alpha that says something, or masks of another size.
    """
    opaque, clear, unturned, deep, looked, n_bands = 0, 0, 0, 0, 0, 3
    empty, kinds, smaller = set[float](), Counter[int](), 0
    for name in spread(list(images), IMAGES_LOOKED_AT):
        try:
            image, is_deep, nodata = _read(read_bytes(images[name]), page)
            mask = read_mask(read_bytes(masks[name]), page, wide=True) if name in masks else None
        except UnusableError:
            continue
        looked, deep, n_bands = looked + 1, deep + is_deep, image.pixels.shape[2]
        kinds[n_bands] += 1
        empty |= set() if nodata is None else {nodata}
        if image.mode in {"LA", "RGBA"}:
            is_opaque = bool((image.pixels[..., -1] == 255).all())
            opaque, clear = opaque + is_opaque, clear + (not is_opaque)
        shape = image.pixels.shape[:2]
        smaller += mask is not None and _is_scaled(shape, _shape_of(mask))
        unturned += mask is not None and image.orientation in SIDEWAYS and shape == mask.pixels.shape[:2] != shape[::-1]
    ideas = _ideas_of_depth(deep, looked, empty)
    grey = sum(kinds[n] for n in (1, 2))
    is_mixed = 0 < grey < looked and set(kinds) <= {1, 2, 3, 4}
    if is_mixed:
        why = f"{grey} of {looked} images are grey, the others RGB: grey ones get three equal bands"
        ideas.append(Idea("grey_as_rgb", True, why))
    if clear and "bands" not in settled:
        bands = [0, 1, 2] if is_mixed or max(kinds) > 2 else [0]
        answers = [Answer("leave alpha out", lines_of(bands=bands))]
        if len(kinds) == 1:
            answers.append(Answer("learn from it", lines_of(bands=list(range(n_bands)))))
        raise Question("Images have an alpha band that is not opaque everywhere. What is to become of it?", answers)
    if opaque and "bands" not in settled:
        chosen = [0, 1, 2] if is_mixed or max(kinds) > 2 else [0]
        ideas.append(Idea("bands", chosen, "images have an alpha band that is opaque everywhere: left out"))
    elif n_bands not in {1, 3}:
        text = f"Images have {n_bands} bands, numbered 0–{n_bands - 1}, and all are used; bands: chooses some."
        ideas.append(Idea(None, None, text))
    if smaller and "resize_masks" not in settled:
        text = f"{smaller} of {looked} masks have another size than their image, and its aspect ratio."
        answers = [
            Answer("they are scaled copies: take the nearest pixel", lines_of(resize_masks=True)),
            Answer("they belong to other images", "# export images and masks in one size"),
        ]
        raise Question(text, answers)
    if unturned:
        ideas.append(Idea("exif", "ignore", "masks fit the images as stored, not as their EXIF orientation turns them"))
    return ideas


def _shape_of(mask: Picture) -> tuple[int, ...]:
    return (mask.pixels if mask.wide is None else mask.wide).shape[:2]


def _is_scaled(image: tuple[int, ...], mask: tuple[int, ...]) -> bool:
    """Whether two sizes differ and have one aspect ratio, within a pixel."""
    return image != mask and abs(image[0] * mask[1] - image[1] * mask[0]) <= max(*image, *mask)


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


def _read(content: bytes, page: int | None) -> tuple[Picture, bool, float | None]:
    """The image, whether it needs a scale, and the nodata value that it needs.

    Raises:
        UnusableError: it cannot be read in any way.
    """
    try:
        return read_image(content, page=page), False, None
    except UnusableError as error:
        if error.code not in {"deep", "nodata"}:
            raise
        raw = raw_of(content, page)
        told = raw.nodata if raw is not None and raw.nodata is not None else math.nan
        image = read_image(content, Depth("percentile", told), page)
        is_deep = raw is None or raw.values.dtype not in (np.uint8, np.bool_)
        return image, is_deep, told if image.empty is not None else None
