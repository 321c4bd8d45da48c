"""The recipe of the worked example with common mistakes, as articles write it, as input of the audit. Do not copy it.

Decay in Adam *and* an unsquared norm of every parameter in the loss, including biases; test images pass through the
training augmentation.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdecay import decay
from segdecay.config.schema import RunConfig
from segdecay.data import Dataset
from segdecay.metrics.confusion import I64, image_confusions
from segdecay.models.zoo import build_model, logits_of
from segdecay.runs.example import AuditNote
from segdecay.training.batches import Draws, derive_seed, generator, training_batch
from segdecay.training.class_weights import pixel_statistics
from segdecay.training.precision import prepare_torch
from segdecay.training.setup import count_batches
from segdecay.training.validate import score_images

DRAWN_FROM_FOLD = -1  # as a final training, so that both recipes have the same initial weights and order of images

Loss = Callable[[Tensor, Tensor], Tensor]


def optimizer_and_loss(model: nn.Module) -> tuple[torch.optim.Optimizer, Loss]:
    """The two lines that articles show."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        penalty: Tensor = 5e-4 * sum(p.norm() for p in model.parameters())
        return F.cross_entropy(output, target) + penalty

    return optimizer, loss


@dataclass(frozen=True)
class Article:
    """Whether each test image was correct, unchanged and augmented; the code, and what the audit says of it."""

    clean: tuple[bool, ...]
    augmented: tuple[bool, ...]
    lines: str
    findings: tuple[AuditNote, ...]  # one a code


def correct_images(matrices: I64) -> tuple[bool, ...]:  # (N, C, C), each of one label
    """Whether each image was correct.

    >>> correct_images(np.array([[[1, 0], [0, 0]], [[0, 1], [0, 0]]]))
    (True, False)
    """
    return tuple(bool(count) for count in matrices.diagonal(axis1=1, axis2=2).sum(axis=1))


def run_article(config: RunConfig, dataset: Dataset) -> Article:
    """Train as the article, with the recipe's epochs, batches, initial weights and order; then test both ways."""
    prepare_torch(config, "cpu")
    train, test, classes = dataset.part("train"), dataset.part("test"), len(dataset.classes)
    statistics = pixel_statistics(dataset, train)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (statistics.mean, statistics.deviation))

    def batches(indices: np.ndarray[tuple[int], np.dtype[np.int64]], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch, part in enumerate(np.array_split(indices, count_batches(len(indices), config.training.batch_size))):
            images, masks = training_batch(
                config.augment,
                dataset,
                train,
                part.tolist(),
                Draws(),
                drawn_from=(config.seed, DRAWN_FROM_FOLD),
                at=(epoch, batch),
            )
            yield (images - mean) / deviation, masks

    torch.manual_seed(derive_seed(config.seed, DRAWN_FROM_FOLD, "init"))
    model = build_model(config.model, in_channels=dataset.bands, classes=classes)
    optimizer, loss = optimizer_and_loss(model)
    findings = _audit(model, optimizer, loss, config, len(train), classes)
    model.train()
    for epoch in range(config.training.epochs):
        order = torch.randperm(len(train), generator=generator(config.seed, DRAWN_FROM_FOLD, "order", epoch)).numpy()
        for images, masks in batches(np.asarray(train)[order], epoch):
            optimizer.zero_grad()
            loss(logits_of(model, images)[:, :, 0, 0], masks[:, 0, 0]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    clean = score_images(model, dataset, test, mean=mean, deviation=deviation, weight=None, batch_size=256).confusions
    model.eval()
    with torch.inference_mode():
        augmented = torch.cat(
            [
                image_confusions(logits_of(model, images).argmax(dim=1), masks, classes)
                for images, masks in batches(np.asarray(test), config.training.epochs)
            ]
        ).numpy()
    lines = textwrap.dedent(inspect.getsource(optimizer_and_loss)).strip()
    return Article(correct_images(clean), correct_images(augmented), lines, findings)


def _audit(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, config: RunConfig, n_images: int, classes: int
) -> tuple[AuditNote, ...]:
    """The findings of `segdecay audit` on this model, optimizer and loss; those of one code are joined."""
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
    notes: dict[str, AuditNote] = {}
    for found in audit.findings:
        before = f"{notes[found.code].message} " if found.code in notes else ""
        notes[found.code] = AuditNote(found.code, found.level, before + found.message, found.advice)
    return tuple(notes.values())
