"""Equal or nearly equal images of which one may be used for training and the other for scoring.

These are images in training and in test, and images in two groups, since a fold may train on one group and score the
other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from segdecay.data.checks.findings import NAMED_FILES, Finding, names_of
from segdecay.data.dataset import POOL, Item
from segdecay.data.images.perceptual_hash import Alike, Content, alike_pairs

FEW_IMAGES = 20  # below it ALL_ALIKE is not applied
ALL_ALIKE = 0.05  # share of similar pairs above which all images look alike, so that similarity is no sign of a leak


def check_duplicates(items: Sequence[Item], contents: Sequence[Content]) -> tuple[Finding, ...]:
    """Equal and nearly equal images in training and test, or in two groups that a fold may separate.

    Images of one colour are skipped: empty tiles are equal and leak nothing.
    """
    return (*_equal(items, contents), *_alike(items, contents))


def _equal(items: Sequence[Item], contents: Sequence[Content]) -> list[Finding]:
    by_hash: dict[str, list[Item]] = defaultdict(list)
    for item, content in zip(items, contents, strict=True):
        if not content.is_flat:
            by_hash[content.digest].append(item)
    twice = [found for found in by_hash.values() if len(found) > 1]
    across_parts = [found for found in twice if len({item.part in POOL for item in found}) == 2]
    across_groups = [
        found
        for found in twice
        if len({item.part in POOL for item in found}) == 1
        and len({item.group for item in found if item.part in POOL}) > 1
    ]
    lines = "".join(_group_lines(found[0], _of_another_group(found)) for found in across_groups[:1])
    findings = []
    for code, found, where, fix in (
        (
            "duplicate_parts",
            across_parts,
            "in training and in test",
            "The test score then counts memorised images: remove one of each.",
        ),
        (
            "duplicate_groups",
            across_groups,
            "in two groups",
            f"Folds may train on one and score the other: remove one, or give both one group{lines}.",
        ),
    ):
        if found:
            pairs = names_of([" = ".join(item.name for item in one[:3]) for one in found])
            count = f"{len(found)} image{'s have' if len(found) > 1 else ' has'}"
            findings.append(Finding("warning", code, None, f"{count} the same content {where}: {pairs}. {fix}"))
    return findings


def _alike(items: Sequence[Item], contents: Sequence[Content]) -> list[Finding]:
    """Nearly equal images; of equal ones only the first, since `_equal` reports the others."""
    first = {content.digest: index for index, content in reversed(list(enumerate(contents)))}
    kept = [i for i, content in enumerate(contents) if content.pattern is not None and first[content.digest] == i]
    pool = [i for i in kept if items[i].part in POOL]
    number = {group: k for k, group in enumerate(dict.fromkeys(items[i].group for i in kept))}
    findings = []
    for code, chosen, kinds in (
        ("near_duplicate_parts", kept, [int(items[i].part in POOL) for i in kept]),
        ("near_duplicate_groups", pool, [number[items[i].group] for i in pool]),
    ):
        if len(set(kinds)) < 2:
            continue
        patterns = np.stack([pattern for i in chosen if (pattern := contents[i].pattern) is not None])
        alike = alike_pairs(patterns, np.array(kinds, dtype=np.int64), shown=NAMED_FILES)
        if alike.pairs:
            findings.append(_near_finding(code, alike, [items[i] for i in chosen]))
    return findings


def _near_finding(code: str, alike: Alike, items: Sequence[Item]) -> Finding:
    across = code == "near_duplicate_parts"
    where = "one in training and one in test" if across else "in two groups"
    count = f"{alike.pairs} pair{'s' if alike.pairs > 1 else ''} of images"
    if len(items) >= FEW_IMAGES and alike.pairs > ALL_ALIKE * alike.compared:
        message = (
            f"{count}, {where}, look nearly the same: {100 * alike.pairs / alike.compared:.0f} % of all. If all images "
            "show the same scene, this is no fault; if they are frames of videos, set group_pattern."
        )
        return Finding("note", code, None, message)
    pairs = ", ".join(f"{items[a].name} ~ {items[b].name}" for a, b in alike.first)
    left = alike.pairs - len(alike.first)
    seen = f"{count} look nearly the same, {where}: {pairs}{f' and {left} more' if left else ''}. "
    if across:
        fix = "The test score then counts nearly memorised images: look at them, and move each pair into one part."
    else:
        a, b = alike.first[0]
        fix = (
            "Folds may train on one and score the other: look at them; if they show the same, remove one or "
            f"give both one group{_group_lines(items[a], items[b])}."
        )
    return Finding("warning", code, None, seen + fix)


def _of_another_group(found: Sequence[Item]) -> Item:
    return next(item for item in found if item.group != found[0].group)


def _group_lines(one: Item, other: Item) -> str:
    """The lines of groups.csv that put two images into one group."""
    lines = [f"{item.name},{one.group}" for item in (one, other)]
    return f" (in groups.csv, where every image has a line name,group: {' and '.join(lines)})"
