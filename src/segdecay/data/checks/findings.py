"""Findings on a data set, each with file, value and fix, and the table of classes.

Faults are collected while files are read and summarised at the end: the first files by name, the others by number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segdecay.config.schema import Task
from segdecay.data.dataset import POOL, Item

I64 = npt.NDArray[np.int64]
Level = Literal["wrong", "warning", "note"]
NAMED_FILES = 5  # files of one kind of fault that are named; the others are counted
LEVEL_ORDER = {"wrong": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One line of a check: `message` says what is wrong, what was found, what is allowed and what to do."""

    level: Level
    code: str
    file: str | None
    message: str


@dataclass(frozen=True)
class ClassRow:
    """The amount of a class. share: of the labelled pixels, 0-1."""

    name: str
    pixels: int
    share: float
    images: int
    groups: int


@dataclass(frozen=True)
class CheckReport:
    """All findings, the worst first; one row per class; the number of images in each part."""

    findings: tuple[Finding, ...]
    classes: tuple[ClassRow, ...]
    images: dict[str, int]
    task: Task = "segmentation"

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)


@dataclass(frozen=True)
class Fault:
    """One fault of one file: the message reads "FILE SEEN FIX"."""

    level: Level
    code: str
    file: str
    seen: str
    fix: str


def summarise(faults: Iterable[Fault]) -> tuple[Finding, ...]:
    """One finding per kind of fault, with the first five files by name and the others by number; the worst first.

    >>> faults = [Fault("wrong", "empty_file", f"{c}.png", "is empty (0 bytes).", "Copy it again.") for c in "abcdefg"]
    >>> summarise(faults)[0].message
    'a.png is empty (0 bytes). Copy it again. The same in 6 more: b.png, c.png, d.png, e.png and 2 more.'
    """
    kinds: dict[tuple[Level, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        kinds[fault.level, fault.code].append(fault)
    findings = []
    for (level, code), found in kinds.items():
        first = found[0]
        message = f"{first.file} {first.seen} {first.fix}".strip() + _others_text(found)
        findings.append(Finding(level, code, first.file, message))
    return ordered(findings)


def _others_text(found: Sequence[Fault]) -> str:
    """A sentence on all faults of a kind but the first."""
    first, others = found[0], found[1:]
    if not others:
        return ""
    named = others[: NAMED_FILES - 1]
    if all(other.seen == first.seen for other in named):
        text = ", ".join(other.file for other in named)
    else:
        text = "; ".join(f"{other.file} {other.seen.split(';')[0].rstrip('.')}" for other in named)
    left = len(others) - len(named)
    return f" The same in {len(others)} more: {text}{f' and {left} more' if left else ''}."


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same findings, the worst level first."""
    return tuple(sorted(findings, key=lambda finding: LEVEL_ORDER[finding.level]))


def names_of(files: Sequence[str]) -> str:
    """The first five names and how many more.

    >>> names_of(["a", "b"]), names_of(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    rest = len(files) - NAMED_FILES
    return ", ".join(files[:NAMED_FILES]) + (f" and {rest} more" if rest > 0 else "")


@dataclass
class Notebook:
    """Collects the faults of files and the findings on the data set while a source reads; mutable."""

    faults: list[Fault] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # files that a finding is about, also those that its message cuts off

    is_clean: bool = True  # nothing is wrong so far

    def note(self, entries: Iterable[Fault | Finding]) -> None:
        """Add faults of files and findings on the data set."""
        for entry in entries:
            self.is_clean = self.is_clean and entry.level != "wrong"
            if isinstance(entry, Fault):
                self.faults.append(entry)
            else:
                self.findings.append(entry)

    def fault(self, level: Level, code: str, file: str, seen: str, fix: str = "") -> None:
        self.note([Fault(level, code, file, seen, fix)])

    def finding(self, level: Level, code: str, message: str, file: str | None = None) -> None:
        self.note([Finding(level, code, file, message)])

    def summary(self) -> tuple[Finding, ...]:
        return ordered([*self.findings, *summarise(self.faults)])


def class_rows(
    classes: Sequence[str],
    counts: I64,  # (items, classes) pixels
    items: Sequence[Item],
) -> tuple[ClassRow, ...]:
    """Pixels, share, images and groups of every class, over all parts."""
    counts = counts.reshape(len(items), len(classes))
    totals = counts.sum(axis=0)
    labelled = max(int(totals.sum()), 1)
    return tuple(
        ClassRow(
            name=name,
            pixels=int(totals[c]),
            share=float(totals[c] / labelled),
            images=int((counts[:, c] > 0).sum()),
            groups=len({item.group for item, pixels in zip(items, counts[:, c], strict=True) if pixels}),
        )
        for c, name in enumerate(classes)
    )


def check_classes(
    classes: Sequence[str], counts: I64, items: Sequence[Item], task: Task = "segmentation"
) -> tuple[Finding, ...]:
    """Classes that never occur, occur in test only, or are the only one."""
    pool = np.array([item.part in POOL for item in items], dtype=bool)
    everywhere, learned = counts.sum(axis=0), counts[pool].sum(axis=0)
    present = [name for name, pixels in zip(classes, learned, strict=True) if pixels]
    findings = []
    if pool.any() and not present:
        findings.append(
            Finding("wrong", "nothing_labelled", None, "No pixel of any training mask is labelled: all are ignored.")
        )
    if pool.any() and len(present) == 1:
        every, fix = (
            ("image", "are labels read from the right place?")
            if task == "classification"
            else ("labelled pixel", "are masks exported with the right values?")
        )
        message = (
            f"One class only: every {every} for training is '{present[0]}', so there is nothing to tell apart. "
            f"The data set names {', '.join(classes)}: {fix}"
        )
        findings.append(Finding("wrong", "one_class", None, message))
        return tuple(findings)
    for c, name in enumerate(classes):
        if present and not everywhere[c]:
            where, fix = (
                ("is the label of no image", "add images of it.")
                if task == "classification"
                else ("occurs in no mask", "check its pixel value.")
            )
            message = f"class '{name}' {where}; it gets no score. Remove it from the classes, or {fix}"
            findings.append(Finding("warning", "class_never_seen", None, message))
        elif present and not learned[c]:
            where = "images" if task == "classification" else "masks"
            message = f"class '{name}' occurs in test {where} only: it cannot be learned, and its test score will be 0."
            findings.append(Finding("warning", "class_only_in_test", None, message))
    return tuple(findings)


def check_parts(items: Sequence[Item]) -> tuple[Finding, ...]:
    """A data set needs images for training."""
    if items and not any(item.part in POOL for item in items):
        message = "Every image lies in test; nothing is left to train on. Move images to train."
        return (Finding("wrong", "no_training_part", None, message),)
    return ()


def check_shared_groups(items: Sequence[Item], fold_method: str) -> tuple[Finding, ...]:
    """Groups in more than one part of a given split: the score of the later part is then too good.

    Cross-validation pools train and val, so a group in both does harm only if the folds follow the split.
    """
    parts_of: dict[str, set[str]] = defaultdict(set)
    for item in items:
        parts_of[item.group].add(item.part)
    follows_split = fold_method == "given" and all(item.fold is None for item in items)
    findings = []
    for left, right in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(group for group, parts in parts_of.items() if {left, right} <= parts)
        if not shared:
            continue
        seen = f"{len(shared)} group{'s' if len(shared) > 1 else ''} in both {left} and {right}: {names_of(shared)}. "
        if right == "val" and not follows_split:
            fix = "This is no leak, since cross-validation makes new folds of train and val."
            findings.append(Finding("note", "shared_groups_pooled", None, seen + fix))
            continue
        fix = (
            f"Images of one group resemble each other, so the {right} score will be better than on new groups. "
            "Move each group into one part, or read that score as one on known groups."
        )
        findings.append(Finding("warning", "shared_groups", None, seen + fix))
    return tuple(findings)


def report_to_json(report: CheckReport) -> dict[str, Any]:
    """Plain values that JSON can hold."""
    return asdict(report)


def report_from_json(values: Mapping[str, Any]) -> CheckReport:
    """The inverse of `report_to_json`."""
    return CheckReport(
        findings=tuple(Finding(**finding) for finding in values["findings"]),
        classes=tuple(ClassRow(**row) for row in values["classes"]),
        images=dict(values["images"]),
        task=values.get("task", "segmentation"),
    )


HANDFUL_PX = 100  # labelled pixels of a class, over all training images,
HANDFUL_SHARE = 1e-3  # and their share of what is labelled
HANDFUL_IMAGES, OF_IMAGES = 2, 20  # images with a class, out of at least OF_IMAGES
BACKGROUND = ("background", "bg", "other", "nothing", "ground")
MOSTLY = 0.5  # share of masks without any object above which the note is a warning


def check_handfuls(classes: Sequence[str], counts: I64, items: Sequence[Item]) -> tuple[Finding, ...]:
    """Classes with so few labelled pixels or images that their scores mean little.

    counts: (items, classes) pixels.
    """
    pool = np.array([item.part in POOL for item in items], dtype=bool)
    learned, learned_items = counts[pool], [item for item in items if item.part in POOL]
    few = []
    for name, pixels in zip(classes, learned.T, strict=True):
        total, images = int(pixels.sum()), int((pixels > 0).sum())
        is_small = total < HANDFUL_PX and total < HANDFUL_SHARE * learned.sum()
        if total and (is_small or (images <= HANDFUL_IMAGES and len(learned) >= OF_IMAGES)):
            holders = [item.name for item, held in zip(learned_items, pixels, strict=True) if held]
            few.append(f"{name} ({total} px in {images} image{'s' if images > 1 else ''}: {names_of(holders)})")
    if not few:
        return ()
    message = (
        f"Few labelled pixels: {names_of(few)}. Whether such a class is learned is a matter of chance: label more of "
        "it, merge it (values: or colors: may give two the same class), or put it under ignore."
    )
    return (Finding("warning", "handful_of_pixels", None, message),)


def check_empty_masks(classes: Sequence[str], counts: I64, items: Sequence[Item]) -> tuple[Finding, ...]:
    """Masks that hold only background: a note, or a warning if they are more than half of the training masks."""
    names = [name.lower() for name in classes]
    index = next((names.index(name) for name in BACKGROUND if name in names), 0 if len(classes) == 2 else None)
    if index is None:
        return ()
    pool = np.array([item.part in POOL for item in items], dtype=bool)
    is_empty = pool & (counts[:, index] > 0) & (np.delete(counts, index, axis=1).sum(axis=1) == 0)
    found = [item.name for item, empty in zip(items, is_empty, strict=True) if empty]
    if not found or len(found) == pool.sum():  # if all are, `check_classes` reports it
        return ()
    share = len(found) / int(pool.sum())
    count = f"{len(found)} of {int(pool.sum())} training masks are" if len(found) > 1 else "One training mask is"
    message = (
        f"{count} all '{classes[index]}': {names_of(found)}. This is right for images without objects; if they have "
        "objects, their masks were not exported."
    )
    return (Finding("warning" if share > MOSTLY else "note", "all_background", None, message),)


def check_unseen(key: str, stated: dict[str, str], seen: Iterable[str]) -> tuple[Finding, ...]:
    """Values or colours of dataset.yaml that occur in no mask although others of their class do.

    `check_classes` reports classes without any pixel.

    >>> [one.message for one in check_unseen("values", {"7": "road", "8": "road"}, ["7"])]
    ['values: 8 (road) occurs in no mask. Correct or remove it.']
    """
    there = set(seen)
    known = {stated[value] for value in there if value in stated}
    unseen = [f"{value} ({name})" for value, name in stated.items() if value not in there and name in known]
    if not unseen:
        return ()
    verb, those = ("occur", "them") if len(unseen) > 1 else ("occurs", "it")
    message = f"{key}: {names_of(unseen)} {verb} in no mask. Correct or remove {those}."
    return (Finding("warning", f"{key}_unseen", None, message),)
