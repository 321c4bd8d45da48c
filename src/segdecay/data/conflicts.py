"""Keys of dataset.yaml that exclude each other, or that say something the layout does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segdecay.errors import did_you_mean

if TYPE_CHECKING:
    from segdecay.data.spec import DatasetSpec

LABELS = ("folders", "cifar10")  # where labels of images come from, beside a table
OF_MASKS = ("layout", "masks", "mask_suffix", "values", "colors", "ignore")
OF_LAYOUTS = {  # keys that only some layouts read; a layout of somebody else reads what it likes
    "annotations": ("table", "coco", "labelme"),
    "columns": ("table",),
    "names": ("coco", "labelme", "parts"),
    "background": ("coco", "labelme", "parts"),
    "overlap": ("coco", "labelme", "parts"),
    "invert": ("parts",),
    "mask_suffix": ("folders",),
}
KNOWN_LAYOUTS = ("folders", "table", "coco", "voc", "labelme", "parts")


def conflicts_of(spec: DatasetSpec) -> list[str]:
    """One line for every two keys that exclude each other."""
    lines = []
    if spec.values and spec.colors:
        lines.append("values and colors exclude each other: masks hold class numbers or colours.")
    both = [key for key in [*spec.values, *spec.colors] if key in spec.ignore]
    lines += [f"{key} is given a class and listed under ignore; it can be only one of them." for key in both]
    if spec.groups is not None and spec.group_pattern is not None:
        lines.append("groups and group_pattern exclude each other; keep one.")
    given = spec.model_fields_set
    if spec.task == "classification":
        lines += [
            f"{key} speaks of masks, and task: classification has none; remove it." for key in OF_MASKS if key in given
        ]
        if spec.labels not in LABELS and not spec.labels.lower().endswith(".csv"):
            lines.append(
                f"labels: '{spec.labels}' is no place of labels; allowed: {', '.join(LABELS)}, or a CSV file with "
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
        lines.append("images has a {group}, so groups and group_pattern say it twice; keep one.")
    return lines


def is_template(text: str) -> bool:
    """Whether `images` or `masks` is a template of paths, not a folder.

    >>> is_template("images"), is_template("{stem}_rgb.jpg"), is_template("**/*.png")
    (False, True, True)
    """
    return "{" in text or "*" in text
