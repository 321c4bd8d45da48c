"""Angles of rotational equilibrium: measured on scale-invariant layers under random gradients, against the formulas."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segdecay import decay
from segdecay.decay.diagnostics.layers import equilibrium_angle, turned_angle
from segdecay.decay.diagnostics.monitor import DiagnosticsReading
from segdecay.errors import DecayError

Build = Callable[[nn.Module], torch.optim.Optimizer]


class Linear(nn.Module):
    """A linear layer before a norm layer without gain, and nothing else that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 32, bias=False)
        self.norm = nn.BatchNorm1d(32, affine=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.layer(inputs))  # type: ignore[no-any-return]

    @staticmethod
    def inputs() -> Tensor:
        return torch.randn(32, 24)


class Convolution(nn.Module):
    """A convolution before a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 16, 3, bias=False)
        self.norm = nn.GroupNorm(1, 16, affine=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.layer(inputs))  # type: ignore[no-any-return]

    @staticmethod
    def inputs() -> Tensor:
        return torch.randn(8, 8, 5, 5)


def _sgd(lr: float, own: float = 0.0, **options: Any) -> Build:
    return lambda net: torch.optim.SGD(net.parameters(), lr=lr, weight_decay=own, **options)


def _adamw(lr: float, own: float = 0.0, **options: Any) -> Build:
    return lambda net: torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=own, **options)


def _ratio(
    kind: type[Linear | Convolution],
    build: Build,
    expected: float,
    *,
    regularizer: str = "none",
    strength: float = 0.0,
    settle: int = 1000,
    steps: int = 800,
) -> float:
    """Root mean square of the diagnostic's angles over the expected one; the diagnostic's own prediction must be the
    expected.
    """
    torch.manual_seed(5)
    net = kind()
    optimizer = build(net)
    handle = decay.attach(optimizer, net, regularizer, strength=strength) if regularizer != "none" else None
    diagnostics = decay.Diagnostics(net, optimizer, every=4)
    squares = []
    for step in range(settle + steps):
        with diagnostics.watched(step if step >= settle else 1):
            outputs = net(kind.inputs())
            optimizer.zero_grad()
            outputs.backward(torch.randn_like(outputs))
            optimizer.step()
        if step >= settle and diagnostics.is_due(step):
            (layer,) = diagnostics.read().layers
            assert layer.equilibrium == pytest.approx(expected, rel=1e-6)
            assert layer.angle is not None
            squares.append(layer.angle**2)
    assert len(squares) == steps // 4
    assert handle is None or handle.steps == settle + steps
    return math.sqrt(statistics.mean(squares)) / expected


@pytest.mark.parametrize("kind", [Linear, Convolution])
def test_sgd_with_momentum_and_l2_turns_by_the_formula(kind: type[Linear | Convolution]) -> None:
    eta, lambda_, mu = 0.05, 0.01, 0.9
    expected = math.sqrt(2 * eta * lambda_ / (1 + mu))
    found = _ratio(kind, _sgd(eta, momentum=mu), expected, regularizer="l2", strength=lambda_)
    assert found == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", [Linear, Convolution])
def test_adamw_turns_by_the_formula(kind: type[Linear | Convolution]) -> None:
    eta, lambda_, beta1 = 0.02, 0.2, 0.9
    expected = math.sqrt(2 * eta * lambda_ * (1 - beta1) / (1 + beta1))
    found = _ratio(kind, _adamw(eta, betas=(beta1, 0.99)), expected, regularizer="decoupled", strength=lambda_)
    assert found == pytest.approx(1, abs=0.02)


def test_the_optimizers_own_weight_decay_is_read_too() -> None:
    sgd = math.sqrt(2 * 0.05 * 0.01 / 1.9)
    assert _ratio(Linear, _sgd(0.05, 0.01, momentum=0.9), sgd) == pytest.approx(1, abs=0.02)
    adamw = math.sqrt(2 * 0.02 * 0.2 * 0.1 / 1.9)
    assert _ratio(Linear, _adamw(0.02, 0.2, betas=(0.9, 0.99)), adamw) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("build", "regularizer", "strength", "expected"),
    [
        # decoupled decay under SGD: the velocity is as long as with L2, the decay 1 − μ as strong
        (_sgd(0.5, momentum=0.8), "decoupled", 0.008, math.sqrt(2 * 0.5 * 0.008 * 0.2 / 1.8)),
        (_sgd(0.1, momentum=0.8, dampening=0.5), "l2", 0.016, math.sqrt(2 * 0.1 * 0.016 * 0.5 / 1.8)),
        (_sgd(0.05, momentum=0.8, nesterov=True), "l2", 0.016, math.sqrt(2 * 0.05 * 0.016 / 1.8 * 1.576)),
        (_sgd(0.1), "l2", 0.04, math.sqrt(2 * 0.1 * 0.04)),
    ],
    ids=["decoupled", "dampening", "nesterov", "plain"],
)
def test_relatives_of_sgd_turn_by_the_general_formula(
    build: Build, regularizer: str, strength: float, expected: float
) -> None:
    assert _ratio(Linear, build, expected, regularizer=regularizer, strength=strength) == pytest.approx(1, abs=0.02)


def test_a_layer_out_of_equilibrium_has_a_ratio_far_from_one() -> None:
    expected = math.sqrt(2 * 0.05 * 1e-5 / 1.9)
    found = _ratio(Linear, _sgd(0.05, momentum=0.9), expected, regularizer="l2", strength=1e-5, settle=0, steps=40)
    assert found > 3


def _one_step(net: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> DiagnosticsReading:
    diagnostics = decay.Diagnostics(net, optimizer)
    with diagnostics.watched():
        optimizer.zero_grad()
        net(inputs).square().sum().backward()
        optimizer.step()
    return diagnostics.read()


@pytest.mark.parametrize(
    ("build", "regularizer"),
    [
        (lambda net: torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.1), "none"),
        (lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, amsgrad=True), "none"),
        (lambda net: torch.optim.RMSprop(net.parameters(), lr=0.01, weight_decay=0.1), "none"),
        (lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0), "cautious"),
        (lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0), "l2"),
    ],
    ids=["coupled through Adam", "amsgrad", "another optimizer", "another regularizer", "regularizer l2 through Adam"],
)
def test_where_no_formula_is_known_none_is_told(build: Build, regularizer: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = build(net)
    handle = decay.attach(optimizer, net, regularizer, strength=0.1) if regularizer != "none" else None
    first, last = _one_step(net, optimizer, torch.randn(5, 3)).layers
    assert handle is None or handle.is_attached()
    assert first.angle is not None
    assert first.angle > 0
    assert first.equilibrium is None
    assert first.ratio is None
    assert last.angle is None  # feeds no norm layer


def test_without_decay_the_angle_of_equilibrium_is_zero_and_there_is_no_ratio() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    first = _one_step(net, torch.optim.SGD(net.parameters(), lr=0.1), torch.randn(5, 3)).layers[0]
    assert (first.equilibrium, first.ratio) == (0.0, None)


def test_what_does_not_move_has_no_angle() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    assert _one_step(net, optimizer, torch.randn(5, 3)).layers[0].angle is None
    net[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(net[2].parameters(), lr=0.1)
    assert _one_step(net, optimizer, torch.randn(5, 3)).layers[0].angle is None


@pytest.mark.parametrize(
    ("angle", "length"), [(1e-6, 1.0), (1e-6, 0.99), (1e-3, 7.0), (0.5, 0.2), (1.5, 3.0), (math.pi, 1.0)]
)
def test_angles_keep_their_digits_and_know_no_length(angle: float, length: float) -> None:
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    other = length * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    assert turned_angle(one, other) == pytest.approx(angle, rel=1e-6)
    assert turned_angle(one, 0 * other) is None


def test_angles_of_single_precision_weights_are_those_of_their_double_values() -> None:
    one = torch.randn(64, 100, generator=torch.Generator().manual_seed(1))
    other = 0.98 * one + 1e-4 * torch.randn(64, 100, generator=torch.Generator().manual_seed(2))
    left, right = (tensor.double() / tensor.double().norm() for tensor in (one, other))
    expected = 2 * math.asin(float((left - right).norm()) / 2)
    assert 5e-5 < expected < 2e-4
    assert turned_angle(one, other) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("shrinkage", "momentum"), [(-0.1, 0.0), (math.nan, 0.0), (0.1, 1.0), (0.1, -0.5)])
def test_values_out_of_range_are_refused(shrinkage: float, momentum: float) -> None:
    with pytest.raises(DecayError, match=r"(shrinkage|momentum) must be"):
        equilibrium_angle(shrinkage, momentum)


def test_all_values_out_of_range_are_named_at_once() -> None:
    with pytest.raises(DecayError, match=r"(?s)shrinkage must be.*momentum must be"):
        equilibrium_angle(-1.0, 2.0)
