"""Validation images with one label to look at: mended, spoilt, wrong both times, right both times, picked by rule.

What a model called an image is read from the image's own confusion matrix. Knows the ledger and decoded images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.records import write_bytes
from segdecay.selection.pictures import as_rgb, png
from segdecay.selection.study import Study

KINDS = {  # right at the shown strength, right at none
    (True, False): "mended",
    (False, True): "spoilt",
    (False, False): "wrong both times",
    (True, True): "right both times",
}
EACH = 5  # images of a kind, each of another class


@dataclass(frozen=True)
class LabelCase:
    """One validation image: classes by index."""

    kind: str
    index: int
    fold: int
    truth: int
    zero: int
    chosen: int


def pick_label_cases(study: Study, shown: float, none: float) -> list[LabelCase]:
    """Of every kind the first image of each class in the order of the folds, at most EACH."""
    found: dict[str, list[LabelCase]] = {kind: [] for kind in KINDS.values()}
    for zero, chosen in zip(study.tasks(none), study.tasks(shown), strict=True):
        is_scored = all(study.ledger.record(task.folder) is not None for task in (zero, chosen))
        if zero.seed != study.config.search.seeds[0] or not is_scored:
            continue
        if not all((task.folder / "confusion.npz").exists() for task in (zero, chosen)):
            continue
        at_zero, at_chosen = (study.ledger.confusions(task.folder) for task in (zero, chosen))
        truths = at_chosen.sum(axis=2).argmax(axis=1)
        called = [matrices.sum(axis=1).argmax(axis=1) for matrices in (at_zero, at_chosen)]
        for place, index in enumerate(chosen.scored):
            truth, before, after = int(truths[place]), int(called[0][place]), int(called[1][place])
            kind = KINDS[after == truth, before == truth]
            taken = found[kind]
            if len(taken) < EACH and all(case.truth != truth for case in taken):
                taken.append(LabelCase(kind, index, chosen.fold, truth, before, after))
    return [case for cases in found.values() for case in cases]


def write_label_cases(study: Study, cases: list[LabelCase], folder: Path) -> list[dict[str, Any]]:
    """The rows of examples.json, their images written beside it."""
    names, rows = study.dataset.classes, []
    for number, case in enumerate(cases, start=1):
        file = f"{number:02d}-image.png"
        write_bytes(folder / file, png(as_rgb(np.asarray(study.dataset.image(case.index)))))
        rows.append(
            {
                "kind": case.kind,
                "name": study.dataset.items[case.index].name,
                "fold": case.fold,
                "image": file,
                "truth": names[case.truth],
                "zero": names[case.zero],
                "chosen": names[case.chosen],
            }
        )
    return rows
