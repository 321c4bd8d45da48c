"""Images whose masks are drawn from annotations as a source: shapes on a background, the later one on top.

The shapes come from coco.py, labelme.py, via.py, yolo.py and mask_parts.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import IGNORE
from segdecay.data.formats.base import Memory, Sample
from segdecay.data.formats.folders import reading_of
from segdecay.data.formats.pairing import Placed
from segdecay.data.formats.reader import PairReader, check_bands, digests_of, facts_of
from segdecay.data.images.label_maps import tables_of
from segdecay.data.images.rasterize import ShapeError
from segdecay.data.spec import DatasetSpec
from segdecay.errors import ConfigError, did_you_mean

U8 = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]
_Patch = tuple[tuple[slice, slice], Bits]
KEPT_BYTES = 1 << 26  # of shapes of one image that are held between measuring and drawing them


@dataclass(frozen=True)
class Shape:
    """One annotation. label: class index or IGNORE; under: it lies below all others; where: for people.

    fill: the pixels (H, W) that it covers in an image of this height and width.

    Raises (fill):
        ShapeError: it covers nothing that can be drawn.
    """

    label: int
    where: str
    fill: Callable[[tuple[int, int]], Bits]
    under: bool = False


@dataclass(frozen=True)
class Drawn:
    """An image in its place with its shapes in the order of the file.

    size: height, width that the annotation states; content: whatever changes the shapes, as text or as files.
    """

    placed: Placed
    shapes: Sequence[Shape]
    size: tuple[int, int] | None
    content: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Names:
    """What names of categories mean: a class index, IGNORE, or nothing (None)."""

    classes: tuple[str, ...]
    given: Mapping[str, str | None]

    def find(self, name: str) -> int | None:
        if name in self.given:
            target = self.given[name]
            return IGNORE if target is None else self.classes.index(target)
        return self.classes.index(name) if name in self.classes else None

    def missing(self, name: str) -> str:
        """What to do about a name that means nothing."""
        near = did_you_mean(name, self.classes)
        return f"Add it to classes, or set names: {{{name}: CLASS}}, or {{{name}: null}} to ignore its pixels.{near}"


def background_of(spec: DatasetSpec, classes: Sequence[str]) -> int:
    """The label of pixels that nothing covers.

    Raises:
        ConfigError: dataset.yaml does not say it, and no class is called background.
    """
    if spec.background is not None:
        return classes.index(spec.background)
    if "background" in spec.model_fields_set:
        return IGNORE
    if "background" in classes:
        return classes.index("background")
    raise ConfigError(
        f"dataset.yaml, layout: {spec.layout}: what are pixels that no annotation covers? Set background: to one of "
        f"{', '.join(classes)}, or background: null to ignore them."
    )


def draw(
    shapes: Sequence[Shape], size: tuple[int, int], background: int, *, large_first: bool, notebook: Notebook
) -> U8:
    """Class indices (H, W): all shapes one over the other; one that cannot be drawn is noted.

    Shapes that lie under come first; then the largest, or the first of the file.
    """
    order, kept, n_kept, faulty = list[tuple[bool, int, int]](), dict[int, _Patch](), 0, False
    for number, shape in enumerate(shapes):
        try:
            bits = shape.fill(size)
        except ShapeError as error:
            notebook.fault("wrong", error.code, shape.where, error.seen, error.fix)
            faulty = True
            continue
        order.append((not shape.under, -int(np.count_nonzero(bits)) if large_first else 0, number))
        if n_kept < KEPT_BYTES:
            kept[number] = _patch_of(bits)
            n_kept += kept[number][1].nbytes
    mask = np.full(size, IGNORE if faulty else background, dtype=np.uint8)
    for *_, number in sorted(order):
        window, bits = kept.get(number) or _patch_of(
            shapes[number].fill(size)
        )  # drawn again where not all could be kept
        mask[window][bits] = shapes[number].label
    return mask


def _patch_of(bits: Bits) -> _Patch:
    """The window (rows, columns) that a shape fills, and its pixels there."""
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if not rows.size:
        return (slice(0, 0), slice(0, 0)), bits[:0, :0]
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return window, bits[window].copy()


class DrawnSource:
    """Images with shapes, as a listing names them; `noted` are the faults that the listing has."""

    def __init__(
        self, root: Path, spec: DatasetSpec, classes: tuple[str, ...], drawn: Sequence[Drawn], noted: Notebook
    ) -> None:
        self._spec, self._drawn, self._noted = spec, drawn, noted
        self._memory: Memory | None = None
        self._background = background_of(spec, classes)
        self.facts = facts_of(spec, root, classes, f"{spec.layout} {reading_of(spec)}")

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Every image in its place."""
        return tuple(one.placed for one in self._drawn)

    def recall_from(self, memory: Memory) -> None:
        """Use this store of earlier readings."""
        self._memory = memory

    @cached_property
    def _digests(self) -> dict[Path, str]:
        paths = (path for one in self._drawn for path in (one.placed.pair.image, *one.files))
        return digests_of(paths, self._memory)

    def _identity(self, one: Drawn) -> str:
        parts = (one.content, one.size, [self._digests[path] for path in one.files])
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def key(self) -> str:
        """A hash of every image's content, place and shapes, of what was noted about names, and of the spec."""
        noted = self._noted.summary()
        content = hashlib.sha256(repr((self.facts, self._spec, sorted(self._spec.model_fields_set), noted)).encode())
        for one in self._drawn:
            pair = one.placed.pair
            row = (pair.name, pair.part, one.placed.group, one.placed.fold, self._digests[pair.image])
            content.update(repr((row, self._identity(one))).encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every usable image with its drawn mask; each fault goes into the notebook.

        Raises:
            DataError: a file changed between its hash and its decoding.
        """
        notebook.note([*self._noted.faults, *self._noted.findings])
        classes = self.facts.classes
        tables = tables_of(self._spec, classes)
        reader = PairReader(self._spec, tables, self._digests, notebook, classes, self._memory)
        large_first = self._spec.overlap == "large first"

        def read(own: PairReader, one: Drawn, noted: Notebook) -> Sample | None:
            paint = partial(draw, one.shapes, background=self._background, large_first=large_first, notebook=noted)
            return own.read_drawn(one.placed, paint, one.size, self._identity(one))

        yield from reader.read_each(self._drawn, read, lambda one: one.placed.pair.image)
        notebook.note(check_bands(reader.bands, self._spec.bands))
