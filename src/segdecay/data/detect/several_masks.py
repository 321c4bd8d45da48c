"""Several mask files an image in one folder: a class each (A_road.png, A_car.png), or an object (A_1.png, A_2.png)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from segdecay.data.detect.ambiguity import Idea
from segdecay.data.detect.image_or_mask import MASK_WORDS, words_of

MOST_NAMED = 0.9  # share of mask files that are named as an image and a word
NO_CLASSES = MASK_WORDS | {"color", "colour", "overlay", "vis", "pred"}
ENDING = re.compile(r"(.+?)([_\-. ])([A-Za-z][A-Za-z ]*|[0-9]+)")


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
