"""Any data set, never silently wrong: `init` reads it right, or asks one question with the lines for each answer."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout_cases as cases
import numpy as np
import pytest
import yaml
from commands import Command

from segdecay.config.schema import DataConfig
from segdecay.data.dataset import Dataset
from segdecay.data.detect.detect import DoubtError, guess_spec
from segdecay.data.loading import read_dataset
from segdecay.errors import DataError

Make = Callable[[Path], object]
THREE = {"Train": 6, "VALIDATION": 2, "test": 3}
PARTS = {"train": 6, "val": 2, "test": 3}


def read(root: Path) -> tuple[dict[str, Any], Dataset, list[str]]:
    """The guessed keys, the data set that they give, and what check warns of."""
    text = guess_spec(root).spec_yaml
    (root / "dataset.yaml").write_text(text)
    found, report = read_dataset(DataConfig(path=str(root)), cache=root.parent / "cache")
    assert found is not None, report.findings
    warnings = [finding.code for finding in report.of_level("warning") if "duplicate" not in finding.code]
    return yaml.safe_load(text), found, warnings


def counted(dataset: Dataset) -> dict[str, int]:
    return {part: len(dataset.part(part)) for part in ("train", "val", "test")}


def labels_are_right(dataset: Dataset, classes: int = 2, order: tuple[int, ...] = (0, 1, 2, 3)) -> bool:
    """Whether every mask is that of its scene, whose number ends its name."""
    table = np.array(order, dtype=np.uint8)
    digits = ["".join(char for char in item.name.split("/")[-1] if char.isdigit())[:3] for item in dataset.items]
    return all(
        np.array_equal(dataset.mask(index), table[cases.scene(int(digit), classes)[1]])
        for index, digit in enumerate(digits)
    )


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{part}/Images/{n}.png", "{part}/Masks/{n}.png"),
        ("{part}/Urban/images_png/{n}.png", "{part}/Urban/masks_png/{n}.png"),
        ("{part}/{n}.jpg", "{part}_labels/{n}_L.png"),
        ("{part}_img/{n}.jpg", "{part}_gt/{n}.png"),
        ("{part}/{n}.jpg", "{part}/{n}_mask.png"),
        ("x/{part}/{n}.jpg", "y/{part}/{n}.png"),
        ("data/Photos/{part}/p_{n}.png", "data/Etiketten/{part}/e_{n}.png"),
        ("{part}_set/photo/{n}.jpg", "{part}_set/anno/{n}.png"),
        ("{part}Set/im/{n}.png", "{part}Set/gt/{n}.png"),
        ("{part}_Images/{n}.jpg", "{part}_Labels/{n}.png"),
    ],
)
def test_parts_are_found_in_any_case_and_place(tmp_path: Path, image: str, mask: str) -> None:
    _, dataset, warnings = read(cases.pairs(tmp_path / "set", image, mask, parts=THREE))
    assert counted(dataset) == {"train": 6, "val": 2, "test": 3}
    assert labels_are_right(dataset)
    assert warnings == []


def test_glued_names_of_parts_are_known(tmp_path: Path) -> None:
    _, dataset, _ = read(cases.pairs(tmp_path / "set", "{part}/{n}.png", "{part}annot/{n}.png", parts=PARTS))
    assert counted(dataset) == PARTS


def test_numbered_folders_of_parts_are_known(tmp_path: Path) -> None:
    words = {"01_train": 6, "02_val": 2, "03_test": 3}
    _, dataset, warnings = read(cases.pairs(tmp_path / "set", "{part}/x/{n}.jpg", "{part}/y/{n}.png", parts=words))
    assert counted(dataset) == {"train": 6, "val": 2, "test": 3}
    assert labels_are_right(dataset)
    assert warnings == []


def test_a_part_without_masks_is_said_once_with_its_number(tmp_path: Path) -> None:
    """As in LoveDA: the masks of the test part are held back by its organisers."""
    root = cases.pairs(
        tmp_path / "set", "{part}/Rural/images_png/{n}.png", "{part}/Rural/masks_png/{n}.png", parts=PARTS
    )
    for path in (root / "test" / "Rural" / "masks_png").iterdir():
        path.unlink()
    for number in range(60, 64):
        cases.put(root / "test" / "Rural" / "images_png" / f"{number:03}.png", cases.scene(number)[0])
    _, dataset, warnings = read(root)
    assert counted(dataset) == {"train": 6, "val": 2, "test": 0}
    assert warnings == ["part_without_masks"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{n}.jpg", "masks/{n}.jpg.png"),
        ("img_{n}.png", "mask_{n}.png"),
        ("archive/My Data (1)/images/{n}.png", "archive/My Data (1)/masks/{n}.png"),
        ("Training_Images/{n}.jpg", "Ground_Truth/{n}.png"),
        ("orto/{n}.png", "maschere/{n}.png"),
        ("images/{n}_image.png", "masks/{n}_mask.png"),
        ("{n}.jpg", "{n}_1stHO.png"),
        ("train/{n}.jpg", "train_masks/{n}_mask.gif"),
        ("a b/{n}.webp", "a b/{n}.bmp"),
        ("imagesTr/th_{n}_0000.png", "labelsTr/th_{n}.png"),
        ("S2/Spain_{n}_S2Hand.png", "Labels/Spain_{n}_LabelHand.png"),
        ("deep/er/still/rgb/{n}.png", "deep/er/still/seg/{n}.png"),
    ],
)
def test_equal_names_are_pairs_and_content_tells_the_masks(tmp_path: Path, image: str, mask: str) -> None:
    values, dataset, warnings = read(cases.pairs(tmp_path / "set", image, mask))
    assert "task" not in values
    assert len(dataset.items) == 8
    assert labels_are_right(dataset)
    assert warnings == []


def test_composed_and_decomposed_names_pair(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "grün.{n}.view") for form in ("NFD", "NFC")]
    _, dataset, _ = read(cases.pairs(tmp_path / "set", f"images/{names[0]}.jpg", f"masks/{names[1]}.png"))
    assert len(dataset.items) == 8


def test_a_field_of_view_is_no_mask_and_is_left_aside_with_its_number(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "{part}/images/{n}_{part}.png", "{part}/manual/{n}_manual1.gif", parts=PARTS)
    for part in PARTS:
        for path in (root / part / "images").iterdir():
            cases.put(root / part / "mask" / f"{path.stem}_mask.gif", np.full((cases.SIDE, cases.SIDE), 255, np.uint8))
    _, dataset, warnings = read(root)
    assert counted(dataset) == PARTS
    assert warnings == ["left_aside"]


def test_a_field_of_view_beside_one_observer_is_left_aside(tmp_path: Path) -> None:
    """As in HRF: images/01_h.JPG, manual1/01_h.tif, mask/01_h_mask.tif."""
    root = cases.pairs(tmp_path / "set", "images/{n}_h.JPG", "manual1/{n}_h.tif")
    rows, columns = np.mgrid[: cases.SIDE, : cases.SIDE] - cases.SIDE // 2
    view = np.where(rows**2 + columns**2 < 350, 255, 0).astype(np.uint8)
    for number in range(8):
        cases.put(root / "mask" / f"{number:03}_h_mask.tif", view)
    values, dataset, warnings = read(root)
    assert values["masks"] == "manual1"
    assert labels_are_right(dataset)
    assert warnings == ["left_aside"]


def test_pictures_drawn_from_image_and_mask_are_left_aside(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.jpg", "masks/{n}.png")
    for number in range(8):
        pixels, labels = cases.scene(number)
        cases.put(root / "overlays" / f"{number:03}.jpg", (pixels // 2 + 100 * labels[..., None]).astype(np.uint8))
    _, dataset, warnings = read(root)
    assert labels_are_right(dataset)
    assert warnings == ["left_aside"]


@pytest.mark.parametrize(
    ("make", "question", "lines"),
    [
        (
            lambda root: [cases.pairs(root, "{n}.jpg", f"{{n}}_{who}.png") for who in ("1stHO", "2ndHO")],
            "has 2 masks",
            "masks: '{stem}_2ndHO.png'",
        ),
        (
            lambda root: [cases.pairs(root / top, f"{top}_i/{{n}}.png", f"{top}_m/{{n}}.png") for top in ("a", "b")],
            "Several folders would do",
            "images: b/b_i/{stem}.png",
        ),
        (
            lambda root: cases.pairs(root, "one/{n}.png", "two/{n}.png", masked=lambda _, n: cases.scene(n + 50)[0]),
            "nothing tells which of them are masks",
            "task: classification",
        ),
        (
            lambda root: cases.pairs(root, "images/{n}.png", "masks/{n}.jpg", quality=75),
            "saved with loss",
            "threshold: 128",
        ),
        (
            lambda root: cases.pairs(
                root,
                "i/{n}.png",
                "m/{n}.tif",
                masked=lambda m, _: (m + np.roll(m, 1, 0) + np.roll(m, 2, 0)) / np.float32(3),
            ),
            "hold fractions",
            "threshold: 0.5",
        ),
        (
            lambda root: cases.pairs(
                root,
                "i/{n}.png",
                "m/{n}.png",
                masked=lambda _, n: (np.kron(np.arange(16).reshape(4, 4), np.ones((10, 10))) + n * 16).astype(
                    np.uint16
                ),
            ),
            "do they number objects",
            "other: object",
        ),
        (
            lambda root: cases.pairs(root, "i/{n}.png", "m/{n}.png", masked=lambda m, _: m[::2, ::2] * np.uint8(255)),
            "another size than their image",
            "resize_masks: true",
        ),
        (
            lambda root: cases.pairs(
                root,
                "images/{n}.tif",
                "masks/{n}.tif",
                pictured=lambda p, _: np.moveaxis(p, 2, 0),
                masked=lambda m, _: np.stack([m, m, m]),
            ),
            "What are the pages of a mask",
            "pages: frames",
        ),
    ],
)
def test_what_may_be_read_in_several_ways_is_asked(tmp_path: Path, make: Make, question: str, lines: str) -> None:
    make(tmp_path / "set")
    with pytest.raises(DoubtError) as asked:
        guess_spec(tmp_path / "set")
    assert question in str(asked.value)
    assert lines in str(asked.value)


@pytest.mark.parametrize(
    ("masked", "suffix", "expected"),
    [
        (lambda m, _: np.eye(3, dtype=np.float32)[m], ".npy", {"one_hot": True}),
        (lambda m, _: np.moveaxis(np.eye(3, dtype=np.uint8)[m], 2, 0), ".npy", {"one_hot": True}),
        (
            lambda m, _: np.where(np.arange(cases.SIDE) < 5, -1, m.astype(np.int16)).astype(np.int16),
            ".tif",
            {"ignore": [-1]},
        ),
        (lambda m, _: np.where(np.arange(cases.SIDE) < 5, -100, m.astype(np.int32)), ".npy", {"ignore": [-100]}),
        (lambda m, _: np.where(np.arange(cases.SIDE) < 5, np.nan, m).astype(np.float32), ".tif", {}),
        (lambda m, _: np.where(np.arange(cases.SIDE) < 5, -9999, m.astype(np.float32)), ".tif", {"ignore": [-9999]}),
        (
            lambda m, _: np.where(np.arange(cases.SIDE) < 5, -32768, m.astype(np.int16)).astype(np.int16),
            ".tif",
            {"ignore": [-32768]},
        ),
        (
            lambda m, _: np.select(
                [np.arange(cases.SIDE) < 3, np.arange(cases.SIDE) > 37], [-1, 255], m.astype(np.int16)
            ),
            ".npy",
            {"ignore": [-1, 255]},
        ),
        (lambda m, _: np.eye(3, dtype=np.bool_)[m], ".npy", {"one_hot": True}),
        (lambda m, _: np.eye(3, dtype=np.uint8)[m] * np.uint8(255), ".npy", {"one_hot": True}),
        (lambda m, _: np.moveaxis(np.eye(3, dtype=np.uint8)[m], 2, 0), ".tif", {"one_hot": True}),
        (lambda m, _: m[..., None], ".npy", {"classes": ["background", "class 1", "class 2"]}),
        (lambda m, _: m.astype(np.float32), ".tif", {"classes": ["background", "class 1", "class 2"]}),
        (lambda m, _: np.repeat(m[..., None], 3, axis=2), ".png", {"classes": ["background", "class 1", "class 2"]}),
        (lambda m, _: m.astype(np.uint16), ".png", {"classes": ["background", "class 1", "class 2"]}),
    ],
)
def test_values_are_recognised_by_content(tmp_path: Path, masked: Any, suffix: str, expected: dict[str, Any]) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", f"masks/{{n}}{suffix}", classes=3, masked=masked)
    values, dataset, _ = read(root)
    assert {key: values.get(key) for key in expected} == expected
    seen = dataset.mask(0)
    inside = seen != 255
    np.testing.assert_array_equal(seen[inside], cases.scene(0, 3)[1][inside])
    assert inside.mean() > 0.8
    assert len(dataset.classes) == 3


@pytest.mark.parametrize("n_classes", [2, 4])
def test_one_hot_arrays_of_any_number_of_bands_are_read_in_their_order(tmp_path: Path, n_classes: int) -> None:
    root = cases.pairs(
        tmp_path / "set",
        "images/{n}.png",
        "masks/{n}.npy",
        classes=n_classes,
        masked=lambda m, _: np.eye(n_classes, dtype=np.float32)[m],
    )
    values, dataset, _ = read(root)
    assert values["one_hot"] is True
    assert labels_are_right(dataset, n_classes)


def test_scores_of_a_network_are_read_by_the_largest_band(tmp_path: Path) -> None:
    def scores(labels: cases.U8, number: int) -> Any:
        raised = np.exp(3 * np.eye(3)[labels] + np.random.default_rng(number).random((cases.SIDE, cases.SIDE, 3)))
        return (raised / raised.sum(axis=2, keepdims=True)).astype(np.float32)

    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.npy", classes=3, masked=scores)
    _, dataset, _ = read(root)
    assert labels_are_right(dataset, 3)


def test_values_that_run_from_one_are_not_said_to_have_gaps(tmp_path: Path) -> None:
    """As the trimaps of the Oxford pets: 1, 2 and 3."""
    root = cases.pairs(
        tmp_path / "set",
        "images/{n}.jpg",
        "annotations/trimaps/{n}.png",
        classes=3,
        masked=lambda m, _: m + np.uint8(1),
    )
    values, dataset, _ = read(root)
    assert values["values"] == {1: "class 1", 2: "class 2", 3: "class 3"}
    assert "masks hold the values 1–3" in (root / "dataset.yaml").read_text()
    assert labels_are_right(dataset, 3)


def test_shares_of_colours_count_clear_pixels(tmp_path: Path) -> None:
    """Half of the pixels are clear, a quarter red and a quarter green."""

    def quarters(labels: cases.U8, _: int) -> cases.U8:
        pixels = np.zeros((*labels.shape, 4), dtype=np.uint8)
        pixels[:20, :20], pixels[:20, 20:] = (255, 0, 0, 255), (0, 255, 0, 255)
        return pixels

    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", masked=quarters)
    said = " ".join(guess_spec(root).explanations)
    assert "50.0 % of the pixels are clear" in said
    assert "#00ff00 25.0 %, #ff0000 25.0 %" in said


def test_clear_pixels_of_colour_masks_are_background(tmp_path: Path) -> None:
    table = np.concatenate([cases.PALETTE, np.array([[0], [255], [255], [255]], dtype=np.uint8)], axis=1)
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", classes=3, masked=lambda m, _: table[m])
    values, dataset, _ = read(root)
    assert values["transparent"] == "background"
    np.testing.assert_array_equal(dataset.mask(1) != 0, cases.scene(1, 3)[1] != 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:10,200,30::\nground:0,0,0::\ntree:200,40,180::\n"),
        ("class_dict.csv", "name,r,g,b\nground,0,0,0\nsky,10,200,30\ntree,200,40,180\n"),
        ("class_dict_seg.csv", "name, r, g, b\nground, 0, 0, 0\nsky, 10, 200, 30\ntree, 200, 40, 180\n"),
        ("classes.csv", "idx;name;r;g;b\n0;ground;0;0;0\n1;sky;10;200;30\n2;tree;200;40;180\n"),
        ("classes.txt", "ground 0 0 0\nsky 10 200 30\ntree 200 40 180\n"),
        ("label_colors.txt", "0 0 0\tground\n10 200 30\tsky\n200 40 180\ttree\n"),
        ("classes.json", json.dumps({"ground": [0, 0, 0], "sky": [10, 200, 30], "tree": [200, 40, 180]})),
        (
            "classes.json",
            json.dumps(
                [{"name": n, "color": c} for n, c in (("ground", "#000000"), ("sky", "#0ac81e"), ("tree", "#c828b4"))]
            ),
        ),
    ],
)
def test_names_and_colours_beside_the_masks_are_used(tmp_path: Path, name: str, text: str) -> None:
    root = cases.pairs(
        tmp_path / "set", "images/{n}.png", "masks/{n}.png", classes=3, masked=lambda m, _: cases.PALETTE[m]
    )
    (root / name).write_text(text)
    values, dataset, _ = read(root)
    assert values["colors"] == {"#000000": "ground", "#0ac81e": "sky", "#c828b4": "tree"}
    order = tuple(dataset.classes.index(one) for one in ("ground", "sky", "tree"))
    assert labels_are_right(dataset, 3, order)
    assert name in (root / "dataset.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", json.dumps({"labels": {"ground": 0, "sky": 1, "tree": 2}})),
        ("_classes.csv", "Pixel Value, Class\n0, ground\n1, sky\n2, tree\n"),
        ("data.yaml", "names: [ground, sky, tree]\nnc: 3\n"),
        ("obj.names", "ground\nsky\ntree\n"),
        ("labels.csv", "id,name\n0,ground\n1,sky\n2,tree\n"),
        ("labels.csv", "id\tname\n0\tground\n1\tsky\n2\ttree\n"),
        ("masks/classes.txt", "0: ground\n1: sky\n2: tree\n"),
    ],
)
def test_names_of_values_beside_the_masks_are_used(tmp_path: Path, name: str, text: str) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", classes=3, masked=lambda m, _: m)
    (root / name).write_text(text)
    values, _, _ = read(root)
    assert values["classes"] == ["ground", "sky", "tree"]


def test_names_of_values_are_used_where_values_were_saved_as_rgb(tmp_path: Path) -> None:
    root = cases.pairs(
        tmp_path / "set",
        "images/{n}.png",
        "masks/{n}.png",
        classes=3,
        masked=lambda m, _: np.repeat(m[..., None], 3, 2),
    )
    (root / "classes.txt").write_text("background\nliver\ntumour\n")
    _, dataset, _ = read(root)
    assert dataset.classes == ("background", "liver", "tumour")
    assert labels_are_right(dataset, 3)


def test_parts_and_names_of_colours_are_used_together(tmp_path: Path) -> None:
    """As the CamVid of Kaggle: train/, train_labels/X_L.png, and class_dict.csv."""
    root = cases.pairs(
        tmp_path / "set", "{part}/{n}.png", "{part}_labels/{n}_L.png", classes=3, parts=PARTS,
        masked=lambda m, _: cases.PALETTE[m],
    )  # fmt: skip
    (root / "class_dict.csv").write_text("name,r,g,b\nVoid,0,0,0\nAnimal,10,200,30\nArchway,200,40,180\n")
    _, dataset, _ = read(root)
    assert counted(dataset) == PARTS
    assert dataset.classes == ("Void", "Animal", "Archway")
    assert labels_are_right(dataset, 3)


def test_a_name_that_means_ignored_is_no_class(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", classes=3, masked=lambda m, _: m)
    (root / "classes.txt").write_text("background\nsky\nignore\n")
    values, dataset, warnings = read(root)
    assert (values["classes"], values["ignore"]) == (["background", "sky"], [2])
    assert (dataset.mask(0)[cases.scene(0, 3)[1] == 2] == 255).all()
    assert warnings == []


def roboflow(root: Path) -> None:
    for start, (part, count) in enumerate({"train": 5, "valid": 2, "test": 2}.items()):
        cases.coco(root, f"{part}/_annotations.coco.json", part, count=count, start=10 * start)


def json_a_part(root: Path) -> None:
    for start, part in enumerate(("train", "val")):
        cases.coco(root, f"annotations/instances_{part}2017.json", f"{part}2017", count=3, start=10 * start)


def flat_strings(content: Any) -> None:
    for row in content["annotations"]:
        row["segmentation"], row["image_id"] = row["segmentation"][0], str(row["image_id"])


def addresses(content: Any) -> None:
    for row in content["images"]:
        row["file_name"] = f"https://x.example/o/photos%2F{row['file_name']}?token=1"


def via(root: Path) -> None:
    for part, count in (("train", 5), ("val", 2)):
        content = {}
        for number in range(count):
            name = f"{number:03}.jpg"
            cases.put(root / part / name, cases.scene(number)[0])
            shape = {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 5}
            region = {"shape_attributes": shape, "region_attributes": {"kind": "balloon"}}
            content[f"{name}77"] = {"filename": name, "regions": [region]}
        (root / part / "via_region_data.json").write_text(json.dumps(content))


def via_content(**attributes: str) -> dict[str, Any]:
    """One rectangle in each of six images, with these attributes."""
    shape = {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 5}
    region = {"shape_attributes": shape, "region_attributes": attributes}
    return {f"{n:03}.jpg9": {"filename": f"{n:03}.jpg", "regions": [dict(region)]} for n in range(6)}


def via_project(root: Path) -> None:
    """As VIA saves its project, with the regions of its first version in a mapping."""
    content = via_content(kind="balloon")
    for entry in content.values():
        entry["regions"] = {"0": entry["regions"][0]}
    for number in range(6):
        cases.put(root / f"{number:03}.jpg", cases.scene(number)[0])
    (root / "project.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": content}))


def coco_of_2017(root: Path) -> None:
    """As COCO's own folder: keypoints and a list without annotations lie beside the instances."""
    for start, (part, count) in enumerate({"train": 3, "val": 3}.items()):
        for kind in ("instances", "person_keypoints"):
            cases.coco(root, f"annotations/{kind}_{part}2017.json", f"{part}2017", count=count, start=10 * start)
    name = "annotations/image_info_test2017.json"
    cases.coco(root, name, "test2017", count=2, start=50, edit=lambda content: content.update(annotations=[]))
    for number in (50, 51):
        (root / "test2017" / f"{number:03}.jpg").unlink()


def coco_beside_its_parts(root: Path) -> None:
    for start, part in enumerate(("train", "val")):
        cases.coco(root, f"{part}.json", part, count=3, start=10 * start)


def ignored_category(content: Any) -> None:
    content["categories"].append({"id": 30, "name": "__ignore__"})
    for row in content["annotations"][-3:]:
        row["category_id"] = 30


@pytest.mark.parametrize(
    ("make", "classes", "parts"),
    [
        (via_project, ("background", "balloon"), {"train": 6}),
        (coco_of_2017, ("background", "road", "car"), {"train": 3, "val": 3}),
        (coco_beside_its_parts, ("background", "road", "car"), {"train": 3, "val": 3}),
        (
            lambda r: cases.text_outlines(r, iter([("train", "train", 5), ("valid", "valid", 2)]), "names: [cat, dog]"),
            ("background", "cat", "dog"),
            {"train": 5, "val": 2},
        ),
        (json_a_part, ("background", "road", "car"), {"train": 3, "val": 3}),
        (roboflow, ("background", "road", "car"), {"train": 5, "val": 2, "test": 2}),
        (
            lambda r: cases.coco(r, "train.json", "images", count=6, edit=flat_strings),
            ("background", "road", "car"),
            {"train": 6},
        ),
        (
            lambda r: cases.coco(r, "export.json", "photos", count=6, edit=addresses),
            ("background", "road", "car"),
            {"train": 6},
        ),
        (via, ("background", "balloon"), {"train": 5, "val": 2}),
        (
            lambda r: cases.text_outlines(
                r, iter([("train/images", "train/labels", 5), ("Valid/images", "Valid/labels", 2)]), "names: [cat, dog]"
            ),
            ("background", "cat", "dog"),
            {"train": 5, "val": 2},
        ),
        (
            lambda r: cases.text_outlines(
                r, iter([("images/train", "labels/train", 5), ("images/test", "labels/test", 2)]), "names: {0: a, 1: b}"
            ),
            ("background", "a", "b"),
            {"train": 5, "test": 2},
        ),
    ],
)
def test_annotations_of_tools_are_read(
    tmp_path: Path, make: Make, classes: tuple[str, ...], parts: dict[str, int]
) -> None:
    make(tmp_path / "set")
    _, dataset, _ = read(tmp_path / "set")
    assert dataset.classes == classes
    assert {part: count for part, count in counted(dataset).items() if count} == parts
    assert {int(value) for index in range(len(dataset.items)) for value in np.unique(dataset.mask(index))} == set(
        range(len(classes))
    )


def test_pixels_of_a_category_that_means_ignored_are_ignored(tmp_path: Path) -> None:
    cases.coco(tmp_path / "set", "train.json", "images", count=6, edit=ignored_category)
    values, dataset, _ = read(tmp_path / "set")
    assert values["names"] == {"__ignore__": None}
    assert dataset.classes == ("background", "road", "car")
    assert set(np.unique(dataset.mask(5)).tolist()) == {0, 255}
    assert set(np.unique(dataset.mask(4)).tolist()) == {0, 1, 255}


def test_folders_of_parts_with_a_year_are_no_scenes(tmp_path: Path) -> None:
    coco_of_2017(tmp_path / "set")
    _, _, warnings = read(tmp_path / "set")
    assert "no_groups_known" not in warnings


def test_a_mask_file_an_object_is_found_one_folder_deeper(tmp_path: Path) -> None:
    for number in range(4):
        pixels, labels = cases.scene(number, 3)
        cases.put(tmp_path / "set" / "stage1_train" / f"id{number}" / "images" / f"id{number}.png", pixels)
        for index in (1, 2):
            path = tmp_path / "set" / "stage1_train" / f"id{number}" / "masks" / f"n{number}{index}.png"
            cases.put(path, (labels == index) * np.uint8(255))
    values, dataset, _ = read(tmp_path / "set")
    assert values["masks"] == "stage1_train/{stem}/masks/*.png"
    np.testing.assert_array_equal(dataset.mask(2) > 0, cases.scene(2, 3)[1] > 0)


def test_an_export_of_cvat_takes_its_names_and_colours(tmp_path: Path) -> None:
    root = tmp_path / "set"
    cases.pairs(
        root, "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png", classes=3, masked=lambda m, _: cases.PALETTE[m]
    )
    cases.pairs(
        root, "JPEGImages/{n}.jpg", "SegmentationObject/{n}.png", masked=lambda m, n: cases.PALETTE[m * (1 + n % 3)]
    )
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "default.txt").write_text("".join(f"{n:03}\n" for n in range(8)))
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\ncat:10,200,30::\nbackground:0,0,0::\ndog:200,40,180::\n"
    )
    values, dataset, _ = read(root)
    assert values["colors"] == {"#0ac81e": "cat", "#000000": "background", "#c828b4": "dog"}
    assert labels_are_right(dataset, 3, order=(1, 0, 2))


def test_labels_that_mean_ignored_are_ignored(tmp_path: Path) -> None:
    for number in range(4):
        cases.put(tmp_path / "set" / f"{number}.jpg", cases.scene(number)[0])
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[x, 4], [x + 8, 20]]}
            for label, x in (("person", 2), ("__ignore__", 14), ("_background_", 26))
        ]
        content = {"imagePath": f"{number}.jpg", "shapes": shapes}
        (tmp_path / "set" / f"{number}.json").write_text(json.dumps(content))
    values, dataset, _ = read(tmp_path / "set")
    assert values["names"] == {"__ignore__": None, "_background_": "background"}
    assert dataset.classes == ("background", "person")
    assert set(np.unique(dataset.mask(0)).tolist()) == {0, 1, 255}


@pytest.mark.parametrize(
    ("name", "content", "seen"),
    [
        ("ann/a.png.json", {"objects": [], "size": {"height": 4, "width": 4}}, "Supervisely"),
        ("export.json", [{"id": 1, "annotations": [], "data": {"image": "a.png"}}], "Label Studio"),
        ("min.json", [{"image": "/data/a.png", "id": 1, "label": [], "annotator": 1}], "Label Studio"),
        ("via.csv", "filename,file_size,region_shape_attributes,region_attributes\n", "VGG Image Annotator"),
        ("export.ndjson", '{"data_row": {"id": "x"}, "projects": {}}\n', "Labelbox"),
        ("annotations.xml", '<annotations><image id="0" name="a.png"></image></annotations>', "CVAT for images"),
    ],
)
def test_exports_of_other_tools_are_named_with_the_step_that_converts(
    tmp_path: Path, name: str, content: Any, seen: str
) -> None:
    cases.put(tmp_path / "img" / "a.png", cases.scene(0)[0])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=rf"{seen}.*([Ee]xport|Convert).*run init on that folder"):
        guess_spec(tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("a.nii.gz", "NIfTI"), ("b.dcm", "DICOM"), ("c.HEIC", "HEIC")])
def test_formats_that_are_not_read_are_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"holds {kind} \(1 files\), which is not read"):
        guess_spec(tmp_path)


def test_a_format_that_is_not_read_is_named_beside_as_many_masks_that_are(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png")
    for path in list((root / "images").iterdir()):
        path.rename(path.with_suffix(".jp2"))
    with pytest.raises(DataError, match=r"holds JPEG 2000 \(8 files\), which is not read"):
        guess_spec(root)


def test_a_column_of_patients_becomes_the_group(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "Bilder/Auf {n}.JPG", "Masken/Auf {n}.PNG")
    rows = ["image;mask;Patient"] + [f"Bilder\\Auf {n:03}.JPG;Masken\\Auf {n:03}.PNG;p{n // 2}" for n in range(8)]
    (root / "pairs.csv").write_bytes(("\ufeff" + "\r\n".join(rows)).encode())
    values, dataset, _ = read(root)
    assert values["columns"] == {"group": "Patient"}
    assert len({item.group for item in dataset.items}) == 4


def test_grey_images_beside_colour_become_colour(tmp_path: Path) -> None:
    root = cases.pairs(
        tmp_path / "set", "images/{n}.png", "masks/{n}.png", pictured=lambda p, n: p if n else p[..., 0].copy()
    )
    values, dataset, _ = read(root)
    assert values["grey_as_rgb"] is True
    assert dataset.bands == 3


def test_two_stacks_of_frames_are_two_groups_and_folds_are_blocks(tmp_path: Path) -> None:
    for number, name in ((0, "a"), (20, "b")):
        frames = [cases.scene(number + index) for index in range(9)]
        cases.put(tmp_path / "set" / f"{name}_raw.tif", np.stack([pixels[..., 0] for pixels, _ in frames]))
        cases.put(tmp_path / "set" / f"{name}_seg.tif", np.stack([labels * np.uint8(255) for _, labels in frames]))
    values, dataset, _ = read(tmp_path / "set")
    assert (values["pages"], values["folds"], len(dataset.items)) == ("frames", "blocks", 18)
    assert len({item.group for item in dataset.items}) == 2
    assert "# few stacks: " in (tmp_path / "set" / "dataset.yaml").read_text()
    np.testing.assert_array_equal(dataset.mask(12), cases.scene(23)[1])


def test_a_stack_of_frames_is_read_page_by_page(tmp_path: Path) -> None:
    frames = [cases.scene(number) for number in range(9)]
    cases.put(tmp_path / "set" / "train-volume.tif", np.stack([pixels[..., 0] for pixels, _ in frames]))
    cases.put(tmp_path / "set" / "train-labels.tif", np.stack([labels * np.uint8(255) for _, labels in frames]))
    values, dataset, _ = read(tmp_path / "set")
    assert (values["pages"], values["folds"]) == ("frames", "blocks")
    assert len(dataset.items) == 9
    np.testing.assert_array_equal(dataset.mask(4), frames[4][1])
    np.testing.assert_array_equal(dataset.image(4)[..., 0], frames[4][0][..., 0])


def test_init_writes_nothing_that_check_refuses(tmp_path: Path, segdecay: Command) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png")
    (root / "images" / "003.png").write_bytes(b"no picture")
    said = segdecay("init", root, "--write", code=1)
    assert "nothing is written, since check refuses these lines" in said.err
    assert "images/003.png holds no image" in said.err
    assert not (root / "dataset.yaml").exists()


def test_a_doubtful_folder_stops_check_and_tune_with_the_question(tmp_path: Path, segdecay: Command) -> None:
    root = cases.pairs(tmp_path / "set", "i/{n}.png", "m/{n}.jpg", quality=70)
    for command in (("init", root, "--write"), ("check", root), ("tune", root, "--out", tmp_path / "run")):
        said = segdecay(*command, code=1 if command[0] == "init" else 2)
        assert "threshold: 128" in said.err
    assert not (root / "dataset.yaml").exists()
