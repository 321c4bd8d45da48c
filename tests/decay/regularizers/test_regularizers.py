"""Regularizers against torch's own optimizers, to the bit, and each regularizer's law for a weight without gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from decay_nets import take_step, weights
from sparse_nets import assert_same_bits
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segdecay.decay import Handle, attach, axis_of, describe_strength
from segdecay.decay.strength import idle_weight, total_decay

torch.set_num_threads(1)
EVERYWHERE = {"encoder": 1.0, "body": 1.0, "head": 1.0, "norm": 1.0, "bias": 1.0}
KERNELS = [{"foreach": False}, {"foreach": True}, {"fused": True}]
SGD_KINDS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.3},
    {"maximize": True},
]
Make = Callable[[nn.Module], Optimizer]


def make_net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.LayerNorm(9), nn.Linear(9, 3)).to(dtype)


def train(
    make: Make,
    regularizer: str | None = None,
    strength: float = 0.0,
    *,
    multipliers: dict[str, float] | None = None,
    closure: bool = False,
    steps: int = 25,
    model: nn.Module | None = None,
) -> list[Tensor]:
    """Weights after some steps on random data under a cosine schedule."""
    model = make_net() if model is None else model
    dtype = next(model.parameters()).dtype
    optimizer = make(model)
    if regularizer is not None:
        attach(optimizer, model, regularizer, strength=strength, multipliers=multipliers or EVERYWHERE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        batch = torch.randn(5, 7, generator=generator).to(dtype)

        def compute(batch: Tensor = batch) -> float:
            optimizer.zero_grad()
            loss = model(batch).tanh().mean()
            loss.backward()
            return float(loss.detach())

        take_step(optimizer, compute, closure=closure)
        schedule.step()
    return weights(model)


def assert_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    assert max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)) < tolerance


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("kind", SGD_KINDS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_l2_is_bitwise_sgd_with_weight_decay(kernel: dict[str, Any], kind: dict[str, Any], closure: bool) -> None:
    theirs = train(lambda m: SGD(m.parameters(), lr=0.1, weight_decay=0.03, **kernel, **kind), closure=closure)
    ours = train(lambda m: SGD(m.parameters(), lr=0.1, **kernel, **kind), "l2", 0.03, closure=closure)
    bare = train(lambda m: SGD(m.parameters(), lr=0.1, **kernel, **kind), closure=closure)
    assert_same_bits(ours, theirs)
    assert not torch.equal(ours[0], bare[0])


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_l2_is_bitwise_adam_with_weight_decay(kernel: dict[str, Any], maximize: bool) -> None:
    theirs = train(lambda m: Adam(m.parameters(), lr=0.01, weight_decay=0.3, maximize=maximize, **kernel))
    ours = train(lambda m: Adam(m.parameters(), lr=0.01, maximize=maximize, **kernel), "l2", 0.3)
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"maximize": True}])
@pytest.mark.parametrize("kernel", KERNELS)
def test_decoupled_is_bitwise_adamw(kernel: dict[str, Any], options: dict[str, Any], closure: bool) -> None:
    theirs = train(lambda m: AdamW(m.parameters(), lr=0.01, weight_decay=0.5, **kernel, **options), closure=closure)
    ours = train(
        lambda m: AdamW(m.parameters(), lr=0.01, weight_decay=0.0, **kernel, **options),
        "decoupled",
        0.5,
        closure=closure,
    )
    assert_same_bits(ours, theirs)


def test_decoupled_is_bitwise_adamw_with_a_tensor_as_learning_rate() -> None:
    theirs = train(lambda m: AdamW(m.parameters(), lr=torch.tensor(0.01), weight_decay=0.5, foreach=False), steps=5)
    ours = train(
        lambda m: AdamW(m.parameters(), lr=torch.tensor(0.01), weight_decay=0.0, foreach=False),
        "decoupled",
        0.5,
        steps=5,
    )
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize("regularizer", ["none", "l2", "decoupled"])
@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_strength_zero_is_bitwise_the_bare_optimizer(regularizer: str, closure: bool, kernel: dict[str, Any]) -> None:
    make: Make = lambda m: AdamW(m.parameters(), lr=0.01, weight_decay=0.0, **kernel)  # noqa: E731
    assert_same_bits(train(make, regularizer, 0.0, closure=closure), train(make, closure=closure))


@pytest.mark.parametrize("regularizer", ["l2", "decoupled"])
def test_a_tiny_strength_takes_the_decaying_path_and_agrees_to_1e_6(
    regularizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make: Make = lambda m: AdamW(m.parameters(), lr=0.01, weight_decay=0.0)  # noqa: E731
    acted: list[int] = []
    original = Handle.act_

    def counted(handle: Handle, optimizer: Optimizer) -> None:
        original(handle, optimizer)
        acted.append(len(handle._buckets or ()))

    monkeypatch.setattr(Handle, "act_", counted)
    assert_close(train(make, regularizer, 1e-12), train(make), 1e-6)
    assert acted[-25:] == [1] * 25  # before them it acted on stand-in weights


def test_group_learning_rates_scale_the_step_and_never_lambda() -> None:
    def make(m: nn.Module) -> tuple[list[dict[str, Any]], float]:
        first, *_, last = m.children()
        return [{"params": list(first.parameters()), "lr": 0.001}, {"params": list(last.parameters())}], 0.01

    def build(m: nn.Module, weight_decay: float) -> Optimizer:
        groups, lr = make(m)
        return AdamW(groups, lr=lr, weight_decay=weight_decay)

    assert_same_bits(train(lambda m: build(m, 0.0), "decoupled", 0.5), train(lambda m: build(m, 0.5)))


def test_each_group_decays_by_its_own_multiplier() -> None:
    def theirs(m: nn.Module) -> Optimizer:
        first, _, norm, last = m.children()
        groups = [
            {"params": [first.weight], "weight_decay": 0.5},
            {"params": [last.weight], "weight_decay": 0.125},
            {"params": [first.bias, last.bias, *norm.parameters()], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=0.01)

    ours = train(
        lambda m: AdamW(m.parameters(), lr=0.01, weight_decay=0.0),
        "decoupled",
        0.5,
        multipliers={"head": 0.25, "norm": 0.0, "bias": 0.0},
    )
    assert_same_bits(ours, train(theirs))


@pytest.mark.parametrize("regularizer", ["l2", "decoupled"])
def test_mixed_data_types_equal_torch(regularizer: str) -> None:
    def mixed() -> nn.ModuleList:
        torch.manual_seed(0)
        return nn.ModuleList([nn.Linear(4, 4).to(torch.bfloat16), nn.Linear(4, 4), nn.Linear(4, 2).double()])

    def fit(own_decay: bool) -> list[Tensor]:
        model = mixed()
        kind = SGD if regularizer == "l2" else AdamW
        optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.25 if own_decay else 0.0, foreach=False)
        if not own_decay:
            attach(optimizer, model, regularizer, strength=0.25, multipliers=EVERYWHERE)
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            optimizer.step()
        return list(model.parameters())

    assert_same_bits(fit(own_decay=False), fit(own_decay=True))


def cosine_rates(steps: int, peak: float) -> list[float]:
    return [0.5 * peak * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def idle(make: Make, regularizer: str, strength: float, rates: list[float]) -> float:
    """What is left of a weight of 1 that never gets a gradient."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    optimizer = make(model)
    attach(optimizer, model, regularizer, strength=strength)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    return float(model.weight.detach())


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, torch.optim.RMSprop])
def test_decoupled_leaves_the_product_of_one_minus_lr_lambda(kind: Any) -> None:
    rates = cosine_rates(60, 0.05)
    left = idle(lambda m: kind(m.parameters(), lr=0.05, weight_decay=0.0), "decoupled", 2.0, rates)
    assert left == pytest.approx(math.prod(1 - rate * 2.0 for rate in rates), abs=1e-12)
    axis = axis_of("decoupled", "adamw")
    described = describe_strength(axis, axis.from_lambda(2.0, rates), rates, 10)
    assert described.remaining == pytest.approx(left, abs=1e-12)
    assert described.total_decay == pytest.approx(2.0 * sum(rates))


@pytest.mark.parametrize("kind", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5}, {}])
def test_l2_under_sgd_leaves_what_the_recursion_says_and_exp_of_minus_d_to_first_order(kind: dict[str, Any]) -> None:
    rates = cosine_rates(3000, 0.01)
    make: Make = lambda m: SGD(m.parameters(), lr=0.01, **kind)  # noqa: E731
    axis = axis_of("l2", make(nn.Linear(1, 1)))
    strength = axis.to_lambda(1.5, rates)
    left = idle(make, "l2", strength, rates)
    assert left == pytest.approx(idle_weight(axis, strength, rates), abs=1e-12)
    assert left == pytest.approx(math.exp(-1.5), rel=0.02)
    assert total_decay(axis, strength, rates) == pytest.approx(1.5)


def test_l2_under_sgd_with_large_momentum_overshoots_as_the_recursion_says() -> None:
    rates = [0.004] * 100
    make: Make = lambda m: SGD(m.parameters(), lr=0.004, momentum=0.99)  # noqa: E731
    axis = axis_of("l2", make(nn.Linear(1, 1)))
    strength = axis.to_lambda(4.0, rates)
    left = idle(make, "l2", strength, rates)
    assert left == pytest.approx(idle_weight(axis, strength, rates), abs=1e-12)
    assert left < 0 < math.exp(-4.0)


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0])
def test_l2_through_adam_sends_an_idle_weight_to_zero_for_every_lambda(strength: float) -> None:
    rates = cosine_rates(600, 0.01)
    left = idle(lambda m: Adam(m.parameters(), lr=0.01), "l2", strength, rates)
    assert abs(left) < 0.05
