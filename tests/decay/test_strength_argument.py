"""Strengths given to `attach`: a number, a schedule, by group, or a `Strength`; what is refused leaves no trace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from segdecay.decay import Strength, attach, axis_of
from segdecay.decay.axes import relative_axis
from segdecay.decay.handle import handles_of
from segdecay.errors import DecayError

RATES = [0.1, 0.2, 0.1]


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def _attached(**asked: Any) -> Any:
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return net, optimizer, attach(optimizer, net, asked.pop("regularizer", "decoupled"), **asked)


def _idle_steps(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def test_a_schedule_acts_step_by_step_and_goes_on_where_it_was() -> None:
    schedule = [0.1, 0.5, 0.0, 0.2].__getitem__
    net, optimizer, handle = _attached(strength=schedule)
    start = net[0].weight.detach().clone()
    _idle_steps(net, optimizer, 2)
    state = handle.state_dict()
    assert handle.strength == 0.0
    handle.detach()
    handle = attach(optimizer, net, "decoupled", strength=schedule)
    handle.load_state_dict(state)
    _idle_steps(net, optimizer, 1)
    assert handle.strength == 0.2
    expected = start * (1 - 0.01) * (1 - 0.05)
    assert torch.allclose(net[0].weight, expected, rtol=1e-6)
    handle.set_strength(0.3)
    assert handle.strength == 0.3


def test_strengths_by_group_leave_the_others_alone() -> None:
    _, _, handle = _attached(strength={"head": 0.02, "body": 0.01})
    found = handle.strengths()
    assert found["0.weight"] == pytest.approx(0.01)
    assert found["2.weight"] == pytest.approx(0.02)
    assert found["0.bias"] is None
    _, _, only_bias = _attached(strength={"bias": 0.5})
    assert only_bias.strengths() == {"0.weight": None, "0.bias": 0.5, "2.weight": None, "2.bias": 0.5}


def test_axis_values_total_decay_and_timescales_become_the_same_strength() -> None:
    lambda_ = axis_of("decoupled", "sgd").to_lambda(0.3, RATES)
    timescale = 1 / (lambda_ * 0.2 * 5)
    for asked in (
        Strength.from_axis(0.3, learning_rates=RATES),
        Strength.from_total_decay(0.3, learning_rates=RATES),
        Strength.from_timescale(timescale, learning_rates=RATES, steps_per_epoch=5),
        Strength.from_convention("keras-weight-decay", lambda_),
        Strength.from_lambda(lambda_),
    ):
        assert _attached(strength=asked)[2].strength == pytest.approx(lambda_)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"strength": Strength.from_total_decay(1.0)}, "from_total_decay needs the learning rates of all steps"),
        ({"strength": Strength.from_axis(1.0)}, "from_axis on the axis total_decay needs the learning rates"),
        ({"strength": Strength.from_timescale(1.0, learning_rates=RATES)}, "needs steps_per_epoch"),
        ({"strength": Strength.from_convention("keras-l2", 0.5)}, "a strength of 'l2', which no formula turns into"),
        ({"strength": Strength.from_convention("keras", 0.5)}, "Unknown convention 'keras'"),
        ({"strength": "1e-4"}, "must be a number; saw the text '1e-4'.*write 1.0e-4"),
        ({"strength": {"head": "1e-4"}}, "strength of group 'head' must be a number; saw the text '1e-4'"),
        ({"strength": True}, "must be a number; saw bool"),
        ({"strength": None}, "must be a number; saw NoneType"),
        ({"strength": [0.1]}, "must be a number; saw list"),
        ({"strength": float("nan")}, "0 or more; saw nan"),
        ({"strength": lambda step: {}[step]}, "failed at step 0: KeyError: 0. It must return λ"),
        ({"strength": lambda _: "1e-4"}, "strength at step 0 must be a number; saw the text"),
        ({"strength": lambda _: None}, "strength at step 0 must be a number; saw NoneType"),
        ({"strength": {"haed": 0.1}}, "Unknown group 'haed'.*Did you mean 'head'"),
        ({"strength": {"head": -0.1}}, "0 or more; saw -0.1"),
        ({"strength": {"head": 0.1}, "multipliers": {"head": 1.0}}, "exclude each other"),
        ({"strength": 0.1, "options": {"ratio": 1}}, "Regularizer 'decoupled' has no options; saw ratio"),
        ({"strength": lambda _: 20.0}, "must stay below 10"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_the_optimizer_alone(asked: dict[str, Any], message: str) -> None:
    net = _net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    with pytest.raises(DecayError, match=message):
        attach(optimizer, net, "decoupled", take_over=True, **asked)
    assert handles_of(optimizer) == []
    assert all(group["weight_decay"] == 0.5 for group in optimizer.param_groups)


def test_d_through_adam_is_refused_with_the_reason() -> None:
    net = _net()
    strength = Strength.from_total_decay(1.0, learning_rates=RATES)
    with pytest.raises(DecayError, match=r"D and τ have no meaning here.*divides the gradient"):
        attach(torch.optim.Adam(net.parameters()), net, "l2", strength=strength)


def test_other_pairs_are_refused() -> None:
    net, optimizer, _ = _attached(strength=0.1)
    with pytest.raises(DecayError, match="'decoupled' is attached to this optimizer already; 'l2' beside it"):
        attach(optimizer, net, "l2", strength=0.1)


def test_a_relative_axis_needs_the_size_of_the_weights() -> None:
    axis = relative_axis()
    with pytest.raises(DecayError, match="depends on the size of the weights"):
        axis.to_lambda(1.0, RATES)
    assert axis.with_size(2.0).to_lambda(1.0, RATES) == pytest.approx(2.0 / 0.4)
    assert axis.with_size(2.0).from_lambda(5.0, RATES) == pytest.approx(1.0)
    assert axis.largest(RATES) == math.inf
