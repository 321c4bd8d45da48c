"""Your own training loop under segdecay's folds, race and verdict; and the built-in loop on the same data beside it.

Run: python examples/own_loop.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import segdecay
from segdecay.data import Dataset
from segdecay.decay import Strength, attach
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


def train(setting: segdecay.Setting, fold: segdecay.UserFold, seed: int) -> Tensor:
    """Train one setting on one fold; a confusion matrix of every validation image, (N, C, C)."""
    data, training = fold.open(), setting.config.training
    images, masks = pixels(data, fold.train)
    seen = pixel_statistics(data, fold.train)  # counts of classes, mean and deviation of bands
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (seen.mean, seen.deviation))
    weight = build_class_weights(setting.config.loss, data, fold.train, seen)
    torch.manual_seed(derive_seed(seed, fold.number, "init"))  # any seed will do, if it is the same for every setting
    model = UNet(in_channels=3, classes=len(fold.classes), width=4, depth=2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.0, fused=True)
    attach(
        optimizer, model, "decoupled", strength=Strength.from_axis(setting.value, learning_rates=setting.learning_rates)
    )
    rates, loss_of = iter(setting.learning_rates), build_loss(setting.config.loss)
    for epoch in range(training.epochs):
        order = torch.randperm(len(images), generator=generator(seed, fold.number, "order", epoch)).numpy()
        for batch in np.array_split(order, -(-len(order) // training.batch_size)):
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = loss_of(model((images[batch] - mean) / deviation), masks[batch], weight, None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    images, masks = pixels(data, fold.validation)
    with torch.inference_mode():
        predicted = model.eval()((images - mean) / deviation).argmax(dim=1)
    return image_confusions(predicted, masks, len(fold.classes))


def pixels(data: Dataset, indices: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) float and masks (N, H, W) int64."""
    images = torch.from_numpy(np.stack([data.image(index) for index in indices]))
    return images.permute(0, 3, 1, 2).float().contiguous(), torch.from_numpy(
        np.stack([data.mask(i) for i in indices])
    ).long()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, function in (("own loop", train), ("built in", None)):
            out = Path(folder) / name
            done = segdecay.tune("digits", train=function, config=CONFIG, out=out, workers=0, quiet=True)
            print(f"{name}: {done.verdict.kind}, D = {done.verdict.strength.value:g}. {done.verdict.sentence}")
