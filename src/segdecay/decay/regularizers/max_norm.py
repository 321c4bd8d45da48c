"""MaxNorm: the norm of every output row is kept below a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from segdecay.decay.axes import StrengthAxis, bound_axis
from segdecay.decay.regularizers.base import Binding, BoundRegularizer, Bucket, OptimizerTraits
from segdecay.decay.scale_invariance import channel_norms
from segdecay.errors import DecayError, gather

# Srivastava et al. give 3 to 4 as typical; each further value is half. A row of He's initialisation has norm √2, so 2
# bounds only rows that have grown, and 1 bounds all from the first step on.
MAX_NORM_GRID = (math.inf, 4.0, 2.0, 1.0)


class MaxNorm(BoundRegularizer):
    """Bound on norms: after every step each output row or filter w_k with a norm above c is scaled to norm c.

    For: keeping single filters or classes from growing, whatever the gradient; heads whose row norms grow with class
        frequency (long tails), beside 'decoupled', the only regularizer it combines with.
    Not for: shrinking rows inside the bound, which are not changed. Convolutions before a norm layer, whose scale
        changes only the effective learning rate.
    Minimises: L_original subject to ‖w_k‖ ≤ c for every row, by projection. There is no λR; its penalty is 0.
    Defaults: no bound; axis max_norm, c itself, where less is stronger and inf is no bound; grid inf, 4, 2, 1: 4 is the
        upper end of what the source calls typical, and a row of He's initialisation has norm √2. A group's multiplier m
        means c/m. Norms are over all dimensions except that of the output channels. Norm, bias and every 1-d parameter
        are left out. The optimizer's own weight decay may act as well.
    Source: Srivastava et al., JMLR 2014, section 5.1; torch.renorm; Alshammari et al., CVPR 2022, for long tails, whose
        c `max_norm_of` computes.
    """

    name = "max_norm"
    refusal = "The bound c must be above 0; saw {saw}. inf means no bound."
    bounds: ClassVar[bool] = True
    formula = "θ ← θ − η·u, then w_k ← w_k·min(1, c/‖w_k‖)"
    plain_formula = "weight -= lr * update; row = row * min(1, c / norm(row))"

    def __init__(self) -> None:
        self._output_dims: dict[str, int] = {}

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return bound_axis(self.name, "c, the largest norm of an output row", MAX_NORM_GRID, "it bounds norms.")

    def bind(self, binding: Binding) -> None:
        self._output_dims = {name: row.output_dim for name, row in binding.rows.items()}

    def after_update_(self, bucket: Bucket) -> None:
        members = [(n, p) for n, p in zip(bucket.names, bucket.parameters, strict=True) if p.ndim > 1]
        if members:
            dims = [self._output_dims[name] % parameter.ndim for name, parameter in members]
            norms = [channel_norms(parameter, dim) for (_, parameter), dim in zip(members, dims, strict=True)]
            factors = (bucket.strength / torch.cat(norms)).clamp_(max=1.0)  # nothing here waits for the device
            parts = torch.split(factors, [len(each) for each in norms])
            for (_, parameter), part, dim in zip(members, parts, dims, strict=True):
                parameter.mul_(_along(part, dim, parameter.ndim))


def _along(factors: Tensor, dim: int, ndim: int) -> Tensor:
    """(channels,) shaped to be multiplied with a weight along `dim`."""
    return factors.reshape([-1 if axis == dim else 1 for axis in range(ndim)])


def bound_rows_(weight: Tensor, bound: float, dim: int = 0) -> None:
    """Scale rows along `dim` with a norm above `bound` to this norm, in place; the others keep every bit.

    >>> w = torch.tensor([[3.0, 4.0], [0.3, 0.4]]); bound_rows_(w, 1.0); w
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    dim %= weight.ndim
    factors = (bound / channel_norms(weight, dim)).clamp_(max=1.0)  # nothing here waits for the device
    weight.detach().mul_(_along(factors, dim, weight.ndim))


def norm_cap(norms: Sequence[float], share: float) -> float:
    """The bound c = min + share·(max − min) of row norms.

    >>> norm_cap([1.0, 3.0, 2.0], 0.25)
    1.5

    Source: Alshammari et al., CVPR 2022, in the authors' code (`setPerLayerThresh`), share .1.
    """
    return min(norms) + share * (max(norms) - min(norms))


def max_norm_of(weight: Tensor, share: float = 0.1, *, dim: int = 0) -> float:
    """The bound c = min‖w_k‖ + share·(max‖w_k‖ − min‖w_k‖) over the rows of a trained weight.

    Args:
        weight: of at least two dimensions, usually of the head after a first stage.
        share: 0: the bound is the smallest norm; 1: the largest, so that no row is changed.
        dim: of the output channels.

    Raises:
        DecayError: the weight has fewer than two dimensions, share is outside [0, 1], or the norms give no bound.

    Example:
        >>> max_norm_of(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), share=0.5)
        3.0

    Source: Alshammari et al., CVPR 2022: share .1, in their code.
    """
    faults = []
    if weight.ndim < 2:
        faults.append(f"Rows need a weight of at least two dimensions; saw shape {tuple(weight.shape)}.")
    if not 0 <= share <= 1:
        faults.append(f"share must be from 0 to 1; saw {share:g}.")
    gather(DecayError, faults)
    norms = channel_norms(weight, dim % weight.ndim).tolist()
    bound = norm_cap(norms, share)
    if not (math.isfinite(bound) and bound > 0):
        saw = f"Row norms from {min(norms):g} to {max(norms):g} give c = {bound:g}"
        raise DecayError(f"{saw}, which is no bound. Train first.")
    return bound
