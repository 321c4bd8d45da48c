"""What l1, elastic_net and group_lasso do step by step: laws, zeros, kernels, data types, refusals, axes."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from sparse_nets import EVERYWHERE, KERNELS, RATES, SPARSE, assert_same_bits, idle, linear, make_net, steps, weights
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, RAdam, RMSprop

from segdecay.decay import attach
from segdecay.decay.foreach import shrink_, shrink_one_

torch.set_num_threads(1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l1_shortens_idle_weights_by_the_sum_of_t_lambda_and_not_past_zero(momentum: float) -> None:
    layer = linear([[2.0, -1.0, 0.1, 0.0]])
    optimizer = SGD(layer.parameters(), lr=0.1, momentum=momentum)
    attach(optimizer, layer, "l1", strength=0.5 * (1 - momentum))
    idle(optimizer, layer, RATES)
    assert layer.weight.tolist()[0] == pytest.approx([1.7, -0.7, 0.0, 0.0], abs=1e-12)
    assert (layer.weight == 0).tolist() == [[False, False, True, True]]


def test_elastic_net_does_both_to_idle_weights_at_every_step() -> None:
    layer = linear([[2.0, -1.0, 0.1]])
    optimizer = SGD(layer.parameters(), lr=0.1)
    attach(optimizer, layer, "elastic_net", strength=0.5, options={"l1_ratio": 0.2})
    idle(optimizer, layer, RATES)
    expected = [2.0, 1.0, 0.1]
    for rate in RATES:
        expected = [max(size - rate * 0.1, 0) / (1 + rate * 0.4) for size in expected]
    assert layer.weight.abs().tolist()[0] == pytest.approx(expected, abs=1e-12)


def test_group_lasso_shortens_idle_channels_by_the_sum_of_t_lambda_root_p_and_keeps_their_direction() -> None:
    layer = linear([[3.0, 4.0, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1]])
    optimizer = SGD(layer.parameters(), lr=0.1)
    attach(optimizer, layer, "group_lasso", strength=0.5)
    idle(optimizer, layer, RATES)
    factor = (5.0 - sum(RATES) * 0.5 * 2) / 5.0
    assert layer.weight[0].tolist() == pytest.approx([3 * factor, 4 * factor, 0.0, 0.0], abs=1e-12)
    assert layer.weight[1].tolist() == [0.0] * 4


def test_through_adam_idle_weights_go_to_zero_at_once_unless_lambda_is_below_epsilon_over_lr() -> None:
    for strength, left in ((1e-6, 0.0), (1e-8, 1.0 - 1e-8 * 0.1 / 1e-7)):
        layer = linear([[1.0]])
        optimizer = Adam(layer.parameters(), lr=0.1, eps=1e-7)
        attach(optimizer, layer, "l1", strength=strength)
        idle(optimizer, layer, [0.1])
        assert layer.weight.item() == pytest.approx(left, abs=1e-9)


def thresholds(make: Any, gradients: Sequence[float]) -> list[float]:
    """How far a weight far from zero is shrunk by l1 at λ = 1 in each step, by what the bare optimizer leaves."""
    ours, bare = linear([[1e3]]), linear([[1e3]])
    optimizers = [make(ours.parameters()), make(bare.parameters())]
    attach(optimizers[0], ours, "l1", strength=1.0)
    apart = [0.0]
    for gradient in gradients:
        for layer, optimizer in zip((ours, bare), optimizers, strict=True):
            layer.weight.grad = torch.full_like(layer.weight, gradient)
            optimizer.step()
        apart.append((bare.weight - ours.weight).item())
    return [after - before for before, after in pairwise(apart)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: SGD(p, lr=0.1, momentum=0.75, dampening=0.5), 0.1 * 0.5 / 0.25),
        (lambda p: SGD(p, lr=0.1, dampening=0.5), 0.1),
        (lambda p: Adam(p, lr=0.1, betas=(0.9, 0.5)), 0.1 / math.sqrt(4.5 / 0.75)),
        (lambda p: Adam(p, lr=0.1, eps=1.0, betas=(0.9, 0.5)), 0.1 / (math.sqrt(4.5 / 0.75) + 1)),
        (lambda p: Adam(p, lr=0.1, betas=(0.9, 0.5), amsgrad=True), 0.1 / math.sqrt(8 / 0.75)),
        (lambda p: Adamax(p, lr=0.1, betas=(0.9, 0.5)), 0.1 / 2.0),
        (lambda p: RMSprop(p, lr=0.1, alpha=0.5, momentum=0.75), 0.4 / math.sqrt(4.5)),
        (lambda p: RMSprop(p, lr=0.1, alpha=0.5, centered=True), 0.1 / math.sqrt(4.5 - 1.5**2)),
        (lambda p: Adagrad(p, lr=0.1, lr_decay=1.0), 0.05 / math.sqrt(17.0)),
        (lambda p: RAdam(p, lr=0.1), 0.1),
    ],
)
def test_t_after_gradients_of_4_and_1_is_what_can_be_worked_out_by_hand(make: Any, expected: float) -> None:
    assert thresholds(make, [4.0, 1.0])[1] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", [Adam, AdamW, RAdam, Adamax, Adagrad])
@pytest.mark.parametrize("maximize", [False, True])
def test_t_is_how_far_the_optimizer_goes_along_a_constant_gradient(kind: Any, maximize: bool) -> None:
    layer = linear([[0.0]])
    options = {"maximize": maximize, **({"weight_decay": 0.0} if kind is AdamW else {})}
    optimizer = kind(layer.parameters(), lr=0.1, **options)
    moved = []
    for _ in range(12):
        before = layer.weight.item()
        layer.weight.grad = torch.full_like(layer.weight, 3.0)
        optimizer.step()
        moved.append(abs(layer.weight.item() - before) / 3.0)
    assert thresholds(lambda p: kind(p, lr=0.1, **options), [3.0] * 12) == pytest.approx(moved, rel=1e-6)


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("regularizer", SPARSE)
@pytest.mark.parametrize("kernel", KERNELS)
def test_strength_zero_is_bitwise_the_bare_optimizer(regularizer: str, kernel: dict[str, Any], closure: bool) -> None:
    ours, bare = make_net(), make_net()
    optimizer = AdamW(ours.parameters(), lr=0.01, weight_decay=0.0, **kernel)
    attach(optimizer, ours, regularizer, strength=0.0, multipliers=EVERYWHERE)
    steps(optimizer, ours, 6, closure=closure)
    steps(AdamW(bare.parameters(), lr=0.01, weight_decay=0.0, **kernel), bare, 6, closure=closure)
    assert_same_bits(weights(ours), weights(bare))


@pytest.mark.parametrize("make", [lambda p, k: SGD(p, lr=0.1, momentum=0.9, **k), lambda p, k: Adam(p, lr=0.01, **k)])
@pytest.mark.parametrize("regularizer", SPARSE)
def test_kernels_of_the_optimizer_and_closures_agree(regularizer: str, make: Any) -> None:
    found = []
    for kernel in KERNELS:
        for closure in (False, True):
            net = make_net()
            optimizer = make(net.parameters(), kernel)
            attach(optimizer, net, regularizer, strength=0.02, multipliers=EVERYWHERE)
            steps(optimizer, net, 8, closure=closure)
            found.append(weights(net))
    for other in found[1:]:
        assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(found[0], other, strict=True))
    bare = make_net()
    steps(make(bare.parameters(), {}), bare, 8)
    assert not torch.allclose(found[0][0], weights(bare)[0], atol=1e-3)


@pytest.mark.parametrize("l2", [0.0, 0.7])
@pytest.mark.parametrize("l1", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_foreach_path_is_bitwise_the_loop(dtype: torch.dtype, l1: float, l2: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 4), (5,), ())]
    own = [torch.rand(tensor.shape, generator=generator).to(dtype) for tensor in start]
    for given in (0.25, own):
        together, alone = copy.deepcopy(start), copy.deepcopy(start)
        shrink_(together, given, l1, l2)
        for index, tensor in enumerate(alone):
            shrink_one_(tensor, given if isinstance(given, float) else given[index], l1, l2)
        assert_same_bits(together, alone)
        sizes = [(t.abs() - step * l1).clamp(min=0) / (1 + step * l2) for t, step in _pairs(start, given)]
        assert all(torch.allclose(t, s * b.sign()) for t, s, b in zip(together, sizes, start, strict=True))


def _pairs(tensors: list[Tensor], given: float | list[Tensor]) -> list[tuple[Tensor, Any]]:
    return [(tensor, given if isinstance(given, float) else given[i]) for i, tensor in enumerate(tensors)]


@pytest.mark.parametrize("regularizer", SPARSE)
def test_half_precision_is_shrunk_as_single_precision_is_and_rounded_once(regularizer: str) -> None:
    torch.manual_seed(0)
    half = nn.Linear(16, 8, bias=False).to(torch.bfloat16)
    single = copy.deepcopy(half).float()
    for layer in (half, single):
        optimizer = SGD(layer.parameters(), lr=0.1)
        attach(optimizer, layer, regularizer, strength=0.3)
        idle(optimizer, layer, [0.1])
    assert torch.equal(half.weight, single.weight.to(torch.bfloat16))


@pytest.mark.parametrize("regularizer", SPARSE)
def test_mixed_data_types_and_a_tensor_as_learning_rate(regularizer: str) -> None:
    torch.manual_seed(0)
    start = nn.ModuleList([nn.Linear(4, 4).to(torch.bfloat16), nn.Linear(4, 4), nn.Linear(4, 2).double()])
    found = []
    for lr in (0.05, torch.tensor(0.05)):
        model = copy.deepcopy(start)
        optimizer = Adam(model.parameters(), lr=lr, foreach=False)
        attach(optimizer, model, regularizer, strength=0.3, multipliers=EVERYWHERE)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            optimizer.step()
        found.append(weights(model))
    assert all(torch.allclose(one, two, atol=1e-3) for one, two in zip(*found, strict=True))
    assert [weight.dtype for weight in found[0]] == [parameter.dtype for parameter in start.parameters()]


@pytest.mark.parametrize("regularizer", SPARSE)
def test_a_resumed_run_equals_an_unbroken_one(regularizer: str) -> None:
    unbroken, broken = make_net(), make_net()
    optimizer = Adam(unbroken.parameters(), lr=0.01)
    attach(optimizer, unbroken, regularizer, strength=0.003)
    steps(optimizer, unbroken, 8)
    optimizer = Adam(broken.parameters(), lr=0.01)
    handle = attach(optimizer, broken, regularizer, strength=0.003)
    steps(optimizer, broken, 4)
    kept = copy.deepcopy((broken.state_dict(), optimizer.state_dict(), handle.state_dict()))
    resumed = make_net()
    optimizer = Adam(resumed.parameters(), lr=0.01)
    handle = attach(optimizer, resumed, regularizer, strength=0.0)
    for part, state in zip((resumed, optimizer, handle), kept, strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    steps(optimizer, resumed, 4, start=4)
    assert_same_bits(weights(resumed), weights(unbroken))


@pytest.mark.parametrize("regularizer", SPARSE)
def test_excluded_frozen_and_gradientless_parameters_are_untouched(regularizer: str) -> None:
    net = make_net()
    net[0].weight.requires_grad_(False)
    start = weights(net)
    optimizer = SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, regularizer, strength=0.1, multipliers={"norm": 1.0, "bias": 0.0})
    for name in ("0.weight", "0.bias", "2.weight"):
        parameter = net.get_parameter(name)
        parameter.grad = torch.zeros_like(parameter)
    net[0].weight.grad = None
    optimizer.step()
    changed = [not torch.equal(one, two) for one, two in zip(weights(net), start, strict=True)]
    names = [name for name, _ in net.named_parameters()]
    assert [name for name, differs in zip(names, changed, strict=True) if differs] == ["2.weight"]


def test_accumulated_gradients_are_shrunk_once_a_step() -> None:
    layer = linear([[1.0]])
    optimizer = SGD(layer.parameters(), lr=0.1)
    attach(optimizer, layer, "l1", strength=0.5)
    for _ in range(3):
        (layer.weight * 0.0).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert layer.weight.item() == pytest.approx(0.95)


def test_the_subgradient_adds_lambda_times_the_sign() -> None:
    layer = linear([[2.0, -3.0, 0.0]])
    optimizer = SGD(layer.parameters(), lr=0.1)
    attach(optimizer, layer, "l1", strength=0.5, options={"method": "subgradient"})
    idle(optimizer, layer, [0.1])
    assert layer.weight.tolist()[0] == pytest.approx([1.95, -2.95, 0.0])
