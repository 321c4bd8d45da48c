"""What a cell leaves when its last step is done: scores, predictions, weights, and the record that makes it finished.

Knows one trained cell; nothing of how it was trained.
"""

from __future__ import annotations

from typing import Any

from segdecay.decay import ActivationWatch, watch_activations
from segdecay.records import CellRecord, write_json
from segdecay.scores import Scores
from segdecay.training.alarm import dead_classes, plain
from segdecay.training.balancing import log_frequencies
from segdecay.training.boundary import FILE as BOUNDARY_FILE
from segdecay.training.boundary import write_boundaries
from segdecay.training.cell import Cell
from segdecay.training.gauging import kept_gauges
from segdecay.training.keeping import validation_line, write_curve, write_predictions, write_weights
from segdecay.training.metrics import curve_scores, write_confusions
from segdecay.training.setup import count_batches


def finish(cell: Cell, reason: str | None) -> CellRecord:
    """Score at the last step and write everything; cell.json comes last and makes the cell finished."""
    task, progress = cell.task, cell.progress
    train = validation = watch = None
    extra: dict[str, Any] = {
        "task": cell.dataset.task,
        "mean": list(cell.parts.pixels.mean),
        "deviation": list(cell.parts.pixels.deviation),
        "batches": count_batches(len(task.train), task.config.training.batch_size),
        "log_frequencies": log_frequencies(cell.parts.pixels.counts),
        "stages": [*progress.stages, cell.facts_of_stage()],
    }
    if task.spread is not None:
        extra["devices"] = list(task.spread.devices)
    if reason is None:
        train, validation, watch, more = _final_scores(cell)
        extra |= more
        if task.keep_model:
            write_weights(task.folder, cell.parts.bare)
    extra["gauges"] = kept_gauges(progress.curve, watch)
    write_curve(task.folder, progress.curve)
    record = CellRecord(
        setting=task.setting,
        strength=cell.parts.strength,
        fold=task.fold,
        seed=task.seed,
        status="finished" if reason is None else "diverged",
        reason=reason,
        train=train,
        validation=validation,
        epochs=progress.epoch,
        steps=progress.step,
        seconds=cell.elapsed(),
        parts=(len(task.train), len(task.scored)),
        extra=extra,
    )
    write_json(task.folder / "cell.json", record)
    return record


def _final_scores(cell: Cell) -> tuple[Scores, Scores | None, ActivationWatch | None, dict[str, Any]]:
    """Train and validation scores alike, after the last step; matrices and predictions are kept beside."""
    task, progress = cell.task, cell.progress
    on_train = cell.score(task.train)
    train = on_train.scores
    progress.curve[-1] |= curve_scores(train, "train", cell.dataset.task)
    if not task.scored:
        return train, None, None, {}
    of_masks = cell.dataset.task == "segmentation"  # a matrix of one label says which it was
    keeps = of_masks and not task.is_refit
    with watch_activations(cell.parts.bare) as watch:
        on_validation = cell.score(task.scored, keep_predictions=keeps, with_boundaries=of_masks)
    matrix = on_validation.confusions.sum(axis=0)
    validation = on_validation.scores
    progress.curve[-1] |= validation_line(validation) | curve_scores(validation, "validation", cell.dataset.task)
    write_confusions(task.folder / "confusion.npz", on_validation.confusions)
    if on_validation.boundary is not None:
        write_boundaries(task.folder / BOUNDARY_FILE, on_validation.boundary)
    if on_validation.predictions:
        write_predictions(task.folder, task.scored, on_validation.predictions)
    predicted = int((matrix.sum(axis=0) > 0).sum())
    present = int((matrix.sum(axis=1) > 0).sum())
    died = dead_classes(progress.curve, cell.dataset.classes, validation.support)
    more = {"collapsed": predicted <= 1 < present, "classes_predicted": predicted, "died": plain(died)}
    return train, validation, watch, more
