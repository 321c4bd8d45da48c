"""The head's weights row by row, one row an output: their norms, and a cap on them.

Knows tensors and partitions; nothing of losses, data or optimizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segdecay.decay import Partition


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
        HeadWeight(row.name, parameter, int(row.module.startswith("ConvTranspose")))
        for row, parameter in partition.named_parameters()
        if row.group == "head" and parameter.ndim > 1
    )


def row_norms(
    weight: Tensor,  # any shape of two dimensions or more
    dim: int = 0,
) -> list[float]:  # one a row
    """The Euclidean norm of every slice along `dim`, in double precision.

    >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    [5.0, 1.0]
    """
    rows = weight.detach().double().movedim(dim, 0).flatten(1)
    norms: list[float] = torch.linalg.vector_norm(rows, dim=1).tolist()
    return norms


def norm_cap(norms: Sequence[float], share: float) -> float:
    """C = min + share·(max − min) of row norms.

    >>> norm_cap([1.0, 3.0, 2.0], 0.25)
    1.5

    Source: Alshammari et al., CVPR 2022, in the authors' code (`setPerLayerThresh`), share .1.
    """
    return min(norms) + share * (max(norms) - min(norms))


@torch.no_grad()
def cap_rows_(caps: Sequence[RowCap]) -> None:
    """MaxNorm: every row w becomes w·min(1, c/‖w‖), in place, by `torch.renorm`."""
    for cap in caps:
        cap.weight.parameter.renorm_(2, cap.weight.dim, cap.norm)
