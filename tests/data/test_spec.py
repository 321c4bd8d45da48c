"""dataset.yaml and classes.txt: what is allowed, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdecay.data.images.palette import FIRST, colour_text, default_palette, distance, parse_colour
from segdecay.data.spec import DatasetSpec, class_names, class_palette, parse_spec, read_classes, read_spec
from segdecay.errors import ConfigError

DEFAULT = DatasetSpec.model_validate({})


def test_an_empty_file_gives_the_defaults() -> None:
    spec = parse_spec("")
    assert (spec.images, spec.masks, spec.flip, spec.folds, spec.exif) == (
        "images",
        "masks",
        "horizontal",
        "groups",
        "apply",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clases: [a, b]", "Unknown key 'clases'; allowed here: name, classes, task, labels"),
        ("clases: [a, b]", "Did you mean 'classes'?"),
        ("flip: horizontl", "Did you mean 'horizontal'?"),
        ("classes: [a]", "at least two classes are needed"),
        ("classes: [a, b, a]", "class 'a' is listed twice"),
        ("classes: [a, '']", "a class name is empty"),
        ("values: {2147483648: a}", "pixel values have at most 32 bits"),
        ("values: {0: a}\ncolors: {'#000000': a}", "values and colors exclude each other"),
        ("values: {0: a, 7: b}\nignore: [7]", "7 is given a class and listed under ignore"),
        ("colors:\n  #ff0000: road", "needs quotes in YAML"),
        ("colors: {'#ff00': road}", "'#ff00' is not a colour"),
        ("colors: {'#ff0000': road, '255,0,0': road}", "a colour is listed twice"),
        ("palette: {road: }", "needs quotes in YAML"),
        ("group_pattern: 'a('", "is not a regular expression"),
        ("group_pattern: '(a)(b)'", "needs exactly one (capture)"),
        ("groups: g.csv\ngroup_pattern: '(a)'", "groups and group_pattern exclude each other"),
        ("bands: [0, 0]", "must be distinct band numbers"),
        ("images: ../elsewhere", "must be a path inside the data folder"),
        ("folds: groups\nfolds: blocks", "key 'folds' is given twice"),
        ("[1, 2]", "holds a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert expected in str(caught.value)
    assert "dataset.yaml" in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)flipp.*foldz"):
        parse_spec("flipp: none\nfoldz: groups")


def test_colours_may_be_written_as_hex_or_as_lists_even_as_keys() -> None:
    spec = parse_spec("colors: {'#FF0000': road, [0, 0, 1]: sky}\nignore: ['#ffffff', [1, 2, 3]]")
    assert spec.colors == {"#ff0000": "road", "#000001": "sky"}
    assert spec.ignore == ("#ffffff", "#010203")


@given(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)))
def test_a_written_colour_is_read_back(colour: tuple[int, int, int]) -> None:
    assert parse_colour(colour_text(colour)) == colour == parse_colour(list(colour))


def test_classes_come_from_the_yaml_before_the_text_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    assert class_names(DEFAULT, tmp_path) == ("sky", "road")
    assert class_names(parse_spec("classes: [a, b]"), tmp_path) == ("a", "b")


def test_classes_come_from_the_mapping_when_nothing_else_names_them(tmp_path: Path) -> None:
    assert class_names(parse_spec("values: {0: ground, 255: road}"), tmp_path) == ("ground", "road")
    assert class_names(DEFAULT, tmp_path) == ()


def test_a_mapping_to_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    spec = parse_spec("classes: [background, road]\nvalues: {0: background, 1: raod}\npalette: {sky: '#000000'}")
    with pytest.raises(ConfigError, match=r"(?s)values: Unknown class 'raod'.*Did you mean 'road'.*palette: .*'sky'"):
        class_names(spec, tmp_path)


def test_a_mapping_with_one_class_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two classes"):
        class_names(parse_spec("values: {255: road}"), tmp_path)


def test_a_class_list_that_no_mask_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(f"class {i}" for i in range(256)))
    with pytest.raises(ConfigError, match=r"classes\.txt: at most 255 classes"):
        read_classes(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
        read_spec(tmp_path)


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_spec(tmp_path / "dataset.yaml")


def test_a_folder_without_a_yaml_has_the_defaults(tmp_path: Path) -> None:
    assert read_spec(tmp_path) == DEFAULT


def test_colours_of_masks_become_the_palette_unless_one_is_given() -> None:
    spec = parse_spec("colors: {'#010203': a, '#040506': b}\npalette: {b: '#ffffff'}")
    assert class_palette(spec, ("a", "b", "c")) == ((1, 2, 3), (255, 255, 255), FIRST[2])


@pytest.mark.parametrize("n_classes", [2, 8, 21, 255])
def test_default_colours_are_distinct_and_begin_dark(n_classes: int) -> None:
    palette = default_palette(n_classes)
    assert len(set(palette)) == n_classes
    assert sum(palette[0]) < 90
    assert palette == default_palette(255)[:n_classes]


def test_the_first_colours_stay_apart_for_colour_blind_eyes() -> None:
    palette = default_palette(12)
    least = min(distance(one, other) for i, one in enumerate(palette) for other in palette[:i])
    assert least > 12  # a difference of about 2 is just visible
