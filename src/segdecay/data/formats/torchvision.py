"""Data sets of torchvision, `torchvision:NAME` or `torchvision:NAME:FOLDER`, in the layout that it unpacks them to.

Files are found by the published lists and read as any other folder's, so that checks, cache and hashes are the same.
Fetches nothing: that is `fetch_set`, by torchvision's own download, and only when it is called. Layouts: the sources of
torchvision.datasets 0.29. Colours of VOC: the devkit's rule, bits of the index spread over red, green, blue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segdecay.data.checks.findings import Notebook, names_of
from segdecay.data.dataset import Part
from segdecay.data.formats.folders import FolderSource
from segdecay.data.formats.pairing import Pair, Placed, natural_key, place_pairs
from segdecay.data.spec import DatasetSpec, read_text
from segdecay.errors import DataError, DiskFullError, unknown

PREFIX = "torchvision:"
VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")  # fmt: skip
CITYSCAPES_URL = "https://www.cityscapes-dataset.com"
Listed = list[tuple[str, Part, str, str]]  # name, part, image, mask; both relative to the folder


@dataclass(frozen=True)
class PublishedSet:
    """Where a set lies below its folder, what it means, and how torchvision fetches it (None: it cannot)."""

    below: str
    needed: tuple[str, ...]
    spec: Callable[[], dict[str, Any]]
    listed: Callable[[Path], Listed]
    fetch: Callable[[Path], object] | None


def voc_colour(index: int) -> str:
    """The colour of a class in Pascal VOC.

    >>> voc_colour(1), voc_colour(2), voc_colour(15)
    ('#800000', '#008000', '#c08080')
    """
    channels = [sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def _voc_spec() -> dict[str, Any]:
    palette = {name: voc_colour(index) for index, name in enumerate(VOC_CLASSES)}
    return {"classes": VOC_CLASSES, "ignore": (255,), "palette": palette}


def _pet_spec() -> dict[str, Any]:
    return {"classes": ("background", "pet"), "values": {1: "pet", 2: "background"}, "ignore": (3,)}


def _cityscapes_spec() -> dict[str, Any]:
    """The 19 classes that are scored; all other numbers of labelIds are ignored."""
    from torchvision.datasets import Cityscapes

    scored = sorted((one for one in Cityscapes.classes if 0 <= one.train_id < 255), key=lambda one: one.train_id)
    values = {one.id: one.name for one in scored}
    others = {one.id % 256 for one in Cityscapes.classes} - set(values)  # -1, of license plates, is 255 in a file
    palette = {one.name: "#" + "".join(f"{part:02x}" for part in one.color) for one in scored}
    return {
        "classes": tuple(values.values()),
        "values": values,
        "ignore": tuple(sorted(others | {255})),
        "palette": palette,
        "group_pattern": "^(?:.*/)?([^_/]+)_",  # the city
    }


def _of_lists(lists: Mapping[str, Part], image: str, mask: str, root: Path) -> Listed:
    """The first word of every line of the lists names an image."""
    found: dict[str, Part] = {}
    for path, part in lists.items():
        for line in read_text(root / path).splitlines():
            if line.strip() and not line.startswith("#"):
                found.setdefault(line.split()[0], part)
    return [(name, part, image.format(name), mask.format(name)) for name, part in found.items()]


def _of_cities(root: Path) -> Listed:
    """The parts whose labels are published; those of test are blank."""
    end = "_leftImg8bit.png"
    rows: Listed = []
    parts: tuple[Part, ...] = ("train", "val")
    for part in parts:
        for path in sorted((root / "leftImg8bit" / part).glob(f"*/*{end}")):
            stem = path.name.removesuffix(end)
            mask = f"gtFine/{part}/{path.parent.name}/{stem}_gtFine_labelIds.png"
            rows.append((stem, part, path.relative_to(root).as_posix(), mask))
    return rows


def _fetch_voc(folder: Path) -> object:
    from torchvision.datasets import VOCSegmentation

    return VOCSegmentation(folder, year="2012", download=True)


def _fetch_sbd(folder: Path) -> object:
    from torchvision.datasets import SBDataset

    return SBDataset(folder, mode="segmentation", download=True)


def _fetch_pets(folder: Path) -> object:
    from torchvision.datasets import OxfordIIITPet

    return OxfordIIITPet(folder, target_types="segmentation", download=True)


_LISTS = "ImageSets/Segmentation"
SETS: Mapping[str, PublishedSet] = {
    "VOCSegmentation": PublishedSet(
        "VOCdevkit/VOC2012",
        ("JPEGImages", "SegmentationClass", f"{_LISTS}/train.txt", f"{_LISTS}/val.txt"),
        _voc_spec,
        partial(
            _of_lists,
            {f"{_LISTS}/train.txt": "train", f"{_LISTS}/val.txt": "val"},
            "JPEGImages/{}.jpg",
            "SegmentationClass/{}.png",
        ),
        _fetch_voc,
    ),
    "SBDataset": PublishedSet(
        ".",
        ("img", "cls", "train.txt", "val.txt"),
        _voc_spec,
        partial(_of_lists, {"train.txt": "train", "val.txt": "val"}, "img/{}.jpg", "cls/{}.mat"),
        _fetch_sbd,
    ),
    "OxfordIIITPet": PublishedSet(
        "oxford-iiit-pet",
        ("images", "annotations/trimaps", "annotations/trainval.txt", "annotations/test.txt"),
        _pet_spec,
        partial(
            _of_lists,
            {"annotations/trainval.txt": "train", "annotations/test.txt": "test"},
            "images/{}.jpg",
            "annotations/trimaps/{}.png",
        ),
        _fetch_pets,
    ),
    "Cityscapes": PublishedSet(
        ".",
        ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"),
        _cityscapes_spec,
        _of_cities,
        None,
    ),
}


def parse_name(text: str, cache: Path) -> tuple[str, Path]:
    """The set and the folder that a DATA names; without a folder it is below the cache.

    >>> parse_name("torchvision:SBDataset", Path("cache"))[1].as_posix()
    'cache/torchvision/SBDataset'

    Raises:
        DataError: no such set.
    """
    name, _, folder = text.removeprefix(PREFIX).partition(":")
    if name not in SETS:
        raise DataError(f"'{text}': {unknown('data set of torchvision', name, SETS)}")
    return name, Path(folder).expanduser() if folder else cache / "torchvision" / name


def torchvision_source(text: str, cache: Path) -> FolderSource:
    """The source of `torchvision:NAME` or `torchvision:NAME:FOLDER`.

    Raises:
        DataError: no such set; or it is not there, with the folder that was looked in and the command that fetches it.
    """
    name, folder = parse_name(text, cache)
    published = SETS[name]
    root = folder / published.below
    missing = [path for path in published.needed if not (root / path).exists()]
    if missing:
        raise DataError(f"{root} holds no {name}: {', '.join(missing)} missing. {_how_to_get(name, text)}")
    spec = DatasetSpec(name=name, **published.spec())
    return FolderSource(root, spec, partial(_find_listed, published))


def _how_to_get(name: str, text: str) -> str:
    if SETS[name].fetch is not None:
        return f"To fetch it: segdecay fetch {text}. Or give its folder: {PREFIX}{name}:FOLDER."
    return (
        f"torchvision cannot fetch it. Register at {CITYSCAPES_URL}, unpack leftImg8bit_trainvaltest.zip and "
        f"gtFine_trainvaltest.zip into one folder, and give {PREFIX}{name}:FOLDER."
    )


def _find_listed(published: PublishedSet, root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    pairs, absent = [], []
    for name, part, image, mask in sorted(published.listed(root), key=lambda row: natural_key(row[0])):
        lost = [path for path in (image, mask) if not (root / path).is_file()]
        absent += lost
        if not lost:
            pairs.append(Pair(name, part, root / image, root / mask, image, mask))
    if absent:
        message = f"{len(absent)} listed files are not there ({names_of(absent)}). Fetch the set again, whole."
        notebook.finding("wrong", "pairing", message, absent[0])
    if not pairs:
        raise DataError(f"{root} holds no listed image with its mask. Fetch the set again, whole.")
    return place_pairs(root, spec, pairs, notebook)


def fetch_set(text: str, cache: Path) -> Path:
    """Fetch a set by torchvision's own download, which checks its archive; the folder that it lies in.

    Raises:
        DataError: no such set, one that cannot be fetched, no network, or a folder that cannot be written.
        DiskFullError: there is no room for it.
    """
    name, folder = parse_name(text, cache)
    fetch = SETS[name].fetch
    if fetch is None:
        raise DataError(f"{name}: {_how_to_get(name, text)}")
    try:
        torchvision_source(text, cache)
    except DataError:
        pass
    else:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch(folder)
    except (OSError, RuntimeError, EOFError) as error:
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(folder)) from error
        raise DataError(f"{name} cannot be fetched into {folder}: {error}. Fetch it by hand, and give {PREFIX}{name}:"
                        "FOLDER.") from error  # fmt: skip
    return folder
