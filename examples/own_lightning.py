"""A Lightning module under segdecay's folds, race and verdict.

Run: python examples/own_lightning.py   (needs: pip install 'segdecay[lightning]')
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import segdecay
from segdecay.data import Dataset
from segdecay.decay import Strength
from segdecay.integrations.lightning import LightningDecay
from segdecay.metrics.confusion import image_confusions
from segdecay.models.unet import UNet
from segdecay.training.batches import derive_seed, generator
from segdecay.training.class_weights import build_class_weights, pixel_statistics
from segdecay.training.losses import build_loss

CONFIG = {
    "model": {"width": 4, "depth": 2},
    "augment": {"flip": "none"},
    "training": {"epochs": 3, "batch_size": 8, "clip_norm": None},
    "optimizer": {"name": "adamw", "lr": 0.03},
    "search": {"grid": [0, 16], "folds": 2},
}


class Segmentation(LightningModule):
    """A U-Net with its loss and learning rates; it knows nothing of decay."""

    def __init__(self, rates: tuple[float, ...], classes: int, loss: Any, weight: Tensor | None) -> None:
        super().__init__()
        self.net = UNet(in_channels=3, classes=classes, width=4, depth=2).to(memory_format=torch.channels_last)
        self.rates, self.loss, self.weight = rates, loss, weight

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.optimizers().param_groups[0]["lr"] = self.rates[batch_idx]
        loss: Tensor = self.loss(self.net(batch[0]), batch[1], self.weight, None)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.03, weight_decay=0.0, fused=True)


def train(setting: segdecay.Setting, fold: segdecay.UserFold, seed: int) -> Tensor:
    """Train one setting on one fold; a confusion matrix of every validation image, (N, C, C)."""
    data, asked = fold.open(), setting.config
    seen = pixel_statistics(data, fold.train)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (seen.mean, seen.deviation))
    images, masks = pixels(data, fold.train)
    batches: list[list[int]] = []  # of all epochs
    for epoch in range(asked.training.epochs):
        order = torch.randperm(len(images), generator=generator(seed, fold.number, "order", epoch)).numpy()
        batches += [list(one) for one in np.array_split(order, -(-len(order) // asked.training.batch_size))]
    loader = DataLoader(TensorDataset((images - mean) / deviation, masks), batch_sampler=batches)
    torch.manual_seed(derive_seed(seed, fold.number, "init"))
    weight = build_class_weights(asked.loss, data, fold.train, seen)
    module = Segmentation(setting.learning_rates, len(fold.classes), build_loss(asked.loss), weight)
    decay = LightningDecay(
        "decoupled", strength=Strength.from_axis(setting.value, learning_rates=setting.learning_rates)
    )
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(accelerator="cpu", max_epochs=1, callbacks=[decay], **quiet).fit(module, loader)
    images, masks = pixels(data, fold.validation)
    with torch.inference_mode():
        predicted = module.net.eval()((images - mean) / deviation).argmax(dim=1)
    return image_confusions(predicted, masks, len(fold.classes))


def pixels(data: Dataset, indices: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) float and masks (N, H, W) int64."""
    images = torch.from_numpy(np.stack([data.image(index) for index in indices]))
    masks = torch.from_numpy(np.stack([data.mask(index) for index in indices]))
    return images.permute(0, 3, 1, 2).float().contiguous(), masks.long()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    with tempfile.TemporaryDirectory() as folder:
        done = segdecay.tune("digits", train=train, config=CONFIG, out=f"{folder}/run", workers=0, quiet=True)
        print(f"own module: {done.verdict.kind}, D = {done.verdict.strength.value:g}. {done.verdict.sentence}")
