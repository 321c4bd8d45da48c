"""Folders with any naming, and tables: which image has which mask, and what each mistake is answered with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import source_zoo as zoo
from hypothesis import given
from hypothesis import strategies as st

from segdecay.data.formats.folders import compile_template
from segdecay.data.formats.tables import inner_path
from segdecay.errors import ConfigError, DataError

CLASSES = "classes: [background, road]\n"
PIECE = st.text("abß é-1.", min_size=1, max_size=6).filter(lambda text: not text.startswith("."))


def templated(root: Path, images: str, masks: str, image: str, mask: str, more: str = "") -> Path:
    return zoo.spec(zoo.write(root, image, mask), f'{CLASSES}images: "{images}"\nmasks: "{masks}"\n{more}')


@pytest.mark.parametrize(
    ("images", "masks", "image", "mask"),
    [
        ("{stem}.jpg", "{stem}.png", "{stem}.jpg", "{stem}.png"),
        ("{stem}.png", "{stem}_mask.png", "{stem}.png", "{stem}_mask.png"),
        ("{stem}_rgb.jpg", "{stem}_mask.png", "{stem}_rgb.JPG", "{stem}_mask.PNG"),
        ("**/{stem}.jpg", "**/{stem}.png", "a/b c/{stem}.jpg", "a/b c/{stem}.png"),
        ("{site}/rgb/{stem}.jpg", "{site}/gt/{stem}.png", "Straße 1/rgb/{stem}.jpg", "Straße 1/gt/{stem}.png"),
        ("{stem}/image.*", "{stem}/label.*", "{stem}/image.jpg", "{stem}/label.png"),
        ("{a}/{stem}.jpg", "gt/{a}/{a}-{stem}.png", "x/{stem}.jpg", "gt/x/x-{stem}.png"),
    ],
)
def test_templates_pair_files_of_any_naming(tmp_path: Path, images: str, masks: str, image: str, mask: str) -> None:
    dataset = zoo.dataset(templated(tmp_path / "set", images, masks, image, mask))
    assert len(dataset.items) == len(zoo.NAMES)
    for index, item in enumerate(dataset.items):
        number = zoo.NAMES.index(item.name.rsplit("/", 1)[-1])
        np.testing.assert_array_equal(dataset.mask(index), zoo.labels(number))


def test_hidden_files_are_not_seen(tmp_path: Path) -> None:
    root = templated(tmp_path / "set", "{stem}.jpg", "{stem}.png", "{stem}.jpg", "{stem}.png")
    (root / "._p1_a.jpg").write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / ".cache" / "z.jpg").write_bytes(b"x")
    assert zoo.findings(root) == {}


def test_group_and_split_are_read_from_paths(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "test"):
        zoo.write(root, f"{split}/images/{{stem}}.jpg", f"{split}/masks/{{stem}}.png", names=(f"{split}1-a", "q-b"))
    zoo.spec(root, CLASSES + 'images: "{split}/images/{group}-{stem}.jpg"\nmasks: "{split}/masks/{group}-{stem}.png"')
    dataset = zoo.dataset(root)
    assert [(item.name, item.part, item.group) for item in dataset.items] == [
        ("test/q/b", "test", "q"),
        ("test/test1/a", "test", "test1"),
        ("train/q/b", "train", "q"),
        ("train/train1/a", "train", "train1"),
    ]


def test_images_without_masks_are_named_with_both_templates(tmp_path: Path) -> None:
    root = templated(tmp_path / "set", "{stem}_rgb.jpg", "{stem}_m.png", "{stem}_rgb.jpg", "{stem}_m.png")
    (root / "p1_a_m.png").rename(root / "x_m.png")
    assert zoo.findings(root)["pairing"].message == (
        "1 image has no mask (p1_a_rgb.jpg), 1 mask has no image (x_m.png). Paired by images: {stem}_rgb.jpg and "
        "masks: {stem}_m.png. Add what is missing, or remove the rest."
    )


def test_two_files_for_one_place_are_wrong(tmp_path: Path) -> None:
    root = templated(tmp_path / "set", "{stem}_i.*", "{stem}_m.png", "{stem}_i.jpg", "{stem}_m.png")
    zoo.save(root / "p1_a_i.png", zoo.picture(9))
    assert "p1_a_i.jpg stands there twice: p1_a_i.jpg and p1_a_i.png." in zoo.findings(root)["same_stem"].message


def test_a_split_of_another_name_is_wrong(tmp_path: Path) -> None:
    root = templated(tmp_path / "set", "{split}/{stem}.jpg", "{split}/{stem}.png", "a/{stem}.jpg", "a/{stem}.png")
    assert "has split 'a'. Allowed: train, val, test." in zoo.findings(root)["split_unknown"].message


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ("{Stem}.jpg", "{stem}.png", "images: '{Stem}.jpg' is no template. It needs {stem}"),
        ("*.jpg", "{stem}.png", "'\\*.jpg' is no template"),
        ("{a}/{stem}.jpg", "{stem}.png", "images has the fields a, stem, masks stem. Both need the same ones"),
        ("images", "{stem}.png", "are both folders, or both templates"),
        ("{stem}.bmp", "{stem}.tiff", "holds no image named as {stem}.bmp. It holds dataset.yaml, p1_a.jpg"),
    ],
)
def test_a_template_that_cannot_be_is_refused(tmp_path: Path, images: str, masks: str, expected: str) -> None:
    root = templated(tmp_path / "set", images, masks, "{stem}.jpg", "{stem}.png")
    with pytest.raises((ConfigError, DataError), match=expected.replace("{", r"\{")):
        zoo.findings(root)


@given(PIECE, PIECE)
def test_a_template_reads_what_it_would_write(site: str, stem: str) -> None:
    from pathlib import PurePosixPath

    template = compile_template("{site}/x/{stem}_rgb.jpg")
    assert template.read(PurePosixPath(f"{site}/x/{stem}_rgb.JPG")) == {"site": site, "stem": stem}


def tabled(root: Path, rows: list[str], head: str = "image,mask,group", more: str = "") -> Path:
    zoo.write(root, "photos/{stem}.jpg", "labels/{stem}.png")
    (root / "pairs.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    return zoo.spec(root, f"{CLASSES}layout: table\nannotations: pairs.csv\n{more}")


ROWS = [f"photos/{name}.jpg,labels/{name}.png,{name[:2]}" for name in zoo.NAMES]


def test_a_table_pairs_and_places(tmp_path: Path) -> None:
    rows = [f"photos/{name}.jpg;labels/{name}.png;{name[:2]};train;{name[1]}" for name in zoo.NAMES[:4]]
    root = tabled(tmp_path / "set", [*rows, "photos/p3_a.jpg;labels/p3_a.png;p3;test;"], "image;mask;group;split;fold")
    assert [(item.name, item.part, item.group, item.fold) for item in zoo.dataset(root).items] == [
        ("photos/p1_a", "train", "p1", 1),
        ("photos/p1_b", "train", "p1", 1),
        ("photos/p2_a", "train", "p2", 2),
        ("photos/p2_b", "train", "p2", 2),
        ("photos/p3_a", "test", "p3", None),
    ]


def test_columns_of_other_names_are_mapped_and_the_rest_is_a_note(tmp_path: Path) -> None:
    columns = "columns: {image: file, mask: seg}"
    root = tabled(tmp_path / "set", [f"{row},sunny" for row in ROWS], "file,seg,group,weather", columns)
    assert zoo.findings(root)["columns_unread"].message == "pairs.csv has columns that are not read: weather."
    assert len(zoo.dataset(root).items) == 6


def test_a_json_table_is_read_like_a_csv(tmp_path: Path) -> None:
    root = tabled(tmp_path / "set", ROWS)
    before = [(item.name, item.group, item.sha256) for item in zoo.dataset(root).items]
    keys = ("image", "mask", "group")
    table = [dict(zip(keys, row.split(","), strict=True)) for row in ROWS]
    (root / "pairs.json").write_text(json.dumps(table))
    zoo.spec(root, f"{CLASSES}layout: table\nannotations: pairs.json")
    assert [(item.name, item.group, item.sha256) for item in zoo.dataset(root).items] == before


@pytest.mark.parametrize(
    ("row", "code", "expected"),
    [
        ("photos/no.jpg,labels/p1_a.png,x", "file_absent", "line 8 names photos/no.jpg, which is not there."),
        ("../p1_a.jpg,labels/p1_a.png,x", "path_outside", "line 8 names '../p1_a.jpg', which is no path inside it."),
        ("/etc/passwd,labels/p1_a.png,x", "path_outside", "keep them inside"),
        ("photos/p1_a.jpg,labels/p1_a.png,x", "image_twice", "names photos/p1_a.jpg again (pairs.csv line 2)."),
        (",labels/p1_a.png,x", "cell_empty", "line 8 has no image."),
        ("pairs.csv,labels/p1_a.png,x", "type_not_read", "names pairs.csv."),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, row: str, code: str, expected: str) -> None:
    assert expected in zoo.findings(tabled(tmp_path / "set", [*ROWS, row]))[code].message


@pytest.mark.parametrize(
    ("head", "more", "expected"),
    [
        ("image,msk,group", "", "no column 'mask' .mask.; it has image, msk, group. Did you mean 'msk'"),
        ("image,mask,group", "columns: {picture: image}", "columns names 'picture', which is none of image, mask"),
    ],
)
def test_a_table_with_wrong_columns_is_refused(tmp_path: Path, head: str, more: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        zoo.findings(tabled(tmp_path / "set", ROWS, head, more))


@pytest.mark.parametrize(("text", "expected"), [("{", "no valid JSON"), ("{}", "list of objects"), ("[1]", "list of")])
def test_a_json_that_is_no_table_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    root = tabled(tmp_path / "set", ROWS, more="")
    (root / "pairs.json").write_text(text)
    zoo.spec(root, f"{CLASSES}layout: table\nannotations: pairs.json")
    with pytest.raises(DataError, match=expected):
        zoo.findings(root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layout: tabel", "Unknown layout 'tabel'; allowed: folders, table.*Did you mean 'table'"),
        ("columns: {image: a}", "columns is read with layout: table, not with layout: folders; remove it."),
        ("layout: table", "layout: table needs annotations: FILE"),
        ("annotations: ../x.csv\nlayout: table", "must be a path inside the data folder"),
    ],
)
def test_keys_of_layouts_are_checked(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        zoo.findings(zoo.spec(zoo.write(tmp_path / "set", "images/{stem}.jpg", "masks/{stem}.png"), CLASSES + text))


@given(st.text("ab./\\: ", max_size=12))
def test_no_text_leads_out_of_the_folder(text: str) -> None:
    path = inner_path(text, "a/b")
    assert path is None or (not path.is_absolute() and ".." not in path.parts)


def test_files_that_nobody_lists_are_noted_in_every_listing_layout(tmp_path: Path) -> None:
    table = zoo.write(tmp_path / "table", "i/{stem}.jpg", "m/{stem}.png")
    rows = "".join(f"i/{name}.jpg,m/{name}.png\n" for name in zoo.NAMES[:-1])
    (table / "pairs.csv").write_text(f"image,mask\n{rows}")
    zoo.spec(table, "classes: [background, road]\nlayout: table\nannotations: pairs.csv")
    for root, by, file in (
        (table, "pairs.csv", "i/p3_b.jpg"),
        (zoo.coco(tmp_path / "coco"), "annotations.json", "images/spare.jpg"),
        (zoo.labelme(tmp_path / "labelme"), "a JSON", "spare.jpg"),
    ):
        if file.endswith("spare.jpg"):
            assert zoo.findings(root) == {}
            zoo.save(root / file, zoo.picture(9))
            zoo.save((root / file).with_name(".hidden.jpg"), zoo.picture(9))
        finding = zoo.findings(root)["file_unlisted"]
        assert finding.level == "note"
        assert f"beside listed ones, and {by} does not name them ({file}" in finding.message
