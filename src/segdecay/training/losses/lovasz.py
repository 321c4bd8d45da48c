"""Lovász-Softmax: the Jaccard loss of every class, made continuous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import ImageLoss, mean_over_classes, truth_of


@dataclass(frozen=True)
class Lovasz(ImageLoss):
    """Σ of the errors, largest first, each times what adding its pixel to the wrong ones adds to the Jaccard loss.

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
    """(C, P): by how much the Jaccard loss grows when a pixel joins those with larger errors as a wrong one.

    With G pixels of the class of which i are left, and the union grown to u: 1/u for a pixel of the class, and
    i/((u − 1)·u) for another. 0 for classes that the truth does not hold.

    >>> jaccard_steps(torch.tensor([[0.9, 0.1]]), torch.tensor([[True, False]]))  # wrong already: nothing is left
    tensor([[1., 0.]])
    """
    steps = torch.zeros_like(errors)
    rows = truth.any(dim=1).nonzero().flatten()
    order = errors[rows].argsort(dim=1, descending=True, stable=True)
    is_true = truth[rows].gather(1, order)
    of_class = is_true.sum(dim=1, keepdim=True)
    left = (of_class - is_true.cumsum(dim=1)).to(errors.dtype)  # counts stay integers as long as they are summed
    union = (of_class + (~is_true).cumsum(dim=1)).to(errors.dtype)
    grown = torch.where(is_true, 1 / union, left / (union - 1) / union)
    steps[rows] = torch.empty_like(grown).scatter_(1, order, grown)
    return steps
