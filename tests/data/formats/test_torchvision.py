"""torchvision:NAME on stand-ins of a few tiny files in torchvision's own layout, which its classes read as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_zoo as zoo
import torchvision.datasets as theirs
from scipy.io import savemat

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Notebook
from segdecay.data.formats import Source, build_source
from segdecay.data.formats.torchvision import SETS, fetch_set
from segdecay.errors import DataError
from segdecay.testing import SourceContract

STEMS = ("a_000001", "a_000002", "b_000001")  # half a line names another one


def _mask(number: int, values: tuple[int, ...]) -> zoo.U8:
    return np.array(values, dtype=np.uint8)[zoo.labels(number, len(values))]


def _lists(folder: Path, first: str, second: str, tail: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, stems in ((first, STEMS[:2]), (second, STEMS[2:])):
        (folder / name).write_text("".join(f"{stem}{tail}\n" for stem in stems))


def _voc(root: Path) -> None:
    base = root / "VOCdevkit/VOC2012"
    for number, stem in enumerate(STEMS):
        zoo.save(base / f"JPEGImages/{stem}.jpg", zoo.picture(number))
        zoo.save(base / f"SegmentationClass/{stem}.png", _mask(number, (0, 15, 255)))
    _lists(base / "ImageSets/Segmentation", "train.txt", "val.txt")


def _sbd(root: Path) -> None:
    (root / "cls").mkdir(parents=True)
    for number, stem in enumerate(STEMS):
        zoo.save(root / f"img/{stem}.jpg", zoo.picture(number))
        savemat(root / f"cls/{stem}.mat", {"GTcls": {"Segmentation": _mask(number, (0, 15, 20))}})
        mat = root / f"cls/{stem}.mat"  # the header has the time of writing
        mat.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + mat.read_bytes()[116:])
    _lists(root, "train.txt", "val.txt")


def _pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for number, stem in enumerate(STEMS):
        zoo.save(base / f"images/{stem}.jpg", zoo.picture(number))
        zoo.save(base / f"annotations/trimaps/{stem}.png", _mask(number, (2, 1, 3)))
    _lists(base / "annotations", "trainval.txt", "test.txt", tail=" 1 1 1")


def _cityscapes(root: Path) -> None:
    for number, (part, city) in enumerate((("train", "aachen"), ("train", "bonn"), ("val", "ulm"))):
        stem = f"{city}_000000_00000{number}"
        zoo.save(root / f"leftImg8bit/{part}/{city}/{stem}_leftImg8bit.png", zoo.picture(number))
        zoo.save(root / f"gtFine/{part}/{city}/{stem}_gtFine_labelIds.png", _mask(number, (7, 26, 4)))


def _source(name: str, root: Path) -> Source:
    return build_source(DataConfig.model_validate({"path": f"torchvision:{name}:{root}"}))


class OfTorchvision(SourceContract):
    name: str
    write: Callable[[Path], None]

    def build(self, root: Path) -> Source:
        if not any(root.iterdir()):
            type(self).write(root)
        return _source(self.name, root)


class TestVoc(OfTorchvision):
    name, write = "VOCSegmentation", staticmethod(_voc)


class TestSbd(OfTorchvision):
    name, write = "SBDataset", staticmethod(_sbd)


class TestPets(OfTorchvision):
    name, write = "OxfordIIITPet", staticmethod(_pets)


class TestCityscapes(OfTorchvision):
    name, write = "Cityscapes", staticmethod(_cityscapes)


def _own(name: str, root: Path) -> list[tuple[str, str, zoo.U8, zoo.U8]]:
    return [(one.part, one.name, one.image, one.mask) for one in _source(name, root).samples(Notebook())]


CASES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], dict[int, int]]] = {
    "VOCSegmentation": (_voc, lambda root: theirs.VOCSegmentation(root, image_set="train"), {}),
    "SBDataset": (_sbd, lambda root: theirs.SBDataset(root, mode="segmentation"), {}),
    "OxfordIIITPet": (
        _pets,
        lambda root: theirs.OxfordIIITPet(root, target_types="segmentation"),
        {1: 1, 2: 0, 3: 255},
    ),
    "Cityscapes": (
        _cityscapes,
        lambda root: theirs.Cityscapes(root, target_type="semantic"),
        {7: 0, 26: 13, 4: 255},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_images_and_masks_are_those_of_torchvision(tmp_path: Path, name: str) -> None:
    write, build, meaning = CASES[name]
    write(tmp_path)
    own = [row for row in _own(name, tmp_path) if row[0] == "train"]
    expected = sorted(
        (tuple(np.asarray(part) for part in pair) for pair in build(tmp_path)), key=lambda p: p[0].tobytes()
    )
    assert len(own) == len(expected) == 2
    for row, (image, mask) in zip(sorted(own, key=lambda r: r[2].tobytes()), expected, strict=True):
        np.testing.assert_array_equal(row[2], image)
        np.testing.assert_array_equal(row[3], np.vectorize(lambda value: meaning.get(value, value))(mask))


@pytest.mark.parametrize(
    ("name", "last"), [("VOCSegmentation", "val"), ("OxfordIIITPet", "test"), ("Cityscapes", "val")]
)
def test_published_parts_are_kept(tmp_path: Path, name: str, last: str) -> None:
    CASES[name][0](tmp_path)
    assert sorted(row[0] for row in _own(name, tmp_path)) == sorted(["train", "train", last])


def test_cities_are_groups(tmp_path: Path) -> None:
    _cityscapes(tmp_path)
    groups = {one.group for one in _source("Cityscapes", tmp_path).samples(Notebook())}
    assert groups == {"aachen", "bonn", "ulm"}
    assert _source("Cityscapes", tmp_path).facts.classes[13] == "car"


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_never_fetched(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path))
    with pytest.raises(DataError) as told:
        build_source(DataConfig.model_validate({"path": f"torchvision:{name}"}))
    assert str(tmp_path / "torchvision" / name) in str(told.value)
    wanted = "cityscapes-dataset.com" if name == "Cityscapes" else f"segdecay fetch torchvision:{name}"
    assert wanted in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"allowed: VOCSegmentation, SBDataset.*Did you mean 'Cityscapes'"):
        _source("Cityscape", tmp_path)


def test_listed_files_that_are_absent_are_found(tmp_path: Path) -> None:
    _voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/a_000002.jpg").unlink()
    notebook = Notebook()
    assert len(list(_source("VOCSegmentation", tmp_path).samples(notebook))) == 2
    assert "1 listed files are not there" in notebook.summary()[0].message


def test_fetch_leaves_a_whole_set_alone_and_refuses_cityscapes(tmp_path: Path) -> None:
    _voc(tmp_path)
    assert fetch_set(f"torchvision:VOCSegmentation:{tmp_path}", tmp_path) == tmp_path
    with pytest.raises(DataError, match="torchvision cannot fetch it"):
        fetch_set("torchvision:Cityscapes", tmp_path)


def test_a_failed_fetch_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no network here")

    monkeypatch.setattr(theirs, "OxfordIIITPet", fail)
    with pytest.raises(DataError, match=r"cannot be fetched into .*no network here.*by hand"):
        fetch_set("torchvision:OxfordIIITPet", tmp_path)
