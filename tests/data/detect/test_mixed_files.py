"""Sets whose files differ among themselves: what `init` writes, `check` accepts."""

from __future__ import annotations

import re
from pathlib import Path

import layout_cases as cases
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.dataset import Dataset
from segdecay.data.detect.detect import guess_spec
from segdecay.data.loading import read_dataset
from segdecay.errors import DataError


def guessed(root: Path) -> Dataset:
    """The data set under the guessed dataset.yaml, which check accepts."""
    (root / "dataset.yaml").write_text(guess_spec(root).spec_yaml)
    return accepted(root)


def accepted(root: Path) -> Dataset:
    dataset, report = read_dataset(DataConfig(path=str(root)), cache=root.parent / "cache")
    assert dataset is not None, report.findings
    return dataset


def rewrite(root: Path, number: int, mode: str) -> None:
    path = root / "images" / f"{number:03}.png"
    Image.open(path).convert(mode).save(path)


def test_images_of_many_kinds_become_rgb(tmp_path: Path) -> None:
    """8 and 16 bits, palette, CMYK, one bit, alpha that is opaque: each as RGB, with its mask."""
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png")
    for number, mode in enumerate(("L", "P", "1", "LA", "RGBA")):
        rewrite(root, number, mode)
    deep = cases.scene(5)[0][..., 0].astype(np.uint16) * 200
    Image.fromarray(deep).save(root / "images" / "005.png")
    (root / "images" / "006.png").unlink()
    Image.fromarray(cases.scene(6)[0]).convert("CMYK").save(root / "images" / "006.jpg")
    dataset = guessed(root)
    assert dataset.bands == 3
    assert [item.name for item in dataset.items] == [f"{n:03}" for n in range(8)]
    for number in range(8):
        np.testing.assert_array_equal(dataset.mask(number), cases.scene(number)[1])
    np.testing.assert_array_equal(dataset.image(7), cases.scene(7)[0])
    assert np.ptp(dataset.image(5).reshape(-1, 3), axis=1).max() == 0


@pytest.mark.parametrize("kinds", [("LA", "L"), ("RGBA", "RGB")])
def test_opaque_alpha_in_some_files_is_left_out_of_all(tmp_path: Path, kinds: tuple[str, str]) -> None:
    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png")
    for number in range(8):
        rewrite(root, number, kinds[number % 2])
    dataset = guessed(root)
    assert dataset.bands == (1 if kinds[1] == "L" else 3)


@pytest.mark.parametrize("stray", [7, 200])
def test_a_value_of_a_few_pixels_that_no_name_has_is_ignored_and_counted(tmp_path: Path, stray: int) -> None:
    def masked(labels: cases.U8, number: int) -> cases.U8:
        values = labels.copy()
        values[0, :3] = stray if number == 2 else 0
        return values

    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", masked=masked)
    (root / "classes.txt").write_text("background\nroad\n")
    guess = guess_spec(root)
    assert yaml.safe_load(guess.spec_yaml)["ignore"] == [stray]
    assert any(re.search(r"\(0\.0 %, 3 px of all pixels\)", line) for line in guess.explanations)
    assert (guessed(root).mask(2)[0, :3] == 255).all()


def test_names_with_dots_pair(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "images/v1.2.{n}.rgb.png", "masks/v1.2.{n}.rgb.png")
    assert [item.name for item in guessed(root).items][:2] == ["v1.2.000.rgb", "v1.2.001.rgb"]


def test_binary_masks_take_the_two_names_beside_them(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "imagesTr/c_{n}_0000.png", "labelsTr/c_{n}.png")
    (root / "dataset.json").write_text('{"labels": {"background": 0, "lesion": 1}}')
    assert guessed(root).classes == ("background", "lesion")


def channels(root: Path) -> Path:
    for channel in range(2):
        image = f"imagesTr/c_{{n}}_{channel:04}.png"
        cases.pairs(root, image, "labelsTr/c_{n}.png", pictured=lambda pixels, _: pixels[..., 0])
    return root


def test_a_file_a_channel_is_named_with_the_step_that_joins_them(tmp_path: Path) -> None:
    root = channels(tmp_path / "set")
    with pytest.raises(DataError, match=r"holds 2 files an image, one a channel .*nnU-Net.*numpy\.dstack"):
        guess_spec(root)
    for path in sorted((root / "imagesTr").glob("*_0000.png")):
        other = path.with_name(path.name.replace("_0000", "_0001"))
        joined = np.dstack([np.asarray(Image.open(one)) for one in (path, other)])
        tifffile.imwrite(path.with_name(path.name.replace("_0000.png", ".tif")), joined, planarconfig="contig")
        path.unlink()
        other.unlink()
    dataset = guessed(root)
    assert dataset.bands == 2
    assert len(dataset.items) == 8


def test_frames_of_one_number_are_no_channels(tmp_path: Path) -> None:
    root = cases.pairs(tmp_path / "set", "images/walk_{n}0.png", "masks/walk_{n}0.png")
    assert len(guessed(root).items) == 8
