"""Cross-entropy: the default loss, and the one that others bend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import PixelLoss, pixel_weights, prepared, ratio


@dataclass(frozen=True)
class CrossEntropy(PixelLoss):
    """−log p_y, mean over the valid pixels; with class weights Σ w_y·(−log p_y) / Σ w_y.

    >>> import torch
    >>> logits = torch.tensor([[[[0.0]], [[0.0]]]])  # p = 1/2
    >>> round(CrossEntropy()(logits, torch.tensor([[[0]]])).item(), 4)
    0.6931

    Source: torch.nn.functional.cross_entropy; differs in: 0 instead of NaN where every pixel is ignored.
    """

    name: ClassVar[str] = "cross_entropy"
    words: ClassVar[str] = "cross-entropy"

    def of_pixels(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        weight = None if weight is None else weight.to(logits.dtype)
        total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE, reduction="sum")
        return total, pixel_weights(target, weight, logits.dtype).sum()


def pixel_cross_entropy(
    logits: Tensor,  # (N, C, H, W) float
    target: Tensor,  # (N, H, W) int64, class indices or IGNORE
    weight: Tensor | None = None,  # (C,)
    adjustment: Tensor | None = None,  # (C,) from `logit_adjustment`
) -> Tensor:
    """Cross-entropy, weighted mean over the valid pixels (torch's convention); 0 with finite gradients without any.

    >>> import torch
    >>> logits = torch.tensor([[[[0.0, 9.0]], [[0.0, -9.0]]]])
    >>> round(pixel_cross_entropy(logits, torch.tensor([[[0, IGNORE]]])).item(), 4)
    0.6931
    """
    return ratio(*loss_sums(logits, target, weight, adjustment))


def loss_sums(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, adjustment: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The sum of the weighted cross-entropies of the valid pixels, and the sum of their weights (both scalars)."""
    return CrossEntropy().sums(prepared(logits, target, adjustment), target, weight)
