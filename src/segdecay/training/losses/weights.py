"""Class weights and logit adjustment from counts of pixels or examples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def class_weights(
    kind: str,
    pixels: npt.NDArray[np.int64],  # (C,) valid pixels of each class in the training masks
    pixels_where_present: npt.NDArray[np.int64],  # (C,) all pixels of the images that hold the class
) -> Tensor | None:  # (C,) float32
    """Weights of the classes in the loss; a class without a pixel gets 1, which has no effect.

    `median`: median(f) / f with f = its pixels / all pixels, ignored ones too, of the images that hold it (Eigen and
    Fergus 2015); the median is over the classes that are present.
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


def logit_adjustment(
    tau: float,
    pixels: npt.NDArray[np.int64],  # (C,) valid pixels of each class in the training masks
    weight: Tensor | None = None,  # (C,) class weights of the same loss
) -> Tensor | None:  # (C,) float32, added to the logits inside the loss only
    """τ·log π, with π the share of each class in the loss: its pixels times its class weight, over their sum.

    Without class weights π is the pixel frequency. Class weights change the effective prior of the loss, so only the
    rest is adjusted: with weights 1/frequency all classes are shifted by the same amount. A class without a pixel, or
    of weight 0, takes the smallest positive share before shares are scaled to a sum of 1, so that its logarithm is
    finite.
    None if τ is 0.

    >>> logit_adjustment(1.0, np.array([75, 25])).exp().tolist()
    [0.75, 0.25]

    Source: Menon et al., ICLR 2021, eq. 10, and theorem 1 for the weights; differs in: pixels instead of images.
    """
    if tau == 0:
        return None
    share = pixels.astype(np.float64) * (1.0 if weight is None else weight.cpu().numpy().astype(np.float64))
    is_there = share > 0
    share[~is_there] = share[is_there].min()
    return torch.from_numpy((tau * np.log(share / share.sum())).astype(np.float32))


def effective_number_weights(
    counts: npt.NDArray[np.int64],  # (C,) images or objects of each class
    beta: float,  # 0 <= β < 1; 0 gives equal weights, towards 1 the weights become 1/count
) -> Tensor:  # (C,) float32
    """(1 − β)/(1 − βⁿ), scaled to a mean of 1 over the classes that are present; a class with n = 0 gets 1.

    >>> effective_number_weights(np.array([1, 2]), 0.5).tolist()  # effective numbers 1 and 1.5
    [1.2000000476837158, 0.800000011920929]

    Source: Cui et al., CVPR 2019, eq. 2 and 4.
    """
    weights = np.ones(len(counts), dtype=np.float64)
    present = counts > 0
    effective = (1 - np.power(beta, counts[present].astype(np.float64))) / (1 - beta)
    weights[present] = (1 / effective) / (1 / effective).mean()
    return torch.from_numpy(weights.astype(np.float32))


def power_weights(
    pixels: npt.NDArray[np.int64],  # (C,) valid pixels of each class in the training masks
    exponent: float,  # 0 gives equal weights, 0.5 is inverse_sqrt, 1 is the inverse frequency
) -> npt.NDArray[np.float64]:  # (C,)
    """share^(−exponent), scaled to a mean of 1 over the classes that are present; a class without a pixel gets 1.

    >>> power_weights(np.array([75, 25]), 1.0).tolist()
    [0.5, 1.5]
    """
    weights = np.ones(len(pixels), dtype=np.float64)
    present = pixels > 0
    powers = (pixels[present] / pixels.sum()) ** -exponent
    weights[present] = powers / powers.mean()
    return weights
