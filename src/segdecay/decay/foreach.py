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
    return list(torch._foreach_add(list(tensors), list(others), alpha=factor))  # noqa: SLF001


def scaled(tensors: Sequence[Tensor], factor: float) -> list[Tensor]:
    """New tensors factor·a.

    >>> scaled([torch.tensor([2.0])], -0.5)
    [tensor([-1.])]
    """
    return list(torch._foreach_mul(list(tensors), factor))  # noqa: SLF001


def averaged(tensors: Sequence[Tensor], others: Sequence[Tensor], weight: float) -> list[Tensor]:
    """New tensors a + weight·(b − a).

    >>> averaged([torch.tensor([1.0])], [torch.tensor([3.0])], 0.25)
    [tensor([1.5000])]
    """
    return list(torch._foreach_lerp(list(tensors), list(others), weight))  # noqa: SLF001


def add_(tensors: Sequence[Tensor], others: Sequence[Tensor], factor: float) -> None:
    """Add factor·b to every a, in place.

    >>> w = torch.tensor([1.0]); add_([w], [torch.tensor([2.0])], 0.5); w
    tensor([2.])
    """
    torch._foreach_add_(list(tensors), list(others), alpha=factor)


def to_agreement_(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Replace every entry by 1 where its product with the other's is not negative, else by 0.

    Their signs are multiplied, not their values, whose product may underflow to 0.

    >>> u = torch.tensor([2.0, -2.0, 0.0]); to_agreement_([u], [torch.tensor([3.0, 3.0, -3.0])]); u
    tensor([1., 0., 1.])
    """
    masks, weights = list(tensors), [other.detach() for other in others]
    torch._foreach_sign_(masks)
    torch._foreach_mul_(masks, weights)
    for mask in masks:
        mask.ge_(0)  # foreach has no comparison


def subtract_masked_(
    tensors: Sequence[Tensor], others: Sequence[Tensor], masks: Sequence[Tensor], factor: float | Tensor
) -> None:
    """Subtract factor·mask·b from every a, in place. A factor that is a tensor is multiplied into the masks, in place.

    >>> w = torch.tensor([2.0, 4.0]); subtract_masked_([w], [w], [torch.tensor([1.0, 0.0])], 0.25); w
    tensor([1.5000, 4.0000])
    """
    kept = list(masks)
    if isinstance(factor, Tensor):
        multiply_(kept, factor)
    amount = 1.0 if isinstance(factor, Tensor) else factor
    plain = [tensor.detach() for tensor in tensors]
    torch._foreach_addcmul_(plain, [other.detach() for other in others], kept, value=-amount)


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:  # (n,), of at least float32
    """The norms of tensors of one device and data type as one vector; does not wait for the device.

    >>> norms([torch.tensor([3.0, -4.0]), torch.tensor([[2.0]])])
    tensor([5., 2.])
    """
    half = tensors[0].dtype in HALF_TYPES
    plain = list(tensors)
    found = torch._foreach_norm(plain, 2, dtype=torch.float32) if half else torch._foreach_norm(plain, 2)  # noqa: SLF001
    return torch.stack(list(found))


def sums(tensors: Sequence[Tensor]) -> Tensor:  # (n,), of at least float32
    """The sums of tensors of one device and data type as one vector; does not wait for the device.

    >>> sums([torch.tensor([3.0, -4.0]), torch.tensor([[2.0]])])
    tensor([-1.,  2.])
    """
    dtype = torch.float32 if tensors[0].dtype in HALF_TYPES else tensors[0].dtype
    return torch.stack([tensor.sum(dtype=dtype) for tensor in tensors])


def multiply_each_(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiply every tensor by its own entry of a vector of factors, in place; does not wait for the device.

    >>> w = torch.tensor([2.0]); multiply_each_([w], torch.tensor([0.5])); w
    tensor([1.])
    """
    torch._foreach_mul_([tensor.detach() for tensor in tensors], list(factors.unbind()))


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
