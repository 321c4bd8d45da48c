"""The diagnostics against numpy and scipy, in loops like those of others, changing nothing."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdecay import decay
from segdecay.decay.diagnostics.layers import (
    EXACT_SIDE,
    frequency_correlation,
    spearman,
    stable_rank,
    watch_activations,
    zero_counts,
)
from segdecay.errors import DecayError

SHAPES = [(3, 3), (5, 12), (12, 5), (1, 7), (16, 8, 3, 3), (64, 32, 3, 3), (128, 200), (200, 128)]
LARGE = [(150, 140), (129, 700), (300, 30, 3, 3), (512, 256, 1, 1)]


def _random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _stable_rank(matrix: npt.NDArray[np.float64]) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    return float((values**2).sum() / values[0] ** 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_stable_rank_of_small_weights_is_that_of_numpy(shape: tuple[int, ...]) -> None:
    weight = _random(shape)
    expected = _stable_rank(weight.double().numpy().reshape(shape[0], -1))
    assert stable_rank(weight) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("kind", ["random", "low rank", "trained-like"])
def test_the_stable_rank_of_large_weights_is_that_of_numpy_within_a_percent(shape: tuple[int, ...], kind: str) -> None:
    matrix = _random(shape).flatten(1)
    if kind == "low rank":
        matrix = _random((shape[0], 3), 1) @ _random((3, matrix.shape[1]), 2)
    elif kind == "trained-like":
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        matrix = left @ torch.diag(torch.arange(1, min(matrix.shape) + 1, dtype=torch.float32) ** -0.5) @ right
    assert min(matrix.shape) > EXACT_SIDE
    expected = _stable_rank(matrix.double().numpy())
    found = stable_rank(matrix.reshape(shape))
    assert found == pytest.approx(expected, rel=0.01)
    assert found is not None
    assert found >= expected * (1 - 1e-5)  # the largest singular value is never overestimated


def test_a_transposed_convolution_is_read_by_its_own_outputs() -> None:
    weight = nn.ConvTranspose2d(3, 6, 2).weight
    expected = _stable_rank(weight.detach().double().numpy().transpose(1, 0, 2, 3).reshape(6, -1))
    assert stable_rank(weight, 1) == pytest.approx(expected, rel=1e-9)
    assert stable_rank(weight, 0) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("weight", [torch.zeros(3, 4), torch.ones(3), torch.full((2, 2), math.nan), torch.zeros(0, 4)])
def test_what_has_no_stable_rank_has_none(weight: Tensor) -> None:
    assert stable_rank(weight) is None


def test_half_precision_weights_are_read_in_full() -> None:
    weight = (1e-4 * _random((8, 9))).half()
    assert stable_rank(weight) == pytest.approx(_stable_rank(weight.double().numpy()), rel=1e-6)


@pytest.mark.parametrize(("shape", "dim"), [((6, 4, 3, 3), 0), ((4, 6, 2, 2), 1), ((5, 7), 0), ((9,), 0)])
def test_zeros_are_those_of_numpy(shape: tuple[int, ...], dim: int) -> None:
    weight = _random(shape)
    weight[_random(shape, 1) > 0.2] = 0
    weight.select(dim, 2).zero_()
    weight.select(dim, 3).fill_(1e-38)  # its square is zero in float32; it is not
    array = weight.numpy()
    channels = np.moveaxis(array, dim, 0).reshape(shape[dim], -1)
    assert zero_counts(weight, dim) == (int((array == 0).sum()), int((channels == 0).all(axis=1).sum()))


@pytest.mark.parametrize("seed", range(8))
def test_spearman_is_that_of_scipy_with_and_without_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 30))
    one = random.normal(size=n)
    other = random.integers(0, 4 if seed % 2 else 1000, n).astype(float)
    other[0] = 5000  # never constant
    expected = float(scipy.stats.spearmanr(one, other).statistic)
    assert spearman(one.tolist(), other.tolist()) == pytest.approx(expected, abs=1e-12)
    counts = np.exp(random.normal(size=n))
    logs = float(scipy.stats.spearmanr(one, np.log(counts)).statistic)
    assert frequency_correlation(one.tolist(), counts.tolist()) == pytest.approx(logs, abs=1e-12)


def test_spearman_of_nothing_to_order_is_none_and_of_unequal_lengths_an_error() -> None:
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None
    assert spearman([1.0, math.nan], [1.0, 2.0]) is None
    assert spearman([1.0], [1.0]) is None
    with pytest.raises(DecayError, match="saw 2 and 1 values"):
        spearman([1.0, 2.0], [1.0])


class Net(nn.Module):
    """Convolution, norm, ReLU twice over one shared module, head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6))
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.relu(self.second(self.relu(self.first(images)))))  # type: ignore[no-any-return]


def _parts(regularizer: str = "decoupled", strength: float = 0.1) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0)
    decay.attach(optimizer, net, regularizer, strength=strength)
    return net, optimizer


def _batch() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8), torch.randint(0, 4, (2, 4, 4))


def _step(net: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    images, masks = _batch()
    loss = F.cross_entropy(net(images), masks)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def test_a_training_with_diagnostics_is_bitwise_the_training_without() -> None:
    ends: list[tuple[dict[str, Any], Tensor, Tensor]] = []
    for is_diagnosed in (False, True):
        net, optimizer = _parts()
        diagnostics = decay.Diagnostics(net, optimizer, every=1)
        for step in range(4):
            if is_diagnosed:
                with diagnostics.watched(step):
                    loss = _step(net, optimizer)
                diagnostics.read(loss)
            else:
                _step(net, optimizer)
        gradients = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        ends.append((copy.deepcopy(net.state_dict()), gradients, torch.get_rng_state()))
        assert net.training
        assert not [module for module in net.modules() if module._forward_hooks or module._forward_pre_hooks]
    (one, gradients, state), (other, gradients_read, state_diagnosed) = ends
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(gradients, gradients_read)
    assert torch.equal(state, state_diagnosed)


def test_norms_and_groups_are_those_of_numpy() -> None:
    net, optimizer = _parts()
    with torch.no_grad():
        net.get_parameter("first.0.weight")[2] = 0
        net.get_parameter("second.0.weight")[:, 0] = 0
    reading = decay.Diagnostics(net, optimizer).read()
    arrays = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    for layer in reading.layers:
        assert layer.norm == pytest.approx(np.linalg.norm(arrays[layer.name]), rel=1e-12)
        assert layer.zeros == pytest.approx((arrays[layer.name] == 0).mean(), rel=1e-12)
    assert [(layer.name, layer.zero_channels, layer.channels) for layer in reading.layers] == [
        ("first.0.weight", 1, 6),
        ("second.0.weight", 0, 6),
        ("head.weight", 0, 4),
    ]
    groups = {group.group: group for group in reading.groups}
    bodies = np.concatenate([arrays[f"{name}.0.weight"].ravel() for name in ("first", "second")])
    assert groups["body"].norm == pytest.approx(np.linalg.norm(bodies), rel=1e-12)
    assert groups["body"].zeros == pytest.approx((bodies == 0).mean(), rel=1e-12)
    assert (groups["body"].zero_channels, groups["body"].channels, groups["body"].numbers) == (1, 12, bodies.size)
    assert (groups["norm"].zeros, groups["norm"].zero_channels) == (0.5, 0)  # biases of norm layers begin at zero


def test_head_rows_are_set_against_class_counts() -> None:
    net, optimizer = _parts()
    counts = [500, 20, 3, 0]
    (head,) = decay.Diagnostics(net, optimizer, class_counts=counts).read().head
    rows = np.linalg.norm(net.head.weight.detach().double().numpy().reshape(4, -1), axis=1)
    assert head.row_norms == pytest.approx(tuple(rows), rel=1e-12)
    assert head.spearman == pytest.approx(float(scipy.stats.spearmanr(rows[:3], np.log(counts[:3])).statistic))
    assert decay.Diagnostics(net, optimizer, class_counts=[1, 2]).read().head[0].spearman is None
    assert decay.Diagnostics(net, optimizer).read().head[0].spearman is None


def test_dead_activations_are_those_counted_by_hand() -> None:
    net, optimizer = _parts()
    with torch.no_grad():
        net.get_parameter("first.1.bias")[1] = -100  # always below zero behind this norm
        net.get_parameter("first.1.bias")[4] = -100
    images, masks = _batch()
    probe = copy.deepcopy(net)
    first = probe.first(images).clamp(min=0)
    second = probe.second(first).clamp(min=0)
    diagnostics = decay.Diagnostics(net, optimizer)
    with diagnostics.watched():
        F.cross_entropy(net(images), masks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = diagnostics.read().activations
    dead = int((second == 0).all(dim=3).all(dim=2).all(dim=0).sum())
    assert [(line.name, line.channels, line.dead) for line in found] == [("relu", 6, 2), ("relu#2", 6, dead)]
    assert found[0].zeros == pytest.approx(float((first == 0).double().mean()), abs=1e-12)
    assert found[1].zeros == pytest.approx(float((second == 0).double().mean()), abs=1e-12)


def test_a_channel_is_dead_only_if_it_is_zero_in_all_that_was_watched() -> None:
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        net.get_parameter("0.weight").copy_(torch.tensor([[1.0], [-1.0]]))
    with watch_activations(net) as watch:
        net(torch.tensor([[1.0], [2.0]]))
        assert [line.dead for line in watch.diagnostics()] == [1]
        net(torch.tensor([[-1.0]]))
    net(torch.tensor([[5.0]]))  # no longer watched
    (line,) = watch.diagnostics()
    assert (line.name, line.dead, line.zeros) == ("1", 0, 0.5)


def test_hooks_are_gone_after_an_error_inside() -> None:
    net, optimizer = _parts()
    diagnostics = decay.Diagnostics(net, optimizer)
    hooks = len(optimizer._optimizer_step_post_hooks)
    with pytest.raises(ZeroDivisionError), diagnostics.watched():
        _ = 1 / 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert len(optimizer._optimizer_step_post_hooks) == hooks


def test_what_runs_again_in_backward_is_counted_once() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
            self.head = nn.Linear(3, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            kept = torch.utils.checkpoint.checkpoint(self.body, inputs, use_reentrant=False)
            return self.head(kept)  # type: ignore[no-any-return]

    net = Checkpointed()
    with watch_activations(net) as watch:
        net(torch.randn(5, 2)).sum().backward()
    (line,) = watch.diagnostics()
    assert line.name == "body.1"


def test_the_penalty_and_its_share_are_those_of_the_handle_or_the_optimizer() -> None:
    net, optimizer = _parts("l2", 0.3)
    weights = sum(float(p.detach().double().square().sum()) for p in net.parameters() if p.ndim > 1)
    reading = decay.Diagnostics(net, optimizer).read(loss=2.0)
    assert reading.penalty == pytest.approx(0.15 * weights, rel=1e-6)
    assert reading.penalty_share == pytest.approx(0.15 * weights / (2 + 0.15 * weights), rel=1e-6)
    assert decay.Diagnostics(net, optimizer).read().penalty_share is None
    bare = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.2)
    everything = sum(float(p.detach().double().square().sum()) for p in net.parameters())
    assert decay.Diagnostics(net, bare).read().penalty == pytest.approx(0.1 * everything, rel=1e-6)


def test_the_diagnostics_of_a_wrapped_model_are_those_of_the_bare_one() -> None:
    net, optimizer = _parts()
    wrapped = nn.DataParallel(net)
    diagnostics = decay.Diagnostics(wrapped, optimizer)
    with diagnostics.watched():
        _step(net, optimizer)
    reading = diagnostics.read()
    assert [layer.name for layer in reading.layers] == ["first.0.weight", "second.0.weight", "head.weight"]
    assert [line.name for line in reading.activations] == ["relu", "relu#2"]


def test_a_reading_is_plain_json_also_when_weights_are_lost() -> None:
    net, optimizer = _parts()
    diagnostics = decay.Diagnostics(net, optimizer, class_counts=[4, 3, 2, 1])
    with diagnostics.watched():
        loss = _step(net, optimizer)
    plain = diagnostics.read(loss).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    ratios = [line["ratio"] for line in plain["layers"]]
    assert all(ratio > 0 for ratio in ratios[:2])
    assert ratios[2] is None
    with torch.no_grad():
        net.get_parameter("first.0.weight").fill_(math.nan)
        net.head.weight.fill_(math.inf)
    json.dumps(diagnostics.read(math.nan).to_dict(), allow_nan=False)


def test_only_due_steps_are_watched() -> None:
    net, optimizer = _parts()
    diagnostics = decay.Diagnostics(net, optimizer, every=3)
    assert [step for step in range(7) if diagnostics.is_due(step)] == [0, 3, 6]
    with diagnostics.watched(3):
        _step(net, optimizer)
    assert diagnostics.read().activations
    with diagnostics.watched(4):
        _step(net, optimizer)
    assert not diagnostics.read().activations
    assert all(layer.angle is None for layer in diagnostics.read().layers)


def test_two_steps_in_one_watch_are_refused() -> None:
    net, optimizer = _parts()
    watched = decay.Diagnostics(net, optimizer).watched()
    watched.__enter__()
    _step(net, optimizer)
    _step(net, optimizer)
    with pytest.raises(DecayError, match="2 optimizer steps ran inside"):
        watched.__exit__(None, None, None)


def test_an_interval_below_one_and_another_models_optimizer_are_refused() -> None:
    net, optimizer = _parts()
    with pytest.raises(DecayError, match="1 or more steps; saw 0"):
        decay.Diagnostics(net, optimizer, every=0)
    other = torch.optim.SGD(Net().parameters(), lr=0.1)
    with pytest.raises(DecayError, match=r"9 parameters, none of which is in the model \(Net, 9 parameters\)"):
        decay.Diagnostics(net, other)
