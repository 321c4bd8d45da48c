"""Map pixel values and colours of a mask to class indices by vectorised look-up.

A value or colour that no class claims becomes IGNORE and is reported with its count, so that the caller can refuse it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdecay.data.dataset import IGNORE
from segdecay.data.images.palette import Colour, parse_colour
from segdecay.data.spec import DatasetSpec

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

FEW_VALUES = 12  # so many are counted one by one faster than all 256 at once
SAMPLED = 4096  # pixels in which they are looked for
BLOCK_PIXELS = 1 << 20  # of a mask in colours that are looked up at a time


@dataclass(frozen=True)
class ValueTable:
    """The class of each of the 256 pixel values. index: (256,) uint8; claimed: (256,) bool, ignored values included."""

    index: U8
    claimed: npt.NDArray[np.bool_]

    def counts_of_classes(self, counts: I64) -> I64:
        """How often each class index occurs, from how often each pixel value does: (256,) both."""
        return np.bincount(self.index, weights=counts, minlength=256).astype(np.int64)


@dataclass(frozen=True)
class ColourTable:
    """The class of each colour. keys: (K,) int32, sorted, r * 65536 + g * 256 + b; index: (K,) uint8."""

    keys: I32
    index: U8


def value_table(
    classes: Sequence[str], values: Mapping[int, str], ignore: Iterable[int | str], other: str | None = None
) -> ValueTable:
    """The class of pixel values: from `values` if it is not empty, otherwise value = class index; other: of all others.

    Values that 8 bits cannot hold are skipped.

    >>> table = value_table(("background", "road"), {0: "background", 255: "road"}, [7])
    >>> table.index[[0, 7, 255]].tolist(), table.claimed.sum()
    ([0, 255, 1], np.int64(3))
    """
    index = np.full(256, IGNORE if other is None else classes.index(other), dtype=np.uint8)
    claimed = np.full(256, other is not None)
    pairs = [(key, classes.index(name)) for key, name in values.items()] or list(
        zip(range(255), range(len(classes)), strict=False)
    )
    for value, label in [*pairs, *((value, IGNORE) for value in ignore if isinstance(value, int))]:
        if 0 <= value <= 255:
            index[value] = label
            claimed[value] = True
    return ValueTable(index, claimed)


def pack(pixels: npt.NDArray[np.integer]) -> I32:
    """Each colour as one number: (..., 3) to (...) int32."""
    wide = pixels.astype(np.int32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], dtype=np.int32)


def unpack(key: int) -> Colour:
    """The colour of a packed number.

    >>> unpack(0xFF8000)
    (255, 128, 0)
    """
    return key >> 16, (key >> 8) & 255, key & 255


def colour_table(classes: Sequence[str], colors: Mapping[str, str], ignore: Iterable[int | str]) -> ColourTable:
    """The class of colours; ignored colours map to IGNORE."""
    labels = {parse_colour(colour): classes.index(name) for colour, name in colors.items()}
    labels |= {parse_colour(colour): IGNORE for colour in ignore if isinstance(colour, str)}
    keys = np.array([pack(np.array(colour)) for colour in labels], dtype=np.int32)
    order = np.argsort(keys)
    return ColourTable(keys[order], np.array(list(labels.values()), dtype=np.uint8)[order])


def labels_of_values(
    mask: U8,  # (H, W) pixel values
    table: ValueTable,
) -> tuple[U8, I64]:
    """Class indices (H, W), and how often each of the 256 pixel values occurs: (256,) int64."""
    counts = count_values(mask)
    used = np.flatnonzero(counts)
    if np.array_equal(table.index[used], used):  # values are class indices already
        return mask, counts
    looked_up = mask.tobytes().translate(table.index.tobytes())
    return np.frombuffer(looked_up, dtype=np.uint8).reshape(mask.shape), counts


def count_values(values: U8) -> I64:
    """How often each of the 256 values occurs: (256,) int64.

    Few values, as masks have, are found in a sample and counted one by one; where their counts do not add up to all
    pixels Pillow counts every byte, which takes five times as long.

    >>> counts = count_values(np.array([[0, 0, 7]], dtype=np.uint8))
    >>> counts[[0, 7]].tolist(), int(counts.sum())
    ([2, 1], 3)
    """
    flat = np.ascontiguousarray(values).reshape(values.shape[0], -1)
    sample = flat.ravel()[:: max(1, flat.size // SAMPLED)]
    seen = np.flatnonzero(np.bincount(sample, minlength=256))
    if len(seen) <= FEW_VALUES:
        counts = np.zeros(256, dtype=np.int64)
        counts[seen] = [np.count_nonzero(flat == value) for value in seen.astype(np.uint8)]
        if counts.sum() == flat.size:
            return counts
    return np.asarray(Image.fromarray(flat).histogram(), dtype=np.int64)


def labels_of_colours(
    mask: U8,  # (H, W, 3)
    table: ColourTable,
    but: npt.NDArray[np.bool_] | None = None,  # (H, W): pixels whose colour is not looked up
) -> tuple[U8, dict[Colour, int]]:
    """Class indices (H, W), and the pixels of every colour that nothing claims, most frequent first."""
    labels = np.empty(mask.shape[:2], dtype=np.uint8)
    strange = Counter[Colour]()
    step = max(1, BLOCK_PIXELS // mask.shape[1])
    for top in range(0, mask.shape[0], step):
        rows = slice(top, top + step)
        packed = pack(mask[rows])
        place = np.minimum(np.searchsorted(table.keys, packed), len(table.keys) - 1)
        known = table.keys[place] == packed
        known = known if but is None else known | but[rows]
        labels[rows] = np.where(known, table.index[place], np.uint8(IGNORE))
        if not known.all():
            strange.update(colour_counts(mask[rows][~known]))
    return labels, dict(sorted(strange.items(), key=lambda item: -item[1]))


def colour_counts(pixels: npt.NDArray[np.uint8]) -> dict[Colour, int]:
    """Pixels of every colour, most frequent first. pixels: (..., 3) uint8."""
    keys, counts = np.unique(pack(pixels), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {unpack(int(keys[i])): int(counts[i]) for i in order}


def tables_of(spec: DatasetSpec, classes: Sequence[str]) -> tuple[ValueTable, ColourTable | None]:
    """The look-ups of a spec; no colour table if masks hold numbers."""
    values = value_table(classes, spec.values, spec.ignore, spec.other)
    return values, colour_table(classes, spec.colors, spec.ignore) if spec.colors else None
