"""Scores of a model on unchanged images: no augmentation, eval mode, one confusion matrix per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segdecay.data.dataset import Dataset
from segdecay.data.on_device import DatasetOnDevice
from segdecay.data.transforms.crops import take_batch
from segdecay.metrics.boundary import BoundaryCounts, image_boundaries
from segdecay.metrics.confusion import image_confusions, scores_of
from segdecay.models.zoo import logits_of
from segdecay.runs.records import Scores
from segdecay.training.ahead import ahead
from segdecay.training.losses import CrossEntropy, OriginalLoss

CROSS_ENTROPY = OriginalLoss((CrossEntropy(),), (1.0,))


@dataclass(frozen=True)
class ScoredImages:
    """The results of a model on some images, in their order."""

    confusions: npt.NDArray[np.int64]  # (N, C, C)
    loss: float  # as in training, weighted and adjusted; of the valid pixels, or the mean over images: docs/losses.md
    predictions: tuple[npt.NDArray[np.uint8], ...]  # N of (H, W); empty unless requested
    boundary: BoundaryCounts | None = None  # None unless requested
    excluded: tuple[int, ...] = ()

    @property
    def scores(self) -> Scores:
        """Scores over the set and over its images."""
        return scores_of(self.confusions, self.loss, self.boundary, self.excluded)


def same_size_batches(dataset: Dataset, indices: Sequence[int], batch_size: int) -> list[list[int]]:
    """Runs of neighbouring indices whose images share a size, at most `batch_size` long."""
    batches: list[list[int]] = []
    last: tuple[int, int] | None = None
    for index in indices:
        size = (dataset.items[index].height, dataset.items[index].width)
        if size != last or len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(index)
        last = size
    return batches


def _read(
    dataset: Dataset, batch: Sequence[int], device: torch.device, stored: DatasetOnDevice | None
) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) uint8 and masks (N, H, W) int64, on the host in memory from which a GPU copies."""
    if stored is not None:
        return stored.take_batch(batch, crop=None, generator=None)
    images, masks = take_batch(dataset, batch, crop=None, generator=None)
    return (images.pin_memory(), masks.pin_memory()) if device.type == "cuda" else (images, masks)


@torch.inference_mode()
def score_images(
    model: nn.Module,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    mean: Tensor,  # (1, B, 1, 1)
    deviation: Tensor,  # (1, B, 1, 1)
    loss: OriginalLoss = CROSS_ENTROPY,
    weight: Tensor | None,  # (C,)
    adjustment: Tensor | None = None,  # (C,) enters the loss, never the prediction
    batch_size: int,
    keep_predictions: bool = False,
    with_boundaries: bool = False,
    stored: DatasetOnDevice | None = None,
    batches_ahead: int = 0,
) -> ScoredImages:
    """Confusion matrices, loss and, on request, predicted masks and boundaries; the model's mode is restored.

    Matrices are counted on the device and fetched once, at the end.

    batch_size: affects only the time, not the counts.
    stored: the data set on the device of the model, if it lies there.
    batches_ahead: read from the disk by a thread.
    """
    classes = len(dataset.classes)
    was_training = model.training
    model.eval()
    device = mean.device
    confusions, predictions, boundaries = [], [], []
    sums = torch.zeros(len(loss.losses), 2, dtype=torch.float64)
    jobs = [partial(_read, dataset, batch, device, stored) for batch in same_size_batches(dataset, indices, batch_size)]
    with ahead(jobs, 0 if stored is not None else batches_ahead) as batches:
        for host_images, host_masks in batches:
            images, masks = (part.to(device, non_blocking=True) for part in (host_images, host_masks))
            logits = logits_of(model, (images.float() - mean) / deviation)
            of_batch = loss.sums(logits, masks, weight, adjustment)
            sums = sums.to(of_batch.device) + of_batch
            predicted = logits.argmax(dim=1)
            confusions.append(image_confusions(predicted, masks, classes))
            if with_boundaries:
                boundaries.append(image_boundaries(predicted.cpu().numpy(), masks.cpu().numpy(), classes))
            if keep_predictions:
                predictions += list(predicted.to(torch.uint8).cpu().numpy())
    model.train(was_training)
    empty = np.zeros((0, classes, classes), dtype=np.int64)
    return ScoredImages(
        confusions=torch.cat(confusions).cpu().numpy() if confusions else empty,
        loss=loss.of_sums(sums),
        predictions=tuple(predictions),
        boundary=BoundaryCounts.joined(boundaries, classes) if with_boundaries else None,
        excluded=dataset.excluded,
    )
