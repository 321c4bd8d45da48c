"""The contract of data sources, for our own and those of third parties: subclass it in a test module.

Needs no test framework: a broken promise is an AssertionError, and pytest collects the methods that begin with `test_`.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import IGNORE
from segdecay.data.formats import Sample, Source
from segdecay.data.formats.pairing import PARTS
from segdecay.errors import SegdecayError
from segdecay.testing.small_runs import expect

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".mat"})


class SourceContract:
    """What every source must do; `build` returns the source under test with a small data set.

    Promises: facts name at least two classes with one colour each; two readings give the same bytes in the same order;
    an image is (H, W, B) uint8, its mask (H, W) uint8 of class indices or IGNORE; names are unique; the key changes
    when a file changes, and equal copies have equal keys; a file that is empty, truncated or random gives a fault in
    the notebook or a SegdecayError, never another exception; the faults of all files are reported together.

    Example:
        >>> from segdecay.data.formats.digits import ScenesSource
        >>> class TestDigits(SourceContract):
        ...     def build(self, root: Path) -> Source:
        ...         return ScenesSource()
        >>> TestDigits().test_facts_are_complete()
    """

    @abstractmethod
    def build(self, root: Path) -> Source:
        """The source of the data set in `root`; where `root` is empty, write the data set there first.

        The data set has at least two images and no fault, and has the same bytes at every call.
        """

    # --- the promises -------------------------------------------------------------------------------------------------

    def test_facts_are_complete(self) -> None:
        with self._built() as (_, source):
            facts = source.facts
        expect(len(facts.classes) >= 2, f"{len(facts.classes)} classes; at least two are needed.")
        expect(len(facts.palette) == len(facts.classes), "The palette needs one colour a class.")
        expect(bool(facts.name and facts.reading), "name and reading must not be empty.")

    def test_samples_are_what_they_should_be(self) -> None:
        with self._built() as (_, source):
            found, notebook = _read(source)
        expect(len(found) >= 2, f"{len(found)} samples; the contract needs two.")
        expect(notebook.is_clean, f"A sound data set has faults: {[one.message for one in notebook.summary()]}.")
        expect(len({one.name for one in found}) == len(found), "Two samples have the same name.")
        for one in found:
            expect(one.image.ndim == 3 and one.image.dtype == np.uint8, f"{one.name}: an image is (H, W, B) uint8.")
            expect(one.mask.ndim == 2 and one.mask.dtype == np.uint8, f"{one.name}: a mask is (H, W) uint8.")
            fits = one.mask.shape in {one.image.shape[:2], (1, 1)}
            expect(fits, f"{one.name}: the mask is {one.mask.shape}, the image {one.image.shape}.")
            allowed = set(range(len(source.facts.classes))) | {IGNORE}
            expect(set(np.unique(one.mask).tolist()) <= allowed, f"{one.name}: the mask holds a value of no class.")
            expect(one.part in PARTS and bool(one.group), f"{one.name}: part {one.part!r}, group {one.group!r}.")

    def test_the_same_data_gives_the_same_bytes_in_the_same_order(self) -> None:
        with self._built() as (_, first), self._built() as (_, second):
            expect(_prints(first) == _prints(second), "Two copies of one data set give different samples.")
            expect(_prints(first) == _prints(first), "Reading twice gives different samples.")

    def test_the_key_is_that_of_the_content(self) -> None:
        with self._built() as (root, first):
            expect(first.key() == self.build(root).key(), "Two readings of one data set have different keys.")
            for path in _files(root):
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
                try:
                    changed = self.build(root).key()
                except SegdecayError:
                    changed = ""
                path.write_bytes(content)
                expect(changed != first.key(), f"{path.relative_to(root)} changed, and the key did not.")

    def test_a_damaged_file_is_a_fault_and_never_a_traceback(self) -> None:
        with self._built() as (root, _):
            for path in _files(root):
                content = path.read_bytes()
                noise = np.random.default_rng(0).bytes(64)
                for what, bad in (("empty", b""), ("cut", content[: len(content) * 2 // 3]), ("noise", noise)):
                    path.write_bytes(bad)
                    told = self._is_told(root)
                    where = path.relative_to(root)
                    expect(told or path.suffix.lower() not in PICTURES, f"{where} is {what}, and no fault is reported.")
                path.write_bytes(content)

    def test_faults_of_all_images_are_gathered(self) -> None:
        with self._built() as (root, source):
            images = [path for path in _files(root) if path.suffix.lower() in PICTURES]
            count = len(_read(source)[0])
            for path in images:
                path.write_bytes(b"")
            if images:
                _, notebook = _read(self.build(root))
                named = {fault.file for fault in notebook.faults}
                expect(len(named) >= count, f"{count} samples are damaged; faults name {sorted(named)}.")

    # --- helpers ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _built(self) -> Iterator[tuple[Path, Source]]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "set"  # names of sets are part of some keys
            root.mkdir()
            yield root, self.build(root)

    def _is_told(self, root: Path) -> bool:
        try:
            return not _read(self.build(root))[1].is_clean
        except SegdecayError:
            return True


def _read(source: Source) -> tuple[list[Sample], Notebook]:
    notebook = Notebook()
    return list(source.samples(notebook)), notebook


def _prints(source: Source) -> list[tuple[object, ...]]:
    return [
        (one.name, one.part, one.group, one.fold, one.sha256, one.image.tobytes(), one.mask.tobytes())
        for one in _read(source)[0]
    ]


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())
