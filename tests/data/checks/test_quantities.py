"""How much there is of what was stated, and files that no list names: each once right and once wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import source_zoo as zoo
from data_folder import HALF, Folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import check_empty_masks, check_handfuls
from segdecay.data.checks.labels import colour_fault
from segdecay.data.dataset import Item
from segdecay.data.images.palette import Colour
from segdecay.data.loading import load_dataset
from segdecay.errors import DataError

CLASSES = ("background", "road", "pole")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "set")


def _items(n: int, part: str = "train") -> list[Item]:
    return [Item(f"i{k}", part, f"g{k}", None, 10, 10, "") for k in range(n)]  # type: ignore[arg-type]


def test_a_class_with_a_handful_of_pixels_is_named_with_its_count() -> None:
    counts = np.tile([90_000, 9_000, 0], (30, 1))
    counts[4, 2] = 12
    (found,) = check_handfuls(CLASSES, counts, _items(30))
    assert "pole (12 px in 1 image: i4)" in found.message
    assert found.level == "warning"
    assert "road" not in found.message


def test_many_pixels_in_two_of_many_images_are_a_handful_too() -> None:
    counts = np.tile([90_000, 9_000, 0], (30, 1))
    counts[:2, 2] = 5_000
    assert "pole (10000 px in 2 images: i0, i1)" in check_handfuls(CLASSES, counts, _items(30))[0].message
    counts[:3, 2] = 5_000
    assert check_handfuls(CLASSES, counts, _items(30)) == ()


def test_small_images_and_test_images_raise_no_alarm() -> None:
    assert check_handfuls(CLASSES, np.tile([40, 20, 20], (3, 1)), _items(3)) == ()
    counts = np.tile([90_000, 9_000, 5], (30, 1))
    assert check_handfuls(CLASSES, counts, _items(30, "test")) == ()


@pytest.mark.parametrize(("empty", "level"), [(3, "note"), (20, "warning")])
def test_masks_of_background_alone_are_counted(empty: int, level: str) -> None:
    counts = np.tile([50, 25, 25], (30, 1))
    counts[:empty, 1:] = 0
    (found,) = check_empty_masks(CLASSES, counts, _items(30))
    assert found.message.startswith(f"{empty} of 30 training masks are all 'background': i0, i1")
    assert found.level == level


def test_where_no_class_is_a_background_nothing_is_said() -> None:
    counts = np.tile([50, 0, 0], (4, 1))
    assert check_empty_masks(("sky", "road", "pole"), counts, _items(4)) == ()
    assert check_empty_masks(CLASSES, np.tile([50, 5, 0], (4, 1)), _items(4)) == ()


def test_an_empty_mask_is_found_in_files(folder: Folder) -> None:
    folder.mask("c", np.zeros_like(HALF))
    assert "One training mask is all 'background': c." in folder.findings()["all_background"].message


def test_a_stated_value_that_nobody_wrote_is_named(folder: Folder) -> None:
    folder.spec("classes: [background, road]\nvalues: {0: background, 1: road, 7: road}")
    assert folder.findings()["values_unseen"].message.startswith("values: 7 (road) occurs in no mask.")
    folder.spec("classes: [background, road]\nvalues: {0: background, 1: road}")
    assert folder.findings() == {}


def _coloured(folder: Folder, *colours: Colour) -> None:
    for name in "abc":
        folder.mask(name, np.array(colours, dtype=np.uint8)[HALF])


def test_a_stated_colour_that_nobody_drew_is_named(folder: Folder) -> None:
    _coloured(folder, (0, 0, 0), (255, 0, 0))
    folder.spec("classes: [background, road]\ncolors: {'#000000': background, '#ff0000': road, '#00ff00': road}")
    assert "#00ff00 (road) occurs in no mask" in folder.findings()["colors_unseen"].message


def test_smoothed_edges_of_colours_are_told_from_other_colours(folder: Folder) -> None:
    _coloured(folder, (0, 0, 0), (200, 10, 10))
    large = np.array([(0, 0, 0), (200, 10, 10)], dtype=np.uint8)[np.kron(HALF, np.ones((8, 8), dtype=np.uint8))]
    smooth = np.asarray(Image.fromarray(large).resize((8, 6), Image.Resampling.BICUBIC, box=(3, 3, 61, 45)))
    folder.mask("c", smooth)
    folder.spec("classes: [background, road]\ncolors: {'#000000': background, '#c80a0a': road}")
    found = folder.findings()
    kinds = set(found) & {"anti_aliased", "colour_unknown"}
    assert kinds, found
    fault = colour_fault(
        "c.png",
        {(100, 5, 5): 3, (50, 2, 2): 2, (150, 8, 8): 4},
        is_mapped=True,
        lossy=False,
        stated=[(0, 0, 0), (200, 10, 10)],
    )
    assert fault.code == "anti_aliased"
    assert "3 colours between the stated ones, 9 px" in fault.seen
    assert "nearest neighbour" in fault.fix


@given(
    st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=2, max_size=4, unique=True),
    st.lists(st.tuples(st.floats(0.05, 0.95), st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=8),
)
def test_a_mixture_of_two_stated_colours_is_always_seen_as_one(
    stated: list[Colour], mixes: list[tuple[float, int, int]]
) -> None:
    colours: dict[Colour, int] = {}
    for share, one, other in mixes:
        a, b = stated[one % len(stated)], stated[other % len(stated)]
        mixed = tuple(round(x + share * (y - x)) for x, y in zip(a, b, strict=True))
        if a != b and mixed not in stated:
            colours[mixed[0], mixed[1], mixed[2]] = 1
    found = colour_fault("m.png", colours, is_mapped=True, lossy=False, stated=stated)
    assert found.code == ("anti_aliased" if len(colours) >= 3 else "colour_unknown")


def test_colours_off_the_way_are_unknown_colours() -> None:
    strange = {(0, 200, 0): 5, (0, 0, 200): 5, (90, 200, 90): 5}
    found = colour_fault("m.png", strange, is_mapped=True, lossy=False, stated=[(0, 0, 0), (200, 10, 10)])
    assert found.code == "colour_unknown"


def test_files_that_a_coco_file_does_not_name_are_noted(tmp_path: Path) -> None:
    root = zoo.coco(tmp_path / "set")
    assert "file_unlisted" not in zoo.findings(root)
    image = next((root / "images").iterdir())
    (image.parent / f"spare{image.suffix}").write_bytes(image.read_bytes())
    (image.parent / ".hidden.png").write_bytes(image.read_bytes())
    message = zoo.findings(root)["file_unlisted"].message
    assert message.startswith("1 file lies beside listed ones, and ")
    assert "spare" in message
    assert "hidden" not in message


def test_warnings_stand_beside_what_is_wrong(folder: Folder) -> None:
    folder.mask("c", np.full_like(HALF, 9))
    (folder.root / "groups.csv").write_text("name,group\na,1\nb,2\nc,3\nnobody,4\n")
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig.model_validate({"path": str(folder.root)}), cache=folder.root / "cache")
    assert "holds 9" in str(caught.value)
    assert "warning: groups.csv names 1 images that are not there (nobody)" in str(caught.value)
