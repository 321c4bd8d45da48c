"""Online hard example mining: cross-entropy over the hardest pixels of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import ImageLoss, option, pixel_weights, ratio

ROUNDING = 1e-9  # of share · pixels, before it is rounded up: .07 · 100 is a little more than 7


@dataclass(frozen=True)
class Ohem(ImageLoss):
    """Cross-entropy over the hardest valid pixels of a batch, mean by class weights; the others count nothing.

    Kept are the `share` of the valid pixels with the largest cross-entropy, at least `min_kept` of them, and every
    pixel whose true class has a probability below `threshold`. What is hard is seen without class weights; among
    equals the first pixels are kept. share = 1 is cross-entropy.

    >>> logits = torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]])  # the second pixel is right
    >>> round(Ohem(share=0.5)(logits, torch.tensor([[[0, 0]]])).item(), 4)
    0.6931

    Source: Shrivastava et al., CVPR 2016, for pixels instead of regions; `threshold` as in HRNet's segmentation code.
    """

    name: ClassVar[str] = "ohem"
    words: ClassVar[str] = "OHEM cross-entropy"

    share: float = option(0.25, most=1.0)
    min_kept: float = option(1.0, least=1.0)
    threshold: float = option(0.0, most=1.0)

    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        losses = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        mass = pixel_weights(target, weight, logits.dtype) * self.is_kept(losses.detach(), target != IGNORE)
        return ratio((losses * mass).sum(), mass.sum())

    def is_kept(self, losses: Tensor, is_valid: Tensor) -> Tensor:
        """(N, ...) bool."""
        keys = losses.masked_fill(~is_valid, -1.0).flatten()
        shared = torch.ceil(self.share * is_valid.sum().double() - ROUNDING).clamp_min(self.min_kept)
        order = keys.argsort(descending=True, stable=True)
        is_hard = torch.empty_like(keys, dtype=torch.bool)
        is_hard.scatter_(0, order, torch.arange(len(keys), device=keys.device) < shared)
        bound = -math.log(self.threshold) if self.threshold else math.inf
        return (is_hard.view_as(losses) | (losses > bound)) & is_valid
