"""Reads one pair of files into a sample: hashed, decoded, checked, mapped. Faults are noted, never raised."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdecay.config.schema import Task
from segdecay.data.checks.findings import Fault, Finding, Notebook
from segdecay.data.checks.labels import MANY_VALUES, MaskPalette, MaskValues, colour_fault
from segdecay.data.dataset import IGNORE
from segdecay.data.formats.base import Facts, Memo, Memory, Sample, SeenFile, measured
from segdecay.data.formats.pairing import Placed
from segdecay.data.images.bit_depth import no_warnings
from segdecay.data.images.decode import (
    BAND_NAMES,
    SIDEWAYS,
    Depth,
    Picture,
    UnusableError,
    read_image,
    read_mask,
    resize_mask,
    turned,
)
from segdecay.data.images.label_maps import (
    ColourTable,
    ValueTable,
    colour_counts,
    labels_of_colours,
    labels_of_values,
    pack,
    unpack,
)
from segdecay.data.images.perceptual_hash import content_of
from segdecay.data.spec import DatasetSpec, class_palette
from segdecay.errors import DataError
from segdecay.utils.parallel import ordered_map


@dataclass(frozen=True)
class BandsSeen:
    """The bands of one image. mode: Pillow's name for them; opaque: it has an alpha band that is 255 everywhere."""

    file: str
    n_bands: int
    mode: str
    opaque: bool


def check_bands(seen: Sequence[BandsSeen], chosen: tuple[int, ...] | None) -> list[Fault]:
    """A fault for every image whose bands differ from the others', or whose alpha band dataset.yaml passes over."""
    faults = []
    if chosen is not None:
        for one in seen:
            if max(chosen) >= one.n_bands:
                text = f"has {_count(one)}; bands: {list(chosen)} asks for band {max(chosen)}."
                faults.append(
                    Fault("wrong", "bands_missing", one.file, text, f"Bands of this file are 0–{one.n_bands - 1}.")
                )
        return faults
    if not seen:
        return []
    most, files = Counter(one.n_bands for one in seen).most_common(1)[0]
    for one in seen:
        if one.n_bands != most:
            kept = list(range(min(one.n_bands, most)))
            fix = (
                f"Set bands: {kept}."
                if one.n_bands > most
                else f"Save it with {most} bands, or set bands: {kept} for all."
            )
            if {one.n_bands, most} in ({1, 3}, {1, 4}, {2, 3}):
                fix = "Set grey_as_rgb: true (grey images become RGB), or save all alike."
            faults.append(
                Fault("wrong", "bands_differ", one.file, f"has {_count(one)}, the set has {most} ({files} files).", fix)
            )
        elif one.mode in {"LA", "RGBA"}:
            colours = list(range(one.n_bands - 1))
            text = f"has {_count(one)}{', opaque everywhere' if one.opaque else ''}. Alpha is never dropped silently."
            fix = f"Set bands: {colours} to leave it out, or bands: {[*colours, one.n_bands - 1]} to learn from it."
            faults.append(Fault("wrong", "alpha", one.file, text, fix))
    return faults


def _count(one: BandsSeen) -> str:
    name = f" ({BAND_NAMES[one.mode]})" if one.mode in BAND_NAMES else ""
    return f"{one.n_bands} band{'s' if one.n_bands > 1 else ''}{name}"


U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]
T = TypeVar("T")
Decoded = tuple[U8, U8, SeenFile | None]  # image (H, W, B), mask (H, W), and what was counted of both on the way
OF_THE_SET = {  # keys that change no pixel of a pair: what was read stays good when they change
    "name", "groups", "group_pattern", "folds", "flip", "palette", "exclude_from_mean", "images", "masks",
    "mask_suffix", "annotations", "columns",
}  # fmt: skip
BYTES_A_PIXEL = 9  # while a pair is decoded: 4 in Pillow, 3 of the image, 2 of its mask


def bytes_to_read(path: Path) -> int:
    """About how much memory decoding an image and its mask takes, told from the image's head.

    What cannot be told is taken as five times the file: then it is a TIFF or an array, stored as it is or packed.
    """
    try:
        with no_warnings(), Image.open(path) as image:
            return image.width * image.height * BYTES_A_PIXEL
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 5 * path.stat().st_size if path.is_file() else 0


def _reading_of_pairs(spec: DatasetSpec, classes: tuple[str, ...]) -> str:
    """How the files of a pair become arrays, as text."""
    said = spec.model_dump_json(exclude=OF_THE_SET)
    return repr((said, sorted(spec.model_fields_set - OF_THE_SET), classes))


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        UnusableError: it is gone or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnusableError(
            "unreadable", f"cannot be read ({reason}).", "Check the file and its permissions."
        ) from error


def _size_text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def depth_of(spec: DatasetSpec) -> Depth:
    """How more than 8 bits become 8, as a spec says it."""
    scale = spec.scale if spec.scale is None or isinstance(spec.scale, str) else spec.scale["max"]
    bands = None if spec.bands is None else tuple(spec.bands)
    return Depth(scale, spec.nodata, bands, spec.grey_as_rgb, spec.exif)


def facts_of(
    spec: DatasetSpec, root: Path, classes: tuple[str, ...], reading: str, task: Task = "segmentation"
) -> Facts:
    """What a spec says of the data set at `root`, which gives its name where the spec does not."""
    return Facts(
        spec.name or root.resolve().name,
        classes,
        class_palette(spec, classes),
        spec.flip,
        spec.folds,
        reading,
        task,
        spec.exclude_from_mean,
        depth_of(spec),
        spec.bands,
    )


class PairReader:
    """Reads pairs and collects what is judged over the whole set: values, palettes, bands."""

    def __init__(
        self,
        spec: DatasetSpec,
        tables: tuple[ValueTable, ColourTable | None],
        digests: Mapping[Path, str],
        notebook: Notebook,
        classes: tuple[str, ...] = (),
        memory: Memory | None = None,
    ) -> None:
        self._spec, self._digests, self._notebook, self._classes = spec, digests, notebook, classes
        self._memory = memory
        self._reading = _reading_of_pairs(spec, classes)
        self._label_of = _labels_by_value(spec, classes)
        self._other = None if spec.other is None else classes.index(spec.other)
        self._has_transparent = "transparent" in spec.model_fields_set
        self._transparent = IGNORE if spec.transparent is None else classes.index(spec.transparent)
        self._values, self._colours = tables
        self._read_image = partial(read_image, depth=depth_of(spec))
        self._has_merged_colours = len(set(spec.colors.values())) < len(spec.colors)
        self.colours: set[int] = set()  # packed; only where a class has several
        self.values: list[MaskValues] = []
        self.palettes: list[MaskPalette] = []
        self.bands: list[BandsSeen] = []

    def read_each(
        self,
        items: Iterable[T],
        read: Callable[[PairReader, T, Notebook], Sample | None],
        image_of: Callable[[T], Path],
    ) -> Iterator[Sample]:
        """What `read` makes of every item, in order, with all cores; each item has its own reader and notebook.

        What these saw is taken over in the items' order, so that findings do not depend on the number of cores.
        image_of: an item's image, whose size says how much memory it needs.
        """

        def alone(item: T) -> tuple[PairReader, Notebook, Sample | None]:
            noted = Notebook()
            reader = self._alone(noted)
            with no_warnings():  # once a pair: each file by itself costs more
                sample = read(reader, item, noted)
            return reader, noted, None if sample is None else measured(sample)

        for reader, noted, sample in ordered_map(alone, items, weigh=lambda item: bytes_to_read(image_of(item))):
            self._notebook.note([*noted.faults, *noted.findings])
            self.values += reader.values
            self.palettes += reader.palettes
            self.colours |= reader.colours
            self.bands += reader.bands
            if sample is not None:
                yield sample

    def _alone(self, notebook: Notebook) -> PairReader:
        """A reader with the same settings that has read nothing yet."""
        other = copy.copy(self)
        other._notebook = notebook  # noqa: SLF001  (of the same class)
        other.colours, other.values, other.palettes, other.bands = set(), [], [], []
        return other

    def read(self, placed: Placed) -> Sample | None:
        """The decoded pair, or None when it cannot be used; the notebook then says why."""
        pair = placed.pair
        both = self._digests[pair.image] + self._digests[pair.mask] + ("" if pair.page is None else str(pair.page))
        return self._once(placed, both, partial(self._read_pair, placed))

    def read_labelled(self, placed: Placed, label: int) -> Sample | None:
        """The decoded image with its label as a mask of one pixel; None when it cannot be used."""

        def read() -> Decoded | None:
            image = self._picture(placed.pair.image, placed.pair.image_label, self._read_image)
            pixels, _ = self._pixels(image, placed.pair.image_label)
            return None if pixels is None else (pixels, np.full((1, 1), label, dtype=np.uint8), None)

        return self._once(placed, f"{self._digests[placed.pair.image]}{label}", read)

    def read_drawn(
        self, placed: Placed, paint: Callable[[tuple[int, int]], U8], size: tuple[int, int] | None, identity: str
    ) -> Sample | None:
        """The decoded image with a mask that `paint` draws in the stated size; None when it cannot be used.

        identity: of the annotation, for the sample's hash.
        """

        def read() -> Decoded | None:
            image = self._picture(placed.pair.image, placed.pair.image_label, self._read_image)
            pixels, empty = self._pixels(image, placed.pair.image_label)
            if image is None or pixels is None:
                return None
            height, width = size or pixels.shape[:2]
            labels = paint((height, width))
            fits = self._sizes_fit(placed, image, pixels, labels)
            return (pixels, _ignored_where(empty, labels), None) if fits else None

        return self._once(placed, f"{self._digests[placed.pair.image]}{identity}", read)

    def _read_pair(self, placed: Placed) -> Decoded | None:
        pair = placed.pair
        image = self._picture(pair.image, pair.image_label, partial(self._read_image, page=pair.page))
        mask = self._picture(pair.mask, pair.mask_label, partial(read_mask, page=pair.page, wide=True))
        pixels, empty = self._pixels(image, pair.image_label)
        size = None if pixels is None else pixels.shape[:2]
        labels, counts = (None, None) if mask is None else self._labels(mask, pair.mask_label, size)
        if self._spec.resize_masks and labels is not None and size is not None and labels.shape != size:
            labels, counts = _resized(labels, size), None
        if image is None or pixels is None or labels is None or not self._sizes_fit(placed, image, pixels, labels):
            return None
        seen = None if counts is None or empty is not None else SeenFile(content_of(pixels), counts)
        return pixels, _ignored_where(empty, labels), seen

    def _once(self, placed: Placed, content: str, read: Callable[[], Decoded | None]) -> Sample | None:
        """What `read` decodes, or what an earlier reading of the same content left; with what it noted.

        content: digests of the pair's files and of its annotation.
        """
        pair = placed.pair
        digest = hashlib.sha256(content.encode()).hexdigest()
        key = hashlib.sha256(repr((self._reading, digest, pair.image_label, pair.mask_label)).encode()).hexdigest()
        sample = partial(Sample, pair.name, pair.part, placed.group, placed.fold, digest)
        known = None if self._memory is None else self._memory.recall(key)
        if known is not None:
            self._take_notes(known.notes)
            return sample(known.image, known.mask, known.seen, Memo(key, known.notes))
        made = read()
        return None if made is None else sample(*made, Memo(key, self._notes()))

    def _notes(self) -> dict[str, Any]:
        """What was noted so far, as JSON holds it."""
        noted = {
            "faults": [vars(one) for one in self._notebook.faults],
            "findings": [vars(one) for one in self._notebook.findings],
            "values": [
                (one.file, {int(v): int(one.counts[v]) for v in np.flatnonzero(one.counts)}, one.lossy)
                for one in self.values
            ],
            "palettes": [(one.file, one.colours) for one in self.palettes],
            "colours": sorted(self.colours),
            "bands": [vars(one) for one in self.bands],
        }
        return {name: entries for name, entries in noted.items() if entries}

    def _take_notes(self, notes: Mapping[str, Any]) -> None:
        """Note what an earlier reading noted."""
        self._notebook.note([Fault(**one) for one in notes.get("faults", ())])
        self._notebook.note([Finding(**one) for one in notes.get("findings", ())])
        for file, held, lossy in notes.get("values", ()):
            counts = np.zeros(256, dtype=np.int64)
            counts[[int(value) for value in held]] = list(held.values())
            self.values.append(MaskValues(file, counts, lossy))
        for file, colours in notes.get("palettes", ()):
            self.palettes.append(MaskPalette(file, {int(i): (r, g, b) for i, (r, g, b) in colours.items()}))
        self.colours |= set(notes.get("colours", ()))
        self.bands += [BandsSeen(**one) for one in notes.get("bands", ())]

    def _picture(self, path: Path, label: str, decode: Callable[[bytes], Picture]) -> Picture | None:
        try:
            content = read_bytes(path)
            is_same = self._memory is not None and self._memory.is_unchanged(path)
            if not is_same and hashlib.sha256(content).hexdigest() != self._digests[path]:
                raise DataError(
                    f"{label} changed while the data set was read. Wait until nothing writes there, then repeat."
                )
            return decode(content)
        except UnusableError as error:
            self._notebook.fault("wrong", error.code, label, error.seen, error.fix)
            return None

    def _pixels(self, image: Picture | None, label: str) -> tuple[U8 | None, Bits | None]:
        """The chosen bands, upright: (H, W, B), and where one of them has no data: (H, W), or None."""
        if image is None:
            return None, None
        upright = turned(image) if self._spec.exif == "apply" else image
        n_bands = image.n_bands or upright.pixels.shape[2]
        opaque = image.mode in {"LA", "RGBA"} and bool(upright.pixels[..., -1].min() == 255)
        self.bands.append(BandsSeen(label, n_bands, image.mode, opaque))
        chosen = list(range(n_bands) if self._spec.bands is None else self._spec.bands)
        if max(chosen) >= n_bands:
            return None, None
        if image.n_bands is not None:  # they were chosen while decoding
            chosen = list(range(len(chosen)))
        empty = None if upright.empty is None else np.asarray(upright.empty[..., chosen].any(axis=2))
        is_whole = chosen == list(range(upright.pixels.shape[2]))
        return upright.pixels if is_whole else upright.pixels[..., chosen], empty

    def _labels(self, mask: Picture, label: str, size: tuple[int, ...] | None) -> tuple[U8 | None, I64 | None]:
        """Class indices (H, W), and where they are known already their counts (256,). size: of the image."""
        mask = turned(mask) if self._spec.exif == "apply" else mask
        if self._spec.one_hot:
            return self._hottest(mask, label, size), None
        if mask.pages > 1:
            seen = f"has {mask.pages} pages; pages are no colours."
            fix = "Set pages: frames if each page is the mask of a frame, or one_hot: true if each page is a class."
            self._notebook.fault("wrong", "mask_pages", label, seen, fix)
            return None, None
        clear = mask.pixels[..., -1] == 0 if self._has_transparent and mask.mode in {"LA", "RGBA"} else None
        picture = self._without_alpha(mask, label)
        if picture is None:
            return None, None
        if self._spec.threshold is not None:
            return self._above(picture, label), None
        if picture.wide is not None:
            return self._of_wide(picture.wide, label), None
        labels, counts = self._of_bytes(picture, label, clear)
        if labels is None or clear is None:
            return labels, counts
        return np.where(clear, np.uint8(self._transparent), labels), None

    def _of_bytes(self, picture: Picture, label: str, clear: Bits | None) -> tuple[U8 | None, I64 | None]:
        """Labels of a mask of 8 bits: of its colours where colours have a meaning, else of its values."""
        pixels = picture.pixels
        if self._colours is not None:
            colours = _as_colours(picture)
            labels, strange = labels_of_colours(colours, self._colours, but=clear)
            if self._has_merged_colours:
                self.colours |= set(np.unique(pack(colours)).tolist())
            if strange and self._other is not None:
                known = np.isin(pack(colours), self._colours.keys)
                return np.where(known, labels, np.uint8(self._other)), None
            if strange:
                stated = [unpack(int(key)) for key in self._colours.keys]
                fault = colour_fault(label, strange, is_mapped=True, lossy=picture.lossy, stated=stated)
                self._notebook.note([fault])
            return labels, None
        if pixels.shape[2] == 3:
            fault = colour_fault(label, colour_counts(pixels), is_mapped=False, lossy=picture.lossy)
            self._notebook.note([fault])
            return np.full(pixels.shape[:2], IGNORE, dtype=np.uint8), None
        labels, counts = labels_of_values(pixels[..., 0], self._values)
        self.values.append(MaskValues(label, counts, picture.lossy))
        if picture.mode == "P":
            used = np.flatnonzero(counts).tolist()
            self.palettes.append(MaskPalette(label, {i: picture.colours[i] for i in used if i < len(picture.colours)}))
        return labels, self._values.counts_of_classes(counts)

    def _of_wide(self, values: npt.NDArray[Any], label: str) -> U8 | None:
        """Labels of a mask whose values 8 bits cannot hold: negative, large, fractions, NaN (which is ignored)."""
        if values.shape[2] != 1:
            seen = f"is a {values.dtype} mask of {values.shape[2]} bands."
            fix = "One number a pixel is read; one_hot: true reads a band a class."
            self._notebook.fault("wrong", "mask_bands", label, seen, fix)
            return None
        flat = values[..., 0]
        held, place = np.unique(flat, return_inverse=True)
        meaning = np.full(len(held), IGNORE, dtype=np.uint8)
        strange = []
        for number, value in enumerate(held.tolist()):
            if value != value:
                n = int((place == number).sum())
                seen = f"holds NaN in {100 * n / flat.size:.1f} % of its pixels: ignored."
                self._notebook.fault("note", "mask_nan", label, seen)
            elif value in self._label_of:
                meaning[number] = self._label_of[value]
            elif self._other is not None:
                meaning[number] = self._other
            else:
                strange.append(number)
        if strange:
            self._notebook.note([self._wide_fault(held[strange], np.bincount(place.ravel())[strange], flat, label)])
        return meaning[place].reshape(flat.shape)

    def _wide_fault(self, strange: npt.NDArray[Any], counts: I64, values: npt.NDArray[Any], label: str) -> Fault:
        """What a mask of many bits holds that nothing claims."""
        if values.dtype.kind == "f" and (strange != np.rint(strange)).any():
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            seen = f"is a {values.dtype} mask of fractions holding {low:g}–{high:g}: probabilities?"
            fix = f"Set threshold: {(low + high) / 2:g} for two classes, or save class indices as 8-bit grey PNG."
            return Fault("wrong", "deep_mask", label, seen, fix)
        if len(strange) >= MANY_VALUES:
            bits = "16-bit" if values.dtype.itemsize <= 4 and values.dtype.kind in "ui" else str(values.dtype)
            seen = f"is a {bits} mask holding {values.min():g}–{values.max():g}; class indices are 0–254."
            fix = "Numbered by object? Set values: {0: background} and other: CLASS. Else map the values under values."
            return Fault("wrong", "deep_mask", label, seen, fix)
        named = ", ".join(f"{value:g} ({n} px)" for value, n in zip(strange.tolist(), counts.tolist(), strict=True))
        wide = ", ".join(f"{value:g}" for value in strange.tolist())
        fix = f"Map them under values, or list them under ignore: [{wide}]."
        return Fault("wrong", "label_out_of_range", label, f"holds {named}, which no class claims.", fix)

    def _above(self, picture: Picture, label: str) -> U8 | None:
        """Labels 0 and 1 of a mask by the threshold; NaN is ignored."""
        values = picture.pixels if picture.wide is None else picture.wide
        if values.shape[2] != 1 and not (values == values[..., :1]).all():
            seen = f"is a mask of {values.shape[2]} bands; threshold takes one number a pixel."
            self._notebook.fault("wrong", "mask_bands", label, seen, "Save it grey.")
            return None
        assert self._spec.threshold is not None  # noqa: S101  (of _labels)
        labels: U8 = (values[..., 0] >= self._spec.threshold).astype(np.uint8)
        return np.where(np.isnan(values[..., 0]), np.uint8(IGNORE), labels) if values.dtype.kind == "f" else labels

    def _hottest(self, mask: Picture, label: str, size: tuple[int, ...] | None) -> U8 | None:
        """The band with the largest value; bands may come first in an array."""
        values = mask.pixels if mask.wide is None else mask.wide
        if size is not None and values.shape[:2] != size and values.shape[1:] == size:
            values = np.moveaxis(values, 0, -1)
        if values.shape[2] != len(self._classes):
            seen = f"has {values.shape[2]} bands, and there are {len(self._classes)} classes."
            self._notebook.fault("wrong", "mask_bands", label, seen, "one_hot: true needs one band a class.")
            return None
        most = values.max(axis=2)
        tied = int(((values == most[..., None]).sum(axis=2) > 1).sum())
        if tied:
            seen = f"has no single largest band in {tied} pixels: they are of no class, or of several."
            self._notebook.fault("wrong", "not_one_hot", label, seen, "Give each pixel one class.")
        hottest: U8 = values.argmax(axis=2).astype(np.uint8)
        return hottest

    def _without_alpha(self, mask: Picture, label: str) -> Picture | None:
        """A mask without its alpha band where that says nothing; a mask with real transparency is refused."""
        if mask.mode not in {"LA", "RGBA"}:
            if mask.mode in {"1", "L", "P", "RGB"} or mask.wide is not None:
                return mask
            if mask.mode == "CMYK":
                self._notebook.fault("wrong", "mask_bands", label, "is a mask in CMYK.", "Save it as RGB or grey PNG.")
                return None
            self._notebook.fault(
                "wrong", "mask_bands", label, f"is a mask with bands {mask.mode}.", "Save it as 8-bit grey PNG."
            )
            return None
        alpha = mask.pixels[..., -1]
        is_said = self._has_transparent and bool(((alpha == 0) | (alpha == 255)).all())
        share = float((alpha < 255).mean()) * 100
        if share > 0 and not is_said:
            seen = f"is a mask with an alpha band, transparent in {share:.1f} % of its pixels."
            fix = "What does transparent mean? Set transparent: CLASS (null: ignored), or save it without alpha."
            if self._has_transparent:
                fix = "Some of it is neither clear nor opaque: smoothed edges. Export it without anti-aliasing."
            self._notebook.fault("wrong", "mask_alpha", label, seen, fix)
            return None
        if is_said:
            return Picture(mask.pixels[..., :-1], mask.mode.removesuffix("A"), 1, mask.lossy)
        self._notebook.fault(
            "note", "mask_alpha_opaque", label, "has an alpha band that is opaque everywhere; it is left out."
        )
        return Picture(mask.pixels[..., :-1], mask.mode.removesuffix("A"), 1, mask.lossy)

    def _sizes_fit(self, placed: Placed, image: Picture, pixels: U8, labels: U8) -> bool:
        pair, shown, other = placed.pair, pixels.shape[:2], image.pixels.shape[:2]
        turns = image.orientation in SIDEWAYS
        if shown == labels.shape:
            unclear = image.orientation != 1 and "exif" not in self._spec.model_fields_set and other == labels.shape
            if unclear:
                seen = f"has EXIF orientation {image.orientation} and was turned; its mask fits both ways."
                fix = "If masks were drawn on unturned pixels set exif: ignore, otherwise exif: apply."
                self._notebook.fault("warning", "exif_unclear", pair.image_label, seen, fix)
            return True
        seen = f"is {_size_text(shown)} (width x height), its mask {_size_text(labels.shape)}"
        fix = "Re-export both in one size."
        if _resized(labels, shown).shape == shown:
            fix = "Re-export both in one size, or set resize_masks: true (nearest neighbour)."
        if turns and shown[::-1] == labels.shape:
            way, value = ("unrotated", "ignore") if self._spec.exif == "apply" else ("rotated", "apply")
            seen += f"; EXIF orientation {image.orientation}: the mask fits the {way} pixels"
            fix = f"Set exif: {value}, or re-export."
        self._notebook.fault("wrong", "size_mismatch", pair.image_label, f"{seen}.", fix)
        return False


def _labels_by_value(spec: DatasetSpec, classes: tuple[str, ...]) -> dict[float, int]:
    """The label of every value that means something: of `values`, else the class indices; ignored ones are IGNORE."""
    found: dict[float, int] = {value: classes.index(name) for value, name in spec.values.items() if name in classes}
    found = found or {index: index for index in range(len(classes))}
    return found | {float(value): IGNORE for value in spec.ignore if isinstance(value, int)}


def _resized(labels: U8, size: tuple[int, ...]) -> U8:
    """Labels (H, W) in the size of their image where the aspect ratios are equal within a pixel; else as they are."""
    height, width = labels.shape
    is_alike = abs(height * size[1] - width * size[0]) <= max(*size, height, width)
    return resize_mask(labels, (size[0], size[1])) if is_alike else labels


def _ignored_where(empty: Bits | None, labels: U8) -> U8:
    return labels if empty is None else np.where(empty, np.uint8(IGNORE), labels)


def _as_colours(picture: Picture) -> U8:
    """A mask's colours (H, W, 3): of a palette file through its palette, of a grey one with three equal bands."""
    if picture.mode == "P":
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(picture.colours)] = picture.colours
        return table[picture.pixels[..., 0]]
    if picture.mode == "1":
        return np.repeat(picture.pixels * 255, 3, axis=2)
    return picture.pixels if picture.pixels.shape[2] == 3 else np.repeat(picture.pixels, 3, axis=2)


def digest_of(path: Path) -> str:
    """sha256 of a file's content; of its failure where it cannot be read, which `samples` then reports."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except UnusableError as error:
        return hashlib.sha256(str(error).encode()).hexdigest()


def digests_of(paths: Iterable[Path], memory: Memory | None = None) -> dict[Path, str]:
    """The digest of every file, read with all cores where the store does not have it."""
    distinct = list(dict.fromkeys(paths))
    if memory is not None:
        return memory.digests(distinct)
    return dict(zip(distinct, ordered_map(digest_of, distinct), strict=True))
