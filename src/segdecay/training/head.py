"""Rows of the head's weights, one per output: their norms, and a cap on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segdecay.decay import Partition
from segdecay.decay.scale_invariance import channel_norms


@dataclass(frozen=True)
class HeadWeight:
    """One weight of the head. `dim` counts its outputs: 0, or 1 in a transposed convolution."""

    name: str
    parameter: nn.Parameter
    dim: int


@dataclass(frozen=True)
class RowCap:
    """The largest norm that the rows of one weight may have."""

    weight: HeadWeight
    norm: float


def head_weights(partition: Partition) -> tuple[HeadWeight, ...]:
    """The weights with rows (two dimensions or more) in the group `head`."""
    return tuple(
        HeadWeight(row.name, parameter, row.output_dim)
        for row, parameter in partition.named_parameters()
        if row.group == "head" and parameter.ndim > 1
    )


def row_norms(
    weight: Tensor,  # any shape of two dimensions or more
    dim: int = 0,
) -> list[float]:  # one per row
    """The Euclidean norm of every slice along `dim`, in double precision.

    >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    [5.0, 1.0]
    """
    norms: list[float] = channel_norms(weight.detach().double(), dim).tolist()
    return norms


@torch.no_grad()
def cap_rows_(caps: Sequence[RowCap]) -> None:
    """MaxNorm: every row w becomes w·min(1, c/‖w‖), in place, by `torch.renorm`."""
    for cap in caps:
        cap.weight.parameter.renorm_(2, cap.weight.dim, cap.norm)
