"""Names that look like parts of one scene, of images of which no groups are known: tiles, slices, frames, views."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from segdecay.data.checks.findings import Finding

PART = re.compile(r"(?P<scene>.*?\d.*?)[_\-. /]+[A-Za-z]{0,6}[_\-]?(?P<numbers>\d+(?:[_\-x]\d+)?)")
YEAR = re.compile(r"(?:19|20)\d\d")
LEAST_IMAGES, LEAST_SCENES = 6, 2
MOST = 0.8  # share of the names that must be parts of scenes of several images


def check_scene_names(names: Sequence[str]) -> tuple[Finding, ...]:
    """A warning where most names are a scene's name, which holds a number, and the number of a part in equal steps.

    One beginning for all names (img_001) says nothing, nor does a word (cat_001), a year, or a time of day.

    >>> names = [f"site{site}_{tile}" for site in range(3) for tile in range(4)]
    >>> check_scene_names(names)[0].code, check_scene_names([f"img_{n:03}" for n in range(12)])
    ('no_groups_known', ())
    """
    scenes = defaultdict[str, list[tuple[int, ...]]](list)
    for name in names:
        found = PART.fullmatch(name)
        if found and not YEAR.fullmatch(found["scene"].rsplit("/", 1)[-1]):
            scenes[found["scene"]].append(tuple(map(int, re.findall(r"\d+", found["numbers"]))))
    parts = {scene: numbers for scene, numbers in scenes.items() if len(numbers) > 1 and _in_steps(numbers)}
    covered = sum(map(len, parts.values()))
    if len(names) < LEAST_IMAGES or len(parts) < LEAST_SCENES or covered < MOST * len(names):
        return ()
    scene = next(iter(parts))
    shown = ", ".join([name for name in names if name.startswith(scene)][:3])
    message = (
        f"No groups are known, and {covered} of {len(names)} names look like parts of {len(parts)} scenes ({shown}). "
        "Parts of one scene in training and validation make scores better than on new scenes: give each scene a group, "
        f"by {_advice(names, parts)}. Where they are not related, "
        'group_pattern: "^(.*)$" keeps each image by itself.'
    )
    return (Finding("warning", "no_groups_known", None, message),)


def _advice(names: Sequence[str], parts: Mapping[str, object]) -> str:
    """How these scenes become groups."""
    tails = Counter[str]()
    for name in names:
        scene = PART.fullmatch(name)
        if scene and scene["scene"] in parts:
            tails[re.sub(r"\d+", "[0-9]+", name[len(scene["scene"]) :])] += 1
    tail = tails.most_common(1)[0][0]
    if "/" in tail:
        return "a groups.csv, or {group} for the folder in images: and masks:"
    return f"group_pattern: '^(.+){tail.replace('.', '[.]')}$', or a groups.csv"


def _in_steps(numbers: Sequence[tuple[int, ...]]) -> bool:
    """Whether the last numbers, each once, rise in equal steps; two alone must be neighbours."""
    last = sorted({one[-1] for one in numbers})
    steps = {after - before for before, after in pairwise(last)}
    return len(steps) == 1 and (len(last) > 2 or steps == {1}) if len(last) > 1 else False
