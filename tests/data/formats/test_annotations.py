"""COCO, labelme, VOC and masks in parts: what is drawn, and what each mistake is answered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import source_zoo as zoo
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle

from segdecay.data.dataset import IGNORE
from segdecay.data.formats.coco import fill_segmentation
from segdecay.data.formats.labelme import fill_shape
from segdecay.data.formats.via import fill_region
from segdecay.data.formats.yolo import fill_outline
from segdecay.data.images.rasterize import ShapeError, fill_polygon, fill_runs, parse_runs
from segdecay.errors import ConfigError, DataError

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 1))
Edit = Callable[[dict[str, Any]], object]


@given(MASKS)
def test_run_lengths_of_both_kinds_give_the_mask_back(mask: npt.NDArray[np.uint8]) -> None:
    size = (mask.shape[0], mask.shape[1])
    text = oracle.encode(np.asfortranarray(mask))["counts"].decode()
    np.testing.assert_array_equal(fill_runs(parse_runs(text), size), mask)
    np.testing.assert_array_equal(fill_runs(zoo.runs(mask), size), mask)


CORNERS = st.lists(st.tuples(st.integers(-3, 33), st.integers(-3, 27)), min_size=3, max_size=8)


@given(st.integers(0, 14), st.integers(0, 14), st.integers(1, 15), st.integers(1, 15))
def test_a_box_of_whole_pixels_is_that_of_pycocotools(x: int, y: int, w: int, h: int) -> None:
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    expected = oracle.decode(oracle.merge(oracle.frPyObjects(polygon, 30, 30)))
    np.testing.assert_array_equal(fill_segmentation(polygon, (30, 30)), expected)


@given(CORNERS, st.floats(-0.5, 0.5))
def test_a_polygon_of_every_layout_is_that_of_pycocotools(corners: list[tuple[int, int]], shift: float) -> None:
    points = [(x + shift, y + shift) for x, y in corners]
    flat = [side for point in points for side in point]
    expected = oracle.decode(oracle.merge(oracle.frPyObjects([flat], 24, 30)))
    shares = [side / (30, 24)[place % 2] for place, side in enumerate(flat)]
    xs, ys = zip(*points, strict=True)
    for found in (
        fill_segmentation([flat], (24, 30)),
        fill_shape({"points": [list(point) for point in points]}, (24, 30)),
        fill_region({"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}, (24, 30)),
    ):
        np.testing.assert_array_equal(found, expected)
    if min(shares) >= 0 and max(shares) <= 1:
        apart = fill_outline(shares, (24, 30)) != expected  # shares of the sides are rounded
        assert apart.sum() <= 2


def test_an_outline_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"has an outline of 36,000,010 px; at most 4,194,304 px are drawn"):
        fill_segmentation([[-9e6, 0, 9e6, 0, 9e6, 5, -9e6, 5]], (24, 30))
    with pytest.raises(ShapeError, match="reaches beyond 100,000,000 px"):
        fill_polygon(np.array([[5e9, 0], [5e9, 4], [5e9 + 4, 4]]), (24, 30))


@given(st.text(max_size=30))
def test_no_text_of_run_lengths_does_more_than_raise_value_error(text: str) -> None:
    try:
        counts = parse_runs(text)
        fill_runs(counts, (3, 4))
    except ValueError:
        return
    assert counts.sum() == 12


def test_coco_is_drawn_large_first_or_as_listed(tmp_path: Path) -> None:
    expected = np.zeros(zoo.SIZE, dtype=np.uint8)
    expected[1:6, 1:8] = 1
    road_only = expected.copy()
    expected[2:4, 3:5] = 2
    root = zoo.coco(tmp_path / "set", edit=lambda values: values["annotations"].reverse())
    np.testing.assert_array_equal(zoo.dataset(root).mask(0), expected)
    zoo.coco(root, edit=lambda values: values["annotations"].reverse(), text="overlap: file order")
    np.testing.assert_array_equal(zoo.dataset(root).mask(0), road_only)


def first(values: dict[str, Any], **more: object) -> None:
    values["annotations"][0].update(more)


def test_a_crowd_is_ignored_below_all_objects(tmp_path: Path) -> None:
    mask = zoo.dataset(zoo.coco(tmp_path / "set", edit=lambda values: first(values, iscrowd=1))).mask(0)
    assert (mask == IGNORE).sum() == 5 * 7 - 4
    assert (mask[2:4, 3:5] == 2).all()
    root = zoo.coco(tmp_path / "other", edit=lambda values: values["annotations"][1].update(iscrowd=1))
    assert (zoo.dataset(root).mask(0) == IGNORE).sum() == 0  # the road lies on the smaller crowd


def test_names_of_categories_are_mapped_merged_and_ignored(tmp_path: Path) -> None:
    root = zoo.coco(tmp_path / "set")
    zoo.spec(
        root,
        "classes: [ground, thing]\nlayout: coco\nannotations: annotations.json\nbackground: ground\n"
        "names: {road: null, car: thing}",
    )
    values, counts = np.unique(zoo.dataset(root).mask(0), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 45, 1: 4, IGNORE: 31}


def test_files_of_parts_give_parts(tmp_path: Path) -> None:
    root = zoo.coco(tmp_path / "set")
    text = (root / "annotations.json").read_text()
    for split in ("train", "val"):
        (root / f"instances_{split}2017.json").write_text(text)
        (root / "images" / f"{split}2017").mkdir()
    for number, path in enumerate(sorted((root / "images").glob("*.jpg"))):
        path.rename(root / "images" / ("train2017", "val2017")[number % 2] / path.name)
    for split, keep in (("train", "_a"), ("val", "_b")):
        values = json.loads(text)
        values["images"] = [row for row in values["images"] if keep in row["file_name"]]
        ids = {row["id"] for row in values["images"]}
        values["annotations"] = [row for row in values["annotations"] if row["image_id"] in ids]
        (root / f"instances_{split}2017.json").write_text(json.dumps(values))
    yaml = 'classes: [background, road, car]\nlayout: coco\nannotations: "instances_{split}2017.json"\n'
    zoo.spec(root, yaml + 'images: "images/{split}2017"')
    assert [(item.name, item.part) for item in zoo.dataset(root).items][:2] == [
        ("images/train2017/p1_a", "train"),
        ("images/train2017/p2_a", "train"),
    ]
    assert {item.part for item in zoo.dataset(root).items} == {"train", "val"}


@pytest.mark.parametrize(
    ("edit", "code", "expected"),
    [
        (lambda v: v["images"][0].update(file_name="no.jpg"), "file_absent", "names images/no.jpg, which is not there"),
        (lambda v: v["images"][0].update(file_name="../../x.jpg"), "path_outside", "which is no path inside it"),
        (lambda v: v["images"].append(v["images"][0]), "image_twice", "names images/p1_a.jpg again"),
        (
            lambda v: v["images"].pop(),
            "annotation_orphaned",
            "has 2 of 12 annotations of images that it does not list (image_id 6; ids of images: 1, 2",
        ),
        (lambda v: v["images"][0].update(width=99), "shape_unusable", "has run lengths of size [8, 10]"),
        (lambda v: v["images"][0].update(width=10**6, height=10**6), "size_unusable", "states 1000000x1000000 pixels"),
        (lambda v: v["categories"][0].update(name="raod"), "category_unknown", "of category 'raod', which is no class"),
        (lambda v: v["categories"].pop(), "category_absent", "has 6 annotations of category 9, which it does not list"),
        (lambda v: v["categories"].append({"id": 7, "name": "x"}), "category_twice", "has category 7 twice, as 'road'"),
        (lambda v: v["categories"].append({"id": 8, "name": "road"}), "category_merged", "under several ids (7, 8)"),
        (lambda v: first(v, segmentation=[]), "shape_empty", "annotation 0 has no polygon and no run lengths"),
        (lambda v: first(v, segmentation=[[1, 2, 3]]), "shape_unusable", "at least three corners x, y"),
        (lambda v: first(v, segmentation=[[1, 2, 3, 4, 5, 1e300]]), "shape_unusable", "not finite, or beyond"),
        (lambda v: first(v, segmentation={"size": [8, 10], "counts": [1]}), "shape_unusable", "add up to 1, the image"),
        (lambda v: first(v, segmentation={"size": [8, 10], "counts": [2**70]}), "shape_unusable", "cannot be read"),
        (
            lambda v: first(v, segmentation={"size": [8, 10], "counts": "\x00"}),
            "shape_unusable",
            "stands for no number",
        ),
        (lambda v: first(v, segmentation=7), "shape_empty", "has no polygon"),
    ],
)
def test_a_fault_of_coco_is_named(tmp_path: Path, edit: Edit, code: str, expected: str) -> None:
    assert expected in zoo.findings(zoo.coco(tmp_path / "set", edit=edit))[code].message


def test_an_unused_category_is_no_fault_and_an_image_without_annotation_is_background(tmp_path: Path) -> None:
    def edit(values: dict[str, Any]) -> None:
        values["categories"].append({"id": 1, "name": "ufo"})
        del values["annotations"][:2]

    root = zoo.coco(tmp_path / "set", edit=edit)
    assert set(zoo.findings(root)) == {"all_background"}
    assert not zoo.dataset(root).mask(0).any()


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("classes: [road, car]\nlayout: coco\nannotations: annotations.json", "Set background: to one of road, car"),
        ("classes: [background, road]\nlayout: coco", "needs annotations: FILE.json"),
        ("classes: [background, road]\nlayout: coco\nannotations: no.json", "no.json does not exist"),
        ("classes: [background, road]\nlayout: coco\nannotations: dataset.yaml", "is no valid JSON"),
        ("classes: [background, road]\nlayout: coco\nannotations: '{split}.json'", "names no file whose split is"),
        ("classes: [background, road]\nlayout: coco\nannotations: list.json", "is no COCO file: images, annotations"),
        ("classes: [background, road]\nlayout: coco\nannotations: deep.json", "is no valid JSON"),
    ],
)
def test_a_coco_layout_that_cannot_be_is_refused(tmp_path: Path, yaml: str, expected: str) -> None:
    root = zoo.coco(tmp_path / "set")
    (root / "list.json").write_text("[]")
    (root / "deep.json").write_text("[" * 100_000)
    with pytest.raises((ConfigError, DataError), match=expected):
        zoo.findings(zoo.spec(root, yaml))


def test_labelme_draws_rectangles_polygons_and_circles(tmp_path: Path) -> None:
    circle = {"label": "road", "points": [[5, 4], [7, 4]], "shape_type": "circle"}
    triangle = {"label": "road", "points": [[0, 0], [10, 0], [0, 8]], "shape_type": "polygon"}
    root = zoo.labelme(tmp_path / "set", shape=circle)
    expected = np.zeros(zoo.SIZE, dtype=np.uint8)
    expected[1:6, 1:8] = 1
    np.testing.assert_array_equal(zoo.dataset(root).mask(1), expected)
    assert zoo.dataset(root).mask(0)[2:6, 3:7].sum() >= 12
    zoo.labelme(root, shape=triangle)
    assert zoo.dataset(root).mask(0)[0].sum() == 9


@pytest.mark.parametrize(
    ("shape", "code", "expected"),
    [
        ({"label": "raod"}, "category_unknown", "p1_a.json shape 2 is of 'raod', which is no class."),
        ({"label": "road", "shape_type": "line", "points": [[1, 1], [2, 2]]}, "shape_type", "covers no pixels"),
        ({"label": "road", "shape_type": "circle", "points": [[1, 1]]}, "shape_unusable", "circle without its two"),
        ({"label": "road", "points": [[1, 1], [2, 2]]}, "shape_unusable", "at least three corners"),
        ({"label": "road", "points": "x"}, "shape_unusable", "at least three corners"),
    ],
)
def test_a_fault_of_labelme_is_named(tmp_path: Path, shape: dict[str, Any], code: str, expected: str) -> None:
    assert expected in zoo.findings(zoo.labelme(tmp_path / "set", shape=shape))[code].message


def test_files_that_are_no_labelme_are_named(tmp_path: Path) -> None:
    root = zoo.labelme(tmp_path / "set")
    (root / "p1_a.json").write_text("{}")
    (root / "p1_b.json").write_text('{"shapes": [], "imagePath": "../b.jpg"}')
    found = zoo.findings(root)
    assert "p1_a.json is no JSON of labelme: it has no list of shapes." in found["labelme_unusable"].message
    assert "p1_b.json names '../b.jpg'" in found["path_outside"].message


def test_objects_in_files_become_one_mask(tmp_path: Path) -> None:
    dataset = zoo.dataset(zoo.instances(tmp_path / "set"))
    for index in range(len(zoo.NAMES)):
        np.testing.assert_array_equal(dataset.mask(index), zoo.labels(index, 3) > 0)


def test_one_file_a_class_and_inverted_masks(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / f"{name}.png", zoo.picture(number))
        for label, word in ((1, "road"), (2, "car")):
            zoo.save(root / f"{name}__{word}.png", np.uint8(255) * (zoo.labels(number, 3) != label))
    yaml = 'classes: [background, road, auto]\nlayout: parts\nimages: "{stem}.png"\nmasks: "{stem}__{class}.png"\n'
    zoo.spec(root, yaml + "names: {car: auto}\ninvert: true")
    np.testing.assert_array_equal(zoo.dataset(root).mask(3), zoo.labels(3, 3))


def test_faults_of_parts_are_named(tmp_path: Path) -> None:
    root = zoo.instances(tmp_path / "set")
    zoo.save(root / "masks" / "p1_a" / "1.png", zoo.labels(0, 2)[:, :5])
    zoo.save(root / "masks" / "p1_b" / "1.png", zoo.picture(0)[..., 0])
    (root / "masks" / "p2_a" / "1.png").write_bytes(b"")
    for number in "12":
        (root / "masks" / "p2_b" / f"{number}.png").unlink()
    zoo.save(root / "masks" / "q" / "1.png", zoo.labels(0))
    found = zoo.findings(root)
    assert "masks/p1_a/1.png is 5x8 (width x height), its image 10x8." in found["size_mismatch"].message
    assert "a mask of one object holds 0 and one other" in found["lossy_mask"].message
    assert "masks/p2_a/1.png is empty" in found["empty_file"].message
    assert found["no_object"].message.startswith("1 image has no mask file (images/p2_b.png): all background.")
    assert found["pairing"].message.startswith("1 mask files have no image (masks/q/1.png).")


def test_parts_need_to_know_their_class(tmp_path: Path) -> None:
    root = zoo.instances(tmp_path / "set")
    zoo.spec(root, (root / "dataset.yaml").read_text().replace("cell]", "cell, vessel]"))
    with pytest.raises(ConfigError, match=r"does not say of which class a file is.*Put {class} into it"):
        zoo.findings(root)


def test_voc_reads_indices_lists_and_void(tmp_path: Path) -> None:
    dataset = zoo.dataset(zoo.voc(tmp_path / "set"))
    assert [item.part for item in dataset.items] == ["train"] * 4 + ["val"] * 2
    mask = dataset.mask(0)
    assert (mask == IGNORE).any()
    np.testing.assert_array_equal(mask[mask != IGNORE], zoo.labels(0, 3)[mask != IGNORE])


def test_faults_of_voc_are_named(tmp_path: Path) -> None:
    root = zoo.voc(tmp_path / "set", text="")
    assert "SegmentationClass/p1_a.png holds 255" in zoo.findings(root)["label_out_of_range"].message
    zoo.spec(root, "classes: [background, road, car]\nlayout: voc\nignore: [255]")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("p3_a\np1_a\nghost\n")
    found = zoo.findings(root)
    assert "train.txt and val.txt both list p1_a." in found["listed_twice"].message
    assert "1 listed name has no mask in SegmentationClass/ (ghost)" in " ".join(
        finding.message for finding in zoo._read(root)[1]
    )
    assert "1 masks are in no list of ImageSets/Segmentation (p3_b)" in found["mask_unlisted"].message
