"""Find the weights that feed a norm layer, whose scale changes only the effective learning rate.

They are found by order of registration: a convolution whose next sibling is a norm layer with as many channels, or a
linear layer whose next sibling is a batch norm. Layers that run in another order must be named.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from segdecay.decay.foreach import HALF_TYPES
from segdecay.decay.head import bare_name, is_weight_layer
from segdecay.errors import DecayError, did_you_mean, gather

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
OTHER_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.RMSNorm)
SEE_THROUGH = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def output_dim(owner: nn.Module, shape: Sequence[int] = ()) -> int:
    """The dimension of a weight that counts the module's output channels.

    A parameter of another kind of module with a single side above 1 has one number per channel, along this side.

    >>> output_dim(nn.Conv2d(3, 8, 3)), output_dim(nn.ConvTranspose2d(3, 8, 3)), output_dim(nn.Module(), (1, 8, 1, 1))
    (0, 1, 1)
    """
    sides = [dim for dim, side in enumerate(shape) if side > 1]
    if len(sides) == 1 and not (
        is_weight_layer(owner) or isinstance(owner, (nn.Embedding, nn.RNNBase, ParametrizationList))
    ):
        return sides[0]
    return 1 if isinstance(owner, TRANSPOSED) else 0


def find_feeds(model: nn.Module, wanted: Sequence[str] | None = None) -> dict[str, str]:
    """The names of weights that feed a norm layer, each with the name of that layer.

    Args:
        model: the bare module.
        wanted: globs over parameter names that replace the search; the norm layer is the next sibling if that is one,
            else its name is given as "norm".

    Raises:
        DecayError: a glob matches no parameter.

    Example:
        >>> block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
        >>> find_feeds(block), find_feeds(block, ["3.weight"])
        ({'0.weight': '1'}, {'3.weight': 'norm'})
    """
    found = _search(model)
    if wanted is None:
        return found
    names = [bare_name(name) for name, parameter in model.named_parameters() if parameter.ndim > 1]
    faults = [
        f"feeds_norm '{glob}' matches no weight; they are globs over whole names.{did_you_mean(glob, names)}"
        for glob in wanted
        if not any(fnmatch.fnmatchcase(name, glob) for name in names)
    ]
    gather(DecayError, faults)
    return {name: found.get(name, "norm") for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in wanted)}


def _search(model: nn.Module) -> dict[str, str]:
    found = {}
    for path, parent in model.named_modules():
        if isinstance(parent, nn.ModuleList | nn.ModuleDict):
            continue  # not run in the order of registration
        children = [(name, child) for name, child in parent.named_children() if not isinstance(child, SEE_THROUGH)]
        for (name, child), (norm_name, norm) in pairwise(children):
            if _takes(norm, child):
                prefix = f"{path}." if path else ""
                found[bare_name(f"{prefix}{name}.weight")] = bare_name(f"{prefix}{norm_name}")
    return found


def _takes(norm: nn.Module, layer: nn.Module) -> bool:
    """Whether this norm layer, next to this layer, takes its output."""
    if isinstance(layer, CONVOLUTIONS):
        return isinstance(norm, (*BATCH_NORMS, *OTHER_NORMS)) and _channels(norm) in (None, layer.out_channels)
    return isinstance(layer, nn.Linear) and isinstance(norm, BATCH_NORMS) and _channels(norm) == layer.out_features


def _channels(norm: nn.Module) -> int | None:
    """The channels of a norm layer; None if it does not fix their number."""
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        return int(norm.normalized_shape[0]) if len(norm.normalized_shape) == 1 else None
    channels = getattr(norm, "num_channels", getattr(norm, "num_features", None))
    return None if channels is None else int(channels)


def channel_size(weight: Tensor, dim: int, gain: Tensor | None = None) -> int:
    """The number of elements of one channel: those of the filter, and one for the gain.

    >>> channel_size(torch.zeros(8, 3, 5, 5), 0, torch.ones(8)), channel_size(torch.zeros(8), 0)
    (76, 1)
    """
    channels = weight.shape[dim] if weight.ndim else 1
    return weight.numel() // max(channels, 1) + (gain is not None)


def channel_norms(weight: Tensor, dim: int, gain: Tensor | None = None) -> Tensor:
    """Euclidean norms of the channels, in at least float32.

    Args:
        weight: any shape; a scalar is one channel.
        dim: the dimension of its output channels.
        gain: (channels,) of the norm layer behind it, or None.

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
    """Reduce the norm of every channel, filter and gain together, by the threshold, at least to exactly zero.

    >>> w, gain = torch.tensor([[3.0], [0.5]]), torch.tensor([4.0, 0.0]); shrink_channels_(w, 0, 2.5, gain); w, gain
    (tensor([[1.5000],
            [0.0000]]), tensor([2., 0.]))
    """
    norms = channel_norms(weight, dim, gain)
    smallest = torch.finfo(norms.dtype).tiny  # a channel at zero with a threshold of zero is not changed
    factors = 1 - (threshold / norms.clamp(min=smallest)).clamp(max=1)
    if gain is not None:
        gain.mul_(factors)
    shape = [-1 if other == dim else 1 for other in range(weight.ndim)]
    weight.mul_(factors.reshape(shape))
