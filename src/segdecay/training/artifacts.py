"""The files of a finished trial: scores, predictions, weights and the record."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save
from torch import nn

from segdecay import decay
from segdecay.decay.diagnostics.layers import ActivationWatch, watch_activations
from segdecay.errors import RunError
from segdecay.metrics.boundary import FILE as BOUNDARY_FILE
from segdecay.metrics.boundary import write_boundaries
from segdecay.metrics.confusion import curve_scores, write_confusions
from segdecay.runs.records import Scores, TrialRecord
from segdecay.training.dead_classes import dead_classes, plain
from segdecay.training.setup import Parts, TrialTask, count_batches, count_epochs, count_steps
from segdecay.training.state import Trial
from segdecay.training.weight_balancing import log_frequencies
from segdecay.utils.files import write_bytes, write_json

READINGS = 8  # measurements per training, as TrialTask.diagnostics_steps allows, plus the last of each stage


def is_diagnosed(task: TrialTask, epoch: int) -> bool:
    """Whether the diagnostics are measured after an epoch, counted from 0; the last of each stage always counts."""
    epochs, done = task.config.training.epochs, epoch + 1
    if done in (epochs, count_epochs(task.config)):
        return True
    apart = -(-task.diagnostics_steps // count_steps(task.config, len(task.train), epochs=1))
    return done % max(1, epochs // READINGS, apart) == 0


def build_diagnostics(task: TrialTask, parts: Parts, epoch: int) -> decay.Diagnostics | None:
    """The diagnostics of an epoch; None if it is not measured."""
    if not is_diagnosed(task, epoch):
        return None
    return decay.Diagnostics(
        parts.bare, parts.optimizer, partition=parts.handle.partition, class_counts=parts.pixels.counts.tolist()
    )


def watched(diagnostics: decay.Diagnostics | None, *, is_last_step: bool) -> AbstractContextManager[None]:
    """The context of an optimizer step: watched if it is the last of a measured epoch."""
    return diagnostics.watched() if diagnostics is not None and is_last_step else nullcontext()


def kept_diagnostics(curve: Sequence[dict[str, Any]], on_validation: ActivationWatch | None) -> dict[str, Any] | None:
    """The diagnostics of the trial's record: the last measurement, and dead activations over all validation images."""
    last = next((line["diagnostics"] for line in reversed(curve) if line.get("diagnostics")), None)
    if last is None:
        return None
    seen = [] if on_validation is None else [dataclasses.asdict(line) for line in on_validation.diagnostics()]
    return {**last, "validation_activations": seen}


U8 = npt.NDArray[np.uint8]


def validation_line(scores: Scores | None) -> dict[str, Any]:
    """The validation scores in a line of the curve: null if not computed, or for an absent class."""
    return {
        "validation_loss": None if scores is None else scores.loss,
        "validation_miou": None if scores is None else scores.miou,
        "validation_iou": None if scores is None else [value if math.isfinite(value) else None for value in scores.iou],
    }


def write_curve(folder: Path, curve: Sequence[dict[str, Any]]) -> None:
    """Write one JSON line per epoch; numbers that are not finite are null."""
    lines = "".join(json.dumps(_plain(line), sort_keys=True) + "\n" for line in curve)
    write_bytes(folder / "curve.jsonl", lines.encode())


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
    }


def write_weights(folder: Path, model: nn.Module) -> None:
    """The model's weights and buffers, as model.safetensors."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(tensors))


def write_predictions(folder: Path, indices: Sequence[int], predictions: Sequence[U8]) -> None:
    """Predicted masks by their index in the data set, compressed, without pickle."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {str(index): mask for index, mask in zip(indices, predictions, strict=True)}
    np.savez_compressed(content, **arrays)
    write_bytes(folder / "predictions.npz", content.getvalue())


def read_predictions(folder: Path, index: int) -> U8:
    """One predicted mask (H, W) that a trial kept, by its index in the data set.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return np.asarray(kept[str(index)], dtype=np.uint8)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} is missing or damaged: {error}. Remove its folder and run the command again."
        ) from error


def finish(trial: Trial, reason: str | None) -> TrialRecord:
    """Score at the last step and write all files; trial.json comes last, since it marks the trial finished."""
    task, progress = trial.task, trial.progress
    train = validation = watch = None
    extra: dict[str, Any] = {
        "task": trial.dataset.task,
        "mean": list(trial.parts.pixels.mean),
        "deviation": list(trial.parts.pixels.deviation),
        "batches": count_batches(len(task.train), task.config.training.batch_size),
        "log_frequencies": log_frequencies(trial.parts.pixels.counts),
        "stages": [*progress.stages, trial.facts_of_stage()],
    }
    if task.spread is not None:
        extra["devices"] = list(task.spread.devices)
    if reason is None:
        train, validation, watch, more = _final_scores(trial)
        extra |= more
        if task.keep_model:
            write_weights(task.folder, trial.parts.bare)
    extra["diagnostics"] = kept_diagnostics(progress.curve, watch)
    write_curve(task.folder, progress.curve)
    record = TrialRecord(
        setting=task.setting,
        strength=trial.parts.strength,
        fold=task.fold,
        seed=task.seed,
        status="finished" if reason is None else "diverged",
        reason=reason,
        train=train,
        validation=validation,
        epochs=progress.epoch,
        steps=progress.step,
        seconds=trial.elapsed(),
        parts=(len(task.train), len(task.scored)),
        extra=extra,
    )
    write_json(task.folder / "trial.json", record)
    return record


def _final_scores(trial: Trial) -> tuple[Scores, Scores | None, ActivationWatch | None, dict[str, Any]]:
    """Train and validation scores after the last step; matrices and predictions are written too."""
    task, progress = trial.task, trial.progress
    on_train = trial.score(task.train)
    train = on_train.scores
    progress.curve[-1] |= curve_scores(train, "train", trial.dataset.task)
    if not task.scored:
        return train, None, None, {}
    of_masks = trial.dataset.task == "segmentation"  # the matrix of one label holds the prediction already
    keeps = of_masks and not task.is_refit
    with watch_activations(trial.parts.bare) as watch:
        on_validation = trial.score(task.scored, keep_predictions=keeps, with_boundaries=of_masks)
    matrix = on_validation.confusions.sum(axis=0)
    validation = on_validation.scores
    progress.curve[-1] |= validation_line(validation) | curve_scores(validation, "validation", trial.dataset.task)
    write_confusions(task.folder / "confusion.npz", on_validation.confusions)
    if on_validation.boundary is not None:
        write_boundaries(task.folder / BOUNDARY_FILE, on_validation.boundary)
    if on_validation.predictions:
        write_predictions(task.folder, task.scored, on_validation.predictions)
    predicted = int((matrix.sum(axis=0) > 0).sum())
    present = int((matrix.sum(axis=1) > 0).sum())
    died = dead_classes(progress.curve, trial.dataset.classes, validation.support)
    more = {"collapsed": predicted <= 1 < present, "classes_predicted": predicted, "died": plain(died)}
    return train, validation, watch, more
