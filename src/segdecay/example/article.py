"""The recipe of the worked example with common mistakes, as articles write it, as input of the audit. Do not copy it.

Decay in Adam *and* an unsquared norm of every parameter in the loss, including biases; test images pass through the
training augmentation.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdecay import decay
from segdecay.config.schema import RunConfig
from segdecay.data import Dataset
from segdecay.data.transforms.augment import augment
from segdecay.data.transforms.crops import take_batch
from segdecay.metrics.confusion import I64, image_confusions
from segdecay.models.zoo import build_model
from segdecay.training.batches import derive_seed, generator
from segdecay.training.class_weights import pixel_statistics
from segdecay.training.setup import count_batches

FOLD = -1  # the draws of a refit, so that both recipes have the same initial weights and order of images

Loss = Callable[[Tensor, Tensor], Tensor]


def optimizer_and_loss(model: nn.Module) -> tuple[torch.optim.Optimizer, Loss]:
    """The two lines that articles show."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        penalty: Tensor = 5e-4 * sum(p.norm() for p in model.parameters())
        return F.cross_entropy(output, target) + penalty

    return optimizer, loss


@dataclass(frozen=True)
class ArticleResult:
    """The confusion matrices on unchanged and on augmented test images: (N, C, C) each."""

    clean: I64
    augmented: I64
    train: I64
    audit: dict[str, Any]
    losses: tuple[float, ...]  # of every epoch, penalty included


def article_lines() -> str:
    """The code of the two lines, as it ran."""
    return textwrap.dedent(inspect.getsource(optimizer_and_loss)).strip()


@dataclass(frozen=True)
class _Feed:
    """Normalised batches of a data set."""

    config: RunConfig
    dataset: Dataset
    mean: Tensor  # (1, B, 1, 1)
    deviation: Tensor  # (1, B, 1, 1)

    def batches(
        self, indices: tuple[int, ...], key: int | str, *, is_augmented: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, B, H, W) and labels (N,), batch by batch; key: the epoch, whose order is drawn, or a name."""
        config, order = self.config, torch.arange(len(indices))
        if isinstance(key, int):
            order = torch.randperm(len(indices), generator=generator(config.seed, FOLD, "order", key))
        shuffled = np.asarray(indices, dtype=np.int64)[order.numpy()]
        noise = generator(config.seed, FOLD, "article", key)
        for part in np.array_split(shuffled, count_batches(len(indices), config.training.batch_size)):
            images, masks = take_batch(self.dataset, part.tolist(), crop=None, generator=None)
            values = images.float()
            if is_augmented:
                values, masks = augment(values, masks, config=config.augment, flip=self.dataset.flip, generator=noise)
            yield (values - self.mean) / self.deviation, masks[:, 0, 0]

    @torch.inference_mode()
    def matrices(self, model: nn.Module, indices: tuple[int, ...], *, is_augmented: bool) -> I64:
        """(N, C, C) confusion matrices of a model on these images."""
        model.eval()
        found = []
        for images, labels in self.batches(indices, "scored", is_augmented=is_augmented):
            predicted = model(images).argmax(dim=1)
            found.append(image_confusions(predicted, labels[:, None, None], len(self.dataset.classes)))
        return torch.cat(found).numpy()


def run_article(
    config: RunConfig, dataset: Dataset, report: Callable[[int, int], None] = lambda _epoch, _epochs: None
) -> ArticleResult:
    """Train as the article, with the recipe's epochs, batches, initial weights and order; then test both ways.

    report: called with (finished epochs, all epochs).
    """
    torch.set_num_threads(1)
    train, test = dataset.part("train"), dataset.part("test")
    statistics = pixel_statistics(dataset, train)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (statistics.mean, statistics.deviation))
    feed = _Feed(config, dataset, mean, deviation)
    torch.manual_seed(derive_seed(config.seed, FOLD, "init"))
    model = build_model(config.model, in_channels=dataset.bands, classes=len(dataset.classes))
    optimizer, loss = optimizer_and_loss(model)
    found = _audit(model, optimizer, loss, config, len(train), len(dataset.classes))
    losses = []
    for epoch in range(config.training.epochs):
        model.train()
        total, steps = 0.0, 0
        for images, labels in feed.batches(train, epoch, is_augmented=True):
            optimizer.zero_grad()
            value = loss(model(images)[:, :, 0, 0], labels)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, steps = total + value.item(), steps + 1
        losses.append(total / steps)
        report(epoch + 1, config.training.epochs)
    return ArticleResult(
        clean=feed.matrices(model, test, is_augmented=False),
        augmented=feed.matrices(model, test, is_augmented=True),
        train=feed.matrices(model, train, is_augmented=False),
        audit=found,
        losses=tuple(losses),
    )


def _audit(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, config: RunConfig, n_images: int, classes: int
) -> dict[str, Any]:
    """The findings of `segdecay audit` on this model, optimizer and loss."""
    steps = count_batches(n_images, config.training.batch_size)
    audit = decay.audit(
        model,
        optimizer,
        loss,
        output=(4, classes),
        target=(4,),
        learning_rates=[config.optimizer.lr] * (steps * config.training.epochs),
        steps_per_epoch=steps,
        lambda_meant=5e-4,
    )
    return audit.to_dict()
