"""`segdecay init`: guess a dataset.yaml from what lies in a folder, and say why for each guess.

Looks at names, at masks and at images' headers; writes nothing. What it cannot know it says instead of guessing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from segdecay.data.checks import NAMED_FILES
from segdecay.data.guessing import Idea, guess_colours, guess_groups, guess_suffix, guess_values
from segdecay.data.guessing_labels import guess_labels
from segdecay.data.labels import colour_counts
from segdecay.data.palette import Colour
from segdecay.data.pictures import SIDEWAYS, Picture, UnusableError, read_image, read_mask
from segdecay.data.sources.grouping import read_rows
from segdecay.data.sources.pairs import PARTS, SUFFIXES, files_below
from segdecay.data.sources.reading import read_bytes
from segdecay.data.spec import parse_spec, read_classes
from segdecay.errors import DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "inputs", "input", "frames", "photos")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annot", "gt", "ground_truth", "groundtruth",
    "segmentationclass", "segmentations", "targets", "target",
)  # fmt: skip
LOOKED_AT = 1000  # masks that are read, spread evenly; `check` reads all
IMAGES_LOOKED_AT = 50


@dataclass(frozen=True)
class Guess:
    """A dataset.yaml, and one line for each thing that was guessed or left open."""

    spec_yaml: str
    explanations: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """Files by stem relative to their folder."""

    images: dict[str, Path]
    masks: dict[str, Path]


def guess_spec(folder: Path) -> Guess:
    """The dataset.yaml that fits what lies in a folder.

    Raises:
        DataError: the folder is missing, or has no folders of images and masks.
        ConfigError: classes.txt is not valid.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. init needs one that holds images and masks, or images and labels.")
    labelled = guess_labels(folder)
    if labelled is not None:
        return _guess_of(labelled)
    images, masks = _subfolder(folder, IMAGE_FOLDERS, "images"), _subfolder(folder, MASK_FOLDERS, "masks")
    found = _Found(_stems(folder / images), _stems(folder / masks))
    for name, files in ((images, found.images), (masks, found.masks)):
        if not files:
            raise DataError(f"{folder / name} holds no JPEG or PNG.")
    ideas = [
        Idea(key, name, "the folder that is there")
        for key, name in (("images", images), ("masks", masks))
        if name != key
    ]
    suffix = guess_suffix(list(found.images), list(found.masks))
    ideas += [suffix] if suffix else []
    ideas += _ideas_of_masks(folder, found)
    ideas += _ideas_of_images(found, "" if suffix is None else str(suffix.value))
    ideas += _ideas_of_groups(folder, found)
    why = (
        "assumed: left and right may be exchanged. none for text and digits, both for views from above or a microscope"
    )
    ideas.append(Idea("flip", "horizontal", why))
    return _guess_of(ideas)


def _guess_of(ideas: Sequence[Idea]) -> Guess:
    text = _as_yaml(ideas)
    parse_spec(text, source="the guessed dataset.yaml")
    return Guess(text, tuple(f"{idea.key}: {idea.why}." if idea.key else idea.why for idea in ideas))


def _subfolder(folder: Path, known: Sequence[str], kind: str) -> str:
    there = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
    for name in known:
        if name in there:
            return there[name]
    seen = ", ".join(sorted(there.values())[:NAMED_FILES]) or "no folder at all"
    raise DataError(
        f"{folder} has no folder of {kind}; it holds {seen}. Name it {kind}/, or write {kind}: in dataset.yaml. "
        "Class folders (CLASS/*.png), a labels.csv and CIFAR-10 are known, too."
    )


def _stems(folder: Path) -> dict[str, Path]:
    return {str(path.with_suffix("")): folder / path for path in files_below(folder) if path.suffix.lower() in SUFFIXES}


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of the paths, evenly spread."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), most)).round().astype(int))
    return [paths[i] for i in chosen]


def _ideas_of_masks(folder: Path, found: _Found) -> list[Idea]:
    has_names = (folder / "classes.txt").exists()
    classes = read_classes(folder / "classes.txt") if has_names else ()
    ideas = [Idea(None, None, f"classes.txt names {len(classes)} classes.")] if has_names else []
    paths = list(found.masks.values())
    looked = _spread(paths, LOOKED_AT)
    if len(looked) < len(paths):
        ideas.append(Idea(None, None, f"Looked at {len(looked)} of {len(paths)} masks; check reads all."))
    values, colours, palettes, unread = Counter[int](), Counter[Colour](), dict[int, set[Colour]](), 0
    for path in looked:
        try:
            mask = read_mask(read_bytes(path))
        except UnusableError:
            unread += 1
            continue
        if mask.pixels.shape[2] >= 3:
            colours.update(colour_counts(mask.pixels[..., :3]))
            continue
        counts = np.bincount(mask.pixels[..., 0].ravel(), minlength=256)
        values.update({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
        if mask.mode == "P":
            _note_palette(mask, palettes, np.flatnonzero(counts).tolist(), colours, counts.tolist())
    if unread:
        ideas.append(Idea(None, None, f"{unread} masks could not be read; check names them."))
    if any(len(seen) > 1 for seen in palettes.values()):
        ideas.append(Idea(None, None, "Palettes differ between masks, so their colours count, not their indices."))
        return [*ideas, *guess_colours(colours, classes)]
    if palettes:
        colours = Counter()
    if colours and not values:
        return [*ideas, *guess_colours(colours, classes)]
    if colours:
        ideas.append(
            Idea(None, None, "Some masks are in colour and some hold numbers; check names them. Save all alike.")
        )
    return [*ideas, *guess_values(values, classes)] if values else ideas


def _note_palette(
    mask: Picture, palettes: dict[int, set[Colour]], used: list[int], colours: Counter[Colour], counts: list[int]
) -> None:
    """Add a palette mask's used colours, in place."""
    for index in used:
        if index < len(mask.colours):
            palettes.setdefault(index, set()).add(mask.colours[index])
            colours[mask.colours[index]] += counts[index]


def _ideas_of_images(found: _Found, suffix: str) -> list[Idea]:
    """Bands and EXIF, where some of the images need a word about them."""
    stems = [stem for stem in found.images if stem + suffix in found.masks]
    opaque, clear, unturned, n_colours = 0, 0, 0, 3
    for stem in _spread_stems(stems):
        try:
            image = read_image(read_bytes(found.images[stem]))
            mask = read_mask(read_bytes(found.masks[stem + suffix]))
        except UnusableError:
            continue
        if image.mode in {"LA", "RGBA"}:
            is_opaque = bool((image.pixels[..., -1] == 255).all())
            n_colours = image.pixels.shape[2] - 1
            opaque, clear = opaque + is_opaque, clear + (not is_opaque)
        shape = image.pixels.shape[:2]
        unturned += image.orientation in SIDEWAYS and shape == mask.pixels.shape[:2] != shape[::-1]
    ideas = []
    if clear:
        ideas.append(
            Idea(None, None, "Images have an alpha band that is not opaque everywhere: set bands with or without it.")
        )
    elif opaque:
        ideas.append(
            Idea("bands", list(range(n_colours)), "images have an alpha band that is opaque everywhere: left out")
        )
    if unturned:
        ideas.append(Idea("exif", "ignore", "masks fit the images as stored, not as their EXIF orientation turns them"))
    return ideas


def _spread_stems(stems: Sequence[str]) -> list[str]:
    return [str(path) for path in _spread([Path(stem) for stem in stems], IMAGES_LOOKED_AT)] if stems else []


def _ideas_of_groups(folder: Path, found: _Found) -> list[Idea]:
    if (folder / "groups.csv").exists():
        return _ideas_of_csv(folder / "groups.csv")
    tops = {stem.split("/", 1)[0] for stem in found.images if "/" in stem}
    pool = [stem for stem in found.images if not (tops & set(PARTS) and stem.startswith("test/"))]
    return guess_groups([PurePosixPath(stem).name for stem in pool])


def _ideas_of_csv(path: Path) -> list[Idea]:
    rows = read_rows(path)
    groups = {row.group for row in rows if row.group}
    ideas = [Idea("groups", path.name, f"{path.name} gives {len(rows)} images {len(groups)} groups")]
    pool = [row for row in rows if row.split != "test"]
    folds = {row.fold for row in pool}
    if len(folds) > 1 and None not in folds:
        ideas.append(Idea("folds", "given", f"{path.name} has a column fold with {len(folds)} folds"))
    return ideas


def _as_yaml(ideas: Sequence[Idea]) -> str:
    """The keys with their reasons as comments above them."""
    lines = ["# Guessed by segdecay init. Read every line; segdecay check shows what it leads to."]
    for idea in ideas:
        lines += [f"# {idea.why}"]
        if idea.key is not None:
            lines += [yaml.safe_dump({idea.key: idea.value}, sort_keys=False, allow_unicode=True).rstrip()]
    return "\n".join(lines) + "\n"
