"""Arithmetic on lists of tensors through torch's foreach kernels: one launch for many tensors.

Knows tensors only. The one place that calls torch's foreach functions, whose names begin with an underscore although
torch.optim's documentation recommends them. Lists may mix devices and data types.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

HALF_TYPES = (torch.float16, torch.bfloat16)


def multiply_(tensors: Sequence[Tensor], factor: float | Tensor) -> None:
    """Multiply every tensor by one factor, in place.

    >>> w = torch.tensor([2.0]); multiply_([w], 0.95); w
    tensor([1.9000])
    """
    for group in by_kind(tensors):
        if group[0].dtype in HALF_TYPES and group[0].device.type == "cpu":
            # There torch's foreach rounds the factor to the type first, 0.975 to 0.9766 and 0.999 to 1: no decay.
            for tensor in group:
                tensor.mul_(factor)
        else:
            torch._foreach_mul_(group, factor)


def add_scaled(tensors: Sequence[Tensor], others: Sequence[Tensor], factor: float) -> list[Tensor]:
    """New tensors a + factor·b; nothing is changed.

    >>> add_scaled([torch.tensor([1.0])], [torch.tensor([2.0])], 0.5)
    [tensor([2.])]
    """
    if any(tensor.dtype != other.dtype for tensor, other in zip(tensors, others, strict=True)):
        pairs = zip(tensors, others, strict=True)  # a float32 other beside a half tensor: the sum is rounded once
        return [torch.add(tensor, other, alpha=factor).to(tensor.dtype) for tensor, other in pairs]
    return list(torch._foreach_add(list(tensors), list(others), alpha=factor)) if tensors else []  # noqa: SLF001


def offsets(tensors: Sequence[Tensor], anchors: Sequence[Tensor]) -> list[Tensor]:
    """New tensors a − b, in the wider type of the two; nothing is changed.

    >>> offsets([torch.tensor([3.0])], [torch.tensor([2.0])])
    [tensor([1.])]
    """
    if any(tensor.dtype != anchor.dtype for tensor, anchor in zip(tensors, anchors, strict=True)):
        return [tensor.detach() - anchor for tensor, anchor in zip(tensors, anchors, strict=True)]
    return list(torch._foreach_sub([t.detach() for t in tensors], list(anchors))) if tensors else []  # noqa: SLF001


def pull_(tensors: Sequence[Tensor], anchors: Sequence[Tensor], factor: float | Tensor) -> None:
    """Move every tensor by a share `factor` of its way to its anchor, in place; anchors are at least as wide.

    >>> w = torch.tensor([2.0]); pull_([w], [torch.tensor([1.0])], 0.25); w
    tensor([1.7500])
    """
    if not tensors:
        return
    moved = offsets(tensors, anchors)
    torch._foreach_mul_(moved, factor)
    if any(tensor.dtype != offset.dtype for tensor, offset in zip(tensors, moved, strict=True)):
        for tensor, offset in zip(tensors, moved, strict=True):
            tensor.detach().sub_(offset)  # computed in the wider type, rounded once
    else:
        torch._foreach_sub_([tensor.detach() for tensor in tensors], moved)


def half_square_sum(tensors: Sequence[Tensor]) -> float:
    """½ Σ x² over all entries; norms of tensors in at least float32, their sum in float64. Waits for the device.

    >>> half_square_sum([torch.tensor([3.0, 4.0]), torch.tensor([[2.0]])])
    14.5
    """
    total = 0.0
    for group in by_kind(tensors):
        half = group[0].dtype in HALF_TYPES
        norms = torch._foreach_norm(group, 2, dtype=torch.float32) if half else torch._foreach_norm(group, 2)  # noqa: SLF001
        total += float(torch.stack(list(norms)).cpu().double().square().sum())
    return 0.5 * total


def by_kind(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors split by device and data type, in order."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
    return list(kinds.values())
