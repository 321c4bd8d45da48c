"""The interface of every source of data.

A source lists what there is at build time and reads it on demand, one pair after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import Task
from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.pairing import Placed
from segdecay.data.images.bit_depth import PLAIN, Depth
from segdecay.data.images.label_maps import count_values
from segdecay.data.images.palette import Colour
from segdecay.data.images.perceptual_hash import Content, content_of

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before any image is decoded."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    flip: str
    fold_method: str
    reading: str  # how files become arrays, as text: whatever changes pixels changes it
    task: Task = "segmentation"
    exclude_from_mean: tuple[str, ...] = ()
    depth: Depth = PLAIN
    chosen_bands: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SeenFile:
    """What an image holds, and how often each of the 256 values occurs in its mask: (256,)."""

    content: Content
    values: I64


@dataclass(frozen=True)
class Memo:
    """What lets a pair be taken from the cache instead of its files. key: of their content and of how it is read;
    notes: what reading them noted for the whole set, as JSON holds it.
    """

    key: str
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Recalled:
    """A pair as an earlier reading left it: image (H, W, B), mask (H, W)."""

    image: U8
    mask: U8
    seen: SeenFile
    notes: Mapping[str, Any]


class Memory(Protocol):
    """Earlier readings in the cache."""

    def digests(self, paths: Iterable[Path]) -> dict[Path, str]:
        """sha256 of every file; of files that have not changed since, without reading them."""
        ...

    def is_unchanged(self, path: Path) -> bool:
        """Whether a file has surely not been written to since `digests` told its digest."""
        ...

    def recall(self, key: str) -> Recalled | None:
        """The pair of this key; None where it was not read yet."""
        ...


@dataclass(frozen=True)
class Sample:
    """One decoded pair. image (H, W, B) uint8; mask (H, W) uint8, class indices or IGNORE, (1, 1) for a label."""

    name: str
    part: Part
    group: str
    fold: int | None
    sha256: str  # of the content of both files
    image: U8
    mask: U8
    seen: SeenFile | None = None  # of both as they were read; `measured` fills it in
    memo: Memo | None = None  # None where it cannot be read in part: it is not kept one by one


def measured(sample: Sample) -> Sample:
    """The sample with what a check counts of it; nothing is counted twice."""
    if sample.seen is not None:
        return sample
    return replace(sample, seen=SeenFile(content_of(sample.image), count_values(sample.mask)))


class Source(Protocol):
    """Where images and masks come from."""

    @property
    def facts(self) -> Facts: ...

    def key(self) -> str:
        """Identity of all content and of how it is read, found without decoding."""
        ...

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every usable pair, decoded, in a fixed order; each fault goes into the notebook."""
        ...


@runtime_checkable
class PlacedSource(Source, Protocol):
    """A source of files, which knows the place of each before any is decoded."""

    @property
    def placed(self) -> Sequence[Placed]: ...


@runtime_checkable
class RecallingSource(Source, Protocol):
    """A source that takes from the cache what was read before."""

    def recall_from(self, memory: Memory) -> None:
        """Where `key` and `samples` look first, from now on."""
        ...
