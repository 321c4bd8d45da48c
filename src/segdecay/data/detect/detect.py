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

from segdecay.data.checks.findings import NAMED_FILES
from segdecay.data.detect.image_labels import guess_labels
from segdecay.data.detect.layouts import guess_layout
from segdecay.data.detect.masks_beside import guess_class_files, guess_siblings
from segdecay.data.detect.values import (
    Idea,
    guess_colours,
    guess_groups,
    guess_images,
    guess_suffix,
    guess_values,
    spread,
)
from segdecay.data.formats import LAYOUTS
from segdecay.data.formats.pairing import PART_ALIASES, PARTS, SUFFIXES, files_below, read_rows
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.decode import Picture, UnusableError, read_mask
from segdecay.data.images.label_maps import colour_counts
from segdecay.data.images.palette import Colour
from segdecay.data.spec import class_names, parse_spec, read_classes
from segdecay.errors import ConfigError, DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "inputs", "input", "frames", "photos")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annot", "gt", "ground_truth", "groundtruth",
    "segmentationclass", "segmentations", "targets", "target",
)  # fmt: skip
LOOKED_AT = 1000  # masks that are read, spread evenly; `check` reads all
VOID = 255  # of Pascal VOC: borders of objects
FLIP = Idea(
    "flip",
    "horizontal",
    "assumed: left and right may be exchanged. none for text and digits, both for views from above or a microscope",
)


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
    layout = guess_layout(folder) or _guess_by_names(folder)
    if layout is not None:
        return _guess_of([*layout, *_ideas_of_layout(folder, layout), FLIP])
    labelled = guess_labels(folder)
    if labelled is not None:
        return _guess_of(labelled)
    images, masks = _subfolder(folder, IMAGE_FOLDERS, "images"), _subfolder(folder, MASK_FOLDERS, "masks")
    found = _Found(_stems(folder / images), _stems(folder / masks))
    for name, files in ((images, found.images), (masks, found.masks)):
        if not files:
            raise DataError(
                f"{folder / name} holds no image (PNG, JPEG, TIFF, .npy or .mat).{_other_files(folder / name)}"
            )
    ideas = [
        Idea(key, name, "the folder that is there")
        for key, name in (("images", images), ("masks", masks))
        if name != key
    ]
    suffix = guess_suffix(list(found.images), list(found.masks))
    ideas += [suffix] if suffix else []
    ideas += _ideas_of_masks(folder, found)
    tail = "" if suffix is None else str(suffix.value)
    paired = {stem: path for stem, path in found.images.items() if stem + tail in found.masks}
    ideas += guess_images(paired, {stem: found.masks[stem + tail] for stem in paired})
    ideas += _ideas_of_groups(folder, found)
    ideas.append(FLIP)
    return _guess_of(ideas)


def _ideas_of_layout(folder: Path, layout: Sequence[Idea]) -> list[Idea]:
    """What masks, images and names say, where a layout names the files."""
    known = {idea.key: idea.value for idea in layout}
    spec = parse_spec(_as_yaml(layout), source="the guessed dataset.yaml")
    if not class_names(spec, folder):
        spec = spec.model_copy(
            update={"classes": ("background", "object")}
        )  # which files there are does not hang on it
    try:
        placed = LAYOUTS[spec.layout](folder, spec).placed
    except (DataError, ConfigError) as error:
        return [Idea(None, None, f"It cannot be read yet: {' '.join(str(error).split())}")]
    images = {one.pair.name: one.pair.image for one in placed}
    masks = {one.pair.name: one.pair.mask for one in placed if one.pair.mask != one.pair.image}
    ideas = []
    if masks and "classes" not in known and "values" not in known:
        ideas += _ideas_of_masks(folder, _Found(images, masks), void=VOID if spec.layout == "voc" else None)
    ideas += guess_images(images, masks)
    if any(one.group != one.pair.name for one in placed) and not (folder / "groups.csv").exists():
        return [*ideas, Idea(None, None, "Groups are those that the layout names.")]
    return [*ideas, *_ideas_of_groups(folder, _Found(images, masks))]


def _guess_of(ideas: Sequence[Idea]) -> Guess:
    text = _as_yaml(ideas)
    parse_spec(text, source="the guessed dataset.yaml")
    return Guess(text, tuple(f"{idea.key}: {idea.why}." if idea.key else idea.why for idea in ideas))


def _guess_by_names(folder: Path) -> list[Idea] | None:
    """Images and masks in folders side by side, or several mask files an image; None for images/ and masks/."""
    tops = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
    images, masks = (
        next((tops[name] for name in known if name in tops), "") for known in (IMAGE_FOLDERS, MASK_FOLDERS)
    )
    paths = [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]
    if not (images and masks) or any(len(path.parts) > 2 and path.parts[1] in PART_ALIASES for path in paths):
        return guess_siblings(paths)
    shown, drawn = ([path for path in paths if path.parts[:-1] == (top,)] for top in (images, masks))
    return guess_class_files(shown, drawn) if shown and drawn else None


def _other_files(folder: Path) -> str:
    """What lies there instead, where it is a known format that is not read."""
    suffixes = Counter(path.suffix.lower() for path in files_below(folder))
    if suffixes[".txt"]:
        seen = f" Its {suffixes['.txt']} .txt files look like boxes or outlines of YOLO, which are not read:"
        return f"{seen} export them as COCO JSON, or as mask images."
    if suffixes[".xml"]:
        seen = f" Its {suffixes['.xml']} .xml files look like boxes of VOC or outlines of CVAT, which are not read:"
        return f"{seen} export masks, or COCO JSON with outlines."
    return ""


def _subfolder(folder: Path, known: Sequence[str], kind: str) -> str:
    there = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
    for name in known:
        if name in there:
            return there[name]
    seen = ", ".join(sorted(there.values())[:NAMED_FILES]) or "no folder at all"
    raise DataError(
        f"{folder} has no folder of {kind}; it holds {seen}. Name it {kind}/, or write {kind}: in dataset.yaml, which "
        "may be a template such as {site}/rgb/{stem}.jpg (docs/sources.md shows every layout). Class folders "
        "(CLASS/*.png), a labels.csv and CIFAR-10 are known, too."
    )


def _stems(folder: Path) -> dict[str, Path]:
    return {str(path.with_suffix("")): folder / path for path in files_below(folder) if path.suffix.lower() in SUFFIXES}


def _ideas_of_masks(folder: Path, found: _Found, void: int | None = None) -> list[Idea]:
    """Classes from the masks; void: a value that the layout itself gives no class."""
    has_names = (folder / "classes.txt").exists()
    classes = read_classes(folder / "classes.txt") if has_names else ()
    ideas = [Idea(None, None, f"classes.txt names {len(classes)} classes.")] if has_names else []
    paths = list(found.masks.values())
    looked = [Path(path) for path in spread([str(path) for path in paths], LOOKED_AT)]
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
    if void is not None and void in values:
        ideas.append(Idea("ignore", [void], f"{void} is the void of this layout ({values.pop(void)} pixels)"))
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
