"""Output channels of a weight, each with the gain of the norm layer behind it: their joint norms, and shrinking them.

Knows tensors only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segdecay.decay.foreach import HALF_TYPES


def channel_size(weight: Tensor, dim: int, gain: Tensor | None = None) -> int:
    """Numbers in one channel: those of the filter, and one for the gain.

    >>> channel_size(torch.zeros(8, 3, 5, 5), 0, torch.ones(8)), channel_size(torch.zeros(8), 0)
    (76, 1)
    """
    channels = weight.shape[dim] if weight.ndim else 1
    return weight.numel() // max(channels, 1) + (gain is not None)


def channel_norms(weight: Tensor, dim: int, gain: Tensor | None = None) -> Tensor:
    """Euclidean norms of the channels, in at least float32.

    Args:
        weight: any shape; a scalar is one channel.
        dim: its dimension of output channels.
        gain: (channels,) of the norm layer that takes the channels, or None.

    Returns:
        (channels,)

    Example:
        >>> channel_norms(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), 0, torch.tensor([4.0, 1.0]))
        tensor([5., 1.])
    """
    exact = torch.float32 if weight.dtype in HALF_TYPES else weight.dtype
    others = [other for other in range(weight.ndim) if other != dim]
    if others:
        norms = torch.linalg.vector_norm(weight.detach(), dim=others, dtype=exact)
    else:
        norms = weight.detach().reshape(-1).abs().to(exact)
    return norms if gain is None else torch.hypot(norms, gain.detach().to(exact))


def shrink_channels_(weight: Tensor, dim: int, threshold: float | Tensor, gain: Tensor | None = None) -> None:
    """Shorten every channel, filter and gain together, by the threshold; to exactly zero where it is no longer.

    >>> w, gain = torch.tensor([[3.0], [0.5]]), torch.tensor([4.0, 0.0]); shrink_channels_(w, 0, 2.5, gain); w, gain
    (tensor([[1.5000],
            [0.0000]]), tensor([2., 0.]))
    """
    norms = channel_norms(weight, dim, gain)
    smallest = torch.finfo(norms.dtype).tiny  # a channel at zero, with a threshold of zero, stays as it is
    factors = 1 - (threshold / norms.clamp(min=smallest)).clamp(max=1)
    if gain is not None:
        gain.mul_(factors)
    shape = [-1 if other == dim else 1 for other in range(weight.ndim)]
    weight.mul_(factors.reshape(shape))
