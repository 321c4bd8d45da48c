"""Cross-entropy, the default loss, and its variants focal loss and OHEM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import ImageLoss, PixelLoss, option, pixel_weights, prepared, ratio


@dataclass(frozen=True)
class CrossEntropy(PixelLoss):
    """−log p_y, mean over the valid pixels; with class weights Σ w_y·(−log p_y) / Σ w_y.

    >>> import torch
    >>> logits = torch.tensor([[[[0.0]], [[0.0]]]])  # p = 1/2
    >>> round(CrossEntropy()(logits, torch.tensor([[[0]]])).item(), 4)
    0.6931

    Source: torch.nn.functional.cross_entropy; differs in: 0 instead of NaN if every pixel is ignored.
    """

    name: ClassVar[str] = "cross_entropy"
    words: ClassVar[str] = "cross-entropy"

    def of_pixels(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        weight = None if weight is None else weight.to(logits.dtype)
        if logits.device.type == "cpu":
            total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE, reduction="sum")
        else:  # on a GPU the sum over pixels within the kernel has no deterministic order
            total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE, reduction="none").sum()
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


@dataclass(frozen=True)
class Focal(PixelLoss):
    """(1 − p_y)^γ · (−log p_y), mean over the valid pixels by class weights; γ = 0 is cross-entropy to the bit.

    >>> logits = torch.tensor([[[[0.0]], [[0.0]]]])  # p = 1/2: a quarter of log 2 at γ = 2
    >>> round(Focal(gamma=2.0)(logits, torch.tensor([[[0]]])).item(), 4)
    0.1733

    Source: Lin et al., ICCV 2017, eq. 5; differs in: the softmax of all classes instead of a sigmoid, the mean over
    the valid pixels instead of a sum over the positive ones, and class weights for α.
    """

    name: ClassVar[str] = "focal"
    words: ClassVar[str] = "focal loss"

    gamma: float = option(2.0)

    def of_pixels(self, logits: Tensor, target: Tensor) -> Tensor:
        entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        wrong = -torch.expm1(-entropy)  # 1 − p_y, also where p_y is nearly 1
        return (
            wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** self.gamma * entropy
        )  # the derivative of x^γ at 0 may be infinite

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.gamma:
            return CrossEntropy().sums(logits, target, weight)
        return super().sums(logits, target, weight)


ROUNDING = 1e-9  # of share · pixels, before it is rounded up: .07 · 100 is a little more than 7


@dataclass(frozen=True)
class Ohem(ImageLoss):
    """Cross-entropy over the hardest valid pixels of a batch, mean by class weights.

    Kept are the `share` of the valid pixels with the largest cross-entropy, at least `min_kept` of them, and every
    pixel whose true class has a probability below `threshold`. Pixels are ranked without class weights; of
    equal pixels the first are kept. share = 1 is cross-entropy.

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
