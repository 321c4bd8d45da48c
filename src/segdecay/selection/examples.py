"""Validation images to look at: best, median, worst and rare-class cases, picked by rule from the kept matrices.

Predictions are those of the cells that never saw the image. Knows the ledger and decoded images; nothing of pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.dataset import Dataset
from segdecay.records import write_bytes, write_json
from segdecay.selection.label_examples import pick_label_cases, write_label_cases
from segdecay.selection.pictures import as_rgb, png
from segdecay.selection.study import Study
from segdecay.selection.verdict import Decision
from segdecay.training.counts import intersection_union, mean_present
from segdecay.training.keeping import read_predictions
from segdecay.training.metrics import iou
from segdecay.training.setup import CellTask

RARE_CLASSES = 2


@dataclass(frozen=True)
class Case:
    """One validation image with the two cells that predicted it."""

    kind: str
    index: int  # in the data set
    fold: int
    miou_chosen: float
    miou_zero: float
    zero: CellTask
    chosen: CellTask


def pick_cases(study: Study, shown: float, none: float) -> list[Case]:
    """Best, median and worst image by mIoU at the shown strength, and the images richest in each rare class."""
    every: list[tuple[float, float, int, CellTask, CellTask, npt.NDArray[np.int64]]] = []
    for zero, chosen in zip(study.tasks(none), study.tasks(shown), strict=True):
        if zero.seed != study.config.search.seeds[0] or not (chosen.folder / "predictions.npz").exists():
            continue
        if not (zero.folder / "predictions.npz").exists():
            continue
        at_chosen, at_zero = (study.ledger.confusions(task.folder) for task in (chosen, zero))
        scores = [mean_present(iou(*intersection_union(matrices))) for matrices in (at_chosen, at_zero)]
        truth = at_chosen.sum(axis=2)
        every += [
            (float(scores[0][i]), float(scores[1][i]), index, zero, chosen, truth[i])
            for i, index in enumerate(chosen.scored)
        ]
    # ties and images without a valid pixel are settled by index: the pick is the same every time
    ranked = sorted((row for row in every if np.isfinite(row[0])), key=lambda row: (-row[0], row[2]))
    if not ranked:
        return []
    picks = [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]
    support = np.sum([row[5] for row in ranked], axis=0)
    present = [int(c) for c in np.argsort(support, kind="stable") if support[c] > 0]
    for rare in present[:RARE_CLASSES]:
        richest = max(ranked, key=lambda row: (row[5][rare], -row[2]))
        picks.append((f"rare:{study.dataset.classes[rare]}", richest))
    return [Case(kind, row[2], row[3].fold, row[0], row[1], row[3], row[4]) for kind, row in picks]


def write_examples(study: Study, decision: Decision, folder: Path) -> None:
    """Draw the cases into `folder` as PNG files and examples.json; then the cells' predictions are forgotten.

    Where none is taken, the best positive strength is shown beside it.
    """
    if (folder / "examples.json").exists():
        study.ledger.forget_predictions()
        return
    settings = decision.settings
    positive = [i for i in range(1, len(settings)) if settings[i].mean is not None]
    shown = decision.taken
    if shown == decision.none and positive:
        shown = max(positive, key=lambda i: settings[i].mean or 0.0)
    values = settings[shown].strength.value, settings[decision.none].strength.value
    folder.mkdir(exist_ok=True)
    if study.dataset.task == "classification":
        labels = write_label_cases(study, pick_label_cases(study, *values), folder)
        write_json(folder / "examples.json", {"shown": settings[shown].strength, "cases": [], "labels": labels})
        return
    cases = pick_cases(study, *values)
    rows = [_write_case(study.dataset, case, number, folder) for number, case in enumerate(cases, 1)]
    write_json(folder / "examples.json", {"shown": settings[shown].strength, "cases": rows})
    study.ledger.forget_predictions()


def _write_case(dataset: Dataset, case: Case, number: int, folder: Path) -> dict[str, Any]:
    palette = (*dataset.palette, *[(255, 255, 255)] * (256 - len(dataset.palette)))
    files = {
        "image": png(as_rgb(np.asarray(dataset.image(case.index)))),
        "truth": png(np.asarray(dataset.mask(case.index)), palette),
        "zero": png(read_predictions(case.zero.folder, case.index), palette),
        "chosen": png(read_predictions(case.chosen.folder, case.index), palette),
    }
    row: dict[str, Any] = {
        "kind": case.kind,
        "name": dataset.items[case.index].name,
        "fold": case.fold,
        "miou_chosen": case.miou_chosen,
        "miou_zero": case.miou_zero,
    }
    for role, content in files.items():
        row[role] = f"{number:02d}-{role}.png"
        write_bytes(folder / row[role], content)
    return row
