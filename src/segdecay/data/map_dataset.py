"""A map-style Dataset of (image, mask) pairs, as torch has them, written once into the cache as a folder of images.

It is read in this process alone, so workers, resumed runs and predictions see the same files whatever it does later.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segdecay.data.array_folder import IGNORED, ArrayFolder
from segdecay.data.dataset import MOST_CLASSES
from segdecay.data.read_log import PART_MARK
from segdecay.errors import ConfigError, DataError, gather

U8 = npt.NDArray[np.uint8]
SHOWN = 3
MOST_BANDS = 64
NEXT = "Each item is (image, mask): uint8, or floats 0 … 1, and class indices."


@runtime_checkable
class MapDataset(Protocol):
    """What torch.utils.data.Dataset of a map style offers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def is_map_dataset(data: object) -> bool:
    """Whether data is a Dataset, not a path or a description."""
    return isinstance(data, MapDataset) and not isinstance(data, (str, bytes, Path, Mapping))


def folder_of(
    dataset: MapDataset, cache: Path, *, groups: Sequence[Any] | None = None, classes: Sequence[str] | None = None
) -> Path:
    """The folder of a Dataset's content in the cache; written where it is not there yet.

    Args:
        dataset: of (image, mask) pairs, without random transforms. Images are PIL images, arrays (H, W) or (H, W, B),
            or tensors (B, H, W): uint8, or floats from 0 to 1, which are rounded to 256 steps. Masks are integers
            (H, W) or (1, H, W): class indices, 255 where ignored.
        cache: folder of decoded data.
        groups: of every image; a group is never split between training and validation. None: each image is its own.
        classes: names of the C classes; None: `dataset.classes`, else "0" to the largest index found.

    Raises:
        ConfigError: groups or classes that do not fit.
        DataError: items that are no such pairs, all faults listed; or a Dataset that changes between two readings.
    """
    count = len(dataset)
    if count < 2:
        raise DataError(f"The Dataset has {count} items; at least 2 are needed.")
    if groups is not None and (isinstance(groups, str) or len(groups) != count):
        raise ConfigError(f"groups= takes one for each of the {count} images; saw {_counted(groups)}.")
    cache.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"given{PART_MARK}", dir=cache))
    try:
        written, mark, largest = ArrayFolder(beside, count), hashlib.sha256(), 0
        faults: list[str] = []
        for number in range(count):
            try:
                image, mask = pair_of(dataset[number])
            except (DataError, IndexError) as error:
                faults.append(f"item {number}: {error}")
                continue
            group = None if groups is None else groups[number]
            largest = max(largest, int(mask[mask != IGNORED].max(initial=0)))
            for part in (repr((image.shape, str(group))).encode(), image.tobytes(), mask.tobytes()):
                mark.update(part)
            written.add(image, mask, group)
        more = [f"and {len(faults) - SHOWN} more."] if len(faults) > SHOWN else []
        gather(DataError, [*faults[:SHOWN], *more], f"The Dataset cannot be used. {NEXT}" if faults else "")
        _refuse_changing(dataset, count, beside)
        names = _names(dataset, classes, largest)
        mark.update(repr(names).encode())
        written.close(names)
        return _kept(beside, cache / f"given-{mark.hexdigest()[:16]}")
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _kept(beside: Path, target: Path) -> Path:
    """Rename the finished folder; another process may have been first."""
    try:
        beside.rename(target)
    except OSError:
        if not (target / "dataset.yaml").is_file():
            raise
    return target


def pair_of(item: Any) -> tuple[U8, U8]:  # (H, W, B), (H, W)
    """Image and mask of an item.

    >>> image, mask = pair_of((np.full((1, 2), 0.5), [[0, 255]]))
    >>> image.tolist(), mask.tolist()
    ([[[128], [128]]], [[0, 255]])

    Raises:
        DataError: it is no pair, or has other types, shapes or values.
    """
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        seen = f"{type(item).__name__}" + (f" of {len(item)}" if isinstance(item, (tuple, list, dict)) else "")
        raise DataError(f"saw a {seen}, not a pair.")
    image, mask = _bytes_of(_array(item[0])), np.asarray(_plain(item[1]))
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if mask.dtype.kind not in "uib" or mask.ndim != 2:
        raise DataError(f"the mask is {mask.dtype} {mask.shape}; integers (H, W) are needed.")
    if mask.shape != image.shape[:2]:
        raise DataError(f"the mask is {mask.shape}, its image {image.shape[:2]}.")
    strange = np.unique(mask[(mask < 0) | ((mask >= MOST_CLASSES) & (mask != IGNORED))])
    if len(strange):
        raise DataError(f"the mask holds {strange[:SHOWN].tolist()}; class indices from 0, or {IGNORED} for ignored.")
    return image, mask.astype(np.uint8)


def _plain(value: Any) -> Any:
    """An array of a tensor, a PIL image or nested lists."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _array(value: Any) -> Any:
    """An image with its bands last; tensors have them first."""
    found = _plain(value)
    return np.moveaxis(found, 0, -1) if hasattr(value, "detach") and found.ndim == 3 else found


def _bytes_of(image: Any) -> U8:  # (H, W, B)
    whole = np.asarray(image)
    whole = whole[..., None] if whole.ndim == 2 else whole
    if whole.ndim != 3 or not 1 <= whole.shape[2] <= MOST_BANDS or not whole.size:
        raise DataError(f"the image has the shape {np.shape(image)}; (H, W, B), or of a tensor (B, H, W), is needed.")
    if whole.dtype.kind == "f":
        low, high = float(whole.min()), float(whole.max())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"the image holds floats from {low:.3g} to {high:.3g}; 0 to 1 are needed. Leave normalisation out: "
                "segdecay normalises itself."
            )
        return np.asarray(np.rint(whole * 255), np.uint8)
    if whole.dtype != np.uint8:
        raise DataError(f"the image is {whole.dtype}; uint8, or floats from 0 to 1, are needed.")
    return whole


def _refuse_changing(dataset: MapDataset, count: int, written: Path) -> None:
    """Read some items again, which must be what they were.

    Raises:
        DataError: they differ, or the length does.
    """
    if len(dataset) != count:
        raise DataError(f"The Dataset had {count} items and then {len(dataset)}; its length must not change.")
    again = ArrayFolder(written / "again", count)
    numbers = sorted({0, count // 2, count - 1})
    for number in numbers:
        again.add(*pair_of(dataset[number]))
    files = sorted((written / "images").iterdir())
    masks = sorted((written / "masks").iterdir())
    first = [files[number].read_bytes() + masks[number].read_bytes() for number in numbers]
    second = [
        image.read_bytes() + mask.read_bytes()
        for image, mask in zip(
            sorted((again.folder / "images").iterdir()), sorted((again.folder / "masks").iterdir()), strict=True
        )
    ]
    shutil.rmtree(again.folder)
    changed = [str(number) for number, one, two in zip(numbers, first, second, strict=True) if one != two]
    if changed:
        raise DataError(
            f"item {', '.join(changed)}: another pair when it was read again. Leave random transforms and shuffling "
            "out: segdecay augments and shuffles itself (augment.* of docs/config.md)."
        )


def _names(dataset: MapDataset, classes: Sequence[str] | None, largest: int) -> list[str]:
    given = classes if classes is not None else getattr(dataset, "classes", None)
    if given is None:
        return [str(number) for number in range(max(2, largest + 1))]
    if isinstance(given, str) or len(given) <= largest:
        raise ConfigError(
            f"classes: names of {largest + 1} classes are needed, as masks hold {largest}; saw {given!r}."
        )
    return [str(name) for name in given]


def _counted(groups: Any) -> str:
    return repr(groups) if isinstance(groups, str) else str(len(groups))
