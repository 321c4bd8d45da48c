"""The head's rows, one a class, against how frequent the classes are.

Knows tensors and numbers; nothing of data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segdecay.decay.gauge_weights import as_matrix
from segdecay.errors import DecayError


@dataclass(frozen=True)
class HeadGauge:
    """One weight of the head."""

    name: str
    row_norms: tuple[float, ...]  # ‖w_k‖, one an output
    spearman: float | None  # of the row norms with class frequency; None without counts, or where rows are not classes


def row_norms_of(weight: Tensor, dim: int = 0) -> tuple[float, ...]:
    """The Euclidean norm of every output's row, in double precision.

    >>> row_norms_of(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    (5.0, 1.0)
    """
    rows = as_matrix(weight, dim)
    wide = torch.float32 if rows.device.type == "mps" else torch.float64
    return tuple(float(norm) for norm in torch.linalg.vector_norm(rows, dim=1, dtype=wide))


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, −1 to 1; ties share the mean of their ranks.

    Returns:
        None for fewer than two pairs, or where one of the sequences is constant or holds a NaN.

    Raises:
        DecayError: their lengths differ.

    Example:
        >>> spearman([1, 2, 3], [10, 30, 20]), spearman([1, 2], [5, 5])
        (0.5, None)
    """
    if len(one) != len(other):
        raise DecayError(f"Spearman's correlation needs pairs; saw {len(one)} and {len(other)} values.")
    if any(math.isnan(value) for value in (*one, *other)):
        return None
    left, right = _centred_ranks(one), _centred_ranks(other)
    squares = sum(a * a for a in left) * sum(b * b for b in right)
    return sum(a * b for a, b in zip(left, right, strict=True)) / math.sqrt(squares) if squares else None


def frequency_correlation(row_norms: Sequence[float], class_counts: Sequence[float] | None) -> float | None:
    """Spearman of row norms with (the logarithm of) class counts, over the classes that occur.

    >>> frequency_correlation([3.0, 2.0, 1.0, 9.0], [100, 10, 1, 0])
    1.0
    """
    if class_counts is None or len(class_counts) != len(row_norms):
        return None
    present = [(norm, count) for norm, count in zip(row_norms, class_counts, strict=True) if count > 0]
    return spearman([norm for norm, _ in present], [count for _, count in present])


def _centred_ranks(values: Sequence[float]) -> list[float]:
    """Ranks with a mean of zero."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end - 1) / 2
        start = end
    middle = (len(values) - 1) / 2
    return [rank - middle for rank in ranks]
