"""Images and masks in folders of their own, anywhere in a tree: paths that differ in one folder's name.

train/images/a.png and train/masks/a.png, north/rgb/a.tif and north/gt/a.png, imagesTr/a_0000.png and labelsTr/a.png.
Looks at names only; nothing is decoded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from segdecay.data.detect.values import Idea, guess_suffix
from segdecay.data.formats.pairing import PART_ALIASES, PARTS

FEWEST = 2  # pairs that make a guess
MOST_LEFT = 0.5  # share of all pictures that may be in no pair: images of test have none
FIELDS = ("place", "place_b", "place_c")
IMAGE_NAMES = frozenset(
    {"image", "images", "img", "imgs", "rgb", "photo", "photos", "sat", "input", "inputs", "frames"}
)
MASK_NAMES = frozenset(
    {"mask", "masks", "label", "labels", "lbl", "lbls", "gt", "seg", "segmentation", "segmentations", "annotation",
     "annotations", "annot", "groundtruth", "target", "targets", "trimap", "trimaps", "manual"}
)  # fmt: skip
MOST_NAMED = 0.9  # share of mask files that are named as an image and a word
NO_CLASSES = MASK_NAMES | {"color", "colour", "overlay", "vis", "pred"}
ENDING = re.compile(r"(.+?)([_\-. ])([A-Za-z][A-Za-z ]*|[0-9]+)")


@dataclass(frozen=True)
class _Siblings:
    """Two names that the folder at one place of a path may have, and the pairs below them: (image, mask)."""

    depth: int
    images: str
    masks: str
    tails: tuple[str, str]  # endings of stems of images and of masks
    pairs: tuple[tuple[PurePosixPath, PurePosixPath], ...]


def words_of(name: str) -> set[str]:
    """The words of a folder's name, in small letters.

    >>> sorted(words_of("imagesTr")), sorted(words_of("GT_masks"))
    (['images', 'tr'], ['gt', 'masks'])
    """
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def guess_siblings(paths: Sequence[PurePosixPath]) -> list[Idea] | None:
    """Templates for images and masks that lie in folders side by side. paths: of all pictures, relative to the data."""
    places = Counter((depth, name) for path in paths for depth, name in enumerate(path.parts[:-1]))
    found = [
        siblings
        for depth, masks in places
        if words_of(masks) & MASK_NAMES
        for other_depth, images in places
        if depth == other_depth and images != masks and not words_of(images) & MASK_NAMES
        for siblings in [_paired(paths, depth, images, masks)]
        if len(siblings.pairs) >= FEWEST
    ]
    best = max(found, key=lambda one: (len(one.pairs), bool(words_of(one.images) & IMAGE_NAMES)), default=None)
    if best is None or 2 * len(best.pairs) < (1 - MOST_LEFT) * len(paths):
        return None
    folders = _folders([image.parts[:-1] for image, _ in best.pairs], best.depth)
    if folders is None:
        return None
    image_text, mask_text = (
        "/".join([*folders[: best.depth], name, *folders[best.depth + 1 :], f"{{stem}}{tail}{_suffix(files)}"])
        for name, tail, files in zip((best.images, best.masks), best.tails, zip(*best.pairs, strict=True), strict=True)
    )
    left = len(paths) - 2 * len(best.pairs)
    return [
        Idea("images", image_text, f"{len(best.pairs)} images named so have a mask in {best.masks}"),
        Idea("masks", mask_text, f"the same names in {best.masks}"),
        *(
            [Idea(None, None, f"{left} pictures are in no such pair; check names those that a template fits.")]
            if left
            else []
        ),
    ]


def _paired(paths: Sequence[PurePosixPath], depth: int, images: str, masks: str) -> _Siblings:
    """What pairs when one folder's name is exchanged: by equal stems, or with one ending on either side."""
    sides: tuple[dict[tuple[str, ...], PurePosixPath], ...] = ({}, {})
    for path in paths:
        for side, name in zip(sides, (images, masks), strict=True):
            if len(path.parts) > depth + 1 and path.parts[depth] == name:
                side[(*path.parts[:depth], *path.parts[depth + 1 : -1], path.stem)] = path
    shown, drawn = sides
    stems = [[key[-1] for key in side] for side in sides]
    of_mask, of_image = guess_suffix(*stems), guess_suffix(*reversed(stems))
    ways = [("", ""), ("", str(of_mask.value) if of_mask else ""), (str(of_image.value) if of_image else "", "")]
    best = _Siblings(depth, images, masks, ("", ""), ())
    for left, right in ways:
        cut = {
            (*key[:-1], key[-1][: len(key[-1]) - len(left)]): path
            for key, path in shown.items()
            if key[-1].endswith(left)
        }
        pairs = tuple(
            (path, drawn[whole]) for key, path in cut.items() if (whole := (*key[:-1], key[-1] + right)) in drawn
        )
        best = best if len(best.pairs) >= len(pairs) else _Siblings(depth, images, masks, (left, right), pairs)
    return best


def _folders(places: Sequence[tuple[str, ...]], depth: int) -> list[str] | None:
    """A path's folders as a template: what all share as it is, parts as {split}, the rest as fields."""
    if len({len(place) for place in places}) > 1:
        return None
    fields, folders = iter(FIELDS), list[str]()
    for index, names in enumerate(map(set, zip(*places, strict=True))):
        if names <= {*PARTS, *PART_ALIASES} and "{split}" not in folders:
            folders.append("{split}")
        elif len(names) == 1 or index == depth:
            folders.append(next(iter(names)))
        else:
            field = next(fields, None)
            if field is None:
                return None
            folders.append(f"{{{field}}}")
    return folders


def _suffix(paths: Iterable[PurePosixPath]) -> str:
    """The suffix that all have, in whatever case, else any."""
    found = {path.suffix.lower() for path in paths}
    return found.pop() if len(found) == 1 else ".*"


def guess_class_files(images: Sequence[PurePosixPath], masks: Sequence[PurePosixPath]) -> list[Idea] | None:
    """Several mask files an image in one folder: A_road.png and A_car.png, or A_1.png and A_2.png; None elsewhere."""
    stems = {path.stem for path in images}
    ends = [ENDING.fullmatch(path.stem) for path in masks]
    tails = Counter((end[2], end[3]) for end in ends if end and end[1] in stems)
    marks, words = {mark for mark, _ in tails}, sorted({word for _, word in tails})
    numbered = all(word.isdecimal() for word in words)
    if len(masks) <= len(stems) or len(words) < 2 or len(marks) > 1 or tails.total() < MOST_NAMED * len(masks):
        return None
    if not numbered and (
        any(word.isdecimal() or words_of(word) & NO_CLASSES for word in words) or len(words) > len(stems)
    ):
        return None
    mark, piece, names = marks.pop(), "*" if numbered else "{class}", ["object"] if numbered else words
    many = f"{len(masks)} mask files for {len(stems)} images: one {'an object' if numbered else 'a class'}"
    classes = "give the class of the objects its name" if numbered else "the words at the end of masks' names"
    return [
        Idea("layout", "parts", many),
        Idea("images", f"{images[0].parts[0]}/{{stem}}{_suffix(images)}", "where the images are"),
        Idea("masks", f"{masks[0].parts[0]}/{{stem}}{mark}{piece}{_suffix(masks)}", "each holds 0 and one other value"),
        Idea("classes", ["background", *(name for name in names if name != "background")], classes),
        Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
    ]
