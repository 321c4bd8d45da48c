"""`init` guesses a dataset.yaml that the checks accept, and says why; what it cannot know it leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import CheckReport
from segdecay.data.dataset import Dataset
from segdecay.data.detect.detect import DoubtError, Guess, guess_spec
from segdecay.data.loading import read_dataset
from segdecay.data.spec import DatasetSpec, parse_spec
from segdecay.errors import DataError

NAMES = ("p1_a", "p1_b", "p2_a", "p2_b", "p3_a", "p3_b")
STRIPES = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3


def make(
    root: Path,
    *,
    names: Sequence[str] = NAMES,
    classes: Sequence[str] = (),
    mask: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.generic]] = lambda stripes: stripes,
    bands: int = 3,
) -> Path:
    """Pairs whose masks are made from stripes of 0, 1, 2."""
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (6, 8, bands), dtype=np.uint8)
        pixels[..., 3:] = 255
        for kind, array in (("images", pixels), ("masks", mask(STRIPES))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    if classes:
        (root / "classes.txt").write_text("\n".join(classes))
    return root


def guessed(root: Path) -> tuple[DatasetSpec, Guess]:
    guess = guess_spec(root)
    return parse_spec(guess.spec_yaml), guess


def check(root: Path) -> tuple[Dataset | None, CheckReport]:
    """The folder read with the guessed dataset.yaml."""
    (root / "dataset.yaml").write_text(guess_spec(root).spec_yaml)
    return read_dataset(DataConfig.model_validate({"path": str(root)}), cache=root.parent / "cache")


def assert_accepted(root: Path) -> Dataset:
    dataset, report = check(root)
    assert dataset is not None, report.findings
    assert report.of_level("wrong") == report.of_level("warning") == ()
    return dataset


def test_plain_masks_with_named_classes_need_little(tmp_path: Path) -> None:
    spec, guess = guessed(make(tmp_path / "set", classes="abc"))
    assert (spec.classes, spec.values, spec.ignore) == (None, {}, ())
    assert any(line.startswith("classes.txt names 3 classes; masks hold 0: 33.3 %") for line in guess.explanations)
    assert_accepted(tmp_path / "set")


def test_a_value_that_no_class_covers_is_asked_about(tmp_path: Path) -> None:
    root = make(tmp_path / "set", classes="ab")
    with pytest.raises(DoubtError, match=r"values that classes.txt does not name \(2\)") as asked:
        guess_spec(root)
    answers = ("values:\n      0: background\n      1: a\n      2: b", "ignore:\n    - 2", "2: class 2")
    assert [answer for answer in answers if answer in str(asked.value)] == list(answers)


def test_a_few_pixels_of_a_value_that_no_class_covers_are_ignored_and_counted(tmp_path: Path) -> None:
    root = make(tmp_path / "set", classes="ab", mask=lambda s: np.kron(s % 2, np.ones((20, 20), dtype=np.uint8)))
    for name in NAMES:
        image = np.random.default_rng(len(name)).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(image + np.uint8(NAMES.index(name))).save(root / "images" / f"{name}.png")
    mask = np.asarray(Image.open(root / "masks" / "p1_a.png")).copy()
    mask[0, :3] = 7
    Image.fromarray(mask).save(root / "masks" / "p1_a.png")
    spec, guess = guessed(root)
    assert spec.ignore == (7,)
    assert any("7 (0.0 %, 3 px of all pixels) is none of them: taken as unlabelled" in x for x in guess.explanations)


def test_void_255_is_ignored_with_and_without_class_names(tmp_path: Path) -> None:
    table = np.array([0, 1, 255], dtype=np.uint8)
    named, unnamed = (
        make(tmp_path / kind, mask=lambda s: table[s], classes=names) for kind, names in (("n", "ab"), ("u", ""))
    )
    assert guessed(named)[0].ignore == (255,)
    spec, guess = guessed(unnamed)
    assert (spec.classes, spec.ignore) == (("background", "class 1"), (255,))
    assert any("255 (33.3 % of all pixels) lies apart: taken as unlabelled" in line for line in guess.explanations)
    assert_accepted(named)
    assert_accepted(unnamed)


@pytest.mark.parametrize(("classes", "second"), [((), "foreground"), (("ground", "road"), "road")])
def test_binary_masks_of_0_and_255_become_two_classes(tmp_path: Path, classes: tuple[str, ...], second: str) -> None:
    root = make(tmp_path / "set", mask=lambda s: np.where(s > 0, 255, 0).astype(np.uint8), classes=classes)
    spec, guess = guessed(root)
    assert spec.values[255] == second
    assert any("a binary mask, 255 taken as the second class" in line for line in guess.explanations)
    np.testing.assert_array_equal(assert_accepted(root).mask(0), STRIPES > 0)


def test_masks_numbered_from_one_are_mapped(tmp_path: Path) -> None:
    root = make(tmp_path / "set", mask=lambda s: s + np.uint8(1), classes="abc")
    assert guessed(root)[0].values == {1: "a", 2: "b", 3: "c"}
    np.testing.assert_array_equal(assert_accepted(root).mask(0), STRIPES)


def test_classes_are_counted_where_nothing_names_them(tmp_path: Path) -> None:
    assert guessed(make(tmp_path / "set"))[0].classes == ("background", "class 1", "class 2")
    assert_accepted(tmp_path / "set")


def test_values_with_gaps_are_mapped_one_by_one(tmp_path: Path) -> None:
    root = make(tmp_path / "set", mask=lambda s: s * np.uint8(100))
    assert guessed(root)[0].values == {0: "background", 100: "class 100", 200: "class 200"}
    assert_accepted(root)


def test_colours_become_a_template(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)
    root = make(tmp_path / "set", mask=lambda s: colours[s], classes=("sky", "road", "car"))
    spec, guess = guessed(root)
    assert spec.colors == {"#000000": "background", "#00ff00": "class 00ff00", "#ff0000": "class ff0000"}
    assert any("put these names (sky, road, car) for the guessed ones" in line for line in guess.explanations)
    assert_accepted(root)


def test_palettes_that_differ_become_colours(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    for i, name in enumerate(NAMES):
        image = Image.new("P", (8, 6))
        image.putdata(STRIPES.ravel().tolist())
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] if i % 2 else [0, 0, 0, 0, 200, 0, 200, 0, 0])
        image.save(root / "masks" / f"{name}.png")
    spec, guess = guessed(root)
    assert set(spec.colors) == {"#000000", "#c80000", "#00c800"}
    assert "Palettes differ between masks, so their colours count, not their indices." in guess.explanations
    assert_accepted(root)


def test_equal_palettes_are_read_as_indices(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    for name in NAMES:
        image = Image.new("P", (8, 6))
        image.putdata(STRIPES.ravel().tolist())
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        image.save(root / "masks" / f"{name}.png")
    assert guessed(root)[0].classes == ("background", "class 1", "class 2")
    assert_accepted(root)


@pytest.mark.parametrize("suffix", ["_mask", "_gt", "-label"])
def test_the_suffix_of_masks_is_found(tmp_path: Path, suffix: str) -> None:
    root = make(tmp_path / "set")
    for name in NAMES:
        (root / "masks" / f"{name}.png").rename(root / "masks" / f"{name}{suffix}.png")
    spec, guess = guessed(root)
    assert spec.mask_suffix == suffix
    assert f'mask_suffix: 6 masks are named as their image + "{suffix}".' in guess.explanations
    assert_accepted(root)


def test_other_names_of_folders_are_found(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    spec, _ = guessed(root)
    assert (spec.images, spec.masks) == ("JPEGImages", "SegmentationClass")
    assert_accepted(root)


def test_a_prefix_that_repeats_becomes_the_group(tmp_path: Path) -> None:
    spec, guess = guessed(make(tmp_path / "set"))
    assert (spec.group_pattern, spec.folds) == ("^([^_]+)_", "groups")
    assert any('the text before the first "_" gives 3 groups of 2 images' in line for line in guess.explanations)


def test_few_long_numbered_groups_are_videos(tmp_path: Path) -> None:
    names = [f"{video}_{frame:05d}" for video in ("A", "B") for frame in range(0, 40 * 30, 30)]
    root = make(tmp_path / "set", names=names)
    spec, guess = guessed(root)
    assert (spec.group_pattern, spec.folds) == ("^([^_]+)_", "blocks")
    assert any(
        line.startswith("folds: few long groups with frame numbers in steady steps") for line in guess.explanations
    )
    assert assert_accepted(root).fold_method == "blocks"


@pytest.mark.parametrize("names", [("a", "b", "c"), ("x_1", "x_2", "x_3"), ("ab_1", "cd_2", "ef_3", "gh_4")])
def test_no_group_is_invented(tmp_path: Path, names: tuple[str, ...]) -> None:
    spec, guess = guessed(make(tmp_path / "set", names=names))
    assert spec.group_pattern is None
    assert any(line.startswith("No groups are known: every image is its own.") for line in guess.explanations)


def test_names_in_steady_steps_are_asked_about(tmp_path: Path) -> None:
    _, guess = guessed(make(tmp_path / "set", names=[f"frame{i:03d}" for i in range(40)]))
    assert any("frames of one video?" in line for line in guess.explanations)


def test_groups_of_test_images_do_not_count(tmp_path: Path) -> None:
    names = [
        *(f"train/p{i}_{k}" for i in range(2) for k in range(3)),
        *(f"test/q{i}_{k}" for i in range(4) for k in range(3)),
    ]
    assert guessed(make(tmp_path / "set", names=names))[0].group_pattern is None


def test_a_list_of_groups_is_used_and_its_folds_too(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (root / "groups.csv").write_text("name,group,fold\n" + "".join(f"{name},{name[:2]},{name[1]}\n" for name in NAMES))
    spec, guess = guessed(root)
    assert (spec.groups, spec.folds, spec.group_pattern) == ("groups.csv", "given", None)
    assert "groups: groups.csv gives 6 images 3 groups." in guess.explanations
    assert_accepted(root)


def test_an_opaque_alpha_band_is_left_out_and_explained(tmp_path: Path) -> None:
    root = make(tmp_path / "set", bands=4)
    spec, guess = guessed(root)
    assert spec.bands == (0, 1, 2)
    assert any("alpha band that is opaque everywhere: left out" in line for line in guess.explanations)
    assert_accepted(root)


def test_masks_of_unturned_pixels_set_exif(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / "images").iterdir():
        image = Image.open(path)
        image.load()
        image.save(path, exif=exif)
    assert guessed(root)[0].exif == "ignore"
    assert_accepted(root)


def test_a_flip_is_assumed_and_said_so(tmp_path: Path) -> None:
    spec, guess = guessed(make(tmp_path / "set"))
    assert spec.flip == "horizontal"
    assert any(line.startswith("flip: assumed: left and right may be exchanged") for line in guess.explanations)


def test_masks_of_one_value_are_said(tmp_path: Path) -> None:
    root = make(tmp_path / "set", mask=lambda s: s * np.uint8(0))
    with pytest.raises(DataError, match="holds no images with masks that belong together"):
        guess_spec(root)


@pytest.mark.parametrize(("table", "stray"), [((0, 7, 9), "7, 9"), ((0, 1, 5), "5")])
def test_values_beside_the_names_are_asked_about(tmp_path: Path, table: Sequence[int], stray: str) -> None:
    values = np.array(table, dtype=np.uint8)
    with pytest.raises(DoubtError, match=rf"does not name \({stray}\)"):
        guess_spec(
            make(tmp_path / "set", mask=lambda s: values[s], classes="abc"[: 3 - stray.count(",") - (stray == "5")])
        )


def test_masks_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (root / "masks" / "p1_a.png").write_bytes(b"")
    assert "1 masks could not be read; check names them." in guessed(root)[1].explanations


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ((), "it holds no file at all"),
        (("images",), "it holds no file at all"),
        (("images", "masks"), "Images are PNG, JPEG, TIFF, GIF, WebP, BMP, PNM, .npy or .mat"),
    ],
)
def test_a_folder_without_images_or_masks_is_refused(tmp_path: Path, folders: Sequence[str], expected: str) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=expected):
        guess_spec(tmp_path)


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        guess_spec(tmp_path / "nowhere")
