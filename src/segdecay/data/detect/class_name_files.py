"""Names and colours of classes from the files that tools put beside their masks, with the name of the file.

labelmap.txt (CVAT), class_dict.csv (CamVid), _classes.csv (Roboflow), dataset.json (nnU-Net), classes.json, data.yaml,
obj.names, and lists of names in text files, with colours or without.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segdecay.data.images.palette import Colour, parse_colour

FILES = ("labelmap.txt", "class_dict.csv", "_classes.csv", "class_dict_seg.csv", "dataset.json", "classes.json",
         "labels.json", "label_colors.txt", "label_colours.txt", "classes.csv", "labels.csv", "classes.txt",
         "class_names.txt", "labels.txt", "codes.txt", "obj.names", "data.yaml", "data.yml")  # fmt: skip
MOST_BYTES = 1 << 20
IGNORED = frozenset({"__ignore__", "ignore", "ignored", "_ignore_"})
BACKGROUND = "background"
NUMBERS = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})")
COLOUR_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")


@dataclass(frozen=True)
class Named:
    """The classes in a file. by_value: name by mask value; by_colour: name by colour."""

    file: str
    by_value: Mapping[int, str] = field(default_factory=dict)
    by_colour: Mapping[Colour, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of classes in their order, those that mean "ignored" left out."""
        found = self.by_colour.values() if self.by_colour else (self.by_value[i] for i in sorted(self.by_value))
        return [name for name in dict.fromkeys(found) if not is_ignored(name)]


def is_ignored(name: str) -> bool:
    """Whether a label's name means that its pixels are ignored.

    >>> is_ignored("__ignore__"), is_ignored("Void")
    (True, False)
    """
    return name.strip().lower() in IGNORED


def plain_name(name: str) -> str:
    """A label's name; labelme's `_background_` is the background.

    >>> plain_name("_background_"), plain_name(" car ")
    ('background', 'car')
    """
    found = name.strip().strip("\"'")
    return BACKGROUND if found.lower() in {"_background_", "__background__"} else found


def named_beside(root: Path, folders: Iterable[Path] = ()) -> Named | None:
    """The classes in the first file that names any: in the data folder, else in one of the folders given."""
    for folder in dict.fromkeys([root, *folders]):
        if not folder.is_dir():
            continue
        there = {entry.name.lower(): entry for entry in folder.iterdir() if entry.is_file()}
        for name in FILES:
            if name in there:
                found = read_names(there[name], there[name].relative_to(root).as_posix())
                if found is not None and len(found.names) > 0:
                    return found
    return None


def read_names(path: Path, label: str) -> Named | None:
    """The classes in one file; None where it names none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        text = path.read_text(encoding="utf-8-sig")
        kind = path.suffix.lower()
        if kind == ".json":
            return _of_values(json.loads(text), label)
        if kind in {".yaml", ".yml"}:
            return _of_values(yaml.safe_load(text), label)
        return _of_csv(text, label) if kind == ".csv" else _of_lines(text, label)
    except (OSError, ValueError, yaml.YAMLError, csv.Error, RecursionError):
        return None


def _of_values(values: Any, label: str) -> Named | None:
    """JSON and YAML: {"labels": {name: number}}, {"names": [...]}, [{"name": ..., "color": ...}], {name: [r, g, b]}."""
    if isinstance(values, dict):
        for key in ("labels", "names", "classes", "label", "colors", "colours", "categories"):
            if isinstance(values.get(key), (dict, list)):
                found = _of_values(values[key], label) if key != "labels" else _of_entries(values[key], label)
                return found if found is not None else _of_entries(values[key], label)
    return _of_entries(values, label)


def _of_entries(values: Any, label: str) -> Named | None:
    by_value, by_colour = dict[int, str](), dict[Colour, str]()
    pairs: list[tuple[Any, Any]] = []
    if isinstance(values, dict):
        pairs = list(values.items())
    elif isinstance(values, list) and all(isinstance(one, str) for one in values):
        pairs = list(enumerate(values))
    elif isinstance(values, list) and all(isinstance(one, dict) for one in values):
        for number, one in enumerate(values):
            name = next(
                (one[key] for key in ("name", "title", "label", "class") if isinstance(one.get(key), str)), None
            )
            if name is None:
                return None
            colour = next((one[key] for key in ("color", "colour", "rgb") if key in one), None)
            value = next((one[key] for key in ("id", "value", "index") if type(one.get(key)) is int), number)
            by_value[value] = plain_name(name)
            if colour is not None:
                by_colour[parse_colour(colour)] = plain_name(name)
    for left, right in pairs:
        if isinstance(right, str) and (type(left) is int or str(left).lstrip("-").isdigit()):
            by_value[int(left)] = plain_name(right)
        elif type(right) is int:
            by_value[right] = plain_name(str(left))
        elif isinstance(right, (list, str)):
            by_colour[parse_colour(right)] = plain_name(str(left))
        else:
            return None
    return Named(label, by_value, by_colour) if by_value or by_colour else None


def _of_csv(text: str, label: str) -> Named | None:
    """A table with the columns name, r, g, b, or with a pixel value and a class."""
    lines = text.splitlines()
    mark = max(",;\t", key=lines[0].count) if lines else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark) if any(map(str.strip, row))]
    if len(rows) < 2:
        return None
    head = [cell.lower() for cell in rows[0]]
    name = next((i for i, cell in enumerate(head) if cell in {"name", "class", "label", "class_name", "classes"}), None)
    if name is None:
        return None
    colours = [
        next((i for i, cell in enumerate(head) if cell in {full, full[0]}), None) for full in ("red", "green", "blue")
    ]
    value = next((i for i, cell in enumerate(head) if cell in {"pixel value", "value", "id", "index", "pixel"}), None)
    by_value, by_colour = dict[int, str](), dict[Colour, str]()
    for row in rows[1:]:
        found = plain_name(row[name])
        if None not in colours:
            by_colour[parse_colour([row[i] for i in colours if i is not None])] = found
        elif value is not None:
            by_value[int(row[value])] = found
        else:
            return None if len(head) > 1 else Named(label, {i: plain_name(one[0]) for i, one in enumerate(rows[1:])})
    return Named(label, by_value, by_colour)


def _of_lines(text: str, label: str) -> Named | None:
    """A class a line: its name, with a colour or a number before or behind it."""
    by_value, by_colour, names = dict[int, str](), dict[Colour, str](), list[str]()
    for raw in text.splitlines():
        line = raw.strip()
        is_comment = line.startswith("#") and not COLOUR_HEX.match(line)
        if not line or is_comment:
            continue
        shade = COLOUR_HEX.search(line) or NUMBERS.search(line)
        if shade:
            colour = (
                parse_colour(shade[0]) if shade[0].startswith("#") else parse_colour([int(g) for g in shade.groups()])
            )
            name = plain_name((line[: shade.start()] + " " + line[shade.end() :]).strip(" :,;\t"))
            if not name:
                return None
            by_colour[colour] = name
            continue
        numbered = re.fullmatch(r"(-?\d+)\s*[:=,;\t ]\s*(\D.*)", line)
        if numbered:
            by_value[int(numbered[1])] = plain_name(numbered[2])
        else:
            names.append(plain_name(line))
    if by_colour:
        return None if names or by_value else Named(label, {}, by_colour)
    if by_value:
        return None if names else Named(label, by_value)
    first = -1 if names and names[0] == "__ignore__" else 0  # labelme numbers its labels from -1 then
    return Named(label, dict(enumerate(names, first))) if names else None
