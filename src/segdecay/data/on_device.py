"""A decoded data set in the memory of a GPU, from which batches are cut without the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE, Dataset
from segdecay.data.transforms.crops import one_size, window_places, window_start

SHARE = 0.25  # of a GPU's memory that decoded images may take, divided by the trials that run on it


def fits(dataset: Dataset, memory_bytes: int, *, trials: int = 1) -> bool:
    """Whether the decoded images and masks take at most SHARE of the memory, with a copy for each trial."""
    return sum(one.height * one.width for one in dataset.items) * (dataset.bands + 1) * trials <= SHARE * memory_bytes


@dataclass(frozen=True)
class DatasetOnDevice:
    """Images and masks of a data set as two flat tensors."""

    dataset: Dataset
    images: Tensor  # (pixels, B) uint8
    masks: Tensor  # (pixels,) uint8, or (items,) labels

    @classmethod
    def copied(cls, dataset: Dataset, device: torch.device) -> DatasetOnDevice:
        """A copy of the decoded files on a device."""

        def load(name: str) -> Tensor:
            return torch.from_numpy(np.fromfile(dataset.root / name, dtype=np.uint8)).to(device)

        return cls(dataset, load("images.u8").view(-1, dataset.bands), load("masks.u8"))

    def take_batch(
        self,
        indices: Sequence[int],
        *,
        crop: tuple[int, int] | None,
        generator: torch.Generator | None,
        places: npt.NDArray[np.float64] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Images (N, B, H, W) uint8 and masks (N, H, W) int64 on the device: those of `crops.take_batch`.

        Raises:
            DataError: whole images of different sizes.
        """
        items = [self.dataset.items[index] for index in indices]
        size = one_size(self.dataset, indices) if crop is None else crop
        where = np.zeros((len(items), 2))
        if crop is not None:
            where = window_places(len(items), generator=generator, places=places)
        numbers = [
            (
                int(self.dataset.starts[index]),
                item.height,
                item.width,
                window_start(float(place[0]), item.height, size[0]),
                window_start(float(place[1]), item.width, size[1]),
            )
            for index, item, place in zip(indices, items, where, strict=True)
        ]
        first, heights, widths, tops, lefts = to_device(torch.tensor(numbers).T.contiguous(), self.images.device)
        rows = tops[:, None] + torch.arange(size[0], device=self.images.device)
        columns = lefts[:, None] + torch.arange(size[1], device=self.images.device)
        pixels = (
            first[:, None, None]
            + torch.minimum(rows, heights[:, None] - 1)[:, :, None] * widths[:, None, None]
            + torch.minimum(columns, widths[:, None] - 1)[:, None, :]
        )
        images = self.images[pixels].permute(0, 3, 1, 2).contiguous()
        if self.dataset.task == "classification":
            labels = self.masks[to_device(torch.tensor(list(indices)), self.masks.device)]
            return images, labels.long().view(-1, 1, 1)
        outside = (rows >= heights[:, None])[:, :, None] | (columns >= widths[:, None])[:, None, :]
        return images, self.masks[pixels].long().masked_fill(outside, IGNORE)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; on a GPU through pinned memory, so that nothing waits for the copy."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
