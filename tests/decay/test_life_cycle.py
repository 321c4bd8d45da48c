"""Freezing, unfreezing, groups that join, states of an earlier stage, rates that are used, backward without a step."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from segdecay.decay import Strength, attach, handle_of
from segdecay.errors import DecayError


def net_() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def step_(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()


def test_what_is_unfrozen_decays_after_refresh_and_says_what_to_do_before() -> None:
    net = net_()
    net[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    handle = attach(optimizer, net, "decoupled", strength=0.5)
    net[0].requires_grad_(requires_grad=True)
    with pytest.raises(DecayError, match=r"Call handle.refresh\(\)"):
        step_(net, optimizer)
    assert handle.refresh() == ("0.weight",)
    start = net[0].weight.detach().clone()
    step_(net, optimizer)
    assert torch.allclose(net[0].weight, start * 0.95)
    assert handle.refresh() == ()


def test_freezing_again_and_refreshing_is_a_circle() -> None:
    net = net_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    handle = attach(optimizer, net, "l2", strength=0.5, multipliers={"bias": 0.1})
    before = handle.strengths()
    net[0].requires_grad_(requires_grad=False)
    assert handle.refresh() == ()
    assert handle.strengths()["0.weight"] == 0.5
    net[0].requires_grad_(requires_grad=True)
    handle.refresh()
    assert handle.strengths() == before


def test_a_group_that_joins_decays_after_refresh_and_its_own_decay_is_given_back() -> None:
    net = net_()
    net[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(net[2].parameters(), lr=0.1, weight_decay=0.3)
    handle = attach(optimizer, net, "decoupled", strength=0.5, take_over=True)
    net[0].requires_grad_(requires_grad=True)
    optimizer.add_param_group({"params": list(net[0].parameters()), "lr": 0.01})
    handle.refresh()
    start = net[0].weight.detach().clone()
    step_(net, optimizer)
    assert torch.allclose(net[0].weight, start * 0.995)
    handle.detach()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3]


def test_an_anchor_of_what_trained_stays_and_what_is_unfrozen_gets_its_own() -> None:
    net = net_()
    net[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    handle = attach(optimizer, net, "l2_sp", strength=0.5, options={"new": []})
    first = net[2].weight.detach().clone()
    with torch.no_grad():
        net[2].weight.add_(1.0)
    net[0].requires_grad_(requires_grad=True)
    second = net[0].weight.detach().clone()
    handle.refresh()
    reference: Any = handle.regularizer.state_dict()["reference"]
    assert torch.equal(reference["2.weight"], first)
    assert torch.equal(reference["0.weight"], second)


def test_a_state_of_the_frozen_stage_leaves_what_trains_now_its_multiplier() -> None:
    net = net_()
    net[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    handle = attach(optimizer, net, "decoupled", strength=0.1)
    saved = handle.state_dict()
    handle.detach()
    net[0].requires_grad_(requires_grad=True)
    handle = attach(optimizer, net, "decoupled", strength=0.1)
    with pytest.warns(UserWarning, match=r"1 parameters were frozen .* train now: 0.weight"):
        handle.load_state_dict(saved)
    assert handle.strengths()["0.weight"] == 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.load_state_dict(handle.state_dict())


def test_a_schedule_that_fails_in_mid_training_leaves_gradients_and_weights() -> None:
    net = net_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, "l2", strength=lambda step: {0: 0.1}[step])
    step_(net, optimizer)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(DecayError, match="failed at step 1: KeyError"):
        step_(net, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(float(p.grad.abs().sum()) == 0 for p in net.parameters() if p.grad is not None)


def test_other_rates_than_those_given_are_said_once_and_d_so_far_is_the_truth() -> None:
    net = net_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rates = [0.1, 0.1, 0.05, 0.05]
    handle = attach(optimizer, net, "decoupled", strength=Strength.from_total_decay(0.6, learning_rates=rates))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            step_(net, optimizer)
    with pytest.warns(UserWarning, match="Step 2 is taken at lr 0.1, and the learning rates given say 0.05"):
        step_(net, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step_(net, optimizer)
    assert handle.total_decay_so_far == pytest.approx(0.4 * handle.strength)
    assert handle.scalars()["decay/total_decay_so_far"] == handle.total_decay_so_far


def test_d_so_far_of_l2_counts_the_momentum_and_is_nan_where_there_is_no_d() -> None:
    net = net_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    handle = attach(optimizer, net, "l2", strength=0.01)
    step_(net, optimizer)
    assert handle.total_decay_so_far == pytest.approx(0.01)
    other = net_()
    adam = attach(torch.optim.Adam(other.parameters()), other, "l2", strength=0.01)
    assert math.isnan(adam.total_decay_so_far)
    assert set(adam.scalars()) == {"decay/strength", "decay/penalty", "decay/steps"}
    assert all(isinstance(value, float) for value in adam.scalars().values())


def test_backward_passes_without_a_step_are_told_once() -> None:
    net = net_()
    optimizer, other = (torch.optim.SGD(net.parameters(), lr=0.1) for _ in range(2))
    handle = attach(optimizer, net, "decoupled", strength=0.1)

    def backward(passes: int) -> None:
        for _ in range(passes):
            net(torch.ones(2, 3)).sum().backward()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward(63)
        optimizer.step()
        backward(63)
    with pytest.warns(UserWarning, match="64 backward passes without a step of SGD"):
        backward(1)
    other.step()
    handle.detach()
    assert handle_of(optimizer) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward(100)


@pytest.mark.parametrize("scale", [{"lr": 0.01}, {"lr_scale": 0.1}])
def test_d_over_groups_of_different_rates_says_so_and_a_lambda_does_not(scale: dict[str, float]) -> None:
    net = net_()
    groups: list[dict[str, Any]] = [{"params": net[0].parameters(), **scale}, {"params": net[2].parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.0)
    strength = Strength.from_total_decay(1.0, learning_rates=[0.1] * 20)
    with pytest.warns(UserWarning, match=r"2 different learning rates, from 0\.01 to 0\.1, and D goes with them"):
        attach(optimizer, net, "decoupled", strength=strength).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(optimizer, net, "decoupled", strength=0.5).detach()
        attach(optimizer, net, "decoupled", strength=strength, multipliers={"body": 0.0}).detach()


class Stops(torch.optim.SGD):
    """Raises in the middle of its own step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                assert parameter.grad is not None
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("regularizer", ["l2", "l1", "decoupled"])
def test_an_exception_in_mid_step_leaves_gradients_and_groups_and_a_second_try_acts_once(regularizer: str) -> None:
    net = net_()
    optimizer = Stops(net.parameters(), lr=0.1, weight_decay=0.3)
    handle = attach(optimizer, net, regularizer, strength=0.5, take_over=True, proof=False)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    gradients = [parameter.grad for parameter in net.parameters()]
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    once = [(p.detach().clone(), p.grad) for p in net.parameters()]
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    assert all(torch.equal(p, w) and p.grad is g for p, (w, g) in zip(net.parameters(), once, strict=True))
    handle.detach()
    assert all(p.grad is g and bool((g == 1).all()) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3]
    assert handle.steps == 0


def test_a_sparse_gradient_is_decayed_or_refused_at_attach() -> None:
    net = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(DecayError, match=r"Sparse gradients cannot carry the penalty of 'l2'.*0\.weight"):
        attach(optimizer, net, "l2", strength=0.5)
    assert handle_of(optimizer) is None
    attach(optimizer, net, "decoupled", strength=0.5)
    table: Any = net[0]
    start = table.weight.detach().clone()
    net(torch.tensor([0, 1])).sum().backward()
    assert table.weight.grad is not None
    table.weight.grad = 0 * table.weight.grad
    optimizer.step()
    assert torch.allclose(table.weight, start * 0.95)
