"""The built-in `digits` scenes as a source. Mirrored digits are other signs, so nothing may be flipped."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from importlib import metadata

from segdecay.data.checks import Notebook
from segdecay.data.dataset import Part
from segdecay.data.palette import default_palette
from segdecay.data.sources import digits
from segdecay.data.sources.base import Facts, Sample

PARTS: tuple[Part, ...] = ("train", "test")


class ScenesSource:
    """`digits`: composed once, then read from the cache."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    @property
    def facts(self) -> Facts:
        names = digits.CLASS_NAMES
        return Facts(
            "digits", names, default_palette(len(names)), "none", "groups", reading=f"composed, seed {self._seed}"
        )

    def key(self) -> str:
        """The recipe stands for the scenes: its source text, the library that brings the glyphs, the seed."""
        recipe = f"{inspect.getsource(digits)}\n{metadata.version('scikit-learn')}\n{self._seed}"
        return hashlib.sha256(recipe.encode()).hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:  # noqa: ARG002  (composed scenes have no faults)
        scenes = digits.compose_scenes(self._seed)
        for part in PARTS:
            found = scenes[part]
            for i, (image, mask, group) in enumerate(zip(found.images, found.masks, found.groups, strict=True)):
                digest = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
                # groups carry their part's name: the parts share no glyph, so equal names must not look like a leak
                yield Sample(f"{part}/scene-{i:03d}", part, f"{part}-{group}", None, digest, image, mask)
