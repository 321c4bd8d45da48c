"""Masks as people save them, each through the lines that docs/sources.md shows; and those lines themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import source_zoo as zoo
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from PIL import Image

from segdecay.data.dataset import IGNORE
from segdecay.data.images.label_maps import colour_table, labels_of_colours, labels_of_values, value_table
from segdecay.data.images.palette import colour_text
from segdecay.data.spec import parse_spec

U8 = npt.NDArray[np.uint8]
PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)


def grey(*values: int) -> Callable[[U8], npt.NDArray[np.generic]]:
    table = np.array(values, dtype=np.uint8)
    return lambda mask: table[mask]


def with_alpha(mask: U8) -> U8:
    return np.concatenate([COLOURS[mask], np.full((*mask.shape, 1), 255, dtype=np.uint8)], axis=-1)


@pytest.mark.parametrize(
    ("text", "save", "expected"),
    [
        ("classes: [a, b, c]", grey(0, 1, 2), [0, 1, 2]),
        ("classes: [a, b]\nignore: [2]", grey(0, 1, 2), [0, 1, IGNORE]),
        ("classes: [a, b]", lambda mask: mask == 1, [0, 1, 0]),
        ("values: {0: a, 255: b}", grey(0, 255, 255), [0, 1, 1]),
        ("values: {0: b, 255: a}\nclasses: [a, b]", grey(255, 0, 0), [0, 1, 1]),
        ("values: {0: a, 1: b, 7: b}", grey(0, 1, 7), [0, 1, 1]),
        ("classes: [a, b]\nignore: [254, 255]", grey(1, 254, 255), [1, IGNORE, IGNORE]),
        ("classes: [a, b, c]", lambda mask: mask.astype(np.uint16), [0, 1, 2]),
        ("colors: {'#000000': a, '#ff0000': b, '#0000ff': b}", lambda mask: COLOURS[mask], [0, 1, 1]),
        ("colors: {'#000000': a, '#ff0000': b}\nignore: ['#0000ff']", with_alpha, [0, 1, IGNORE]),
    ],
)
def test_masks_of_every_kind_are_read(
    tmp_path: Path, text: str, save: Callable[[U8], npt.NDArray[np.generic]], expected: list[int]
) -> None:
    root = tmp_path / "set"
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / "images" / f"{name}.jpg", zoo.picture(number))
        zoo.save(root / "masks" / f"{name}.png", save(zoo.labels(number, 3)))
    table = np.array(expected, dtype=np.uint8)
    zoo.save(root / "images" / "z.jpg", zoo.picture(99))
    other = np.zeros(zoo.SIZE, dtype=np.uint8) if 0 not in expected else save(zoo.labels(0, 3) * 0)
    zoo.save(root / "masks" / "z.png", other)  # some classes are in some files only
    dataset = zoo.dataset(zoo.spec(root, text))
    for index in range(len(zoo.NAMES)):
        np.testing.assert_array_equal(dataset.mask(index), table[zoo.labels(index, 3)])


def test_palettes_that_differ_are_read_by_their_colours(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, name in enumerate(zoo.NAMES):
        zoo.save(root / "images" / f"{name}.jpg", zoo.picture(number))
        swapped = number % 2 == 1
        mask = Image.fromarray((1 - zoo.labels(number)) if swapped else zoo.labels(number), "P")
        mask.putpalette([255, 0, 0, 0, 0, 0] if swapped else [0, 0, 0, 255, 0, 0])
        (root / "masks").mkdir(exist_ok=True)
        mask.save(root / "masks" / f"{name}.png")
    zoo.spec(root, "classes: [background, road]")
    assert "palettes differ between files" in zoo.findings(root)["palettes_differ"].message
    (root / "dataset.yaml").unlink()
    zoo.guessed(root)
    dataset = zoo.dataset(root)
    for index in range(len(zoo.NAMES)):
        np.testing.assert_array_equal(dataset.mask(index), zoo.labels(index))


@given(st.lists(st.integers(0, 2**24 - 1), min_size=2, max_size=30, unique=True), st.integers(0, 2**32 - 1))
def test_colours_give_the_indices_back(packed: list[int], seed: int) -> None:
    colours = [(one >> 16, one >> 8 & 255, one & 255) for one in packed]
    classes = [f"c{i}" for i in range(len(colours))]
    table = colour_table(classes, dict(zip(map(colour_text, colours), classes, strict=True)), [])
    indices = np.random.default_rng(seed).integers(0, len(colours), (5, 6))
    found, strange = labels_of_colours(np.array(colours, dtype=np.uint8)[indices], table)
    np.testing.assert_array_equal(found, indices)
    assert strange == {}


@given(st.permutations(range(256)), st.integers(2, 255), st.integers(0, 2**32 - 1))
def test_values_give_the_indices_back(values: list[int], n: int, seed: int) -> None:
    classes = [f"c{i}" for i in range(n)]
    table = value_table(classes, dict(zip(values, classes, strict=False)), values[n:])
    indices = np.random.default_rng(seed).integers(0, n, (5, 6))
    found, _ = labels_of_values(np.array(values, dtype=np.uint8)[indices], table)
    np.testing.assert_array_equal(found, indices)


def test_every_example_of_the_page_is_a_valid_dataset_yaml() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        parse_spec(block)
    rows = re.findall(r"^\| [a-z0-9].* \| `(\w+: .*)` \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) >= 6
    for row in rows:
        parse_spec(row)


def test_the_source_of_your_own_on_the_page_works(tmp_path: Path) -> None:
    from segdecay.data.checks.findings import Notebook
    from segdecay.data.formats import folders
    from segdecay.data.formats import pairing as grouping
    from segdecay.data.formats import pairing as pairs

    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    words: dict[str, Any] = {**vars(folders), **vars(grouping), **vars(pairs), "Source": object}
    exec("from __future__ import annotations\n" + code, words)  # noqa: S102  (the page's own code)
    root = zoo.write(tmp_path / "set", "{stem}.jpg", "{stem}.gt.png")
    source = words["by_number_source"](root, parse_spec("classes: [background, road]"))
    notebook = Notebook()
    found = list(source.samples(notebook))
    assert notebook.is_clean
    assert [one.name for one in found] == list(zoo.NAMES)
    np.testing.assert_array_equal(found[2].mask, zoo.labels(2))
