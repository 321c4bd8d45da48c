"""One audit of several optimizers, of scaled rates, of summed losses and of decays that somebody chose."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from segdecay.decay import audit
from segdecay.errors import DecayError


def net_() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_two_optimizers_that_share_a_model_are_one_audit() -> None:
    net: Any = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    hidden = [p for n, p in net.named_parameters() if p.ndim == 2 and "blocks" in n]
    ids = {id(p) for p in hidden}
    muon = torch.optim.Muon(hidden, lr=0.02, weight_decay=0.05)
    rest = [p for p in net.parameters() if id(p) not in ids]
    adamw = torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.05)
    found = audit(net, [muon, adamw])
    assert found.optimizer == "Muon and AdamW"
    assert "in_no_group" not in found.codes()
    assert "in_two_groups" not in found.codes()
    assert all(row.is_decayed for row in found.rows)
    assert "in_no_group" in audit(net, muon).codes()


def test_a_parameter_in_two_optimizers_is_wrong_and_one_in_neither_too() -> None:
    net = net_()
    first = torch.optim.SGD(net[0].parameters(), lr=0.1)
    both = audit(net, [first, torch.optim.SGD(net.parameters(), lr=0.1)])
    assert both.codes("wrong") == ("in_two_groups",)
    partly = audit(net, [first, torch.optim.SGD([net[2].get_parameter("weight")], lr=0.1)])
    assert [f.parameters for f in partly.findings if f.code == "in_no_group"] == [("2.bias",)]


def test_no_optimizer_at_all_is_an_error() -> None:
    with pytest.raises(DecayError, match="No optimizer"):
        audit(net_(), [])


def test_d_of_a_layer_is_at_the_rate_that_timm_scales_before_and_after_its_scheduler() -> None:
    net: Any = timm.create_model("convnext_atto", num_classes=4)
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.7)
    scale = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(net.named_parameters())

    def check() -> None:
        for row in audit(net, optimizer, learning_rates=[1e-3] * 1000).rows:
            if row.total_decay is not None:
                assert row.total_decay == pytest.approx(0.05 * scale[id(parameters[row.name])])

    check()
    CosineLRScheduler(optimizer, t_initial=100).step(1)
    check()


def _summed(factor: str) -> Any:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        penalty = 1e-4 * 0.5 * sum((p**2).sum() for p in NET.parameters())
        reduction = "mean" if factor == "mean" else "sum"
        data = nn.functional.cross_entropy(output, target, reduction=reduction)
        return data + penalty * target.numel()

    return loss


NET = net_()


@pytest.mark.parametrize(("reduction", "wrong"), [("sum", ()), ("mean", ("penalty_grows_with_batch",))])
def test_a_summed_loss_with_n_times_lambda_is_right_and_a_mean_with_it_is_not(
    reduction: str, wrong: tuple[str, ...]
) -> None:
    found = audit(NET, torch.optim.SGD(NET.parameters(), lr=1e-3), _summed(reduction))
    assert found.loss.status == "examined"
    assert found.codes("wrong") == wrong


def test_groups_with_the_default_and_with_none_were_chosen() -> None:
    net = net_()
    weights = [net.get_parameter(f"{i}.weight") for i in (0, 2)]
    biases = [net.get_parameter(f"{i}.bias") for i in (0, 2)]
    spared: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    assert "default_decay" not in audit(net, torch.optim.AdamW(spared, lr=6e-5)).codes()
    assert "default_decay" in audit(net, torch.optim.AdamW(net.parameters(), lr=6e-5)).codes()
