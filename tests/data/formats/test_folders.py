"""Folders as a source: layouts, pairing, groups.csv, patterns, and what DATA may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import CheckReport
from segdecay.data.dataset import Dataset
from segdecay.data.formats import build_source
from segdecay.data.formats.pairing import natural_key
from segdecay.data.loading import load_dataset, read_dataset
from segdecay.errors import ConfigError, DataError

HALF = np.repeat(np.array([[0, 1]], dtype=np.uint8), 4, axis=1).repeat(8, axis=0)


def write_pair(root: Path, name: str, seed: int | None = None, image_suffix: str = "png") -> None:
    """One pair, with a picture that depends on its name, or on the seed."""
    number = seed if seed is not None else sum(name.encode()) * 1000 + len(name)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    for kind, suffix, array in (("images", image_suffix, pixels), ("masks", "png", HALF)):
        path = root / kind / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def make(root: Path, *names: str, **files: str) -> Path:
    """A folder with these pairs; keyword arguments are text files, "groups_csv" for groups.csv."""
    for name in names:
        write_pair(root, name)
    (root / "classes.txt").write_text("background\nroad\n")
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    return root


def read(root: Path, **more: object) -> tuple[Dataset | None, CheckReport]:
    config = DataConfig.model_validate({"path": str(root), **more})
    return read_dataset(config, cache=root.parent / "cache")


def load(root: Path) -> Dataset:
    dataset, report = read(root)
    assert dataset is not None, report.findings
    return dataset


def messages(root: Path) -> dict[str, str]:
    return {finding.code: finding.message for finding in read(root)[1].findings}


def test_parts_are_read_from_folders(tmp_path: Path) -> None:
    dataset = load(make(tmp_path / "set", "train/a", "train/b", "val/c", "test/a"))
    assert [(item.name, item.part) for item in dataset.items] == [
        ("test/a", "test"),
        ("train/a", "train"),
        ("train/b", "train"),
        ("val/c", "val"),
    ]
    assert dataset.part("train", "val") == (1, 2, 3)


def test_without_parts_everything_is_training(tmp_path: Path) -> None:
    dataset = load(make(tmp_path / "set", "site1/a", "site1/b", "c"))
    assert {item.part for item in dataset.items} == {"train"}
    assert [item.name for item in dataset.items] == ["c", "site1/a", "site1/b"]


def test_images_beside_the_parts_are_wrong(tmp_path: Path) -> None:
    found = messages(make(tmp_path / "set", "train/a", "train/b", "valid/c", "d"))
    assert "images/d.png lies outside of train, val and test." in found["outside_parts"]
    assert "valid" not in found["outside_parts"]


@pytest.mark.parametrize("place", ["{}", "urban/{}", "urban/day/{}"])
@pytest.mark.parametrize(
    ("word", "part"), [("valid", "val"), ("Validation", "val"), ("DEV", "val"), ("Test", "test"), ("testing", "test")]
)
def test_parts_are_known_by_their_usual_names_in_any_case_and_place(
    tmp_path: Path, place: str, word: str, part: str
) -> None:
    dataset = load(make(tmp_path / "set", f"{place.format('Training')}/a", f"{place.format(word)}/c"))
    assert sorted(item.part for item in dataset.items) == sorted(["train", part])


def test_jpeg_images_pair_with_png_masks(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    write_pair(root, "c", image_suffix="jpeg")
    write_pair(root, "d", image_suffix="JPG")
    assert len(load(root).items) == 4


def test_two_images_of_one_stem_are_wrong(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    write_pair(root, "a", image_suffix="jpg")
    assert "stands there twice: a.jpg and a.png. Remove one of them." in messages(root)["same_stem"]


def test_hidden_files_are_passed_over_and_other_types_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    (root / "images" / ".DS_Store").write_bytes(b"x")
    (root / "images" / "Thumbs.db").write_bytes(b"x")
    (root / "images" / "z.jp2").write_bytes(b"x")
    assert messages(root) == {
        "type_not_read": "1 files are of a type that is not read (JPEG 2000: images/z.jp2). "
        "Save them as PNG or remove them."
    }


def test_only_test_images_leave_nothing_to_train_on(tmp_path: Path) -> None:
    assert "nothing is left to train on" in messages(make(tmp_path / "set", "test/a", "test/b"))["no_training_part"]


def test_other_folder_names_come_from_the_yaml(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    (root / "images").rename(root / "photos")
    with pytest.raises(DataError, match=r"no folder images/ for its images. It holds the folders masks, photos"):
        read(root)
    (root / "dataset.yaml").write_text("images: photos\nname: mine\n")
    assert load(root).name == "mine"


def test_a_dataset_yaml_may_be_data_itself(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b", dataset_yaml="flip: both")
    assert load(root / "dataset.yaml").flip == "both"


def test_a_list_of_groups_places_images(tmp_path: Path) -> None:
    text = "name,split,group,fold\ntrain/a,train,p1,0\nb.png,,p1,0\nc,val,p2,1\n"
    dataset = load(make(tmp_path / "set", "train/a", "train/b", "val/c", groups_csv=text))
    assert [(item.name, item.group, item.fold) for item in dataset.items] == [
        ("train/a", "p1", 0),
        ("train/b", "p1", 0),
        ("val/c", "p2", 1),
    ]


def test_a_split_column_makes_parts_where_folders_do_not(tmp_path: Path) -> None:
    text = "name,split\na,train\nb,valid\nc,test\n"
    dataset = load(make(tmp_path / "set", "a", "b", "c", groups_csv=text))
    assert [item.part for item in dataset.items] == ["train", "val", "test"]


def test_equal_stems_in_two_parts_are_told_apart_by_split(tmp_path: Path) -> None:
    text = "name,split,group\na,train,p1\na,test,p2\n"
    dataset = load(make(tmp_path / "set", "train/a", "test/a", groups_csv=text))
    assert {item.name: item.group for item in dataset.items} == {"train/a": "p1", "test/a": "p2"}


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("name,group\na,1\nb,1\nx,1\n", "group_of_nothing", "groups.csv names 1 images that are not there (x)"),
        ("name,group\na,1\n", "group_missing", "groups.csv gives 1 images no group (b)"),
        ("name,fold\na,1\n", "fold_missing", "groups.csv gives 1 images no fold (b)"),
        ("name,fold\na,1\nb,x\n", "fold_unknown", "groups.csv line 3 has fold 'x'. Folds are whole numbers"),
        ("name,split\na,trian\nb,train\n", "split_unknown", "has split 'trian'. Allowed: train, val, test."),
        ("name,group\na,1\nb,1\na,2\n", "group_twice", "groups.csv line 4 names 'a' again (line 2)"),
    ],
)
def test_mistakes_in_a_list_of_groups_are_named(tmp_path: Path, text: str, code: str, expected: str) -> None:
    assert expected in messages(make(tmp_path / "set", "a", "b", groups_csv=text))[code]


def test_a_split_that_contradicts_the_folder_is_wrong(tmp_path: Path) -> None:
    found = messages(make(tmp_path / "set", "train/a", "val/b", groups_csv="name,split\na,val\nb,val\n"))
    assert "groups.csv line 2 says val, but images/train/a.png lies in train." in found["split_differs"]


def test_an_ambiguous_name_in_a_list_of_groups_is_wrong(tmp_path: Path) -> None:
    found = messages(make(tmp_path / "set", "train/a", "val/a", groups_csv="name,group\na,p1\n"))
    assert "names 'a', which is train/a and val/a. Write the longer name." in found["group_ambiguous"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("name,grup\na,1\n", "Unknown column 'grup'.*Did you mean 'group'"), ("group\n1\n", "it has no column name")],
)
def test_a_list_of_groups_with_wrong_columns_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        read(make(tmp_path / "set", "a", "b", groups_csv=text))


def test_a_list_that_the_yaml_names_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"patients\.csv does not exist"):
        read(make(tmp_path / "set", "a", "b", dataset_yaml="groups: patients.csv"))


def test_a_pattern_takes_the_group_from_the_stem(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/p1_a", "train/p1_b", "train/p2_a", dataset_yaml="group_pattern: '^([^_]+)_'")
    assert [item.group for item in load(root).items] == ["p1", "p1", "p2"]


def test_a_pattern_that_finds_nothing_is_wrong(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "p1_a", "p2", "p3", dataset_yaml="group_pattern: '^([^_]+)_'")
    assert "finds no group in 2 names (p2, p3)" in messages(root)["group_missing"]


def test_a_pattern_beside_a_group_column_is_wrong(tmp_path: Path) -> None:
    root = make(
        tmp_path / "set", "a_1", "b_1", dataset_yaml="group_pattern: '^(.)'", groups_csv="name,group\na_1,1\nb_1,2\n"
    )
    assert "has a group_pattern and groups.csv has a column group" in messages(root)["groups_twice"]


def test_given_folds_that_are_not_there_are_wrong(tmp_path: Path) -> None:
    found = messages(make(tmp_path / "set", "a", "b", dataset_yaml="folds: given"))
    assert "folds: given needs a column fold in groups.csv, or images in both train and val" in found["folds_not_given"]


def test_groups_shared_with_test_are_a_warning_that_names_the_consequence(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/p1_a", "train/p2_a", "test/p1_b", dataset_yaml="group_pattern: '^(..)'")
    (finding,) = read(root)[1].findings
    assert (finding.level, finding.code) == ("warning", "shared_groups")
    assert finding.message.startswith("1 group in both train and test: p1.")
    assert "the test score will be better than on new groups" in finding.message


def test_groups_shared_by_train_and_val_matter_only_for_given_folds(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/p1_a", "train/p2_a", "val/p1_b", dataset_yaml="group_pattern: '^(..)'")
    (finding,) = read(root)[1].findings
    assert (finding.level, finding.code) == ("note", "shared_groups_pooled")
    (root / "dataset.yaml").write_text("group_pattern: '^(..)'\nfolds: given")
    (finding,) = read(root)[1].findings
    assert (finding.level, finding.code) == ("warning", "shared_groups")


def test_one_image_in_training_and_test_is_a_warning(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train/a", "train/b")
    write_pair(root, "test/c", seed=1)
    write_pair(root, "train/d", seed=1)
    (finding,) = read(root)[1].findings
    assert finding.level == "warning"
    assert finding.message.startswith("1 image has the same content in training and in test: test/c = train/d.")


def test_one_image_in_two_groups_is_a_warning(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    write_pair(root, "c", seed=1)
    write_pair(root, "d", seed=1)
    assert messages(root)["duplicate_groups"].startswith("1 image has the same content in two groups: c = d.")


def test_a_folder_without_class_names_is_told_how_to_name_them(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"does not say which classes there are. Write classes.txt .* segdecay init"):
        read(root)


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder images/ for its images. It holds no folder at all."):
        read(tmp_path)


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        read(tmp_path)


def test_no_usable_pair_is_one_clear_error(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a")
    (root / "masks" / "a.png").rename(root / "masks" / "b.png")
    with pytest.raises(DataError, match=r"cannot be used:\n- 1 image has no mask"):
        load_dataset(DataConfig.model_validate({"path": str(root)}), cache=tmp_path / "cache")


def test_parts_above_images_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Parts above their folders are read by templates.*segdecay init"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digts", "'digts' does not exist. DATA is a folder .*Did you mean 'digits'"),
        ("torchvision:VOC", "Unknown data set of torchvision .VOC."),
        ("{root}/sett", "does not exist.*Did you mean 'set'"),
        ("{root}/set/classes.txt", "is a file of another kind"),
    ],
)
def test_data_that_is_nothing_known_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    make(tmp_path / "set", "a")
    with pytest.raises(DataError, match=expected):
        build_source(DataConfig.model_validate({"path": text.format(root=tmp_path)}))


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["b1", "a", "f10", "f9", "f009", "10", "9", "f9x"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "b1", "f009", "f9", "f9x", "f10"]
