"""Images that look the same on both sides of what a score keeps apart: training and test, or two groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from segdecay.data.checks import Finding, names_of
from segdecay.data.dataset import POOL, Item
from segdecay.data.looks import near_pairs

MOST_PAIRS = 100_000  # looked at; a set of one picture has more


def check_near_duplicates(items: Sequence[Item], looks: Sequence[bytes], digests: Sequence[str]) -> tuple[Finding, ...]:
    """Near-duplicates across parts and across groups; equal content is another finding, and one group is no leak."""
    across: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for count, (i, j) in enumerate(near_pairs(looks)):
        if count >= MOST_PAIRS:
            break
        one, other = items[i], items[j]
        if digests[i] == digests[j]:
            continue
        if (one.part in POOL) != (other.part in POOL):
            across["parts"].append((one.name, other.name))
        elif one.part in POOL and one.group != other.group:
            across["groups"].append((one.name, other.name))
    texts = {
        "parts": (
            "one in training, one in test",
            "The test score counts what was nearly learned by heart: remove one of each, or move both to one part.",
        ),
        "groups": (
            "in two groups",
            "Folds may train on one and score the other: give both one group (groups.csv), or remove one.",
        ),
    }
    findings = []
    for kind in ("parts", "groups"):
        pairs = across[kind]
        if pairs:
            where, fix = texts[kind]
            shown = names_of([f"{one} ≈ {other}" for one, other in pairs])
            count_text = f"{len(pairs)} pairs of images look" if len(pairs) > 1 else "Two images look"
            message = f"{count_text} the same (perceptual hash), {where}: {shown}. {fix}"
            findings.append(Finding("warning", f"near_duplicate_{kind}", None, message))
    return tuple(findings)
