"""MaxNorm against torch.renorm, its law, what it leaves alone; and the pair decoupled + max_norm."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segdecay.decay import Handle, Strength, attach, axis_of
from segdecay.decay.handle import handles_of
from segdecay.decay.regularizers.max_norm import max_norm_of
from segdecay.errors import DecayError

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 6, 3, groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 5, 2)
        self.table = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 4)


def step(net: nn.Module, optimizer: Optimizer, *, seed: int = 0, scale: float = 1.0) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=draw)
    optimizer.step()


OUTPUT_DIMS = {"down.weight": 0, "up.weight": 1, "table.weight": 0, "head.weight": 0}


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize("bound", [0.3, 0.7])
def test_after_every_step_it_is_the_bare_step_renormalised_as_torch_does(kind: Any, bound: float) -> None:
    ours, theirs = Net(), Net()
    optimizer, bare = (kind(net.parameters(), lr=0.05, weight_decay=0.0) for net in (ours, theirs))
    attach(optimizer, ours, "max_norm", strength=bound)
    changed = 0
    for seed in range(8):
        step(ours, optimizer, seed=seed)
        step(theirs, bare, seed=seed)
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                if name in OUTPUT_DIMS:
                    before = parameter.clone()
                    parameter.copy_(torch.renorm(parameter, 2, OUTPUT_DIMS[name], bound))
                    changed += int((before != parameter).any())
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(one, other, rtol=2e-6, atol=1e-7)
    assert changed > 8


def test_an_idle_row_is_cut_to_the_bound_once_and_a_short_one_keeps_its_bits() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0], [0.1, 0.7]]))
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "max_norm", strength=2.0)
    seen = []
    for _ in range(3):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        seen.append(model.weight.detach().clone())
    assert torch.allclose(seen[0][0], torch.tensor([1.2, 1.6]))
    assert torch.equal(seen[0][1], torch.tensor([0.1, 0.7]))
    assert torch.allclose(seen[2], seen[0], rtol=1e-6)


def test_it_solves_the_constrained_least_squares() -> None:
    rng = torch.Generator().manual_seed(3)
    inputs = torch.randn(30, 3, generator=rng, dtype=torch.float64)
    targets = inputs @ torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -0.1]], dtype=torch.float64).T
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "max_norm", strength=1.0)
    for _ in range(900):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean(dim=0).sum().backward()
        optimizer.step()
    x, y = inputs.numpy(), targets[:, 0].numpy()

    def ridge(multiplier: float) -> NDArray[np.float64]:  # stationary in L + ½·multiplier·(‖w‖² − 1)
        solved: NDArray[np.float64] = np.linalg.solve(x.T @ x + 15 * multiplier * np.eye(3), x.T @ y)
        return solved

    found = ridge(brentq(lambda multiplier: float(np.linalg.norm(ridge(multiplier))) - 1.0, 0.0, 100.0, xtol=1e-14))
    assert model.weight[0].detach().numpy() == pytest.approx(found, abs=1e-9)
    assert model.weight[1].detach().numpy() == pytest.approx([0.1, 0.2, -0.1], abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_norms_of_half_weights_are_taken_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(5000, 1, bias=False).to(dtype)
    nn.init.constant_(model.weight, 6e4)  # the norm, 4,242,640, is above the largest float16
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "max_norm", strength=1.0)
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert float(model.weight.detach().double().norm()) == pytest.approx(1.0, rel=0.005)


def test_gains_biases_frozen_and_gradientless_parameters_are_untouched() -> None:
    net = Net()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 9.0)
    net.up.weight.requires_grad = False
    everywhere = dict.fromkeys(("encoder", "body", "head", "norm", "bias"), 1.0)
    optimizer = SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, "max_norm", strength=1.0, multipliers=everywhere)
    net.down.weight.grad = torch.zeros_like(net.down.weight)
    net.norm.weight.grad = torch.zeros_like(net.norm.weight)
    net.head.bias.grad = torch.zeros_like(net.head.bias)
    optimizer.step()
    moved = [name for name, parameter in net.named_parameters() if not bool((parameter == 9.0).all())]
    assert moved == ["down.weight"]


def test_a_multiplier_divides_the_bound_and_strengths_by_group_are_bounds() -> None:
    net = Net()
    handle = attach(
        SGD(net.parameters(), lr=0.1), net, "max_norm", strength=2.0, multipliers={"head": 4.0, "body": 0.0}
    )
    assert handle.strengths()["head.weight"] == 0.5
    assert handle.strengths()["down.weight"] is None
    net = Net()
    asked = {"head": 0.5, "body": 3.0}
    found = attach(SGD(net.parameters(), lr=0.1), net, "max_norm", strength=asked).strengths()
    assert found["head.weight"] == pytest.approx(0.5)
    assert found["down.weight"] == pytest.approx(3.0)
    net = Net()
    none = attach(SGD(net.parameters(), lr=0.1), net, "max_norm", strength={"head": math.inf})
    assert set(none.strengths().values()) == {None}


def test_there_is_no_penalty_to_show() -> None:
    net = Net()
    handle = attach(SGD(net.parameters(), lr=0.1), net, "max_norm", strength=0.1)
    assert handle.objective(1.5).total == 1.5


def test_its_axis_is_the_bound_itself() -> None:
    axis = axis_of("max_norm", "adam")
    assert (axis.name, axis.stronger, axis.none) == ("max_norm", "lower", math.inf)
    assert not axis.has_lambda
    net = Net()
    assert attach(SGD(net.parameters(), lr=0.1), net, "max_norm", strength=Strength.from_axis(1.5)).strength == 1.5
    with pytest.raises(DecayError, match=r"D and τ have no meaning here; the axis is max_norm\. it bounds norms"):
        attach(SGD(net.parameters()), net, "max_norm", strength=Strength.from_total_decay(1.0, learning_rates=[0.1]))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    net = Net()
    with pytest.raises(DecayError, match=r"c must be above 0; saw .*inf means no bound"):
        attach(SGD(net.parameters(), lr=0.1), net, "max_norm", strength=bound)


def test_max_norm_of_a_head_that_was_never_trained_is_refused() -> None:
    assert max_norm_of(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 0.1) == pytest.approx(1.4)
    assert max_norm_of(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 0.0, dim=1) == pytest.approx(3.0)
    with pytest.raises(DecayError, match="c = 0, which is no bound"):
        max_norm_of(torch.zeros(2, 2))
    with pytest.raises(DecayError) as caught:
        max_norm_of(torch.zeros(2), 2.0)
    assert len(str(caught.value).splitlines()) == 2


# --- decoupled + max_norm ---------------------------------------------------------------------------------------------


def pair(net: nn.Module, optimizer: Optimizer, *, bound_first: bool = False) -> dict[str, Handle]:
    asked = [("decoupled", 2.0), ("max_norm", 0.6)]
    handles = [
        attach(optimizer, net, regularizer, strength=strength)
        for regularizer, strength in (reversed(asked) if bound_first else asked)
    ]
    return {handle.regularizer.name: handle for handle in handles}


def written_out(net: nn.Module, steps: int) -> None:
    """The rule in plain torch: AdamW with decay, then renorm."""
    decays = [parameter for name, parameter in net.named_parameters() if name in OUTPUT_DIMS]
    others = [parameter for name, parameter in net.named_parameters() if name not in OUTPUT_DIMS]
    groups = [{"params": decays, "weight_decay": 2.0}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=0.02)
    for seed in range(steps):
        step(net, optimizer, seed=seed)
        with torch.no_grad():
            for name, dim in OUTPUT_DIMS.items():
                weight = net.get_parameter(name)
                weight.copy_(torch.renorm(weight, 2, dim, 0.6))


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("bound_first", [False, True])
@pytest.mark.parametrize("kernel", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_the_pair_is_adamw_then_renorm_in_either_order(
    kernel: dict[str, bool], bound_first: bool, closure: bool
) -> None:
    ours, theirs = Net(), Net()
    optimizer = AdamW(ours.parameters(), lr=0.02, weight_decay=0.0, **kernel)  # type: ignore[arg-type]
    handles = pair(ours, optimizer, bound_first=bound_first)
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)

        def backward(draw: torch.Generator = draw) -> float:
            for parameter in ours.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            return 0.0

        if closure:
            optimizer.step(backward)
        else:
            backward()
            optimizer.step()
    written_out(theirs, 6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=5e-6, atol=1e-6)
    assert {handle.steps for handle in handles.values()} == {6}


@pytest.mark.parametrize(("gone", "stays"), itertools.permutations(("decoupled", "max_norm")))
def test_when_one_is_detached_the_other_goes_on_alone(gone: str, stays: str) -> None:
    ours, alone = Net(), Net()
    optimizer = Adam(ours.parameters(), lr=0.02)
    handles = pair(ours, optimizer)
    handles[gone].detach()
    assert handles_of(optimizer) == [handles[stays]]
    other = Adam(alone.parameters(), lr=0.02)
    attach(other, alone, stays, strength=handles[stays].strength)
    for seed in range(4):
        step(ours, optimizer, seed=seed)
        step(alone, other, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), alone.parameters(), strict=True))
    assert (handles[gone].steps, handles[stays].steps) == (0, 4)


def test_both_states_are_kept_and_a_resumed_pair_is_bitwise_the_same() -> None:
    whole = Net()
    optimizer = AdamW(whole.parameters(), lr=0.02, weight_decay=0.0)
    handles = pair(whole, optimizer)
    for seed in range(3):
        step(whole, optimizer, seed=seed)
    states = {name: handle.state_dict() for name, handle in handles.items()}
    kept = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    for seed in range(3, 6):
        step(whole, optimizer, seed=seed)

    resumed = Net()
    resumed.load_state_dict(kept[0])
    again = AdamW(resumed.parameters(), lr=0.02, weight_decay=0.0)
    again.load_state_dict(kept[1])
    for name, strength in (("max_norm", math.inf), ("decoupled", 0.0)):
        attach(again, resumed, name, strength=strength).load_state_dict(states[name])
    for seed in range(3, 6):
        step(resumed, again, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert {handle.steps for handle in handles_of(again)} == {6}


def test_the_optimizers_own_decay_may_go_on_beside_the_bound_and_nothing_else() -> None:
    net = Net()
    optimizer = AdamW(net.parameters(), lr=0.02, weight_decay=0.5)
    attach(optimizer, net, "max_norm", strength=0.6)
    step(net, optimizer)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    with pytest.raises(DecayError, match="decays already"):
        attach(optimizer, net, "decoupled", strength=0.1)


def norms(weight: Tensor) -> list[float]:
    return [float(row.detach().norm()) for row in weight]


def test_the_bound_of_a_long_tailed_head_holds_after_the_step() -> None:
    net = Net()
    with torch.no_grad():
        net.head.weight.mul_(torch.tensor([8.0, 4.0, 2.0, 1.0]).unsqueeze(1))
    bound = max_norm_of(net.head.weight)
    low, high = min(norms(net.head.weight)), max(norms(net.head.weight))
    optimizer = SGD(net.parameters(), lr=1e-6)
    attach(optimizer, net, "max_norm", strength={"head": bound})
    step(net, optimizer)
    assert max(norms(net.head.weight)) == pytest.approx(low + 0.1 * (high - low), rel=1e-5)
