"""When a cell reads its gauges, and with what: a few times per training, at the last step of an epoch.

Nothing is remembered between readings, so that a resumed cell reads what an unbroken one reads. Knows one training;
nothing of files or of other cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from segdecay import decay
from segdecay.training.setup import CellTask, Parts, count_epochs, count_steps

READINGS = 8  # per training, as far as CellTask.gauge_steps allows, beside the last of each stage


def is_gauged(task: CellTask, epoch: int) -> bool:
    """Whether an epoch, counted from 0, ends with a reading; the last one of each stage always does."""
    epochs, done = task.config.training.epochs, epoch + 1
    if done in (epochs, count_epochs(task.config)):
        return True
    apart = -(-task.gauge_steps // count_steps(task.config, len(task.train), epochs=1))
    return done % max(1, epochs // READINGS, apart) == 0


def build_gauges(task: CellTask, parts: Parts, epoch: int) -> decay.Gauges | None:
    """The gauges of an epoch; None where it ends without a reading."""
    if not is_gauged(task, epoch):
        return None
    return decay.Gauges(
        parts.bare, parts.optimizer, partition=parts.handle.partition, class_counts=parts.pixels.counts.tolist()
    )


def watched(gauges: decay.Gauges | None, *, is_last_step: bool) -> AbstractContextManager[None]:
    """What an optimizer step runs in: watched if it is the last of an epoch that is read."""
    return gauges.watched() if gauges is not None and is_last_step else nullcontext()


def kept_gauges(curve: Sequence[dict[str, Any]], on_validation: decay.ActivationWatch | None) -> dict[str, Any] | None:
    """What the cell's record keeps: the last reading, and dead activations over all validation images."""
    last = next((line["gauges"] for line in reversed(curve) if line.get("gauges")), None)
    if last is None:
        return None
    seen = [] if on_validation is None else [dataclasses.asdict(line) for line in on_validation.gauges()]
    return {**last, "validation_activations": seen}
