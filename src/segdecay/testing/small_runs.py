"""Small training runs for the contracts: a network, an optimizer, optionally a regularizer, and images of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay.decay import Handle

KERNELS: tuple[dict[str, bool], ...] = ({"foreach": False}, {"foreach": True}, {"fused": True})
STEPS = 6
PEAK = 0.05
RATES = tuple(PEAK * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS))
SCALE = 1024.0  # a power of two: scaling and unscaling lose no bit


@dataclass
class SmallRun:
    """A small training run."""

    model: nn.Module
    optimizer: Optimizer
    handle: Handle | None

    def weights(self) -> list[Tensor]:
        """Copies of all parameters."""
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def train_(
    run: SmallRun,
    steps: Sequence[int],
    *,
    closure: bool = False,
    portions: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    poison: bool = False,
) -> None:
    """Train some steps, on images that depend only on the number of the step."""
    scale: Callable[[Tensor], Tensor] = scaler.scale if scaler is not None else lambda loss: loss
    dtype = next(run.model.parameters()).dtype
    for step in steps:
        images = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(step)).to(dtype)
        for group in run.optimizer.param_groups:
            group["lr"] = RATES[step]

        def backward(images: Tensor = images) -> float:
            run.optimizer.zero_grad()
            for _ in range(portions):
                loss = run.model(images).sub(0.5).square().mean() / portions
                scale(loss).backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        if closure:
            run.optimizer.step(backward)
            continue
        backward()
        if poison:
            for parameter in run.model.parameters():
                parameter.grad = torch.full_like(parameter, torch.inf)
        if scaler is None:
            run.optimizer.step()
        else:
            scaler.step(run.optimizer)
            scaler.update()


def idle_step_(run: SmallRun, rate: float, *, without: Sequence[str] = ()) -> None:
    """A step with zero gradients; parameters in `without` get no gradient at all."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    for name, parameter in run.model.named_parameters():
        parameter.grad = None if name in without else torch.zeros_like(parameter)
    run.optimizer.step()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def handle_in(run: SmallRun) -> Handle:
    """The handle that is attached to a run."""
    if run.handle is None:
        raise AssertionError("Nothing is attached to this run.")
    return run.handle


def expect_same_bits(one: SmallRun, other: SmallRun, what: str) -> None:
    """Raise AssertionError if any weight differs."""
    pairs = zip(one.weights(), other.weights(), strict=True)
    worst = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    expect(worst == 0, f"{what} differs by {worst:g}.")


def shown(tensor: Tensor) -> str:
    """The first numbers of a tensor."""
    return ", ".join(f"{value:.6g}" for value in tensor.flatten()[:3].tolist()) + ", …"


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError unless the condition holds."""
    if not condition:
        raise AssertionError(message)
