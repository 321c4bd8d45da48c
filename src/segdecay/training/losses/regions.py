"""Dice, Tversky and Lovász: losses of the overlap of every class with its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import ImageLoss, mean_over_classes, option, truth_of


def soft_counts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) each, over all valid pixels of a batch: probability on the truth, probability, and pixels of the class."""
    over = [0, *range(2, logits.dim())]
    chances, truth = logits.softmax(dim=1), truth_of(logits, target)
    right = (chances * truth).sum(dim=over)
    called = (chances * (target != IGNORE).unsqueeze(1)).sum(dim=over)
    return right, called, truth.sum(dim=over).to(chances.dtype)


@dataclass(frozen=True)
class Dice(ImageLoss):
    """1 − (2·Σ p·t + s) / (Σ p + Σ t + s), mean over the classes that the truth of the batch holds.

    >>> logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]]])  # p = 1/2 twice, the truth is class 0: 1 − 2·1/(1 + 2)
    >>> round(Dice()(logits, torch.tensor([[[0, 0]]])).item(), 4)
    0.3333

    Source: Milletari et al., 3DV 2016, section 3; differs in: Σ p instead of Σ p², as in most implementations, and
    several classes.
    """

    name: ClassVar[str] = "dice"
    words: ClassVar[str] = "Dice"

    smooth: float = option(0.0)

    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        right, called, true = soft_counts(logits, target)
        below = torch.where(true > 0, called + true, 1.0) + self.smooth
        return mean_over_classes(1 - (2 * right + self.smooth) / below, true > 0, weight)


@dataclass(frozen=True)
class Tversky(ImageLoss):
    """1 − (TP + s) / (TP + α·FP + β·FN + s) in probabilities, mean over the classes that the truth of the batch holds.

    α weights false positives, β false negatives. α = β = ½ is
    Dice.

    >>> logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]]])  # TP 1, FN 1: 1 − 1/(1 + .7)
    >>> round(Tversky()(logits, torch.tensor([[[0, 0]]])).item(), 4)
    0.4118

    Source: Salehi et al., MLMI 2017, eq. 3, and their best pair (α .3, β .7); differs in: several classes.
    """

    name: ClassVar[str] = "tversky"
    words: ClassVar[str] = "Tversky"

    alpha: float = option(0.3)
    beta: float = option(0.7, above=True)  # with β = 0, a class that is never predicted would give 0/0
    smooth: float = option(0.0)

    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        right, called, true = soft_counts(logits, target)
        below = right + self.alpha * (called - right) + self.beta * (true - right) + self.smooth
        below = torch.where(true > 0, below, 1.0)
        return mean_over_classes(1 - (right + self.smooth) / below, true > 0, weight)


@dataclass(frozen=True)
class Lovasz(ImageLoss):
    """Σ of errors in decreasing order, each times the increase of the Jaccard loss when its pixel becomes wrong.

    The error of a pixel is |t − p| for each class. Mean over the classes that the truth of the batch holds.

    >>> logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]]])  # errors ½ and ½ on a truth of two pixels: ½·½ + ½·½
    >>> Lovasz()(logits, torch.tensor([[[0, 0]]])).item()
    0.5

    Source: Berman et al., CVPR 2018, algorithm 1 and eq. 11; differs in: steps of the Jaccard loss in closed form
    (differences of rounded quotients lose digits with many pixels), and ties by the order of the pixels.
    """

    name: ClassVar[str] = "lovasz"
    words: ClassVar[str] = "Lovász-Softmax"

    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        classes = logits.shape[1]
        chances = logits.softmax(dim=1).transpose(0, 1).reshape(classes, -1)
        truth = truth_of(logits, target).transpose(0, 1).reshape(classes, -1)
        is_valid = (target != IGNORE).reshape(1, -1)
        errors = torch.where(truth, 1 - chances, chances)  # ignored pixels come last, where a step is 0
        steps = jaccard_steps(errors.detach().masked_fill(~is_valid, -1.0), truth)
        return mean_over_classes((errors * steps).sum(dim=1), truth.any(dim=1), weight)


def jaccard_steps(
    errors: Tensor,  # (C, P), -1 at ignored pixels
    truth: Tensor,  # (C, P) bool
) -> Tensor:
    """(C, P): the increase of the Jaccard loss when a pixel becomes wrong, after those with larger errors.

    If i pixels of the class are still right and the union is now u, it is 1/u for a pixel of the class and
    i/((u − 1)·u) for another. 0 for classes that the truth does not hold.

    >>> jaccard_steps(torch.tensor([[0.9, 0.1]]), torch.tensor([[True, False]]))  # none is right any more
    tensor([[1., 0.]])
    """
    if errors.device.type == "cpu":
        steps, rows = torch.zeros_like(errors), truth.any(dim=1).nonzero().flatten()
        steps[rows] = _steps_of_present(errors[rows], truth[rows])
        return steps
    # to select the classes that are present, the host would wait for their number
    return _steps_of_present(errors, truth).masked_fill(~truth.any(dim=1, keepdim=True), 0.0)


def _steps_of_present(errors: Tensor, truth: Tensor) -> Tensor:
    order = errors.argsort(dim=1, descending=True, stable=True)
    is_true = truth.gather(1, order)
    of_class = is_true.sum(dim=1, keepdim=True)
    left = (of_class - is_true.cumsum(dim=1)).to(errors.dtype)  # summed as integers, so exact
    union = (of_class + (~is_true).cumsum(dim=1)).to(errors.dtype)
    grown = torch.where(is_true, 1 / union, left / (union - 1) / union)
    return torch.empty_like(grown).scatter_(1, order, grown)
