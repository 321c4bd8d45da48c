"""From a folder nobody prepared to a started `tune` in two commands, for every kind that people bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import source_zoo as zoo
import tuning
import yaml
from commands import Command
from PIL import Image


def unprepared(root: Path) -> Path:
    """The folder as it was before anybody wrote a dataset.yaml."""
    (root / "dataset.yaml").unlink(missing_ok=True)
    return root


def binary_beside_jpegs(root: Path) -> Path:
    return zoo.write(root, "{stem}.jpg", "{stem}.png", values=(0, 255))


def colours(root: Path) -> Path:
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / "images" / f"{name}.jpg", zoo.picture(number))
        zoo.save(root / "masks" / f"{name}.png", table[zoo.labels(number, 3)])
    return root


def palettes(root: Path) -> Path:
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / "images" / f"{name}.png", zoo.picture(number))
        mask = Image.fromarray(zoo.labels(number, 3), "P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (root / "labels").mkdir(exist_ok=True)
        mask.save(root / "labels" / f"{name}.png")
    return root


def table(root: Path) -> Path:
    zoo.write(root, "photos/{stem}.jpg", "targets/x-{stem}.png")
    rows = [f"photos/{name}.jpg,targets/x-{name}.png,{name[:2]},dry" for name in zoo.NAMES]
    (root / "index.csv").write_text("\n".join(["file,label_file,group,weather", *rows]))
    return root


KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, object]]] = {
    "0/255 beside JPEG": (
        binary_beside_jpegs,
        {"images": "{stem}.jpg", "masks": "{stem}.png", "values": {0: "background", 255: "foreground"}},
    ),
    "RGB colours": (
        colours,
        {"colors": {"#000000": "background", "#0000ff": "class 0000ff", "#ff0000": "class ff0000"}},
    ),
    "palette PNG": (palettes, {"masks": "labels", "classes": ["background", "class 1", "class 2"]}),
    "COCO": (
        lambda root: unprepared(zoo.coco(root)),
        {"layout": "coco", "annotations": "annotations.json", "classes": ["background", "road", "car"]},
    ),
    "VOC": (
        lambda root: unprepared(zoo.voc(root)),
        {"layout": "voc", "ignore": [255], "classes": ["background", "class 1", "class 2"]},
    ),
    "a mask an instance": (
        lambda root: unprepared(zoo.instances(root)),
        {"layout": "parts", "images": "images/{stem}.png", "masks": "masks/{stem}/*.png"},
    ),
    "multi-band TIFF": (
        lambda root: unprepared(zoo.tiff(root)),
        {"scale": "percentile", "classes": ["background", "class 1"]},
    ),
    "CSV table": (
        table,
        {"layout": "table", "annotations": "index.csv", "columns": {"image": "file", "mask": "label_file"}},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_init_writes_what_check_accepts(tmp_path: Path, kind: str) -> None:
    make, expected = KINDS[kind]
    text = zoo.guessed(make(tmp_path / "set"))
    values = yaml.safe_load(text)
    assert {key: values.get(key) for key in expected} == expected
    dataset = zoo.dataset(tmp_path / "set")
    assert len(dataset.items) == 6
    assert len({item.group for item in dataset.items}) == 3
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", " ", "-"))]
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) > len(keys)


def cityscapes(root: Path) -> Path:
    values = (7, 11, 26)
    for split in ("train", "val"):
        places = (f"{part}/{split}/{{stem}}" for part in ("leftImg8bit", "gtFine"))
        image, mask = next(places) + "_leftImg8bit.png", next(places) + "_gtFine_labelIds.png"
        names = tuple(f"{city}/{city}_{split}_{number}" for city in ("aachen", "ulm") for number in range(2))
        zoo.write(root, image, mask, values=values, names=names)
    return root


def labelme(root: Path) -> Path:
    return unprepared(zoo.labelme(root))


def folders_of_bowl(root: Path) -> Path:
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / name / "images" / f"{name}.png", zoo.picture(number))
        for label in (1, 2):
            zoo.save(root / name / "masks" / f"{label}.png", np.uint8(255) * (zoo.labels(number, 3) == label))
    return root


def named_by_endings(root: Path) -> Path:
    return zoo.write(root, "Süd 1/{stem}_sat.jpg", "Süd 1/{stem}_mask.png")


@pytest.mark.parametrize(
    ("make", "count", "expected"),
    [
        (cityscapes, 8, "images: leftImg8bit/{split}/{group}/{stem}_leftImg8bit.png"),
        (labelme, 6, "layout: labelme"),
        (folders_of_bowl, 6, "masks: '{stem}/masks/*.png'"),
        (named_by_endings, 6, "masks: Süd 1/{stem}_mask.png"),
    ],
)
def test_further_layouts_are_guessed_and_accepted(
    tmp_path: Path, make: Callable[[Path], Path], count: int, expected: str
) -> None:
    text = zoo.guessed(make(tmp_path / "set"))
    assert expected in text
    assert "cannot be read" not in text
    dataset = zoo.dataset(tmp_path / "set")
    assert len(dataset.items) == count


def test_a_value_that_files_state_as_nodata_is_offered(tmp_path: Path) -> None:
    def poke(values: np.ndarray) -> None:
        values[0, 0] = np.nan

    text = zoo.guessed(unprepared(zoo.tiff(tmp_path / "set", edit=poke)))
    assert "nodata: .nan" in text
    assert "Images have 5 bands, numbered 0–4, and all are used" in text
    assert (zoo.dataset(tmp_path / "set").mask(0)[0, 0]) == 255


def test_a_coco_file_whose_images_are_elsewhere_is_said(tmp_path: Path) -> None:
    root = unprepared(zoo.coco(tmp_path / "set"))
    for path in (root / "images").iterdir():
        path.unlink()
    assert "It cannot be read yet: " in zoo.guessed(root)


@pytest.mark.parametrize("kind", KINDS)
def test_two_commands_start_a_search(tmp_path: Path, kind: str, segdecay: Command) -> None:
    root = KINDS[kind][0](tmp_path / "set")
    segdecay("init", root, "--write")
    options = ("--size", "16x16", "--epochs", "1", "--folds", "2", "--allow-missing")
    tuning.tune(root, tmp_path / "run", [0, 0.5], *options, code=None)  # one epoch seldom learns enough
    assert (tmp_path / "run" / "verdict.json").exists()


def parts_on_top(root: Path) -> Path:
    zoo.write(root / "training", "images/{stem}.png", "masks/{stem}.png", names=zoo.NAMES[:4])
    return zoo.write(root / "valid", "images/{stem}.png", "masks/{stem}.png", names=zoo.NAMES[4:]).parent


def parts_of_other_names(root: Path) -> Path:
    zoo.write(root, "images/training/{stem}.jpg", "annotations/training/{stem}.png", names=zoo.NAMES[:4])
    return zoo.write(root, "images/validation/{stem}.jpg", "annotations/validation/{stem}.png", names=zoo.NAMES[4:])


def sites(root: Path) -> Path:
    zoo.write(root / "north", "rgb/{stem}.png", "gt/{stem}.png", names=zoo.NAMES[:3])
    return zoo.write(root / "south", "rgb/{stem}.png", "gt/{stem}.png", names=zoo.NAMES[3:]).parent


def file_a_class(root: Path) -> Path:
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / "images" / f"{name}.png", zoo.picture(number))
        for label, word in ((1, "road"), (2, "car")):
            zoo.save(root / "masks" / f"{name}_{word}.png", np.uint8(255) * (zoo.labels(number, 3) == label))
    return root


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (parts_on_top, ("images: '{split}/images/{stem}.png'", "masks: '{split}/masks/{stem}.png'")),
        (parts_of_other_names, ("masks: annotations",)),
        (sites, ("images: '{place}/rgb/{stem}.png'", "masks: '{place}/gt/{stem}.png'")),
        (
            lambda root: zoo.write(root, "imagesTr/{stem}_0000.png", "labelsTr/{stem}.png"),
            ("images: imagesTr/{stem}_0000.png", "masks: labelsTr/{stem}.png"),
        ),
        (
            lambda root: zoo.write(root, "data/img/{stem}.jpg", "data/lbl/{stem}_label.png"),
            ("images: data/img/{stem}.jpg", "masks: data/lbl/{stem}_label.png"),
        ),
        (
            lambda root: zoo.write(root, "Süd/Bild {stem} groß.JPG", "Süd/Bild {stem} groß_Maske.PNG"),
            ("images: Süd/{stem}.jpg", "masks: Süd/{stem}_Maske.png"),
        ),
        (file_a_class, ("layout: parts", "masks: masks/{stem}_{class}.png", "- car", "- road")),
    ],
)
def test_folders_side_by_side_and_files_a_class_are_guessed_and_accepted(
    tmp_path: Path, make: Callable[[Path], Path], lines: tuple[str, ...]
) -> None:
    text = zoo.guessed(make(tmp_path / "set"))
    assert [line for line in lines if line in text.splitlines()] == list(lines)
    assert len(zoo.dataset(tmp_path / "set").items) == 6


@pytest.mark.parametrize(
    ("suffix", "text", "seen"),
    [
        (".txt", "0 0.1 0.1 0.5 0.5", "holds boxes of YOLO"),
        (".xml", "<annotation/>", "Its 6 .xml files look like boxes"),
    ],
)
def test_labels_of_a_kind_that_is_not_read_are_named(
    tmp_path: Path, suffix: str, text: str, seen: str, segdecay: Command
) -> None:
    for number, name in enumerate(zoo.NAMES):
        zoo.save(tmp_path / "images" / f"{name}.png", zoo.picture(number))
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}{suffix}").write_text(text)
    assert seen in " ".join(segdecay("init", tmp_path, code=1).err.split())
