"""The keys of dataset.yaml, which describes the files of a data folder. Unknown keys and values are refused."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pydantic
from pydantic import Field

from segdecay.config.schema import Section, Task, explain
from segdecay.data.dataset import MOST_CLASSES
from segdecay.data.images.palette import Colour, colour_text, default_palette, parse_colour
from segdecay.errors import ConfigError, did_you_mean, gather, unknown
from segdecay.utils.yaml import load_mapping

SPEC_NAMES = ("dataset.yaml", "dataset.yml")
LARGEST = 1 << 64  # bound of a whole number that is a pixel's value
UNQUOTED = "a colour needs quotes in YAML, '#ff0000': road, since an unquoted # starts a comment"


def _check_inner_path(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not value.strip():
        raise ValueError("must be a path inside the data folder")
    return value


class DatasetSpec(Section):
    """The keys of dataset.yaml."""

    name: str | None = Field(None, description="shown in reports; the folder's name otherwise")
    classes: tuple[str, ...] | None = Field(None, description="names in the order of their indices; null: classes.txt")
    task: Task = Field("segmentation", description="classification: one label per image, no masks")
    labels: str = Field(
        "folders",
        description="classification only: folders (images/CLASS/…), cifar10, or a CSV with columns name, label",
    )
    values: dict[int, str] = Field(default_factory=dict, description="pixel value of a mask: class name")
    colors: dict[str, str] = Field(
        default_factory=dict, description="colour of a mask, '#rrggbb' or [r, g, b]: class name"
    )
    ignore: tuple[int | str, ...] = Field((), description="pixel values (or colours) that are not labelled")
    exclude_from_mean: tuple[str, ...] = Field(
        (), description="classes that are trained and scored, but left out of every mean over classes"
    )
    layout: str = Field("folders", description="folders, table, coco, voc, labelme or parts: see docs/sources.md")
    images: str = Field("images", description="a folder, or a template: {site}/{stem}_rgb.jpg")
    masks: str = Field("masks", description="a folder, or a template with the fields of images")
    annotations: str | None = Field(None, description="the table, the COCO JSON (may contain {split}), or a folder")
    columns: dict[str, str] = Field(
        default_factory=dict, description="table only: name of the column of image, mask, …"
    )
    names: dict[str, str | None] = Field(
        default_factory=dict, description="name of a category or label: class, or null to ignore it"
    )
    background: str | None = Field(None, description="class of pixels that no annotation covers; null: ignored")
    overlap: Literal["large first", "file order"] = Field(
        "large first", description="the order in which annotations are drawn; later ones cover earlier ones"
    )
    invert: bool = Field(False, description="parts only: an object is where its mask is 0")
    mask_suffix: str = Field("", description="a mask's stem is its image's stem + this")
    groups: str | None = Field(None, description="CSV with columns name, group, fold, split; groups.csv if it exists")
    group_pattern: str | None = Field(
        None, description="regular expression over the stem; its one (group) is the group"
    )
    folds: Literal["groups", "leave-one-group-out", "blocks", "given"] = "groups"
    flip: Literal["none", "horizontal", "both"] = Field(
        "horizontal", description="mirroring under which labels stay correct"
    )
    exif: Literal["apply", "ignore"] = Field("apply", description="rotate and mirror images by their EXIF orientation")
    bands: tuple[int, ...] | None = Field(None, description="the bands of the images to use, from 0")
    scale: Literal["percentile"] | dict[Literal["max"], float] | None = Field(
        None, description="more than 8 bits: percentile (of each image), or {max: the value that becomes white}"
    )
    nodata: float | None = Field(None, description="value of pixels without data; .nan: only NaN")
    palette: dict[str, str] = Field(default_factory=dict, description="class name: '#rrggbb'")
    other: str | None = Field(None, description="class of all mask values without a class, as for numbered objects")
    threshold: float | None = Field(
        None, description="grey or probability masks: from this value on a pixel is of the second of two classes"
    )
    one_hot: bool = Field(False, description="each band of a mask is a class, in order; the largest value decides")
    pages: Literal["frames", "bands"] | None = Field(
        None, description="TIFF: frames (each page an image with its mask), or bands (the pages of one image)"
    )
    transparent: str | None = Field(None, description="class of mask pixels with alpha 0; null: ignored")
    resize_masks: bool = Field(
        False, description="resize a mask to its image, by nearest neighbour, if their aspect ratios agree"
    )
    grey_as_rgb: bool = Field(False, description="if some images are RGB, grey ones become RGB with three equal bands")
    attribute: str | None = Field(None, description="via only: the attribute of regions that names their class")

    @pydantic.field_validator("classes", "bands", "exclude_from_mean", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("nodata", "scale", "threshold", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: float(v) if type(v) is int and abs(v) <= LARGEST else v for k, v in value.items()}
        if type(value) is int and abs(value) > LARGEST:
            raise ValueError("is too large for a pixel value")
        return float(value) if type(value) is int or value == "nan" else value

    @pydantic.field_validator("scale")
    @classmethod
    def _scale_is_sane(cls, value: str | dict[str, float] | None) -> str | dict[str, float] | None:
        if isinstance(value, dict) and not 0 < value.get("max", 0) < float("inf"):
            raise ValueError("must be percentile, or {max: N} with N above 0")
        return value

    @pydantic.field_validator("ignore", mode="before")
    @classmethod
    def _ignore_values(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return tuple(one if type(one) is int else colour_text(parse_colour(one)) for one in value)

    @pydantic.field_validator("colors", mode="before")
    @classmethod
    def _colours_normal(cls, value: Any) -> Any:
        if value is None:
            raise ValueError(UNQUOTED)
        if not isinstance(value, dict):
            return value
        normal = {colour_text(parse_colour(key)): name for key, name in value.items()}
        if len(normal) < len(value):
            raise ValueError("a colour is listed twice")
        return normal

    @pydantic.field_validator("palette", mode="before")
    @classmethod
    def _palette_normal(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if None in value.values():
            raise ValueError(UNQUOTED)
        return {key: colour_text(parse_colour(colour)) for key, colour in value.items()}

    @pydantic.field_validator("classes")
    @classmethod
    def _classes_are_sane(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            validate_classes(value)
        return value

    @pydantic.field_validator("values")
    @classmethod
    def _values_in_range(cls, value: dict[int, str]) -> dict[int, str]:
        if any(abs(key) >= 1 << 31 for key in value):
            raise ValueError("pixel values have at most 32 bits")
        return value

    @pydantic.field_validator("bands")
    @classmethod
    def _bands_are_sane(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value) or min(value) < 0):
            raise ValueError("must be distinct band numbers, counted from 0")
        return value

    @pydantic.field_validator("images", "masks", "labels", "annotations")
    @classmethod
    def _folder_inside(cls, value: str | None) -> str | None:
        return None if value is None else _check_inner_path(value)

    @pydantic.field_validator("group_pattern")
    @classmethod
    def _pattern_has_one_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            compiled = re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from error
        if compiled.groups != 1:
            raise ValueError("needs exactly one (capture), the group's name; for text before _: ^([^_]+)_")
        return value


def validate_classes(names: tuple[str, ...]) -> None:
    """Refuse class lists that an 8-bit mask cannot hold.

    Raises:
        ValueError: fewer than two, more than 255, an empty or a repeated name.
    """
    if len(names) < 2:
        raise ValueError("at least two classes are needed; one may be called background")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"at most {MOST_CLASSES} classes are possible")
    if any(not name.strip() for name in names):
        raise ValueError("a class name is empty")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"class '{twice[0]}' is listed twice")


def parse_spec(text: str, source: str = "dataset.yaml") -> DatasetSpec:
    """The checked content of a dataset.yaml; `source` names the file in messages.

    Raises:
        ConfigError: the text is not YAML, or has unknown keys or values that are not allowed; all are listed.
    """
    values = load_mapping(text, source)
    if {"train", "val"} & set(values) and {"names", "nc"} & set(values):
        raise ConfigError(
            f"{source} is the list of parts and names that YOLO reads. Rename it to data.yaml, from which init takes "
            "the names, and run segdecay init."
        )
    try:
        spec = DatasetSpec.model_validate(values)
    except pydantic.ValidationError as error:
        gather(ConfigError, explain(error, lambda _: list(DatasetSpec.model_fields)), headline=f"{source}:")
        raise AssertionError from error  # gather always raises here: a validation error has faults
    gather(ConfigError, conflicts_of(spec), headline=f"{source}:")
    return spec


def read_text(path: Path) -> str:
    """A text file of the user.

    Raises:
        ConfigError: it is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error


def read_spec(path: Path) -> DatasetSpec:
    """The spec of a folder (its dataset.yaml, or all defaults) or of a dataset.yaml.

    Raises:
        ConfigError: see `parse_spec` and `read_text`.
    """
    if path.is_dir():
        found = [path / name for name in SPEC_NAMES if (path / name).exists()]
        if not found:
            return DatasetSpec.model_validate({})
        path = found[0]
    return parse_spec(read_text(path), source=str(path))


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a classes.txt, one per line, line 1 = index 0.

    Raises:
        ConfigError: the file cannot be read, or `validate_classes` refuses its names.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    try:
        validate_classes(tuple(lines))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error
    return tuple(lines)


def class_names(spec: DatasetSpec, root: Path) -> tuple[str, ...]:
    """Class names from `classes`, else from classes.txt, else from `values` or `colors`; () if there are none.

    Raises:
        ConfigError: `values`, `colors` or `palette` name a class that does not exist.
    """
    said = [*spec.values.values(), *spec.colors.values(), *(name for name in (spec.other,) if name is not None)]
    named = tuple(dict.fromkeys(said))
    if spec.classes is not None:
        classes = spec.classes
    elif (root / "classes.txt").exists():
        classes = read_classes(root / "classes.txt")
    else:
        classes = named
        if classes:
            try:
                validate_classes(classes)
            except ValueError as error:
                raise ConfigError(f"dataset.yaml: {error}.") from error
    faults = [
        f"dataset.yaml, {key}: {unknown('class', name, classes)}"
        for key, names in (
            ("values", spec.values.values()),
            ("colors", spec.colors.values()),
            ("palette", spec.palette),
            ("names", [name for name in spec.names.values() if name is not None]),
            ("background", [spec.background] if spec.background is not None else []),
            ("other", [spec.other] if spec.other is not None else []),
            ("transparent", [spec.transparent] if spec.transparent is not None else []),
            ("exclude_from_mean", spec.exclude_from_mean),
        )
        for name in dict.fromkeys(names)
        if classes and name not in classes
    ]
    if classes and set(classes) <= set(spec.exclude_from_mean):
        faults.append("dataset.yaml, exclude_from_mean: every class is listed, so that no class is left for the means.")
    gather(ConfigError, faults)
    return classes


def class_palette(spec: DatasetSpec, classes: tuple[str, ...]) -> tuple[Colour, ...]:
    """One colour per class: from `palette`, else from `colors`, else the default colour."""
    given = {name: parse_colour(colour) for colour, name in reversed(spec.colors.items())}
    given |= {name: parse_colour(colour) for name, colour in spec.palette.items()}
    return tuple(given.get(name, colour) for name, colour in zip(classes, default_palette(len(classes)), strict=True))


LABELS = ("folders", "cifar10")  # sources of image labels other than a table
OF_FILES = ("other", "threshold", "one_hot", "transparent", "resize_masks")  # keys of masks that are files
OF_MASKS = ("layout", "masks", "mask_suffix", "values", "colors", "ignore", *OF_FILES, "pages")
DRAWN = ("coco", "labelme", "parts", "via", "yolo")
OF_LAYOUTS = {  # keys that only some of our layouts read; layouts of other packages may read any
    "annotations": ("table", "coco", "labelme", "via", "yolo"),
    "columns": ("table",),
    "names": tuple(layout for layout in DRAWN if layout != "yolo"),
    "background": DRAWN,
    "overlap": DRAWN,
    "invert": ("parts",),
    "attribute": ("via",),
    "mask_suffix": ("folders",),
    "pages": ("folders", "table"),
    **dict.fromkeys(OF_FILES, ("folders", "table", "voc")),
}
KNOWN_LAYOUTS = ("folders", "table", "coco", "voc", "labelme", "parts", "via", "yolo")


def conflicts_of(spec: DatasetSpec) -> list[str]:
    """One line for every pair of keys that exclude each other."""
    lines = []
    if spec.values and spec.colors:
        lines.append("values and colors exclude each other: masks hold class numbers or colours.")
    ways = [
        name
        for name, given in (
            ("threshold", spec.threshold is not None),
            ("one_hot", spec.one_hot),
            ("colors", spec.colors),
        )
        if given
    ]
    if len(ways) > 1 or (ways and spec.values and "colors" not in ways):
        lines.append(f"{' and '.join([*ways, *(['values'] if spec.values else [])])} exclude each other: keep one.")
    both = [key for key in [*spec.values, *spec.colors] if key in spec.ignore]
    lines += [f"{key} is given a class and listed under ignore; it can be only one of them." for key in both]
    if spec.groups is not None and spec.group_pattern is not None:
        lines.append("groups and group_pattern exclude each other; keep one.")
    given = spec.model_fields_set
    if spec.task == "classification":
        lines += [
            f"{key} is about masks, but task: classification has no masks; remove it."
            for key in OF_MASKS
            if key in given
        ]
        if spec.labels not in LABELS and not spec.labels.lower().endswith(".csv"):
            lines.append(
                f"labels: '{spec.labels}' is not a source of labels; allowed: {', '.join(LABELS)}, or a CSV file with "
                f"columns name and label.{did_you_mean(spec.labels, LABELS)}"
            )
    elif "labels" in given:
        lines.append("labels needs task: classification; with masks the classes of pixels are the labels.")
    return [*lines, *_conflicts_of_layout(spec)]


def _conflicts_of_layout(spec: DatasetSpec) -> list[str]:
    lines = [
        f"{key} is read with layout: {' or '.join(layouts)}, not with layout: {spec.layout}; remove it."
        for key, layouts in OF_LAYOUTS.items()
        if key in spec.model_fields_set and spec.layout not in layouts and spec.layout in KNOWN_LAYOUTS
    ]
    if spec.layout == "folders" and is_template(spec.images) != is_template(spec.masks):
        lines.append("images and masks are both folders, or both templates with the same {fields}.")
    if "{group}" in spec.images and (spec.groups or spec.group_pattern):
        lines.append("images has a {group}, so groups or group_pattern would name groups twice; keep one.")
    return lines


def is_template(text: str) -> bool:
    """Whether `images` or `masks` is a template of paths, not a folder.

    >>> is_template("images"), is_template("{stem}_rgb.jpg"), is_template("**/*.png")
    (False, True, True)
    """
    return "{" in text or "*" in text
