"""A small convolutional net with batches that depend only on the step, and training steps for comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Net(nn.Module):
    def __init__(self, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=padding)
        self.norm: nn.Module = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.conv(images)).relu())
        return logits


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def data(step: int) -> Tensor:
    return torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(step))


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether two lists of weights are equal to the bit."""
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def torch_groups(model: nn.Module, strength: float) -> list[dict[str, Any]]:
    """Groups with torch's weight decay on weights, not on norm and bias."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return [{"params": decayed, "weight_decay": strength}, {"params": others, "weight_decay": 0.0}]


def take_step(optimizer: Optimizer, compute: Callable[[], float], *, closure: bool) -> None:
    """One step on the gradients of `compute`, which is called by the optimizer or before it."""
    if closure:
        optimizer.step(compute)
    else:
        compute()
        optimizer.step()


def descend(optimizer: Optimizer, loss: Callable[[], Tensor], steps: int, shrink_lr_to: float | None = None) -> None:
    """Full-batch steps, at a constant or a geometrically falling learning rate."""
    first = optimizer.param_groups[0]["lr"]
    factor = 1.0 if shrink_lr_to is None else (shrink_lr_to / first) ** (1 / steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= factor
