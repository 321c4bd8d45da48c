"""COCO annotations give the mask back, as pycocotools reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segdecay.errors import DataError
from segdecay.inference.coco import CocoFile, annotations_of, outline

U8 = np.ndarray[Any, np.dtype[np.uint8]]
MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 2))


def _decoded(annotation: dict[str, Any], height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    shape = annotation["segmentation"]
    runs = shape if isinstance(shape, dict) else coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    return np.asarray(coco_mask.decode(runs), dtype=bool)


def _mask_of(annotations: list[dict[str, Any]], height: int, width: int) -> U8:
    """The mask that annotations draw; every pixel must belong to one."""
    found = np.full((height, width), 255, np.uint8)
    for annotation in annotations:
        part = _decoded(annotation, height, width)
        assert (found[part] == 255).all()
        assert part.sum() == annotation["area"]
        rows, columns = np.nonzero(part)
        left, top, across, down = annotation["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + across, top + down) == (columns.max() + 1, rows.max() + 1)
        found[part] = annotation["category_id"]
    return found


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_annotations_give_every_mask_back(mask: U8) -> None:
    annotations = annotations_of(mask, 3, 1, 1)
    np.testing.assert_array_equal(_mask_of(annotations, *mask.shape), mask)
    assert [row["id"] for row in annotations] == list(range(1, len(annotations) + 1))


def test_parts_without_holes_are_outlines_and_parts_with_holes_run_lengths() -> None:
    mask = np.zeros((9, 12), np.uint8)
    mask[2:6, 2:6] = 1
    mask[3, 3] = 2
    kinds = {
        (row["category_id"], row["area"]): type(row["segmentation"]).__name__ for row in annotations_of(mask, 3, 1, 1)
    }
    assert kinds == {(0, 92): "dict", (1, 15): "dict", (2, 1): "list"}


def test_pixels_that_touch_at_a_corner_are_two_parts() -> None:
    rows = annotations_of(np.array([[1, 0], [0, 1]], np.uint8), 2, 1, 1)
    assert sorted(row["category_id"] for row in rows) == [0, 0, 1, 1]
    assert all(len(row["segmentation"][0]) == 8 for row in rows)


def test_an_outline_has_a_point_only_where_it_turns() -> None:
    part = np.zeros((60, 80), bool)
    part[5:50, 7:70] = True
    assert outline(part) == [(7, 5), (70, 5), (70, 50), (7, 50)]


def test_the_file_is_one_that_pycocotools_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    masks = [random.integers(0, 3, (20, 30)).astype(np.uint8), np.ones((7, 5), np.uint8)]
    file = CocoFile(tmp_path / "coco.json", ("ground", "bright", "dark"))
    for number, mask in enumerate(masks):
        file.add(f"{number}.png", mask)
    file.write()
    coco = COCO(str(tmp_path / "coco.json"))
    assert "index created" in capsys.readouterr().out
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == ["ground", "bright", "dark"]
    for number, mask in enumerate(masks, 1):
        found = np.full(mask.shape, 255, np.uint8)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            found[coco.annToMask(row).astype(bool)] = row["category_id"]
        np.testing.assert_array_equal(found, mask)
    ids = [row["id"] for row in json.loads((tmp_path / "coco.json").read_text())["annotations"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) == 1


def test_a_later_call_adds_to_the_file_and_replaces_what_it_predicts_again(tmp_path: Path) -> None:
    first, second = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    second[1, 1] = 0
    one = CocoFile.read(tmp_path / "coco.json", ("a", "b"))
    one.add("x.png", first)
    one.add("y.png", first)
    one.write()
    two = CocoFile.read(tmp_path / "coco.json", ("a", "b"))
    two.add("x.png", second)
    two.write()
    held = COCO(str(tmp_path / "coco.json"))
    names = {row["file_name"]: row["id"] for row in held.imgs.values()}
    assert sorted(names) == ["x.png", "y.png"]
    assert len(held.getAnnIds(imgIds=names["y.png"])) == 1
    assert len(held.getAnnIds(imgIds=names["x.png"])) == 2
    assert len(held.anns) == 3


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("{}")
    with pytest.raises(DataError, match=r"coco.json is damaged"):
        CocoFile.read(tmp_path / "coco.json", ("a", "b"))
    CocoFile(tmp_path / "coco.json", ("a", "c")).write()
    with pytest.raises(DataError, match=r"holds other annotations"):
        CocoFile.read(tmp_path / "coco.json", ("a", "b"))
