"""The state of a running trial: task, data, model and optimizer, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from segdecay.data.dataset import Dataset
from segdecay.training.feeding import Feed
from segdecay.training.setup import Parts, TrialTask
from segdecay.training.tally import Tally
from segdecay.training.validate import ScoredImages, score_images
from segdecay.training.weight_balancing import stage_facts


@dataclass
class Progress:
    """The progress of an unfinished trial, as plain values."""

    setting: str = ""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # of the micro-batches of this epoch
    norm_sum: float = 0.0  # gradient norms of the steps of this epoch
    norms: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    loss_scale: dict[str, Any] = field(default_factory=dict)  # of 16-mixed; empty for other precisions
    stages: list[dict[str, Any]] = field(default_factory=list)  # facts of the finished stages


@dataclass
class Trial:
    """One running trial."""

    task: TrialTask
    dataset: Dataset
    parts: Parts
    feed: Feed
    progress: Progress
    stop: Callable[[], bool]
    report: Callable[[int, int], None]
    started: float
    saved: float
    is_asked: bool = False  # to stop; of several processes, all of them
    asked: Tensor | None = None  # () of several processes: whether any is asked, as of the last step
    tally: Tally = field(init=False)  # of the running epoch

    def __post_init__(self) -> None:
        self.tally = Tally.started(self.parts.fabric.device)

    def elapsed(self) -> float:
        """Seconds spent on this trial, including earlier sessions."""
        return self.progress.seconds + time.monotonic() - self.started

    def score(
        self, indices: tuple[int, ...], *, keep_predictions: bool = False, with_boundaries: bool = False
    ) -> ScoredImages:
        """The scores of the present model on these images."""
        parts = self.parts
        return score_images(
            parts.scoring,
            self.dataset,
            indices,
            mean=parts.mean,
            deviation=parts.deviation,
            loss=parts.loss,
            weight=parts.weight,
            adjustment=parts.adjustment,
            batch_size=self.task.config.training.batch_size,
            keep_predictions=keep_predictions,
            with_boundaries=with_boundaries,
            stored=self.feed.stored,
            batches_ahead=self.feed.ahead,
        )

    def facts_of_stage(self) -> dict[str, Any]:
        """The facts of the ending stage for the record."""
        before = sum(stage["epochs"] for stage in self.progress.stages)
        return stage_facts(self.parts, self.task, self.progress.epoch - before)
