"""Description of data that only the user's code reads: names, groups and classes, from which folds are made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.config.schema import Task
from segdecay.data.checks.findings import (
    CheckReport,
    check_classes,
    check_parts,
    check_shared_groups,
    class_rows,
    ordered,
)
from segdecay.data.dataset import MOST_CLASSES, Dataset, Item
from segdecay.data.images.palette import default_palette
from segdecay.errors import DataError, gather

PARTS = ("train", "val", "test")
SHOWN = 3


@dataclass(frozen=True)
class UserData:
    """A description of images that a user function reads.

    Attributes:
        names: of the N images, all distinct.
        classes: names of the C classes, in the order of rows and columns of a confusion matrix.
        groups: of every image, N names; a group is never split between training and validation. Default: every image is
            its own group.
        counts: true pixels of every class in every image, (N, C), by which folds are balanced and classes that a fold
            cannot score are reported. Default: folds are balanced only by the number of images.
        parts: of every image, N of "train", "val" (with train in the folds) or "test". Default: all are "train".
        name: of the data set.

    Raises:
        DataError: lists all faults.

    Example:
        >>> data = UserData(["a", "b", "c"], ["sky", "tree"], groups=["north", "north", "south"])
        >>> [item.group for item in data.dataset(Path("runs/own"))[0].items]
        ['north', 'north', 'south']
    """

    names: Sequence[str]
    classes: Sequence[str]
    groups: Sequence[str] | None = None
    counts: Any = None
    parts: Sequence[str] | None = None
    name: str = "own data"
    task: Task = "segmentation"

    def __post_init__(self) -> None:
        gather(DataError, self._faults(), headline="UserData cannot be used:")

    def _faults(self) -> list[str]:
        faults = [
            f"{word}: a sequence of texts is needed, as in ['a', 'b']; saw {given!r}."
            for word, given in (("names", self.names), ("classes", self.classes), ("groups", self.groups))
            if isinstance(given, str)
        ]
        if faults:
            return faults
        n, classes = len(self.names), list(self.classes)
        for word, values in (("names", self.names), ("classes", classes)):
            twice = [value for value, count in Counter(map(str, values)).items() if count > 1]
            if twice:
                faults.append(f"{word}: {', '.join(twice[:SHOWN])} occurs more than once; names must be distinct.")
        if not n:
            faults.append("names: no image is named.")
        if not 2 <= len(classes) <= MOST_CLASSES:
            faults.append(f"classes: 2 to {MOST_CLASSES} names are needed; saw {len(classes)}.")
        for word, given in (("groups", self.groups), ("parts", self.parts)):
            if given is not None and len(given) != n:
                faults.append(f"{word}: one for each of the {n} images is needed; saw {len(given)}.")
        strange = sorted({str(part) for part in self.parts or () if part not in PARTS})
        if strange:
            faults.append(f"parts: {', '.join(PARTS)} are allowed; saw {', '.join(strange[:SHOWN])}.")
        return faults + self._count_faults(n, len(classes))

    def _count_faults(self, n: int, classes: int) -> list[str]:
        if self.counts is None:
            return []
        values = np.asarray(self.counts)
        if values.shape != (n, classes) or values.dtype.kind not in "iu":
            return [f"counts: integers of shape ({n}, {classes}) are needed; saw {values.dtype} {values.shape}."]
        return ["counts: pixels are 0 or more; saw negative ones."] if values.size and int(values.min()) < 0 else []

    def dataset(self, root: Path) -> tuple[Dataset, CheckReport]:
        """The data set with items but without pixels. root: the run's folder; nothing is read from it.

        Raises:
            DataError: there is no image for training.
        """
        counts = np.ones((len(self.names), len(self.classes)), np.int64) if self.counts is None else self.counts
        rows = np.asarray(counts, dtype=np.int64)
        items = tuple(self._items())
        classes = tuple(map(str, self.classes))
        findings = [*check_parts(items), *check_shared_groups(items, "groups")]
        if self.counts is not None:
            findings += check_classes(classes, rows, items, self.task)
        gather(DataError, [finding.message for finding in findings if finding.level == "wrong"])
        known = rows if self.counts is not None else rows * 0
        report = CheckReport(
            ordered(findings), class_rows(classes, known, items), dict(Counter(item.part for item in items)), self.task
        )
        dataset = Dataset(
            name=self.name,
            classes=classes,
            palette=default_palette(len(classes)),
            bands=0,
            flip="none",
            fold_method="groups",
            fingerprint=self._fingerprint(items),
            root=root,
            items=items,
            task=self.task,
            counts=tuple(tuple(int(count) for count in row) for row in rows),
        )
        return dataset, report

    def _items(self) -> list[Item]:
        groups = self.groups if self.groups is not None else self.names
        parts: Sequence[Any] = self.parts if self.parts is not None else ["train"] * len(self.names)
        return [
            Item(str(name), part, str(group), None, 0, 0, "")
            for name, part, group in zip(self.names, parts, groups, strict=True)
        ]

    def _fingerprint(self, items: Sequence[Item]) -> str:
        rows = [[item.name, item.part, item.group] for item in items]
        counts = None if self.counts is None else np.asarray(self.counts).tolist()
        said: Mapping[str, Any] = {"classes": list(map(str, self.classes)), "rows": rows, "counts": counts}
        return hashlib.sha256(json.dumps(said, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
