"""Every source keeps SourceContract; and the contract catches sources that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import source_zoo as zoo

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Notebook
from segdecay.data.formats import Facts, Sample, Source, build_source
from segdecay.testing import SourceContract


class OfFolder(SourceContract):
    """A source below a folder that `write` makes."""

    def write(self, root: Path) -> None:
        raise NotImplementedError

    def build(self, root: Path) -> Source:
        if not any(root.iterdir()):
            self.write(root)
        return build_source(DataConfig.model_validate({"path": str(root)}))


class TestDigits(SourceContract):
    def build(self, root: Path) -> Source:  # noqa: ARG002  (it has no files)
        return build_source(DataConfig.model_validate({"path": "digits"}))


class TestFolders(OfFolder):
    def write(self, root: Path) -> None:
        zoo.spec(zoo.write(root, "images/{stem}.jpg", "masks/{stem}.png"), "classes: [background, road]")


class TestClassFolders(OfFolder):
    def write(self, root: Path) -> None:
        for number, name in enumerate(zoo.NAMES):
            zoo.save(root / "images" / ("cat", "dog")[number % 2] / f"{name}.png", zoo.picture(number))
        zoo.spec(root, "task: classification")


class TestLabelTable(OfFolder):
    def write(self, root: Path) -> None:
        for number, name in enumerate(zoo.NAMES):
            zoo.save(root / "images" / f"{name}.png", zoo.picture(number))
        rows = [f"{name}.png,{('cat', 'dog')[number % 2]}" for number, name in enumerate(zoo.NAMES)]
        (root / "labels.csv").write_text("\n".join(["name,label", *rows]))
        zoo.spec(root, "task: classification\nlabels: labels.csv")


class TestCifar(SourceContract):
    """Its files are no pictures by suffix; that a damaged one is told is in test_data_image_labels.py."""

    def build(self, root: Path) -> Source:
        if not any(root.iterdir()):
            for number, name in enumerate(("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")):
                pixels = np.random.default_rng(number).integers(0, 256, (2, 3073), dtype=np.uint8)
                pixels[:, 0] = (0, 1)
                (root / name).write_bytes(pixels.tobytes())
            (root / "batches.meta.txt").write_text("cat\ndog\n")
        return build_source(DataConfig.model_validate({"path": f"cifar10:{root}"}))


class TestTemplates(OfFolder):
    def write(self, root: Path) -> None:
        zoo.write(root, "north/{stem}_rgb.jpg", "north/{stem}_mask.png")
        text = 'classes: [background, road]\nimages: "{site}/{stem}_rgb.jpg"\nmasks: "{site}/{stem}_mask.png"'
        zoo.spec(root, text)


class TestTable(OfFolder):
    def write(self, root: Path) -> None:
        zoo.write(root, "photos/{stem}.jpg", "labels/{stem}.png")
        rows = [f"photos/{name}.jpg,labels/{name}.png,{name[:2]}" for name in zoo.NAMES]
        (root / "pairs.csv").write_text("\n".join(["image,mask,group", *rows]))
        zoo.spec(root, "classes: [background, road]\nlayout: table\nannotations: pairs.csv")


class TestCoco(OfFolder):
    def write(self, root: Path) -> None:
        zoo.coco(root)


class TestLabelme(OfFolder):
    def write(self, root: Path) -> None:
        zoo.labelme(root)


class TestInstances(OfFolder):
    def write(self, root: Path) -> None:
        zoo.instances(root)


class TestVoc(OfFolder):
    def write(self, root: Path) -> None:
        zoo.voc(root)


class TestTiff(OfFolder):
    def write(self, root: Path) -> None:
        zoo.tiff(root)


class Broken:
    """A source that breaks one promise."""

    def __init__(self, inner: Source, fault: str) -> None:
        self._inner, self._fault, self._calls = inner, fault, 0

    @property
    def facts(self) -> Facts:
        facts = self._inner.facts
        return Facts(**{**vars(facts), "palette": facts.palette[:1]}) if self._fault == "palette" else facts

    def key(self) -> str:
        return "always" if self._fault == "key" else self._inner.key()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        found = list(self._inner.samples(Notebook() if self._fault == "silent" else notebook))
        self._calls += 1
        return iter(found[:: -1 if self._fault == "order" and self._calls % 2 else 1])


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("palette", SourceContract.test_facts_are_complete),
        ("key", SourceContract.test_the_key_is_that_of_the_content),
        ("order", SourceContract.test_the_same_data_gives_the_same_bytes_in_the_same_order),
        ("silent", SourceContract.test_a_damaged_file_is_a_fault_and_never_a_traceback),
        ("silent", SourceContract.test_faults_of_all_images_are_gathered),
    ],
)
def test_a_source_that_breaks_a_promise_is_caught(fault: str, promise: Callable[[SourceContract], None]) -> None:
    class Other(TestFolders):
        def build(self, root: Path) -> Source:
            return Broken(super().build(root), fault)

    with pytest.raises(AssertionError):
        promise(Other())
