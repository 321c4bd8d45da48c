"""Example images for the report: best, median, worst and rare-class cases, picked by rule from the trials' matrices.

Predictions are those of the trials that did not train on the image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdecay.data.dataset import Dataset
from segdecay.metrics.confusion import iou
from segdecay.metrics.counts import intersection_union, mean_present
from segdecay.runs.examples import Examples, ImageExample, LabelExample
from segdecay.search.study import Study
from segdecay.search.verdict import Decision
from segdecay.training.artifacts import read_predictions
from segdecay.training.setup import TrialTask
from segdecay.utils.files import write_bytes, write_json


def png(array: npt.NDArray[np.uint8], palette: tuple[tuple[int, int, int], ...] | None = None) -> bytes:
    """An RGB (H, W, 3) or index (H, W) array as PNG bytes."""
    picture = Image.fromarray(array)
    if palette is not None:
        picture = picture.convert("L")
        picture.putpalette([channel for colour in palette for channel in colour])
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def as_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The first three bands, or the first one three times."""
    if image.shape[-1] >= 3:
        return np.ascontiguousarray(image[..., :3])
    return np.repeat(image[..., :1], 3, axis=-1)


KINDS = {  # right at the shown strength, right without decay
    (True, False): "mended",
    (False, True): "spoilt",
    (False, False): "wrong both times",
    (True, True): "right both times",
}
EACH = 5  # images per kind, each of another class


@dataclass(frozen=True)
class LabelCase:
    """One validation image with its true and predicted classes, as indices."""

    kind: str
    index: int
    fold: int
    truth: int
    zero: int
    chosen: int


def pick_label_cases(study: Study, shown: float, none: float) -> list[LabelCase]:
    """For every kind the first image of each class, in the order of the folds; at most EACH."""
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


def write_label_cases(study: Study, cases: list[LabelCase], folder: Path) -> list[LabelExample]:
    """Write the images; returns the rows of examples.json."""
    names, rows = study.dataset.classes, []
    for number, case in enumerate(cases, start=1):
        file = f"{number:02d}-image.png"
        write_bytes(folder / file, png(as_rgb(np.asarray(study.dataset.image(case.index)))))
        rows.append(
            LabelExample(
                kind=case.kind,
                name=study.dataset.items[case.index].name,
                fold=case.fold,
                image=file,
                truth=names[case.truth],
                zero=names[case.zero],
                chosen=names[case.chosen],
            )
        )
    return rows


RARE_CLASSES = 2


@dataclass(frozen=True)
class Case:
    """One validation image with the two trials that predicted it."""

    kind: str
    index: int  # in the data set
    fold: int
    miou_chosen: float
    miou_zero: float
    zero: TrialTask
    chosen: TrialTask


def pick_cases(study: Study, shown: float, none: float) -> list[Case]:
    """Best, median and worst image by mIoU at the shown strength, and the images with the most of each rare class."""
    every: list[tuple[float, float, int, TrialTask, TrialTask, npt.NDArray[np.int64]]] = []
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
    # ties, and images without a valid pixel, are ordered by index, so that the pick is reproducible
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
    """Write the cases into `folder` as PNG files and examples.json, then remove the trials' predictions.

    If the decision is no decay, the best positive strength is shown for comparison.
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
        write_json(folder / "examples.json", Examples(settings[shown].strength, labels=tuple(labels)))
        return
    cases = pick_cases(study, *values)
    rows = tuple(_write_case(study.dataset, case, number, folder) for number, case in enumerate(cases, 1))
    write_json(folder / "examples.json", Examples(settings[shown].strength, rows))
    study.ledger.forget_predictions()


def _write_case(dataset: Dataset, case: Case, number: int, folder: Path) -> ImageExample:
    palette = (*dataset.palette, *[(255, 255, 255)] * (256 - len(dataset.palette)))
    files = {
        "image": png(as_rgb(np.asarray(dataset.image(case.index)))),
        "truth": png(np.asarray(dataset.mask(case.index)), palette),
        "zero": png(read_predictions(case.zero.folder, case.index), palette),
        "chosen": png(read_predictions(case.chosen.folder, case.index), palette),
    }
    names = {role: f"{number:02d}-{role}.png" for role in files}
    for role, content in files.items():
        write_bytes(folder / names[role], content)
    return ImageExample(
        kind=case.kind,
        name=dataset.items[case.index].name,
        fold=case.fold,
        miou_zero=case.miou_zero,
        miou_chosen=case.miou_chosen,
        **names,
    )
