"""Arithmetic on lists of tensors through torch's foreach kernels: one launch for many tensors.

Only this module calls torch's foreach functions; their names begin with an underscore although the documentation of
torch.optim recommends them. Lists may mix devices and data types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
            # In half precision torch's foreach rounds the factor first, 0.975 to 0.9766 and 0.999 to 1, no decay.
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
    """Move every tensor by the share `factor` of its distance to its anchor, in place.

    Anchors have the same or a wider data type.

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
    """Replace every entry by 1 if its product with the other's is not negative, else by 0.

    The signs are multiplied, not the values, whose product may underflow to 0.

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
    """Subtract factor·mask·b from every a, in place. If the factor is a tensor, the masks are changed as well.

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


def reciprocal_steps(
    tensors: Sequence[Tensor],
    lr: float | Tensor,
    *,
    root: bool = False,
    divisors: Sequence[Any] | None = None,
    eps: float = 0.0,
) -> list[Tensor]:
    """New tensors lr/(√x/divisor + eps), or without the root, in at least float32.

    divisors: for each tensor one number or 0-d tensor.

    >>> reciprocal_steps([torch.tensor([4.0])], 0.5, root=True, divisors=[0.5], eps=1.0)
    [tensor([0.1000])]
    """
    values = [tensor.float() if tensor.dtype in HALF_TYPES else tensor for tensor in tensors]
    steps = list(torch._foreach_sqrt(values) if root else torch._foreach_add(values, 0.0))  # noqa: SLF001
    if divisors is not None:
        torch._foreach_div_(steps, list(divisors))
    if eps:
        torch._foreach_add_(steps, eps)
    torch._foreach_reciprocal_(steps)
    torch._foreach_mul_(steps, lr)
    return steps


def shrink_(tensors: Sequence[Tensor], steps: float | Tensor | Sequence[Tensor], l1: float, l2: float) -> None:
    """The proximal step of l1·Σ|x| + l2·½Σx², in place: soft(x, t·l1)/(1 + t·l2), with t one number or a tensor each.

    Tensors share device and data type. Exact zeros where |x| ≤ t·l1.

    >>> w = torch.tensor([2.0, -0.25]); shrink_([w], 0.5, 1.0, 2.0); w
    tensor([0.7500, 0.0000])
    """
    if isinstance(steps, Tensor) or tensors[0].dtype in HALF_TYPES:
        # foreach kernels take no tensor as one bound for all, and in half precision would round t·l1 to 8 bits.
        for index, tensor in enumerate(tensors):
            shrink_one_(tensor, steps if isinstance(steps, float | Tensor) else steps[index], l1, l2)
        return
    values = [tensor.detach() for tensor in tensors]
    if l1:
        _soften_(values, steps * l1 if isinstance(steps, float) else list(torch._foreach_mul(list(steps), l1)))  # noqa: SLF001
    if not l2:
        return
    if isinstance(steps, float):
        torch._foreach_div_(values, 1 + steps * l2)
    else:
        divisors = list(torch._foreach_mul(list(steps), l2))  # noqa: SLF001
        torch._foreach_add_(divisors, 1.0)
        torch._foreach_div_(values, divisors)


def shrink_one_(tensor: Tensor, step: float | Tensor, l1: float, l2: float) -> None:
    """`shrink_` of one tensor, computed in at least float32, so that half precision is rounded once."""
    exact = tensor.float() if tensor.dtype in HALF_TYPES else tensor.detach()
    if l1:
        exact = exact - torch.minimum(torch.maximum(exact, _as(-step * l1, exact)), _as(step * l1, exact))
    if l2:
        exact = exact / (1 + step * l2)
    tensor.copy_(exact)


def _as(value: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _soften_(tensors: list[Tensor], bounds: float | list[Tensor]) -> None:
    """Subtract clamp(x, −bound, bound) from every x, in place; negates the bounds."""
    if isinstance(bounds, float):
        removed = torch._foreach_clamp_max(tensors, bounds)  # noqa: SLF001
        torch._foreach_clamp_min_(removed, -bounds)
    else:
        removed = torch._foreach_clamp_max(tensors, bounds)  # noqa: SLF001
        torch._foreach_neg_(bounds)
        torch._foreach_clamp_min_(removed, bounds)
    torch._foreach_sub_(tensors, removed)


def absolute_sum(tensors: Sequence[Tensor]) -> float:
    """Σ |x| over all entries, summed as `half_square_sum` sums. Waits for the device.

    >>> absolute_sum([torch.tensor([3.0, -4.0]), torch.tensor([[2.0]])])
    9.0
    """
    total = 0.0
    for group in by_kind(tensors):
        half = group[0].dtype in HALF_TYPES
        norms = torch._foreach_norm(group, 1, dtype=torch.float32) if half else torch._foreach_norm(group, 1)  # noqa: SLF001
        total += float(torch.stack(list(norms)).cpu().double().sum())
    return total


def signs(tensors: Sequence[Tensor]) -> list[Tensor]:
    """New tensors of −1, 0 and 1.

    >>> signs([torch.tensor([-3.0, 0.0, 2.0])])
    [tensor([-1.,  0.,  1.])]
    """
    return list(torch._foreach_sign(list(tensors)))  # noqa: SLF001
