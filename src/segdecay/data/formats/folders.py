"""A folder of images and masks as a source: each file is read once, hashed, decoded, checked and mapped to classes.

Which image has which mask is found from folders or templates (here and pairing.py), tables.py or voc.py.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from segdecay.data.checks.findings import Finding, Notebook, check_unseen, names_of
from segdecay.data.checks.labels import check_palettes, check_values
from segdecay.data.dataset import Part
from segdecay.data.formats.base import Memory, Sample
from segdecay.data.formats.pairing import (
    SUFFIXES,
    Pair,
    Placed,
    Row,
    files_below,
    find_pairs,
    part_named,
    place_by_rows,
    place_pairs,
)
from segdecay.data.formats.reader import PairReader, check_bands, digests_of, facts_of
from segdecay.data.images.bit_depth import count_pages
from segdecay.data.images.label_maps import tables_of, unpack
from segdecay.data.images.palette import colour_text, parse_colour
from segdecay.data.spec import SPEC_NAMES, DatasetSpec, class_names, is_template
from segdecay.errors import ConfigError, DataError

PIECE = re.compile(r"\{([a-z_]+)\}|(\*\*/)|(\*)")
SHORT_PARTS: Mapping[str, Part] = {"Tr": "train", "Ts": "test", "Va": "val"}  # of nnU-Net: imagesTr, labelsTs
FOLDERS = "folders"  # the field that **/ fills


@dataclass(frozen=True)
class Template:
    """A compiled template: the fields in their order, and what matches it."""

    text: str
    fields: tuple[str, ...]
    pattern: re.Pattern[str]

    def read(self, path: PurePosixPath) -> dict[str, str] | None:
        """The fields of a path relative to the data folder; None where it does not match."""
        found = self.pattern.fullmatch(unicodedata.normalize("NFC", str(path)))
        return None if found is None else {name: value or "" for name, value in found.groupdict().items()}


def compile_template(text: str, key: str = "images") -> Template:
    """The template; key: of dataset.yaml, for the message.

    >>> template = compile_template("{site}/rgb/{stem}_rgb.jpg")
    >>> template.read(PurePosixPath("north/rgb/a 1_rgb.JPG"))
    {'site': 'north', 'stem': 'a 1'}

    Raises:
        ConfigError: a brace that is no {field}, or no {field} at all.
    """
    text = unicodedata.normalize("NFC", text)
    suffix = PurePosixPath(text).suffix if re.fullmatch(r".*\.[A-Za-z0-9]+", text) else ""
    body = text[: len(text) - len(suffix)]
    pattern, place, fields = "", 0, list[str]()
    for piece in PIECE.finditer(body):
        literal = body[place : piece.start()]
        name = piece[1] or (FOLDERS if piece[2] else None)
        shape = "(?:[^/]+/)*" if piece[2] else "[^/]+" if name else "[^/]*"
        group = f"(?P={name})" if name in fields else f"(?P<{name}>{shape})" if name else shape
        fields += [name] if name and name not in fields else []
        pattern, place = pattern + re.escape(literal) + group, piece.end()
    rest = body[place:]
    if "{" in re.sub(PIECE, "", text) or "}" in re.sub(PIECE, "", text) or "stem" not in fields:
        raise ConfigError(
            f"dataset.yaml, {key}: '{text}' is no template. It needs {{stem}}, may have other {{fields}} of small "
            "letters, * and **/; for example {site}/{stem}_rgb.jpg."
        )
    return Template(text, tuple(fields), re.compile(pattern + re.escape(rest) + f"(?i:{re.escape(suffix)})"))


def find_by_templates(root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    """Every image with the mask whose fields are the same, in natural order; what does not fit is noted.

    Raises:
        ConfigError: a template is none, or the two have different fields.
        DataError: no file is an image.
    """
    images, masks = compile_template(spec.images), compile_template(spec.masks, "masks")
    if set(images.fields) != set(masks.fields):
        raise ConfigError(
            f"dataset.yaml: images has the fields {', '.join(images.fields)}, masks {', '.join(masks.fields)}. Both "
            "need the same ones: they pair the files."
        )
    readable = [path for path in files_below(root) if path.suffix.lower() in SUFFIXES]
    shown, drawn = _matches(readable, images), _matches(readable, masks)
    _settle(shown, drawn)
    if not shown:
        raise DataError(f"{root} holds no image named as {spec.images}. {_seen(root)}")
    for found in (*shown.values(), *drawn.values()):
        if len(found) > 1:
            twins = " and ".join(str(path) for path in found)
            notebook.fault("wrong", "same_stem", str(found[0]), f"stands there twice: {twins}.", "Remove one of them.")
    _report(shown, drawn, spec, notebook)
    pairs, rows = list[Pair](), dict[str, Row]()
    for key, (image, *_) in shown.items():
        if key not in drawn:
            continue
        fields = dict(zip(sorted(images.fields), key, strict=True))
        part = part_of_fields(fields, str(image), notebook)
        name = "/".join(fields[field].rstrip("/") for field in images.fields if fields[field])
        pairs.append(Pair(name, part, root / image, root / drawn[key][0], str(image), str(drawn[key][0])))
        rows[name] = Row(0, name, fields.get("group"), None, None)
    if "group" in images.fields:
        return place_by_rows(rows, "images", spec, pairs, notebook)
    return place_pairs(root, spec, pairs, notebook)


def _matches(paths: list[PurePosixPath], template: Template) -> dict[tuple[str, ...], list[PurePosixPath]]:
    """Files that match, by their fields in alphabetical order."""
    found = defaultdict[tuple[str, ...], list[PurePosixPath]](list)
    for path in paths:
        fields = template.read(path)
        if fields is not None:
            found[tuple(fields[name] for name in sorted(template.fields))].append(path)
    return found


def _settle(
    images: dict[tuple[str, ...], list[PurePosixPath]], masks: dict[tuple[str, ...], list[PurePosixPath]]
) -> None:
    """A file that fits both templates is a mask where another file is its image, else an image. In place."""
    of_mask = {path: key for key, paths in masks.items() for path in paths}
    of_image = {path: key for key, paths in images.items() for path in paths}
    for path in of_mask.keys() & of_image.keys():
        is_mask = any(other != path for other in images.get(of_mask[path], ()))
        found, key = (images, of_image[path]) if is_mask else (masks, of_mask[path])
        found[key].remove(path)
    for found in (images, masks):
        for key in [key for key, paths in found.items() if not paths]:
            del found[key]


def part_of_fields(fields: dict[str, str], label: str, notebook: Notebook) -> Part:
    """The part that a {split} names; one that is none is noted."""
    if "split" not in fields:
        return "train"
    part = SHORT_PARTS.get(fields["split"]) or part_named(fields["split"])
    if part is None:
        fix = "Allowed: train, val, test."
        notebook.fault("wrong", "split_unknown", label, f"has split '{fields['split']}'.", fix)
        return "train"
    return part


def _report(
    images: dict[tuple[str, ...], list[PurePosixPath]],
    masks: dict[tuple[str, ...], list[PurePosixPath]],
    spec: DatasetSpec,
    notebook: Notebook,
) -> None:
    place = sorted(compile_template(spec.images).fields).index("split") if "{split}" in spec.images else None
    bare = {key[place] for key in images} - {key[place] for key in masks} if place is not None else set()
    for part in sorted(part for part in bare if part_named(part) != "train"):
        aside = [str(paths[0]) for key, paths in images.items() if place is not None and key[place] == part]
        message = f"The part {part} has {len(aside)} images and no mask ({names_of(aside)}): it is left aside."
        notebook.finding("warning", "part_without_masks", message, aside[0])
        notebook.told.update(aside)
        images = {key: paths for key, paths in images.items() if place is not None and key[place] != part}
    alone = [str(paths[0]) for key, paths in images.items() if key not in masks]
    spare = [str(paths[0]) for key, paths in masks.items() if key not in images]
    if not alone and not spare:
        return
    seen = [f"{len(alone)} image{'s have' if len(alone) > 1 else ' has'} no mask ({names_of(alone)})"] if alone else []
    seen += [f"{len(spare)} mask{'s have' if len(spare) > 1 else ' has'} no image ({names_of(spare)})"] if spare else []
    message = f"{', '.join(seen)}. Paired by images: {spec.images} and masks: {spec.masks}. Add what is missing, or "
    notebook.finding("wrong", "pairing", f"{message}remove the rest.", (alone or spare)[0])


def _seen(root: Path) -> str:
    there = [str(path) for path in files_below(root)]
    return f"It holds {names_of(there)}." if there else "It holds no file at all."


Finder = Callable[[Path, DatasetSpec, Notebook], tuple[Placed, ...]]
ALWAYS_READ = frozenset({"values", "colors", "ignore", "exif", "bands"})  # keys that change pixels
READ_IF_SET = frozenset(  # so do these, which were added later
    {"names", "background", "overlap", "invert", "scale", "nodata", "other", "threshold", "one_hot", "pages",
     "transparent", "resize_masks", "grey_as_rgb", "attribute"}
)  # fmt: skip


def reading_of(spec: DatasetSpec) -> str:
    """How files become arrays, as text; keys that are not set are left out, so that earlier fingerprints stay valid."""
    return spec.model_dump_json(include=set(ALWAYS_READ | (READ_IF_SET & spec.model_fields_set)))


def find_in_folders(root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    """images/ and masks/, or what templates name, with their groups.

    Raises:
        DataError, ConfigError: a folder is missing or empty, or a text file in it is not valid.
    """
    if is_template(spec.images):
        return find_by_templates(root, spec, notebook)
    return place_pairs(root, spec, find_pairs(root, spec, notebook), notebook)


def note_left(root: Path, placed: Sequence[Placed], notebook: Notebook) -> None:
    """Warn of pictures below the data folder that are neither an image nor a mask of any pair."""
    used = {path for one in placed for path in (one.pair.image, one.pair.mask)}
    left = [str(path) for path in files_below(root) if path.suffix.lower() in SUFFIXES and root / path not in used]
    said = " ".join(fault.file for fault in notebook.faults) + " ".join(f.message for f in notebook.findings)
    left = [path for path in left if path not in said and path not in notebook.told]
    if left and not any(finding.code == "pairing" for finding in notebook.findings):
        message = (
            f"{len(left)} picture{'s are' if len(left) > 1 else ' is'} left aside, neither image nor mask of a pair "
            f"({names_of(left)}). If they belong to the set, say where with images: and masks:."
        )
        notebook.finding("warning", "left_aside", message, left[0])


def classes_of(spec: DatasetSpec, root: Path) -> tuple[str, ...]:
    """The classes that dataset.yaml or classes.txt name.

    Raises:
        DataError: none of them names any.
    """
    classes = class_names(spec, root)
    if not classes:
        has_spec = any((root / name).exists() for name in SPEC_NAMES)
        other = "add classes: to dataset.yaml" if has_spec else f"let segdecay init {root} --write guess a dataset.yaml"
        raise DataError(
            f"{root} does not say which classes there are. Write classes.txt (one name a line, line 1 = value 0), "
            f"or {other}."
        )
    return classes


def frames_of(placed: Sequence[Placed], notebook: Notebook) -> tuple[Placed, ...]:
    """A pair for each page of stacks; the frames of a stack are one group unless another is known."""
    found = list[Placed]()
    for one in placed:
        pair = one.pair
        n_pages, n_masks = count_pages(pair.image), count_pages(pair.mask)
        if n_pages != n_masks:
            seen = f"has {n_pages} pages, its mask {n_masks}."
            notebook.fault("wrong", "pages_differ", pair.image_label, seen, "Each frame needs its mask.")
            continue
        for page in range(n_pages):
            name, place = f"{pair.name}/{page + 1:04}", f" page {page + 1}"
            shown, drawn = pair.image_label + place, pair.mask_label + place
            found.append(replace(one, pair=replace(pair, name=name, page=page, image_label=shown, mask_label=drawn)))
    return tuple(found)


class FolderSource:
    """Images and masks below one folder, as dataset.yaml describes them; find: which image has which mask.

    Raises:
        DataError, ConfigError: a folder is missing or empty, or a text file in it is not valid.
    """

    def __init__(self, root: Path, spec: DatasetSpec, find: Finder = find_in_folders) -> None:
        self._spec = spec
        self._listing = Notebook()
        self._memory: Memory | None = None
        classes = class_names(spec, root)
        placed = find(root, spec, self._listing)
        if find is find_in_folders:
            note_left(root, placed, self._listing)
        self._placed = frames_of(placed, self._listing) if spec.pages == "frames" else placed
        classes = classes or classes_of(spec, root)
        self._tables = tables_of(spec, classes)
        self.facts = facts_of(spec, root, classes, reading_of(spec))

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Every pair in its place."""
        return self._placed

    def recall_from(self, memory: Memory) -> None:
        """Use this store of earlier readings."""
        self._memory = memory

    @cached_property
    def _digests(self) -> dict[Path, str]:
        paths = (path for one in self._placed for path in (one.pair.image, one.pair.mask))
        return digests_of(paths, self._memory)

    def key(self) -> str:
        """A hash of every file's content and place, of what was noted about names, and of the spec."""
        noted = self._listing.summary()
        content = hashlib.sha256(repr((self.facts, self._spec, sorted(self._spec.model_fields_set), noted)).encode())
        for one in self._placed:
            pair = one.pair
            row: tuple[object, ...] = (pair.name, pair.part, one.group, one.fold, pair.image_label, pair.mask_label)
            row += () if pair.page is None else (pair.page,)
            content.update(repr((row, self._digests[pair.image], self._digests[pair.mask])).encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every usable pair, decoded, in natural order of names; each fault goes into the notebook.

        Raises:
            DataError: a file changed between its hash and its decoding.
        """
        notebook.note([*self._listing.faults, *self._listing.findings])
        reader = PairReader(self._spec, self._tables, self._digests, notebook, self.facts.classes, self._memory)
        yield from reader.read_each(self._placed, lambda own, one, _: own.read(one), lambda one: one.pair.image)
        ignored = [value for value in self._spec.ignore if isinstance(value, int)]
        notebook.note(check_values(reader.values, self._tables[0], self.facts.classes, ignored))
        notebook.note(check_palettes(reader.palettes))
        notebook.note(check_bands(reader.bands, self._spec.bands))
        if self._spec.other is not None:
            return
        if notebook.is_clean:
            notebook.note(self._unseen(reader))

    def _unseen(self, reader: PairReader) -> tuple[Finding, ...]:
        """Stated values and colours that occur nowhere, beside others of their class that do."""
        spec = self._spec
        held = np.flatnonzero(np.sum([one.counts for one in reader.values], axis=0)) if reader.values else ()
        of_values = {str(value): name for value, name in spec.values.items()}
        of_colours = {colour_text(parse_colour(text)): name for text, name in spec.colors.items()}
        used = [colour_text(unpack(key)) for key in reader.colours]
        return (*check_unseen("values", of_values, map(str, held)), *check_unseen("colors", of_colours, used))
