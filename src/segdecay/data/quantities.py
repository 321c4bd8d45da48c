"""How much there is of what was stated: classes with few pixels, masks of background alone, values nobody wrote.

Counts in, findings out. Knows nothing of files' formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from segdecay.data.checks import Finding, names_of
from segdecay.data.dataset import POOL, Item

I64 = npt.NDArray[np.int64]

HANDFUL_PX = 100  # labelled pixels of a class, over all training images,
HANDFUL_SHARE = 1e-3  # and their share of what is labelled
HANDFUL_IMAGES, OF_IMAGES = 2, 20  # images that hold a class, of at least so many
BACKGROUND = ("background", "bg", "other", "nothing", "ground")
MOSTLY = 0.5  # share of masks without any object from which it is a warning


def check_handfuls(classes: Sequence[str], counts: I64, items: Sequence[Item]) -> tuple[Finding, ...]:
    """Classes of which so few pixels or images are labelled that no score of them means much.

    counts: (items, classes) pixels.
    """
    pool = np.array([item.part in POOL for item in items], dtype=bool)
    learned, learned_items = counts[pool], [item for item in items if item.part in POOL]
    few = []
    for name, pixels in zip(classes, learned.T, strict=True):
        total, images = int(pixels.sum()), int((pixels > 0).sum())
        is_small = total < HANDFUL_PX and total < HANDFUL_SHARE * learned.sum()
        if total and (is_small or (images <= HANDFUL_IMAGES and len(learned) >= OF_IMAGES)):
            holders = [item.name for item, held in zip(learned_items, pixels, strict=True) if held]
            few.append(f"{name} ({total} px in {images} image{'s' if images > 1 else ''}: {names_of(holders)})")
    if not few:
        return ()
    message = (
        f"A handful of labelled pixels: {names_of(few)}. Such a class is learned and scored by chance: label more of "
        "it, merge it (values: or colors: may give two the same class), or put it under ignore."
    )
    return (Finding("warning", "handful_of_pixels", None, message),)


def check_empty_masks(classes: Sequence[str], counts: I64, items: Sequence[Item]) -> tuple[Finding, ...]:
    """Masks that hold the background alone: a note, and a warning where they are most of the training masks."""
    names = [name.lower() for name in classes]
    index = next((names.index(name) for name in BACKGROUND if name in names), 0 if len(classes) == 2 else None)
    if index is None:
        return ()
    pool = np.array([item.part in POOL for item in items], dtype=bool)
    is_empty = pool & (counts[:, index] > 0) & (np.delete(counts, index, axis=1).sum(axis=1) == 0)
    found = [item.name for item, empty in zip(items, is_empty, strict=True) if empty]
    if not found or len(found) == pool.sum():  # a set of background alone is another finding
        return ()
    share = len(found) / int(pool.sum())
    count = f"{len(found)} of {int(pool.sum())} training masks are" if len(found) > 1 else "One training mask is"
    message = (
        f"{count} all '{classes[index]}': {names_of(found)}. Right for images without an object; if these have some, "
        "their masks were not exported."
    )
    return (Finding("warning" if share > MOSTLY else "note", "all_background", None, message),)


def check_unseen(key: str, stated: dict[str, str], seen: Iterable[str]) -> tuple[Finding, ...]:
    """Stated values or colours (by what they stand for) that occur in no mask, where their class has others that do.

    A class with no pixel at all is another finding.

    >>> [one.message for one in check_unseen("values", {"7": "road", "8": "road"}, ["7"])]
    ['values: 8 (road) occurs in no mask. Check it for a slip, or leave it out.']
    """
    there = set(seen)
    known = {stated[value] for value in there if value in stated}
    unseen = [f"{value} ({name})" for value, name in stated.items() if value not in there and name in known]
    if not unseen:
        return ()
    verb, those = (
        ("occur", "them for slips, or leave them") if len(unseen) > 1 else ("occurs", "it for a slip, or leave it")
    )
    message = f"{key}: {names_of(unseen)} {verb} in no mask. Check {those} out."
    return (Finding("warning", f"{key}_unseen", None, message),)
