"""Every answer of a question of `init` is a whole dataset.yaml: `check` accepts it, and the masks are read right."""

from __future__ import annotations

import json
import textwrap
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

Make = Callable[[Path], object]
U8 = cases.U8


def answers_of(root: Path) -> tuple[str, list[str]]:
    """The text of a question, and for each answer the whole dataset.yaml; answers that are a step are left out."""
    with pytest.raises(DoubtError) as asked:
        guess_spec(root)
    question, _, rest = str(asked.value).partition("\nThe other lines of dataset.yaml:\n")
    blocks = [textwrap.dedent(block.split("\n", 1)[1]) for block in question.split("\n- ")[1:]]
    others = textwrap.dedent(rest)
    return str(asked.value), [f"{block}\n{others}\n" for block in blocks if not block.startswith("#")]


def accepted(root: Path, text: str) -> Dataset:
    """The data set under a dataset.yaml, which check must accept."""
    (root / "dataset.yaml").write_text(text)
    dataset, report = read_dataset(DataConfig(path=str(root)), cache=root.parent / "cache")
    assert dataset is not None, report.findings
    return dataset


def stripes(rows: int) -> U8:
    """Sixteen squares, numbered from 0, with a border of 0."""
    numbers = np.kron(np.arange(16).reshape(4, 4), np.ones((10, 10)))
    return (numbers * (np.arange(cases.SIDE) % 10 < rows)).astype(np.uint8)


def numbered(labels: U8, number: int) -> U8:
    """A mask of three to eight objects, numbered from 1 in each file."""
    found = np.zeros_like(labels)
    for index in range(3 + number % 6):
        found[2 + 4 * index : 5 + 4 * index, 3:30] = index + 1
    return found


def coloured(_: U8, number: int) -> U8:
    """A mask with a random colour for each object."""
    table = np.random.default_rng(number).integers(1, 255, (16, 3)).astype(np.uint8)
    table[0] = 0
    return table[stripes(8)]


def smooth(labels: U8, _: int) -> Any:
    return (labels + np.roll(labels, 1, 0) + np.roll(labels, 2, 1)) / np.float32(3)


def two_coco_files(root: Path) -> None:
    for name in ("alice", "bob"):
        cases.coco(root, f"{name}.json", "images", count=8)


def via_of_two_attributes(root: Path) -> None:
    content = {}
    for number in range(8):
        cases.put(root / f"{number}.jpg", cases.scene(number)[0])
        shape = {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 5}
        attributes = {"kind": "leaf", "state": ("dry", "wet")[number % 2]}
        regions = [{"shape_attributes": shape, "region_attributes": attributes}]
        content[f"{number}"] = {"filename": f"{number}.jpg", "regions": regions}
    (root / "via.json").write_text(json.dumps(content))


def two_via_files(root: Path) -> None:
    via_of_two_attributes(root)
    text = (root / "via.json").read_text().replace("state", "kind2")
    (root / "second.json").write_text(text)


def clear_images(root: Path) -> Path:
    alpha = np.full((cases.SIDE, cases.SIDE, 1), 255, dtype=np.uint8)
    alpha[:4] = 0
    return cases.pairs(
        root, "images/{n}.png", "masks/{n}.png", pictured=lambda pixels, _: np.concatenate([pixels, alpha], axis=2)
    )


QUESTIONS: dict[str, tuple[Make, int]] = {
    "a value above the names": (
        lambda root: (
            cases.pairs(root, "images/{n}.png", "masks/{n}.png", classes=3, masked=lambda labels, _: labels),
            (root / "classes.txt").write_text("sky\ntree\n"),
        ),
        3,
    ),
    "two observers": (
        lambda root: [cases.pairs(root, "{n}.jpg", f"{{n}}_{who}.png") for who in ("1stHO", "2ndHO")],
        2,
    ),
    "two observers in folders of their names": (
        lambda root: [cases.pairs(root, "raw/im{n}.ppm", f"labels-{who}/im{{n}}.{who}.ppm") for who in ("ah", "vk")],
        2,
    ),
    "indices and colours of the same masks": (
        lambda root: [
            cases.pairs(root, "ds/img/{n}.jpg", "ds/masks_machine/{n}.png", classes=3, masked=lambda m, _: m),
            cases.pairs(
                root, "ds/img/{n}.jpg", "ds/masks_human/{n}.png", classes=3, masked=lambda m, _: cases.PALETTE[m]
            ),
        ],
        2,
    ),
    "several folders": (
        lambda root: [cases.pairs(root / top, f"{top}_i/{{n}}.png", f"{top}_m/{{n}}.png") for top in ("a", "b")],
        2,
    ),
    "lossy masks": (lambda root: cases.pairs(root, "images/{n}.png", "masks/{n}.jpg", quality=75), 1),
    "fractions": (lambda root: cases.pairs(root, "i/{n}.png", "m/{n}.tif", masked=smooth), 1),
    "fractions of 16 bits": (
        lambda root: cases.pairs(root, "i/{n}.png", "m/{n}.npy", masked=lambda m, n: smooth(m, n).astype(np.float16)),
        1,
    ),
    "objects numbered through all files": (
        lambda root: cases.pairs(
            root, "i/{n}.png", "m/{n}.tif", masked=lambda _, n: (stripes(8) + n * 16).astype(np.int32)
        ),
        1,
    ),
    "objects numbered in each file": (
        lambda root: cases.pairs(root, "i/{n}.png", "m/{n}.png", masked=numbered),
        2,
    ),
    "a colour an object": (lambda root: cases.pairs(root, "i/{n}.png", "m/{n}.png", masked=coloured), 1),
    "half size": (
        lambda root: cases.pairs(
            root, "images/{n}.png", "masks/{n}.png", masked=lambda labels, _: labels[::2, ::2] * np.uint8(255)
        ),
        1,
    ),
    "half size of some": (
        lambda root: cases.pairs(
            root, "x/{n}.png", "y/{n}.png", masked=lambda m, n: (m if n % 3 else m[::2, ::2]) * np.uint8(255)
        ),
        1,
    ),
    "few pages of both, one band a page": (
        lambda root: cases.pairs(
            root,
            "images/{n}.tif",
            "masks/{n}.tif",
            classes=3,
            pictured=lambda pixels, _: np.moveaxis(pixels, 2, 0),
            masked=lambda m, _: np.moveaxis(np.eye(3, dtype=np.uint8)[m], 2, 0),
        ),
        2,
    ),
    "few pages of both, pages in several classes": (
        lambda root: cases.pairs(
            root,
            "images/{n}.tif",
            "masks/{n}.tif",
            pictured=lambda pixels, _: np.moveaxis(pixels, 2, 0),
            masked=lambda m, _: np.stack([m, m, m]),
        ),
        1,
    ),
    "images that are clear in places": (clear_images, 2),
    "two COCO files": (two_coco_files, 2),
    "a region with two attributes": (via_of_two_attributes, 2),
}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_every_answer_of_a_question_is_accepted(tmp_path: Path, kind: str) -> None:
    make, n_answers = QUESTIONS[kind]
    make(tmp_path / "set")
    _, answers = answers_of(tmp_path / "set")
    assert len(answers) == n_answers
    for answer in answers:
        dataset = accepted(tmp_path / "set", answer)
        assert len(dataset.items) in (8, 24)  # 24: three pages in each of eight files
        assert len({int(value) for index in range(8) for value in np.unique(dataset.mask(index))}) > 1


def test_the_answer_with_one_observer_reads_the_masks_of_that_observer(tmp_path: Path) -> None:
    root = tmp_path / "set"
    cases.pairs(root, "{n}.jpg", "{n}_A.png")
    cases.pairs(root, "{n}.jpg", "{n}_B.png", masked=lambda labels, _: labels[::-1] * np.uint8(255))
    _, answers = answers_of(root)
    first, second = (accepted(root, answer) for answer in answers)
    for number in range(8):
        labels = cases.scene(number)[1]
        np.testing.assert_array_equal(first.mask(number), labels)
        np.testing.assert_array_equal(second.mask(number), labels[::-1])


def test_the_answer_that_numbers_are_objects_reads_one_class(tmp_path: Path) -> None:
    cases.pairs(tmp_path / "set", "i/{n}.png", "m/{n}.png", masked=numbered)
    _, answers = answers_of(tmp_path / "set")
    dataset = accepted(tmp_path / "set", answers[0])
    assert dataset.classes == ("background", "object")
    np.testing.assert_array_equal(dataset.mask(3), numbered(cases.scene(3)[1], 3) > 0)


def test_the_answer_that_pages_are_classes_reads_them_in_order(tmp_path: Path) -> None:
    make, _ = QUESTIONS["few pages of both, one band a page"]
    make(tmp_path / "set")
    _, answers = answers_of(tmp_path / "set")
    dataset = accepted(tmp_path / "set", answers[1])
    np.testing.assert_array_equal(dataset.mask(5), cases.scene(5, 3)[1])


def test_files_of_two_via_exports_are_asked_about_as_via(tmp_path: Path) -> None:
    two_via_files(tmp_path / "set")
    text, _ = answers_of(tmp_path / "set")
    assert "layout: via" in text
    assert "layout: coco" not in text


STEPS: dict[str, tuple[Make, str]] = {
    "three grey values in JPEG": (
        lambda root: cases.pairs(
            root, "i/{n}.png", "m/{n}.jpg", classes=3, masked=lambda m, _: m * np.uint8(127), quality=80
        ),
        "8 of 8 masks are JPEG, which blurs values",
    ),
    "colours in JPEG": (
        lambda root: cases.pairs(
            root, "images/{n}.png", "masks/{n}.jpg", classes=3, masked=lambda m, _: cases.PALETTE[m], quality=80
        ),
        "8 of 8 masks are JPEG, which blurs colours",
    ),
    "bands without the background": (
        lambda root: cases.pairs(
            root, "i/{n}.png", "m/{n}.npy", classes=4, masked=lambda m, _: np.eye(4, dtype=np.uint8)[m][..., 1:]
        ),
        "% of the pixels are in none of them or in several",
    ),
    "pages that overlap": (
        lambda root: cases.pairs(
            root, "i/{n}.png", "m/{n}.tif", masked=lambda m, _: np.stack([m, np.roll(m, 5, 0)]) * np.uint8(255)
        ),
        "% of the pixels are in none of them or in several",
    ),
}


@pytest.mark.parametrize("kind", STEPS)
def test_what_no_line_mends_gets_a_step_and_no_lines(tmp_path: Path, kind: str) -> None:
    make, said = STEPS[kind]
    make(tmp_path / "set")
    text, answers = answers_of(tmp_path / "set")
    assert said in text
    assert answers == []


def test_check_does_not_send_back_to_an_init_that_refuses(tmp_path: Path, segdecay: Command) -> None:
    """With a dataset.yaml that names no classes, check says which key is missing, and no longer names init."""
    root = tmp_path / "set"
    for who in ("1stHO", "2ndHO"):
        cases.pairs(root, "{n}.jpg", f"{{n}}_{who}.png")
    (root / "dataset.yaml").write_text("images: '{stem}.jpg'\nmasks: '{stem}_1stHO.png'\n")
    said = " ".join(segdecay("check", root, code=2).err.split())
    assert "add classes: to dataset.yaml" in said
    assert "segdecay init" not in said
    (root / "dataset.yaml").unlink()
    assert yaml.safe_load(answers_of(root)[1][0])["values"] == {0: "background", 255: "foreground"}


def test_a_dataset_yaml_of_yolo_is_named_and_its_new_name_is_read(tmp_path: Path, segdecay: Command) -> None:
    root = tmp_path / "set"
    places = [(f"images/{part}", f"labels/{part}", count) for part, count in (("train", 5), ("val", 2))]
    cases.text_outlines(root, iter(places), "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n")
    (root / "data.yaml").rename(root / "dataset.yaml")
    said = " ".join(segdecay("check", root, code=2).err.split())
    assert "Rename it to data.yaml" in said
    (root / "dataset.yaml").rename(root / "data.yaml")
    segdecay("init", root, "--write")
    assert "images: train 5, val 2" in segdecay("check", root).out


def test_nothing_is_wrong_is_said_only_without_warnings(tmp_path: Path, segdecay: Command) -> None:
    clean = cases.pairs(tmp_path / "clean", "images/{n}.png", "masks/{n}.png")
    aside = cases.pairs(tmp_path / "aside", "images/{n}.png", "masks/{n}.png")
    cases.put(aside / "more" / "x.png", cases.scene(99)[0])
    for root in (clean, aside):
        segdecay("init", root, "--write")
    assert "nothing is wrong." in segdecay("check", clean).out
    said = segdecay("check", aside).out
    assert "nothing is wrong" not in said
    assert "no fault; 1 warning above to look at." in said
