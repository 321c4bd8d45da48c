"""A small segmentation net, its batches and the plain training loop that trainers are compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from decay_nets import Net as SmallNet
from decay_nets import same as are_same_bits
from decay_nets import torch_groups as decayed_groups
from decay_nets import weights
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["decayed_groups", "weights"]
Batch = tuple[Tensor, Tensor]
BuildOptimizer = Callable[[nn.Module], Optimizer]


class Net(SmallNet):
    """The same net with logits as large as the images."""

    def __init__(self) -> None:
        super().__init__(padding=1)


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def make_batches(count: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(count, 4, 2, 6, 6, generator=generator)
    return [(batch, (batch[:, 0] > 0).long()) for batch in images]


def train_plainly(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    epochs: int = 2,
    clip: float | None = None,
    accumulate: int = 1,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Train on `make_batches` and return the number of steps."""
    steps = 0
    for _ in range(epochs):
        batches = make_batches()
        for number, (images, masks) in enumerate(batches, start=1):
            with precision():
                loss = F.cross_entropy(model(images.to(dtype)), masks)
            torch.autograd.backward(loss / accumulate)
            if number % accumulate == 0 or number == len(batches):
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
                steps += 1
    return steps


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    return are_same_bits(weights(ours), weights(theirs))
