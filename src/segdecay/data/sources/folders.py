"""A folder of images and masks as a source: each file is read once, hashed, decoded, checked and mapped to classes.

Which image has which mask is the business of a finder (pairs.py, templates.py, table.py, voc.py). Knows nothing of
caches or folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from segdecay.data.checks import Finding, Notebook
from segdecay.data.conflicts import is_template
from segdecay.data.label_checks import check_palettes, check_values
from segdecay.data.labels import tables_of, unpack
from segdecay.data.palette import colour_text, parse_colour
from segdecay.data.quantities import check_unseen
from segdecay.data.sources.bands import check_bands
from segdecay.data.sources.base import Sample
from segdecay.data.sources.digests import digests_of
from segdecay.data.sources.grouping import Placed, place_pairs
from segdecay.data.sources.pairs import find_pairs
from segdecay.data.sources.reading import PairReader, facts_of
from segdecay.data.sources.templates import find_by_templates
from segdecay.data.spec import DatasetSpec, class_names
from segdecay.errors import DataError

Finder = Callable[[Path, DatasetSpec, Notebook], tuple[Placed, ...]]
ALWAYS_READ = frozenset({"values", "colors", "ignore", "exif", "bands"})  # keys that change pixels
READ_IF_SET = frozenset({"names", "background", "overlap", "invert", "scale", "nodata"})  # as these do, since later


def reading_of(spec: DatasetSpec) -> str:
    """How files become arrays, as text; what nobody set is left out, so that fingerprints of before stay."""
    return spec.model_dump_json(include=set(ALWAYS_READ | (READ_IF_SET & spec.model_fields_set)))


def find_in_folders(root: Path, spec: DatasetSpec, notebook: Notebook) -> tuple[Placed, ...]:
    """images/ and masks/, or what templates name, with their groups.

    Raises:
        DataError, ConfigError: a folder is missing or empty, or a text file in it is not valid.
    """
    if is_template(spec.images):
        return find_by_templates(root, spec, notebook)
    return place_pairs(root, spec, find_pairs(root, spec, notebook), notebook)


def classes_of(spec: DatasetSpec, root: Path) -> tuple[str, ...]:
    """The classes that dataset.yaml or classes.txt name.

    Raises:
        DataError: none of them names any.
    """
    classes = class_names(spec, root)
    if not classes:
        raise DataError(
            f"{root} does not say which classes there are. Write classes.txt (one name a line, line 1 = value 0), "
            f"or let segdecay init {root} --write guess a dataset.yaml."
        )
    return classes


class FolderSource:
    """Images and masks below one folder, as dataset.yaml describes them; find: which image has which mask.

    Raises:
        DataError, ConfigError: a folder is missing or empty, or a text file in it is not valid.
    """

    def __init__(self, root: Path, spec: DatasetSpec, find: Finder = find_in_folders) -> None:
        self._spec = spec
        self._listing = Notebook()
        classes = class_names(spec, root)
        self._placed = find(root, spec, self._listing)
        classes = classes or classes_of(spec, root)
        self._tables = tables_of(spec, classes)
        self.facts = facts_of(spec, root, classes, reading_of(spec))

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Every pair in its place."""
        return self._placed

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return digests_of(path for one in self._placed for path in (one.pair.image, one.pair.mask))

    def key(self) -> str:
        """Over every file's content, its place, what was noted about names, and the spec."""
        noted = self._listing.summary()
        content = hashlib.sha256(repr((self.facts, self._spec, sorted(self._spec.model_fields_set), noted)).encode())
        for one in self._placed:
            pair = one.pair
            row = (pair.name, pair.part, one.group, one.fold, pair.image_label, pair.mask_label)
            content.update(repr((row, self._digests[pair.image], self._digests[pair.mask])).encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every usable pair, decoded, in natural order of names; each fault goes into the notebook.

        Raises:
            DataError: a file changed between its hash and its decoding.
        """
        notebook.note([*self._listing.faults, *self._listing.findings])
        reader = PairReader(self._spec, self._tables, self._digests, notebook)
        yield from reader.read_each(self._placed, lambda own, one, _: own.read(one))
        ignored = [value for value in self._spec.ignore if isinstance(value, int)]
        notebook.note(check_values(reader.values, self._tables[0], self.facts.classes, ignored))
        notebook.note(check_palettes(reader.palettes))
        notebook.note(check_bands(reader.bands, self._spec.bands))
        if notebook.is_clean:
            notebook.note(self._unseen(reader))

    def _unseen(self, reader: PairReader) -> tuple[Finding, ...]:
        """Stated values and colours that occur nowhere, beside others of their class that do."""
        spec = self._spec
        held = np.flatnonzero(np.sum([one.counts for one in reader.values], axis=0)) if reader.values else ()
        of_values = {str(value): name for value, name in spec.values.items()}
        of_colours = {colour_text(parse_colour(text)): name for text, name in spec.colors.items()}
        used = [colour_text(unpack(key)) for key in reader.colours]
        return (*check_unseen("values", of_values, map(str, held)), *check_unseen("colors", of_colours, used))
