"""One cell: from a task to a record, resumable to the bit.

arrays → crops and augmentation → logits → loss → backward → clipping → policy and optimizer step → scores at the last
step. Randomness is a function of (seed, fold, epoch, batch), so nothing random has to be remembered. Knows one
training; nothing of other cells or of what they are compared with.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from segdecay.data.augment import augment
from segdecay.data.dataset import Dataset, open_dataset
from segdecay.data.sampling import crop_size, take_batch
from segdecay.records import CellRecord, Scores, cell_from_json, read_json, write_bytes, write_json
from segdecay.training.checkpoint import read_checkpoint, write_checkpoint
from segdecay.training.keeping import write_curve, write_predictions
from segdecay.training.losses import pixel_cross_entropy
from segdecay.training.metrics import scores_of, write_confusions
from segdecay.training.scoring import Scored, score_images
from segdecay.training.seeds import derive_seed, generator
from segdecay.training.setup import CellTask, Parts, apply_in_training, build_parts, count_batches, epoch_batches

SCORES_ON_THE_WAY = 8  # validation scores in a curve, beside the last


class Interrupted(Exception):  # noqa: N818 - not an error: the cell has kept its state
    """The cell was asked to stop; its state is in its checkpoint."""


@dataclass
class Progress:
    """Where an unfinished cell stands; plain values only."""

    setting: str = ""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # of the micro-batches of this epoch
    norm_sum: float = 0.0  # gradient norms of the steps of this epoch
    norms: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Cell:
    """One running cell: its task, data, parts and progress."""

    task: CellTask
    dataset: Dataset
    parts: Parts
    progress: Progress
    stop: Callable[[], bool]
    report: Callable[[int, int], None]
    started: float
    saved: float


def run_cell(
    task: CellTask,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> CellRecord:
    """Train one cell, or go on where it stopped; a finished cell is only read.

    Args:
        task: what to train.
        stop: asked after every step; True keeps the state and raises Interrupted.
        report: told (finished epochs, all epochs).

    Raises:
        Interrupted: `stop` said so.
        SegdecayError: the model, data or configuration do not work together.
    """
    if (task.folder / "cell.json").exists():
        return cell_from_json(read_json(task.folder / "cell.json"))
    task.folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(task.dataset)
    parts = build_parts(task, dataset)
    kept = read_checkpoint(task.folder / "checkpoint", parts.bare, parts.optimizer, parts.handle)
    now = time.monotonic()
    cell = _Cell(task, dataset, parts, Progress(**kept) if kept else Progress(task.setting), stop, report, now, now)
    reason = _train(cell)
    record = _finish(cell, reason)
    shutil.rmtree(task.folder / "checkpoint", ignore_errors=True)
    return record


def _train(cell: _Cell) -> str | None:
    """All epochs that are left; the reason when the loss stopped being finite."""
    epochs = cell.task.config.training.epochs
    while cell.progress.epoch < epochs:
        reason = _train_epoch(cell)
        if reason:
            return reason
        cell.progress.epoch += 1
        cell.progress.batch = 0
        cell.progress.loss_sum = cell.progress.norm_sum = 0.0
        cell.progress.norms = 0
        cell.report(cell.progress.epoch, epochs)
        _keep_if_due(cell)
    return None


def _train_epoch(cell: _Cell) -> str | None:
    """The rest of one epoch, and its line in the curve."""
    task, parts, progress = cell.task, cell.parts, cell.progress
    accumulate = task.config.training.accumulate
    batches = list(epoch_batches(task, progress.epoch))
    parts.model.train()
    for start in range(progress.batch, len(batches), accumulate):
        window = batches[start : start + accumulate]
        loss = _step(cell, window)
        if not math.isfinite(loss):
            return f"the loss became {loss} in epoch {progress.epoch + 1}, step {progress.step}"
        progress.batch = start + len(window)
        if progress.batch < len(batches):
            _keep_if_due(cell)
    line = _curve_line(cell, len(batches))
    progress.curve.append(line)
    return None if math.isfinite(line["penalty"]) else f"a weight stopped being finite in epoch {progress.epoch + 1}"


def _step(cell: _Cell, window: list[npt.NDArray[np.int64]]) -> float:
    """One optimizer step over the micro-batches of `window`; returns the sum of their losses."""
    task, parts, progress = cell.task, cell.parts, cell.progress
    rate = parts.rates[progress.step]
    for group in parts.optimizer.param_groups:
        group["lr"] = rate
    total = 0.0
    for offset, indices in enumerate(window):
        images, masks = _training_batch(cell, indices, progress.batch + offset)
        # dropout draws from the global generator: seeded here, it needs no memory either
        torch.manual_seed(derive_seed(task.seed, task.fold, "dropout", progress.epoch, progress.batch + offset))
        loss = pixel_cross_entropy(apply_in_training(parts.model, images), masks, parts.weight)
        parts.fabric.backward(loss / len(window))
        total += float(loss.detach())
    clip = task.config.training.clip_norm
    norm = parts.fabric.clip_gradients(
        parts.model, parts.wrapped, max_norm=clip if clip is not None else math.inf, error_if_nonfinite=False
    )
    parts.wrapped.step()
    parts.wrapped.zero_grad(set_to_none=True)
    progress.step += 1
    progress.loss_sum += total
    if norm is not None and math.isfinite(float(norm)):
        progress.norm_sum += float(norm)
        progress.norms += 1
    return total


def _training_batch(cell: _Cell, indices: npt.NDArray[np.int64], batch: int) -> tuple[Tensor, Tensor]:
    """Cropped, augmented, normalised images (N, B, H, W) and masks (N, H, W) on the cell's device."""
    task, parts = cell.task, cell.parts
    draw = generator(task.seed, task.fold, "augment", cell.progress.epoch, batch)
    config = task.config.augment
    crop = crop_size(cell.dataset, task.train, config)
    images, masks = take_batch(cell.dataset, [int(index) for index in indices], crop=crop, generator=draw)
    augmented, masks = augment(images.float(), masks, config=config, flip=cell.dataset.flip, generator=draw)
    device = parts.fabric.device
    return (augmented.to(device) - parts.mean) / parts.deviation, masks.to(device)


def _score(cell: _Cell, indices: tuple[int, ...], *, keep_predictions: bool = False) -> Scored:
    parts = cell.parts
    return score_images(
        parts.model,
        cell.dataset,
        indices,
        mean=parts.mean,
        deviation=parts.deviation,
        weight=parts.weight,
        batch_size=cell.task.config.training.batch_size,
        keep_predictions=keep_predictions,
    )


def _curve_line(cell: _Cell, batches: int) -> dict[str, Any]:
    """What an epoch looked like: both terms of the objective, and now and then the validation score."""
    task, parts, progress = cell.task, cell.parts, cell.progress
    epochs = task.config.training.epochs
    loss, penalty = progress.loss_sum / batches, parts.handle.penalty()
    due = (progress.epoch + 1) % max(1, epochs // SCORES_ON_THE_WAY) == 0 and progress.epoch + 1 < epochs
    validation = None
    if due and task.score_on_the_way and task.scored:
        scored = _score(cell, task.scored)
        validation = scores_of(scored.confusions.sum(axis=0), scored.loss)
    return {
        "epoch": progress.epoch + 1,
        "lr": parts.rates[progress.step - 1],
        "loss": loss,
        "penalty": penalty,
        "objective": loss + penalty,
        "gradient_norm": progress.norm_sum / progress.norms if progress.norms else None,
        "validation_loss": None if validation is None else validation.loss,
        "validation_miou": None if validation is None else validation.miou,
        "train_miou": None,
        "seconds": _elapsed(cell),
    }


def _elapsed(cell: _Cell) -> float:
    return cell.progress.seconds + time.monotonic() - cell.started


def _keep_if_due(cell: _Cell) -> None:
    """Write the checkpoint when it is time; stop when asked to."""
    asked = cell.stop()
    if not asked and time.monotonic() - cell.saved < cell.task.checkpoint_every_s:
        return
    state = {**cell.progress.__dict__, "seconds": _elapsed(cell)}
    write_checkpoint(cell.task.folder / "checkpoint", cell.parts.bare, cell.parts.optimizer, cell.parts.handle, state)
    cell.saved = time.monotonic()
    if asked:
        raise Interrupted


def _finish(cell: _Cell, reason: str | None) -> CellRecord:
    """Score at the last step and write everything; cell.json comes last and makes the cell finished."""
    task, progress = cell.task, cell.progress
    train = validation = None
    extra: dict[str, Any] = {
        "mean": list(cell.parts.pixels.mean),
        "deviation": list(cell.parts.pixels.deviation),
        "batches": count_batches(len(task.train), task.config.training.batch_size),
    }
    if reason is None:
        train, validation, more = _final_scores(cell)
        extra |= more
        if task.keep_model:
            _keep_model(cell)
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
        seconds=_elapsed(cell),
        parts=(len(task.train), len(task.scored)),
        extra=extra,
    )
    write_json(task.folder / "cell.json", record)
    return record


def _final_scores(cell: _Cell) -> tuple[Scores, Scores | None, dict[str, Any]]:
    """Train and validation scores alike, after the last step; matrices and predictions are kept beside."""
    task, progress = cell.task, cell.progress
    on_train = _score(cell, task.train)
    train = scores_of(on_train.confusions.sum(axis=0), on_train.loss)
    progress.curve[-1]["train_miou"] = train.miou
    if not task.scored:
        return train, None, {}
    on_validation = _score(cell, task.scored, keep_predictions=not task.keep_model)
    matrix = on_validation.confusions.sum(axis=0)
    validation = scores_of(matrix, on_validation.loss)
    progress.curve[-1] |= {"validation_miou": validation.miou, "validation_loss": validation.loss}
    write_confusions(task.folder / "confusion.npz", on_validation.confusions)
    if on_validation.predictions:
        write_predictions(task.folder, task.scored, on_validation.predictions)
    predicted = int((matrix.sum(axis=0) > 0).sum())
    present = int((matrix.sum(axis=1) > 0).sum())
    return train, validation, {"collapsed": predicted <= 1 < present, "classes_predicted": predicted}


def _keep_model(cell: _Cell) -> None:
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in cell.parts.bare.state_dict().items()}
    write_bytes(cell.task.folder / "model.safetensors", save(tensors))
