"""The training loop of one trial: from a task to a record, with bitwise resume.

Crops and augmentation → logits → loss → backward → clipping → regularizer and optimizer step → scores at the last step;
with a second stage, the same again for the head alone. Randomness is a function of (seed, fold, epoch, batch), so no
random state has to be saved.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from segdecay.data.dataset import open_dataset
from segdecay.decay import Diagnostics, Handle
from segdecay.metrics.confusion import curve_scores
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.training.artifacts import build_diagnostics, finish, validation_line, watched
from segdecay.training.batches import derive_seed
from segdecay.training.checkpoint import read_checkpoint, write_checkpoint
from segdecay.training.distributed import Ranks
from segdecay.training.feeding import Batch, build_feed
from segdecay.training.head import cap_rows_
from segdecay.training.setup import ALONE, TrialTask, apply_in_training, build_parts, count_epochs, epoch_batches
from segdecay.training.state import Progress, Trial
from segdecay.training.tally import Tally, steps_between_readings
from segdecay.training.weight_balancing import begin_second_stage_
from segdecay.utils.files import read_json


class Interrupted(Exception):  # noqa: N818 - not an error: the trial has kept its state
    """The trial was asked to stop; its state is in its checkpoint."""


def run_trial(
    task: TrialTask,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> TrialRecord:
    """Train one trial, or resume it; a finished trial is only read.

    Args:
        task: the trial.
        stop: called after every step; True writes a checkpoint and raises Interrupted.
        report: called with (finished epochs, all epochs).

    Raises:
        Interrupted: `stop` returned True.
        SegdecayError: the model, data or configuration do not work together.
    """
    if (task.folder / "trial.json").exists():
        return trial_from_json(read_json(task.folder / "trial.json"))
    trial = open_trial(task, ALONE, stop, report)
    return _conclude(trial, _train(trial))


def run_share(
    task: TrialTask, ranks: Ranks, *, stop: Callable[[], bool], report: Callable[[int, int], None]
) -> TrialRecord | None:
    """Train one trial in several processes, each of which calls this function; arguments as in `run_trial`.

    Returns:
        The record in the first process, which scores and writes; None in the others.
    """
    trial = open_trial(task, ranks, stop, report)
    reason = _train(trial)
    return _conclude(trial, reason) if ranks.is_first else None


def open_trial(task: TrialTask, ranks: Ranks, stop: Callable[[], bool], report: Callable[[int, int], None]) -> Trial:
    """A trial at its start, or at its checkpoint."""
    task.folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(task.dataset)
    parts = build_parts(task, dataset, ranks)

    def parts_at(progress: dict[str, Any]) -> tuple[torch.optim.Optimizer, Handle]:
        if progress.get("stages"):
            begin_second_stage_(parts, task, dataset, progress["stages"][0]["row_norms"])
        return parts.optimizer, parts.handle

    kept = read_checkpoint(task.folder / "checkpoint", parts.bare, parts_at)
    if kept is None and (task.folder / "checkpoint").exists():
        parts = build_parts(task, dataset, ranks)  # an unusable checkpoint may have loaded a part of its tensors
    ranks.meet()  # no process writes a checkpoint before all have read this one
    now = time.monotonic()
    progress = Progress(**kept) if kept else Progress(task.setting)
    if progress.loss_scale:
        parts.fabric.strategy.precision.load_state_dict(progress.loss_scale)
    return Trial(task, dataset, parts, build_feed(task, dataset, parts), progress, stop, report, now, now)


def _conclude(trial: Trial, reason: str | None) -> TrialRecord:
    record = finish(trial, reason)
    shutil.rmtree(trial.task.folder / "checkpoint", ignore_errors=True)
    return record


def _train(trial: Trial) -> str | None:
    """Train the remaining epochs; the reason if the loss became infinite or NaN."""
    epochs = count_epochs(trial.task.config)
    while trial.progress.epoch < epochs:
        if trial.progress.epoch == trial.task.config.training.epochs and trial.parts.stage == 1:
            _end_first_stage(trial)
        reason = _train_epoch(trial)
        if reason:
            return reason
        trial.progress.epoch += 1
        trial.progress.batch = 0
        trial.progress.loss_sum = trial.progress.norm_sum = 0.0
        trial.progress.norms = 0
        trial.report(trial.progress.epoch, epochs)
        if _is_due(trial):
            _keep(trial)
    return None


def _end_first_stage(trial: Trial) -> None:
    """Record the first stage, and replace its parts by those of the second."""
    facts = trial.facts_of_stage()
    if trial.task.scores_on_the_way and trial.task.scored:
        scores = trial.score(trial.task.scored).scores
        line = validation_line(scores)
        facts["validation"] = {"miou": line["validation_miou"], "iou": line["validation_iou"]}
        trial.progress.curve[-1] |= line | curve_scores(scores, "validation", trial.dataset.task)
    trial.progress.stages.append(facts)
    begin_second_stage_(trial.parts, trial.task, trial.dataset, facts["row_norms"])


def _train_epoch(trial: Trial) -> str | None:
    """Train the rest of one epoch, and add its line to the curve."""
    task, parts, progress = trial.task, trial.parts, trial.progress
    accumulate = task.config.training.accumulate
    batches = list(epoch_batches(task, progress.epoch))
    diagnostics = build_diagnostics(task, parts, progress.epoch) if parts.ranks.is_first else None
    parts.model.train(parts.stage == 1)  # the second stage uses the features of prediction: eval mode
    trial.tally = Tally.started(
        parts.fabric.device, loss_sum=progress.loss_sum, norm_sum=progress.norm_sum, norms=progress.norms
    )
    read_every = steps_between_readings(parts.fabric.device)
    with trial.feed.batches(progress.epoch, batches, progress.batch) as ready:
        for start in range(progress.batch, len(batches), accumulate):
            window = [next(ready) for _ in batches[start : start + accumulate]]
            is_last = start + len(window) == len(batches)
            with watched(diagnostics, is_last_step=is_last):
                train_step(trial, window)
            progress.batch = start + len(window)
            is_scheduled = is_last or trial.tally.steps % read_every == 0
            is_alone = parts.ranks.count == 1  # several processes read at the same steps
            if not (is_scheduled or (is_alone and _is_due(trial))):
                continue
            reason = _read_tally(trial)
            if reason:
                return reason
            if not is_last and _is_due(trial):
                _keep(trial)
    line = _curve_line(trial, len(batches), diagnostics)
    progress.curve.append(line)
    return None if math.isfinite(line["penalty"]) else f"a weight stopped being finite in epoch {progress.epoch + 1}"


def _read_tally(trial: Trial) -> str | None:
    """Bring the progress up to the steps taken; the reason if the loss of one became infinite or NaN."""
    progress, tally = trial.progress, trial.tally
    found = tally.read()
    progress.loss_sum, progress.norm_sum, progress.norms = found.loss_sum, found.norm_sum, found.norms
    if found.good_steps == tally.steps:
        return None
    progress.step -= tally.steps - found.good_steps - 1
    reason = f"the loss became {found.bad_loss} in epoch {progress.epoch + 1}, step {progress.step}"
    scale = trial.parts.fabric.strategy.precision.state_dict().get("scale")
    if scale is None:
        return reason
    return f"{reason} (16-mixed, loss scaled by {scale:g}; bf16-mixed and 32-true have a wider range)"


def train_step(trial: Trial, batches: Sequence[Batch]) -> Tensor:  # () float64, on the device
    """One optimizer step over micro-batches; returns the sum of their losses. The host does not wait for a number."""
    task, parts, progress, ranks = trial.task, trial.parts, trial.progress, trial.parts.ranks
    rate = parts.rates[progress.step]
    for group in parts.optimizer.param_groups:
        group["lr"] = rate
    total = trial.tally.zero()
    first = progress.batch
    for offset, (images, masks) in enumerate(batches):
        batch = first + offset
        # dropout draws from the global generator, which is seeded here so that its state need not be saved
        torch.manual_seed(derive_seed(task.drawn_from, task.fold, "dropout", progress.epoch, batch, *ranks.key))
        with ranks.without_exchange(parts.fabric, parts.model, is_last=offset == len(batches) - 1):
            own = parts.loss(apply_in_training(parts.model, images), masks, parts.weight, parts.adjustment)
            asked = ranks.count > 1 and (trial.is_asked or trial.stop())
            loss, whole, trial.asked = ranks.agree(own, masks, parts.weight, stop=asked)
            parts.fabric.backward(loss / len(batches))
        total += whole
    clip = task.config.training.clip_norm
    norm = parts.fabric.clip_gradients(
        parts.model, parts.wrapped, max_norm=clip if clip is not None else math.inf, error_if_nonfinite=False
    )
    parts.wrapped.step()
    cap_rows_(parts.caps)
    parts.wrapped.zero_grad(set_to_none=True)
    progress.step += 1
    trial.tally.add_(total, norm)
    return total


def _curve_line(trial: Trial, batches: int, diagnostics: Diagnostics | None) -> dict[str, Any]:
    """The curve's line of an epoch: both terms of the objective, at some epochs validation scores and diagnostics."""
    task, parts, progress = trial.task, trial.parts, trial.progress
    epochs = count_epochs(task.config)
    loss, penalty = progress.loss_sum / batches, parts.handle.penalty()
    wanted = task.scores_on_the_way if task.scored and parts.ranks.is_first else 0
    validation = None
    if wanted and progress.epoch + 1 < epochs and (progress.epoch + 1) % max(1, epochs // wanted) == 0:
        validation = trial.score(task.scored).scores
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
        "diagnostics": None if diagnostics is None else diagnostics.read(loss).to_dict(),
        "seconds": trial.elapsed(),
    }
    return line | ({} if validation is None else curve_scores(validation, "validation", trial.dataset.task))


def _is_due(trial: Trial) -> bool:
    """Whether a checkpoint is to be written: at its time, or because the trial is asked to stop."""
    asked = trial.asked
    trial.is_asked = trial.is_asked or (trial.stop() if trial.parts.ranks.count == 1 else bool(asked))
    return trial.is_asked or time.monotonic() - trial.saved >= trial.task.checkpoint_every_s


def _keep(trial: Trial) -> None:
    """Write the checkpoint; stop if asked to."""
    parts = trial.parts
    if parts.ranks.is_first:
        trial.progress.loss_scale = parts.fabric.strategy.precision.state_dict()
        state = {**trial.progress.__dict__, "seconds": trial.elapsed()}
        write_checkpoint(trial.task.folder / "checkpoint", parts.bare, parts.optimizer, parts.handle, state)
    trial.saved = time.monotonic()
    if trial.is_asked:
        raise Interrupted
