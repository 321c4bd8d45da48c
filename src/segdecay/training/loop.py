"""One cell: from a task to a record, resumable to the bit.

arrays → crops and augmentation → logits → loss → backward → clipping → policy and optimizer step → scores at the last
step; where a second stage is asked for, the same again for the head alone. Randomness is a function of (seed, fold,
epoch, batch), so nothing random has to be remembered. Knows one training; nothing of other cells or of what they are
compared with.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import open_dataset
from segdecay.decay import Gauges, Handle
from segdecay.metrics.confusion import curve_scores
from segdecay.runs.records import CellRecord, cell_from_json
from segdecay.training.artifacts import build_gauges, finish, validation_line, watched
from segdecay.training.batches import derive_seed, training_batch
from segdecay.training.checkpoint import read_checkpoint, write_checkpoint
from segdecay.training.distributed import Ranks
from segdecay.training.head import cap_rows_
from segdecay.training.setup import ALONE, CellTask, apply_in_training, build_parts, count_epochs, epoch_batches
from segdecay.training.state import Cell, Progress
from segdecay.training.weight_balancing import begin_second_stage_
from segdecay.utils.files import read_json


class Interrupted(Exception):  # noqa: N818 - not an error: the cell has kept its state
    """The cell was asked to stop; its state is in its checkpoint."""


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
    cell = _open_cell(task, ALONE, stop, report)
    return _conclude(cell, _train(cell))


def run_share(
    task: CellTask, ranks: Ranks, *, stop: Callable[[], bool], report: Callable[[int, int], None]
) -> CellRecord | None:
    """Train one cell together with other processes that call this at the same time; arguments as in `run_cell`.

    Returns:
        The record from the first process, which alone scores and writes; None from the others.
    """
    cell = _open_cell(task, ranks, stop, report)
    reason = _train(cell)
    return _conclude(cell, reason) if ranks.is_first else None


def _open_cell(task: CellTask, ranks: Ranks, stop: Callable[[], bool], report: Callable[[int, int], None]) -> Cell:
    """A cell at its start, or where its checkpoint left it."""
    task.folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(task.dataset)
    parts = build_parts(task, dataset, ranks)

    def parts_at(progress: dict[str, Any]) -> tuple[torch.optim.Optimizer, Handle]:
        if progress.get("stages"):
            begin_second_stage_(parts, task, dataset, progress["stages"][0]["row_norms"])
        return parts.optimizer, parts.handle

    kept = read_checkpoint(task.folder / "checkpoint", parts.bare, parts_at)
    if kept is None and (task.folder / "checkpoint").exists():
        parts = build_parts(task, dataset, ranks)  # what a checkpoint without use has loaded is dropped
    ranks.meet()  # nobody writes a checkpoint before all have read this one
    now = time.monotonic()
    return Cell(task, dataset, parts, Progress(**kept) if kept else Progress(task.setting), stop, report, now, now)


def _conclude(cell: Cell, reason: str | None) -> CellRecord:
    record = finish(cell, reason)
    shutil.rmtree(cell.task.folder / "checkpoint", ignore_errors=True)
    return record


def _train(cell: Cell) -> str | None:
    """All epochs that are left; the reason when the loss stopped being finite."""
    epochs = count_epochs(cell.task.config)
    while cell.progress.epoch < epochs:
        if cell.progress.epoch == cell.task.config.training.epochs and cell.parts.stage == 1:
            _end_first_stage(cell)
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


def _end_first_stage(cell: Cell) -> None:
    """Note what the first stage reached, and go on with the parts of the second."""
    facts = cell.facts_of_stage()
    if cell.task.scores_on_the_way and cell.task.scored:
        scores = cell.score(cell.task.scored).scores
        line = validation_line(scores)
        facts["validation"] = {"miou": line["validation_miou"], "iou": line["validation_iou"]}
        cell.progress.curve[-1] |= line | curve_scores(scores, "validation", cell.dataset.task)
    cell.progress.stages.append(facts)
    begin_second_stage_(cell.parts, cell.task, cell.dataset, facts["row_norms"])


def _train_epoch(cell: Cell) -> str | None:
    """The rest of one epoch, and its line in the curve."""
    task, parts, progress = cell.task, cell.parts, cell.progress
    accumulate = task.config.training.accumulate
    batches = list(epoch_batches(task, progress.epoch))
    gauges = build_gauges(task, parts, progress.epoch) if parts.ranks.is_first else None
    parts.model.train(parts.stage == 1)  # the second stage sees the features that a prediction sees
    for start in range(progress.batch, len(batches), accumulate):
        window = batches[start : start + accumulate]
        with watched(gauges, is_last_step=start + accumulate >= len(batches)):
            loss = _step(cell, window)
        if not math.isfinite(loss):
            return f"the loss became {loss} in epoch {progress.epoch + 1}, step {progress.step}"
        progress.batch = start + len(window)
        if progress.batch < len(batches):
            _keep_if_due(cell)
    line = _curve_line(cell, len(batches), gauges)
    progress.curve.append(line)
    return None if math.isfinite(line["penalty"]) else f"a weight stopped being finite in epoch {progress.epoch + 1}"


def _step(cell: Cell, window: list[npt.NDArray[np.int64]]) -> float:
    """One optimizer step over the micro-batches of `window`; returns the sum of their losses."""
    task, parts, progress, ranks = cell.task, cell.parts, cell.progress, cell.parts.ranks
    rate = parts.rates[progress.step]
    for group in parts.optimizer.param_groups:
        group["lr"] = rate
    total = 0.0
    for offset, indices in enumerate(window):
        batch = progress.batch + offset
        images, masks = _training_batch(cell, indices, batch)
        # dropout draws from the global generator: seeded here, it needs no memory either
        torch.manual_seed(derive_seed(task.drawn_from, task.fold, "dropout", progress.epoch, batch, *ranks.key))
        with ranks.without_exchange(parts.fabric, parts.model, is_last=offset == len(window) - 1):
            own = parts.loss(apply_in_training(parts.model, images), masks, parts.weight, parts.adjustment)
            asked = ranks.count > 1 and (cell.is_asked or cell.stop())
            loss, whole, cell.is_asked = ranks.agree(own, masks, parts.weight, stop=asked)
            parts.fabric.backward(loss / len(window))
        total += whole
    clip = task.config.training.clip_norm
    norm = parts.fabric.clip_gradients(
        parts.model, parts.wrapped, max_norm=clip if clip is not None else math.inf, error_if_nonfinite=False
    )
    parts.wrapped.step()
    cap_rows_(parts.caps)
    parts.wrapped.zero_grad(set_to_none=True)
    progress.step += 1
    progress.loss_sum += total
    if norm is not None and math.isfinite(float(norm)):
        progress.norm_sum += float(norm)
        progress.norms += 1
    return total


def _training_batch(cell: Cell, indices: npt.NDArray[np.int64], batch: int) -> tuple[Tensor, Tensor]:
    """Cropped, augmented, normalised images (N, B, H, W) and masks (N, H, W) on the cell's device."""
    task, parts = cell.task, cell.parts
    images, masks = training_batch(
        task.config.augment,
        cell.dataset,
        task.train,
        [int(index) for index in parts.ranks.share(indices)],
        parts.draws,
        drawn_from=(task.drawn_from, task.fold),
        at=(cell.progress.epoch, batch, *parts.ranks.key),
    )
    device = parts.fabric.device
    return (images.to(device) - parts.mean) / parts.deviation, masks.to(device)


def _curve_line(cell: Cell, batches: int, gauges: Gauges | None) -> dict[str, Any]:
    """What an epoch looked like: both terms of the objective, and now and then the validation score and the gauges."""
    task, parts, progress = cell.task, cell.parts, cell.progress
    epochs = count_epochs(task.config)
    loss, penalty = progress.loss_sum / batches, parts.handle.penalty()
    wanted = task.scores_on_the_way if task.scored and parts.ranks.is_first else 0
    validation = None
    if wanted and progress.epoch + 1 < epochs and (progress.epoch + 1) % max(1, epochs // wanted) == 0:
        validation = cell.score(task.scored).scores
    line = {
        "epoch": progress.epoch + 1,
        "stage": parts.stage,
        "lr": parts.rates[progress.step - 1],
        "loss": loss,
        "penalty": penalty,
        "objective": loss + penalty,
        "gradient_norm": progress.norm_sum / progress.norms if progress.norms else None,
        **validation_line(validation),
        "train_miou": None,
        "gauges": None if gauges is None else gauges.read(loss).to_dict(),
        "seconds": cell.elapsed(),
    }
    return line | ({} if validation is None else curve_scores(validation, "validation", cell.dataset.task))


def _keep_if_due(cell: Cell) -> None:
    """Write the checkpoint when it is time; stop when asked to."""
    parts = cell.parts
    asked = cell.stop() if parts.ranks.count == 1 else cell.is_asked
    if not asked and time.monotonic() - cell.saved < cell.task.checkpoint_every_s:
        return
    if parts.ranks.is_first:
        state = {**cell.progress.__dict__, "seconds": cell.elapsed()}
        write_checkpoint(cell.task.folder / "checkpoint", parts.bare, parts.optimizer, parts.handle, state)
    cell.saved = time.monotonic()
    if asked:
        raise Interrupted
