"""L2-SP: its fixed points against ridge regression around a start, its law, its reference by name, and its errors."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from segdecay.decay import Handle, attach, axis_of, build_regularizer
from segdecay.decay.strength import idle_weight
from segdecay.errors import DecayError

torch.set_num_threads(1)
Array = NDArray[np.float64]
SAMPLES = 40
START = np.array([1.0, -1.0, 0.5, 2.0])
RATES = [0.05 * (1 + math.cos(math.pi * step / 40)) for step in range(40)]


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
        self.head = nn.Conv2d(4, classes, 1)


def rebuilt(net: nn.Module, **options: Any) -> Handle:
    return attach(SGD(net.parameters(), lr=0.1), net, "l2_sp", strength=0.5, options=options)


def give_gradients(net: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    for parameter in net.parameters():
        parameter.grad = fill(parameter)


# --- fixed points -----------------------------------------------------------------------------------------------------


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SAMPLES, 4))
    return inputs, inputs @ np.array([1.5, -2.0, 0.3, 0.9]) + 0.7 + 0.3 * rng.normal(size=SAMPLES)


def ridge_around_start(strengths: Array) -> tuple[Array, float]:
    """min mean squared error + ½ Σ λ_j (w_j − w0_j)², the intercept free: ridge on what the start leaves."""
    inputs, targets = data()
    fitted = Ridge(alpha=SAMPLES / 2, solver="cholesky").fit(inputs / np.sqrt(strengths), targets - inputs @ START)
    return fitted.coef_ / np.sqrt(strengths) + START, float(fitted.intercept_)


class Parts(nn.Module):
    """Two inputs through a pretrained weight, two through a new one (its start is 0)."""

    def __init__(self, start: Array) -> None:
        super().__init__()
        self.old = nn.Linear(2, 1, bias=False).double()
        self.head = nn.Linear(2, 1).double()
        with torch.no_grad():
            self.old.weight.copy_(torch.from_numpy(start[:2]))
            self.head.weight.copy_(torch.from_numpy(start[2:]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.old(x[:, :2]) + self.head(x[:, 2:])).squeeze(1)
        return out

    def fitted(self) -> Array:
        parts = [self.old.weight, self.head.weight, self.head.bias]
        return np.concatenate([part.detach().numpy().ravel() for part in parts])


def converge(model: Parts, optimizer: Optimizer, steps: int, *, last_lr: float | None = None) -> None:
    inputs, targets = (torch.from_numpy(array) for array in data())
    first = optimizer.param_groups[0]["lr"]
    for _ in range(steps):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 1.0 if last_lr is None else (last_lr / first) ** (1 / steps)


@pytest.mark.parametrize(("mode", "momentum"), [("coupled", 0.0), ("coupled", 0.9), ("auto", 0.9), ("decoupled", 0.0)])
def test_under_sgd_it_is_ridge_around_the_start(mode: str, momentum: float) -> None:
    model = Parts(START)
    optimizer = SGD(model.parameters(), lr=0.1 * (1 - momentum), momentum=momentum)
    attach(optimizer, model, "l2_sp", strength=0.3, options={"mode": mode, "new": []})
    converge(model, optimizer, 700)
    weights, intercept = ridge_around_start(np.full(4, 0.3))
    assert model.fitted() == pytest.approx(np.append(weights, intercept), abs=1e-7)


def test_decoupled_under_sgd_with_momentum_pulls_as_lambda_times_one_minus_momentum() -> None:
    model = Parts(START)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.5)
    attach(optimizer, model, "l2_sp", strength=0.6, options={"mode": "decoupled", "new": []})
    converge(model, optimizer, 900)
    weights, intercept = ridge_around_start(np.full(4, 0.3))
    assert model.fitted() == pytest.approx(np.append(weights, intercept), abs=1e-7)


def test_coupled_through_adam_reaches_the_same_point() -> None:
    model = Parts(START)
    optimizer = Adam(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2_sp", strength=0.3, options={"mode": "coupled", "new": []})
    converge(model, optimizer, 1500, last_lr=1e-7)
    weights, intercept = ridge_around_start(np.full(4, 0.3))
    assert model.fitted() == pytest.approx(np.append(weights, intercept), abs=1e-6)


@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_new_weights_go_to_zero_with_a_strength_of_their_own(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(f"{__name__}.START", np.array([1.0, -1.0, 0.0, 0.0]))
    model = Parts(np.array([1.0, -1.0, 0.7, -0.4]))  # the head starts anywhere
    optimizer = SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, "l2_sp", strength=0.2, options={"new_ratio": 3.0, "mode": mode})
    converge(model, optimizer, 700)
    weights, intercept = ridge_around_start(np.array([0.2, 0.2, 0.6, 0.6]))
    assert model.fitted() == pytest.approx(np.append(weights, intercept), abs=1e-7)
    moved = np.sum(0.2 * (weights[:2] - START[:2]) ** 2) + np.sum(0.6 * weights[2:] ** 2)
    assert handle.penalty() == pytest.approx(0.5 * float(moved), abs=1e-7)


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize("kernel", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_with_everything_new_it_is_bitwise_l2_or_decoupled(kernel: dict[str, bool], kind: Any) -> None:
    def fit(regularizer: str, options: dict[str, Any] | None) -> list[Tensor]:
        net = Net()
        optimizer = kind(net.parameters(), lr=0.1, weight_decay=0.0, **kernel)
        groups = {"encoder": 0.0, "body": 0.0, "head": 1.0, "bias": 1.0}
        if regularizer == "l2_sp":  # something must be pulled: a bias that starts at 0
            nn.init.zeros_(net.get_parameter("head.bias"))
        attach(optimizer, net, regularizer, strength=0.3, options=options, multipliers=groups)
        draw = torch.Generator().manual_seed(1)
        for _ in range(10):
            give_gradients(net, lambda p: torch.randn(p.shape, generator=draw))
            optimizer.step()
        return [net.head.weight.detach()]

    plain = "l2" if kind is SGD else "decoupled"
    assert torch.equal(fit("l2_sp", None)[0], fit(plain, None)[0])


@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_an_idle_weight_goes_to_its_start_by_the_recursion_of_its_axis(mode: str) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    options: dict[str, Any] = {"mode": mode, "new": []}
    attach(optimizer, model, "l2_sp", strength=0.4, options=options)
    nn.init.constant_(model.weight, 5.0)
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        give_gradients(model, torch.zeros_like)
        optimizer.step()
    axis = axis_of("l2_sp", optimizer, options=options)
    assert model.weight.item() == pytest.approx(2.0 + 3.0 * idle_weight(axis, 0.4, RATES), abs=1e-12)
    assert axis.exact == (mode == "decoupled")


def test_a_weight_at_its_start_stays_there_to_the_bit() -> None:
    net = Net().to(torch.bfloat16)
    optimizer = AdamW(net.parameters(), lr=0.1, weight_decay=0.0)
    attach(optimizer, net, "l2_sp", strength=1.0, options={"new": []})
    before = [parameter.detach().clone() for parameter in net.parameters()]
    for _ in range(5):
        give_gradients(net, torch.zeros_like)
        optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_half_precision_rounds_the_step_of_float32_once(mode: str, dtype: torch.dtype) -> None:
    net = nn.Linear(3, 3, bias=False).to(dtype)
    optimizer = SGD(net.parameters(), lr=0.125)
    attach(optimizer, net, "l2_sp", strength=0.5, options={"mode": mode, "new": []})
    start = net.weight.detach().float().clone()
    with torch.no_grad():
        net.weight.add_(1.0)
    before = net.weight.detach().float().clone()
    give_gradients(net, torch.zeros_like)
    optimizer.step()
    pull = 0.5 * (before - start)
    expected = (before - 0.125 * pull) if mode == "decoupled" else (before - 0.125 * pull.to(dtype).float())
    assert torch.equal(net.weight.detach(), expected.to(dtype))


def test_maximize_and_momentum_pull_the_right_way() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = SGD(model.parameters(), lr=0.1, maximize=True)
    nn.init.constant_(model.weight, 1.0)
    attach(optimizer, model, "l2_sp", strength=1.0, options={"new": []})
    nn.init.constant_(model.weight, 3.0)
    give_gradients(model, torch.zeros_like)
    optimizer.step()
    assert model.weight.item() == pytest.approx(3.0 - 0.1 * 2.0)


def test_axes_follow_mode_and_optimizer() -> None:
    assert axis_of("l2_sp", "sgd", momentum=0.9).gain == pytest.approx(10)
    assert axis_of("l2_sp", "adamw").exact
    assert axis_of("l2_sp", "sgd", momentum=0.9, options={"mode": "decoupled"}).gain == 1
    through_adam = axis_of("l2_sp", "adam", options={"mode": "coupled"})
    assert (through_adam.name, "goes to its start" in through_adam.reason) == ("lambda", True)


# --- the reference ----------------------------------------------------------------------------------------------------


def test_by_default_the_head_is_new_and_the_summary_says_so() -> None:
    handle = rebuilt(Net())
    text = handle.regularizer.summary()
    assert text.startswith("2 weights are pulled to their reference, 1 are new and decay to 0 with λ times 1.")
    assert "pulled  encoder.2.weight  4x4x3x3" in text
    assert "new     head.weight       3x4x1x1  group head" in text


def test_a_replaced_head_is_new_by_its_shape_and_buffers_are_passed_over() -> None:
    pretrained, net = Net(classes=10), Net(classes=3)
    handle = rebuilt(net, reference=pretrained.state_dict())
    assert "new     head.weight       3x4x1x1  the reference's shape is 10x4x1x1" in handle.regularizer.summary()
    nn.init.zeros_(pretrained.get_parameter("encoder.0.weight"))  # the reference is a copy
    with torch.no_grad():
        expected = 0.25 * net.head.weight.square().sum()
    assert handle.penalty() == pytest.approx(float(expected), rel=1e-6)


def test_a_weight_without_reference_is_new() -> None:
    net = Net()
    reference = {name: value for name, value in net.named_parameters() if name != "encoder.2.weight"}
    assert "new     encoder.2.weight  4x4x3x3  no reference" in rebuilt(net, reference=reference).regularizer.summary()


def test_names_that_do_not_match_show_both_sides_and_the_prefix_that_helps() -> None:
    net = Net()
    reference = dict(net.encoder.named_parameters())
    with pytest.raises(DecayError) as caught:
        rebuilt(net, reference=reference)
    text = str(caught.value)
    assert "In the reference, not in the model (6): 0.weight, 0.bias, 1.weight, 1.bias, 2.weight, 2.bias." in text
    assert "Decays in the model, without reference (3): encoder.0.weight, encoder.2.weight, head.weight." in text
    assert "Put 'encoder.' before the reference's names." in text
    rebuilt(Net(), reference={f"encoder.{name}": value for name, value in reference.items()})
    with pytest.raises(DecayError, match=r"Remove 'model\.' from the reference's names"):
        rebuilt(Net(), reference={f"model.{name}": value for name, value in net.named_parameters()})


def test_with_new_given_every_other_weight_needs_a_reference() -> None:
    net = Net()
    reference = {name: value for name, value in net.named_parameters() if name != "encoder.2.weight"}
    with pytest.raises(DecayError, match=r"Decays in the model, without reference \(1\): encoder\.2\.weight"):
        rebuilt(net, reference=reference, new=["head"])
    assert (
        "named by '*.2.weight'" in rebuilt(Net(), reference=reference, new=["head", "*.2.weight"]).regularizer.summary()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "first"}, "reference must be 'initial' or a mapping.*saw 'first'"),
        ({"reference": {"head.weight": [1.0]}}, "values that are no tensors: head.weight"),
        ({"new": "head"}, r"takes a list.*Write new=\['head'\]"),
        ({"new": ["heda"]}, "'heda' is not a group and matches no weight.*Did you mean 'head'"),
        ({"new": ["*"]}, "All 3 weights that decay count as new, so none is pulled to its start"),
        ({"new_ratio": -1.0}, "new_ratio must be a finite number, 0 or more; saw -1.0"),
        ({"mode": "copled"}, "Unknown mode 'copled'.*Did you mean 'coupled'"),
        ({"new_ratio": 30.0}, "times new_ratio 30 at learning rate 0.1.*must stay below 0.333333"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DecayError, match=message):
        rebuilt(Net(), **options)


def test_all_faults_of_options_are_told_at_once() -> None:
    with pytest.raises(DecayError) as caught:
        build_regularizer("l2_sp", {"new_ratio": math.nan, "mode": "x", "reference": 3})
    assert len(str(caught.value).splitlines()) == 3


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_pulled_to_the_first_start_not_to_the_checkpoint() -> None:
    def steps(net: nn.Module, optimizer: Optimizer, seeds: range) -> None:
        for seed in seeds:
            draw = torch.Generator().manual_seed(seed)
            give_gradients(net, lambda p: torch.randn(p.shape, generator=draw))  # noqa: B023 - called at once
            optimizer.step()

    whole = Net()
    optimizer = AdamW(whole.parameters(), lr=0.05, weight_decay=0.0)
    handle = attach(optimizer, whole, "l2_sp", strength=1.0)
    steps(whole, optimizer, range(5))
    kept = copy.deepcopy(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    file = io.BytesIO()
    torch.save(handle.state_dict(), file)
    steps(whole, optimizer, range(5, 10))

    resumed = Net()
    resumed.load_state_dict(kept[0])  # the usual order: weights first, so that "initial" would be wrong
    again = AdamW(resumed.parameters(), lr=0.05, weight_decay=0.0)
    again.load_state_dict(kept[1])
    wrong = attach(again, resumed, "l2_sp", strength=1.0)
    before = wrong.penalty()
    file.seek(0)
    wrong.load_state_dict(torch.load(file, weights_only=True))
    assert wrong.penalty() > before
    steps(resumed, again, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_state_of_something_else_is_refused_with_all_faults() -> None:
    handle = rebuilt(Net())
    state = handle.state_dict()
    other = rebuilt(Net(classes=5))
    with pytest.raises(DecayError, match=r"head\.weight has shape 5x4x1x1, its reference in the state 3x4x1x1"):
        other.load_state_dict({**state, "state": {"reference": dict(Net().named_parameters()), "new": {}}})
    reference = {"encoder.0.weight": torch.zeros(4, 2, 3, 3)}
    with pytest.raises(DecayError, match=r"encoder\.2\.weight decays in the model and is not in the state"):
        handle.load_state_dict({**state, "state": {"reference": reference, "new": {"head.weight": "x"}}})
    with pytest.raises(DecayError, match="holds 'reference' and 'new'; saw nothing"):
        handle.load_state_dict({**state, "state": {}})


def test_the_reference_is_float32_and_outside_of_averages() -> None:
    net = Net().to(torch.bfloat16)
    handle = rebuilt(net)
    averaged = AveragedModel(net)
    state: Any = handle.regularizer.state_dict()
    assert {tensor.dtype for tensor in state["reference"].values()} == {torch.float32}
    assert len(averaged.module.state_dict()) == len(net.state_dict())
    assert not any(tensor.requires_grad for tensor in state["reference"].values())
