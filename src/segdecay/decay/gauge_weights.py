"""What one weight looks like: norm, stable rank, exact zeros, output channels that are nothing but zeros.

Pure arithmetic on tensors; changes nothing and draws nothing from torch's global generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXACT_SIDE = 128  # shorter side up to which the largest singular value is exact
LANCZOS_STEPS = 24  # products with W and Wᵀ beyond that


def as_matrix(
    weight: Tensor,  # any shape of two dimensions or more
    dim: int = 0,
) -> Tensor:  # (outputs, everything else)
    """A weight as the matrix that its layer applies, a row an output channel.

    >>> as_matrix(torch.zeros(8, 3, 5, 5)).shape
    torch.Size([8, 75])
    """
    return weight.detach().movedim(dim, 0).flatten(1)


def exact_norm(tensor: Tensor) -> float:
    """The Euclidean norm of all elements, summed in double precision where the device has it.

    >>> exact_norm(torch.tensor([3.0, 4.0]))
    5.0
    """
    return float(torch.linalg.vector_norm(_wide(tensor.detach())))


def stable_rank(weight: Tensor, dim: int = 0) -> float | None:
    """How many directions carry a weight: ‖W‖_F² / σ_max², between 1 and the rank.

    σ_max² is the largest eigenvalue of WWᵀ (or WᵀW, whichever is smaller): exact up to a shorter side of 128, and by
    24 steps of Lanczos from a fixed start beyond, which never overestimates it.

    Args:
        weight: two dimensions or more; a convolution's is read as the matrix (outputs, inputs·kh·kw).
        dim: its dimension of output channels: 1 for transposed convolutions.

    Returns:
        None for a weight with fewer than two dimensions, all zeros, or with values that are not finite.

    Example:
        >>> weights = torch.eye(3), torch.ones(3, 5), torch.diag(torch.tensor([2.0, 1.0]))
        >>> [round(stable_rank(weight), 6) for weight in weights]
        [3.0, 1.0, 1.25]

    Source: Rudelson and Vershynin, J. ACM 2007, section 1.
    """
    if weight.ndim < 2 or weight.numel() == 0:
        return None
    total = exact_norm(weight) ** 2
    if total == 0 or not math.isfinite(total):
        return None
    return total / _largest_square(as_matrix(weight, dim))


def zero_counts(weight: Tensor, dim: int = 0) -> tuple[int, int]:
    """Exact zeros of a tensor, and output channels that are zero throughout; each element of a vector is one.

    >>> zero_counts(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    (3, 1)
    """
    if weight.ndim < 2:
        found = weight.numel() - int(torch.count_nonzero(weight.detach()))
        return found, found
    kept = torch.count_nonzero(as_matrix(weight, dim), dim=1)
    return weight.numel() - int(kept.sum()), int((kept == 0).sum())


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _largest_square(matrix: Tensor) -> float:
    """σ_max² of a matrix that is finite and not zero."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if matrix.shape[0] <= EXACT_SIDE:
        exact = _wide(matrix)
        return float(torch.linalg.eigvalsh((exact @ exact.T).cpu())[-1])
    return _lanczos(matrix.float() if matrix.dtype != torch.float64 else matrix)


def _lanczos(matrix: Tensor) -> float:
    """The largest Ritz value of WWᵀ after a few steps of Lanczos, each kept orthogonal to all before it."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[0], generator=draw).to(matrix)
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(LANCZOS_STEPS):
        image = matrix @ (matrix.T @ basis[-1])
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        for _twice in range(2):  # once leaves an error that grows
            image = image - known.T @ (known @ image)
        rest = float(torch.linalg.vector_norm(image))
        if rest <= 1e-6 * diagonal[0]:
            break
        beside.append(rest)
        basis.append(image / rest)
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    return float(torch.linalg.eigvalsh(small)[-1])
