"""The original loss: cross-entropy over valid pixels, and class weights from counts.

Knows logits and index masks; nothing of models, files or decay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from segdecay.data.dataset import IGNORE


def class_weights(
    kind: str,
    pixels: npt.NDArray[np.int64],  # (C,) valid pixels of each class in the training masks
    pixels_where_present: npt.NDArray[np.int64],  # (C,) valid pixels of the images that hold the class
) -> Tensor | None:  # (C,) float32
    """Weights of the classes in the loss; a class without a pixel gets 1 and never meets it.

    `median`: median(f) / f with f = pixels / pixels of the images that hold the class (Eigen and Fergus 2015).
    `inverse_sqrt`: 1 / sqrt(share of all pixels), scaled to a mean of 1.

    >>> class_weights("median", np.array([80, 20]), np.array([100, 100])).tolist()
    [0.625, 2.5]
    """
    if kind == "none":
        return None
    weights = np.ones(len(pixels), dtype=np.float64)
    present = pixels > 0
    if kind == "median":
        frequency = pixels[present] / pixels_where_present[present]
        weights[present] = np.median(frequency) / frequency
    else:
        root = 1 / np.sqrt(pixels[present] / pixels.sum())
        weights[present] = root / root.mean()
    return torch.from_numpy(weights.astype(np.float32))


def pixel_cross_entropy(
    logits: Tensor,  # (N, C, H, W) float
    target: Tensor,  # (N, H, W) int64, class indices or IGNORE
    weight: Tensor | None = None,  # (C,)
) -> Tensor:
    """Cross-entropy, weighted mean over the valid pixels (torch's convention); 0 with finite gradients without any.

    >>> logits = torch.tensor([[[[0.0, 9.0]], [[0.0, -9.0]]]])
    >>> round(pixel_cross_entropy(logits, torch.tensor([[[0, IGNORE]]])).item(), 4)
    0.6931
    """
    total, mass = loss_sums(logits, target, weight)
    return total / mass.clamp_min(torch.finfo(total.dtype).tiny)


def loss_sums(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sum of the weighted losses of the valid pixels, and the sum of their weights (both scalars)."""
    logits = logits.float()
    total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE, reduction="sum")
    valid = target != IGNORE
    if weight is None:
        return total, valid.sum().to(total.dtype)
    return total, weight[target.masked_fill(~valid, 0)].mul(valid).sum()
