"""Focal loss over the softmax: pixels that are right already count less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.training.losses.base import PixelLoss, option
from segdecay.training.losses.cross_entropy import CrossEntropy


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
        )  # the slope of 0^γ may be infinite

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.gamma:
            return CrossEntropy().sums(logits, target, weight)
        return super().sums(logits, target, weight)
