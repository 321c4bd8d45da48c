"""Group lasso on filters with the gains of their norm layers, and the channels it cuts out of the built-in U-Net."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sparse_nets import idle
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from segdecay.decay import attach, group_parameters
from segdecay.models.unet import UNet

torch.set_num_threads(1)


def block(norm: nn.Module | None = None, *, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4) if norm is None else norm
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm, nn.ReLU(), nn.Conv2d(4, 2, 1)).double()


def shrunk_once(net: nn.Module, *, strength: float = 0.3, **options: Any) -> dict[str, Tensor]:
    """By name: what one step of 0.1 without gradients leaves of each parameter, as a share of what it was."""
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, "group_lasso", strength=strength, **options).penalty()
    idle(optimizer, net, [0.1])
    return {name: parameter.detach() / before[name] for name, parameter in net.named_parameters()}


def alone(weight: Tensor, threshold: float) -> Tensor:
    """Share left of every filter by itself."""
    root = math.sqrt(weight[0].numel())
    left: Tensor = 1 - threshold * root / weight.flatten(1).norm(dim=1)
    return left


def test_a_filter_and_its_gain_are_one_group_and_shrink_together() -> None:
    net = block()
    weight, gain = net.get_parameter("0.weight").detach().clone(), net.get_parameter("1.weight").detach().clone()
    head = net.get_parameter("3.weight").detach().clone()
    expected = 1 - 0.03 * math.sqrt(28) / torch.hypot(weight.flatten(1).norm(dim=1), gain)
    left = shrunk_once(net)
    assert torch.allclose(left["0.weight"], expected.view(4, 1, 1, 1).expand(4, 3, 3, 3))
    assert torch.allclose(left["1.weight"], expected)
    assert left["1.bias"].isnan().all()  # 0/0: untouched zeros
    assert torch.equal(net.get_parameter("1.bias"), torch.zeros(4, dtype=torch.float64))
    assert torch.allclose(left["3.weight"], alone(head, 0.03).view(2, 1, 1, 1))


def test_gains_of_decayed_weights_are_shrunk_once_whatever_the_multiplier_of_the_norm_layers() -> None:
    left, both = shrunk_once(block()), shrunk_once(block(), multipliers={"norm": 1.0})
    assert torch.equal(left["1.weight"], both["1.weight"])
    by_itself = shrunk_once(block(), multipliers={"norm": 1.0, "body": 0.0})
    assert torch.allclose(by_itself["1.weight"], torch.full((4,), 1 - 0.03, dtype=torch.float64))
    assert torch.equal(by_itself["0.weight"], torch.ones_like(by_itself["0.weight"]))


@pytest.mark.parametrize("case", ["no affine", "frozen", "not held"])
def test_without_a_gain_that_trains_the_filter_is_the_group(case: str) -> None:
    net = block(nn.BatchNorm2d(4, affine=case != "no affine"))
    weight = net.get_parameter("0.weight").detach().clone()
    held = [p for name, p in net.named_parameters() if case != "not held" or name != "1.weight"]
    if case == "frozen":
        net.get_parameter("1.weight").requires_grad_(False)
    optimizer = SGD(held, lr=0.1)
    attach(optimizer, net, "group_lasso", strength=0.3)
    idle(optimizer, net, [0.1])
    assert torch.allclose(net.get_parameter("0.weight"), weight * alone(weight, 0.03).view(4, 1, 1, 1))
    if case != "no affine":
        assert torch.equal(net.get_parameter("1.weight"), torch.ones(4, dtype=torch.float64))


def test_a_group_whose_gain_has_no_gradient_waits() -> None:
    net = block()
    start = net.get_parameter("0.weight").detach().clone()
    optimizer = SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, "group_lasso", strength=0.3)
    net.get_parameter("0.weight").grad = torch.zeros_like(start)
    optimizer.step()
    assert torch.equal(net.get_parameter("0.weight"), start)


def test_a_norm_layer_that_is_not_known_lends_no_gain_of_the_same_width() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU())
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

    net = Net().double()
    left = shrunk_once(net, partition=group_parameters(net, feeds_norm=["stem.0.weight"]))
    assert torch.equal(left["norm.weight"], torch.ones_like(left["norm.weight"]))
    assert (left["stem.0.weight"] < 1).all()


def test_transposed_convolutions_are_grouped_by_their_second_dimension() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Conv2d(4, 2, 1)).double()
    weight = net.get_parameter("0.weight").detach().clone()
    left = shrunk_once(net)
    expected = alone(weight.transpose(0, 1), 0.03).view(1, 4, 1, 1).expand(3, 4, 2, 2)
    assert torch.allclose(left["0.weight"], expected)


def test_every_number_of_a_one_dimensional_parameter_or_a_scale_is_a_group_of_its_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.tensor([0.5, 2.0, 0.01]).view(1, 3, 1, 1))
            self.slope = nn.Parameter(torch.tensor(4.0))
            self.head = nn.Linear(3, 2)

    net = Scaled().double()
    assert {row.name: row.output_dim for row in group_parameters(net).rows} == {
        "gamma": 1,
        "slope": 0,
        "head.weight": 0,
        "head.bias": 0,
    }
    shrunk_once(net, strength=1.0, multipliers={"norm": 1.0})
    assert net.gamma.flatten().tolist() == pytest.approx([0.4, 1.9, 0.0], abs=1e-7)
    assert net.slope.item() == pytest.approx(3.9)


def test_penalty_and_size_count_the_gain_once() -> None:
    net = block()
    for multipliers in (None, {"norm": 1.0}):
        optimizer = SGD(net.parameters(), lr=0.1)
        handle = attach(optimizer, net, "group_lasso", strength=0.5, multipliers=multipliers)
        first = torch.hypot(net.get_parameter("0.weight").flatten(1).norm(dim=1), net.get_parameter("1.weight"))
        last = net.get_parameter("3.weight").flatten(1).norm(dim=1)
        expected = math.sqrt(28) * first.sum() + math.sqrt(4) * last.sum()
        assert handle.penalty() == pytest.approx(0.5 * expected.item())
        sizes = [*(first / math.sqrt(28)).tolist(), *(last / 2).tolist(), *([0.0] * 4 if multipliers else [])]
        assert handle.size() == pytest.approx(sorted(sizes)[(len(sizes) - 1) // 2])  # biases of the norm layer are 0


def trained_unet(norm: str, kind: type[SGD | AdamW], strength: float) -> UNet:
    """A few steps on bright squares."""
    torch.manual_seed(0)
    net = UNet(1, 2, width=4, depth=2, norm=norm)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9) if kind is SGD else AdamW(net.parameters(), lr=0.01)
    attach(optimizer, net, "group_lasso", strength=strength, take_over=True)
    for _ in range(60):
        masks = torch.zeros(4, 16, 16, dtype=torch.long)
        for image in range(4):
            top, left = torch.randint(0, 10, (2,)).tolist()
            masks[image, top : top + 6, left : left + 6] = 1
        images = masks.unsqueeze(1) + 0.3 * torch.randn(4, 1, 16, 16)
        optimizer.zero_grad()
        F.cross_entropy(net(images), masks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("kind", "strength"), [(SGD, 0.002), (AdamW, 0.2)])
def test_group_lasso_zeroes_whole_filters_with_their_gains_and_they_can_be_cut_out_of_the_unet(
    norm: str, kind: Any, strength: float
) -> None:
    net = trained_unet(norm, kind, strength)
    images = F.interpolate(torch.randn(2, 1, 4, 4), scale_factor=4.0)
    net.eval()
    with torch.no_grad():
        before = net(images)
        assert before.std(dim=(2, 3)).min() > 0.1
        gone = kept = 0
        for row in group_parameters(net).rows:
            if not row.feeds:
                continue
            weight, gain = net.get_parameter(row.name), net.get_parameter(f"{row.feeds}.weight")
            is_zero = (weight == 0).flatten(1).all(dim=1)
            assert torch.equal(is_zero, gain == 0)
            assert not (weight[~is_zero] == 0).any()
            gone, kept = gone + int(is_zero.sum()), kept + int((~is_zero).sum())
            cut_out(net.get_submodule(row.feeds), is_zero)
        assert gone > 5
        assert kept > 5
        assert torch.equal(net(images), before)


def cut_out(norm: nn.Module, is_zero: Tensor) -> None:
    """Let the norm layer emit its bias for these channels, without looking at their filters."""

    def constant(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        del inputs
        bias: Any = module.bias
        return torch.where(is_zero.view(1, -1, 1, 1), bias.view(1, -1, 1, 1), output)

    norm.register_forward_hook(constant)
