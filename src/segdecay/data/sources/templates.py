"""Templates of paths: "{site}/rgb/{stem}_rgb.jpg" says which files are images, and the same fields find their masks.

{field} stands for a piece of one name; {group} is the group, {split} the part. * is anything inside a name, **/ any
folders. Suffixes match in upper and lower case; hidden files are never seen. Opens no file.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from segdecay.data.checks import Notebook, names_of
from segdecay.data.dataset import Part
from segdecay.data.sources.grouping import Placed, Row, place_by_rows, place_pairs
from segdecay.data.sources.pairs import PART_ALIASES, PARTS, SUFFIXES, Pair, files_below
from segdecay.data.spec import DatasetSpec
from segdecay.errors import ConfigError, DataError

PIECE = re.compile(r"\{([a-z_]+)\}|(\*\*/)|(\*)")
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
    part = PART_ALIASES.get(fields["split"], fields["split"])
    if part not in PARTS:
        fix = "Allowed: train, val, test."
        notebook.fault("wrong", "split_unknown", label, f"has split '{fields['split']}'.", fix)
        return "train"
    return cast("Part", part)


def _report(
    images: dict[tuple[str, ...], list[PurePosixPath]],
    masks: dict[tuple[str, ...], list[PurePosixPath]],
    spec: DatasetSpec,
    notebook: Notebook,
) -> None:
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
