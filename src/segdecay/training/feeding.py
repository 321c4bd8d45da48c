"""Training batches on the device of a trial, prepared while the steps before them run.

On a GPU the decoded data set lies in its memory where it fits; augmentation and normalisation run there, on a stream of
their own. A batch does not depend on when it is prepared: its draws are a function of (seed, fold, epoch, batch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import Dataset
from segdecay.data.on_device import DatasetOnDevice, fits
from segdecay.training.ahead import AHEAD, ahead
from segdecay.training.batches import training_batch
from segdecay.training.setup import Parts, TrialTask

Batch = tuple[Tensor, Tensor]  # normalised images (N, B, H, W) and masks (N, H, W) int64


@dataclass(frozen=True)
class Feed:
    """Where the training batches of a trial come from."""

    task: TrialTask
    dataset: Dataset
    parts: Parts
    stored: DatasetOnDevice | None = None
    stream: torch.cuda.Stream | None = None

    @property
    def ahead(self) -> int:
        """Batches that are prepared while others are used."""
        if self.parts.draws.transform is not None:
            return 0  # its seeds are set in global generators, from which dropout draws meanwhile
        return self.task.batches_ahead if self.stream is None else AHEAD

    @contextmanager
    def batches(self, epoch: int, indices: Sequence[npt.NDArray[np.int64]], first: int) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `first` on; `indices` has the images of each."""
        jobs = [self._job(epoch, number, indices[number]) for number in range(first, len(indices))]
        with ahead(jobs, self.ahead) as prepared:
            yield (self._arrived(*one) for one in prepared)

    def _job(
        self, epoch: int, number: int, indices: npt.NDArray[np.int64]
    ) -> Callable[[], tuple[Batch, torch.cuda.Event | None]]:
        return lambda: self._prepare(epoch, number, indices)

    def _prepare(
        self, epoch: int, number: int, indices: npt.NDArray[np.int64]
    ) -> tuple[Batch, torch.cuda.Event | None]:
        if self.stream is None:
            return self.batch(epoch, number, indices), None
        with torch.cuda.stream(self.stream):
            return self.batch(epoch, number, indices), self.stream.record_event()

    def batch(self, epoch: int, number: int, indices: npt.NDArray[np.int64]) -> Batch:
        """Cropped, augmented, normalised images and their masks, on the trial's device."""
        parts = self.parts
        images, masks = training_batch(
            self.task.config.augment,
            self.dataset,
            self.task.train,
            [int(index) for index in parts.ranks.share(indices)],
            parts.draws,
            drawn_from=(self.task.drawn_from, self.task.fold),
            at=(epoch, number, *parts.ranks.key),
            device=parts.fabric.device,
            stored=self.stored,
        )
        return (images - parts.mean) / parts.deviation, masks

    def _arrived(self, batch: Batch, event: torch.cuda.Event | None) -> Batch:
        """The batch for the present stream, which waits for it on the GPU; the host goes on."""
        if event is not None:
            present = torch.cuda.current_stream(self.parts.fabric.device)
            present.wait_event(event)
            for tensor in batch:
                tensor.record_stream(present)
        return batch


def build_feed(task: TrialTask, dataset: Dataset, parts: Parts) -> Feed:
    """The feed of a trial; on a GPU with the decoded data in its memory, if they fit and no step needs the host."""
    device = parts.fabric.device
    if device.type != "cuda":
        return Feed(task, dataset, parts)
    stored = None
    memory = torch.cuda.get_device_properties(device).total_memory
    has_host_step = bool(parts.draws.instances) or parts.draws.transform is not None
    if not has_host_step and fits(dataset, memory, trials=task.trials_on_device):
        stored = DatasetOnDevice.copied(dataset, device)
    return Feed(task, dataset, parts, stored, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
