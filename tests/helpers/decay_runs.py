"""Optimizers driven by prepared gradients, so that two ways to compute the same steps can be compared closely."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from decay_nets import take_step
from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay.decay import Handle, attach

Make = Callable[[list[nn.Parameter]], Optimizer]
EVERYWHERE = {"encoder": 1.0, "body": 1.0, "head": 1.0, "norm": 1.0, "bias": 1.0}
KERNELS: list[dict[str, Any]] = [{"foreach": False}, {"foreach": True}, {"fused": True}]


def make_net(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two convolutions that feed norm layers, and a head that does not."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 3, 1),
    ]
    return nn.Sequential(*layers).to(dtype)


def gradients(
    parameters: Sequence[Tensor], steps: int, *, start: int = 0, drift: float = 0.0
) -> Iterator[list[Tensor]]:
    """The gradients of each step: normal noise of several sizes, minus `drift` times a fixed direction."""
    fixed = torch.Generator().manual_seed(99)
    directions = [torch.randn(p.shape, generator=fixed, dtype=torch.float64) for p in parameters]
    for step in range(start, start + steps):
        noise = torch.Generator().manual_seed(step)
        yield [
            (
                torch.randn(p.shape, generator=noise, dtype=torch.float64) * 0.1 * 2.0 ** (index % 3)
                - drift * direction
            ).to(p.dtype)
            for index, (p, direction) in enumerate(zip(parameters, directions, strict=True))
        ]


def drive(
    model: nn.Module,
    optimizer: Optimizer,
    rates: Sequence[float],
    *,
    start: int = 0,
    drift: float = 0.0,
    closure: bool = False,
) -> list[Tensor]:
    """The weights after one step for each of the rates; a group's `ratio` multiplies its rate."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for rate, found in zip(rates, gradients(parameters, len(rates), start=start, drift=drift), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("ratio", 1.0)

        def compute(found: list[Tensor] = found) -> float:
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient.clone()
            return 0.0

        take_step(optimizer, compute, closure=closure)
    return [p.detach().clone() for p in model.parameters()]


def run(
    make: Make,
    regularizer: str | None,
    rates: Sequence[float],
    *,
    dtype: torch.dtype = torch.float64,
    drift: float = 0.0,
    closure: bool = False,
    **asked: Any,
) -> list[Tensor]:
    """The weights of `make_net` after the steps under a regularizer, which by default acts on every parameter."""
    model = make_net(dtype)
    optimizer = make(list(model.parameters()))
    if regularizer is not None:
        attach(optimizer, model, regularizer, **{"multipliers": EVERYWHERE, **asked})
    return drive(model, optimizer, rates, drift=drift, closure=closure)


def resumed(
    make: Make, regularizer: str, rates: Sequence[float], cut: int, *, drift: float = 0.0, **asked: Any
) -> list[Tensor]:
    """As `run` in float32, but saved after `cut` steps and resumed in new objects."""

    def fresh() -> tuple[nn.Module, Optimizer, Handle]:
        model = make_net(torch.float32)
        optimizer = make(list(model.parameters()))
        return (
            model,
            optimizer,
            attach(optimizer, model, regularizer, **{"multipliers": EVERYWHERE, **asked}),
        )

    model, optimizer, handle = fresh()
    drive(model, optimizer, rates[:cut], drift=drift)
    saved = model.state_dict(), optimizer.state_dict(), handle.state_dict()
    again, other, second = fresh()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    return drive(again, other, rates[cut:], start=cut, drift=drift)


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest absolute difference between two lists of weights."""
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(ours, theirs, strict=True))


def are_same_bits(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether two lists of weights are equal to the bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
