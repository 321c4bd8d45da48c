"""Small networks and training steps for tests of sparsity regularizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from decay_nets import same, take_step, weights
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["weights"]
EVERYWHERE = {"body": 1.0, "head": 1.0, "norm": 1.0, "bias": 1.0}
SPARSE = ("l1", "elastic_net", "group_lasso")
KERNELS: list[dict[str, bool]] = [{"foreach": False}, {"foreach": True}, {"fused": True}]
RATES = [0.1, 0.3, 0.2]


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))


def idle(optimizer: Optimizer, model: nn.Module, rates: Sequence[float]) -> None:
    """Steps with gradients of zero."""
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def steps(optimizer: Optimizer, model: nn.Module, count: int, *, start: int = 0, closure: bool = False) -> None:
    for step in range(start, start + count):
        batch = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))

        def compute(batch: Tensor = batch) -> float:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return float(loss.detach())

        take_step(optimizer, compute, closure=closure)


def assert_same_bits(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert same(ours, theirs)


def linear(values: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(values[0]), len(values), bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values, dtype=torch.float64))
    return layer
