"""Corrected decay against AdamC of pytorch_optimizer and timm's corrected SGDW, its law, and its axis."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decay_runs import EVERYWHERE, KERNELS, are_same_bits, drive, largest_difference, make_net, resumed, run
from pytorch_optimizer import AdamC
from timm.optim.sgdw import SGDW
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from segdecay.decay import Strength, attach, axis_of, describe_strength, paste_lines
from segdecay.decay.axes import corrected_axis
from segdecay.decay.strength import idle_weight, lambda_of_timescale, timescale_epochs, total_decay
from segdecay.errors import DecayError

torch.set_num_threads(1)
PEAK = 0.05
RATES = [PEAK * min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / 60)) for step in range(60)]
RATES[9] = PEAK
FED = ("0.weight", "3.weight")

STRONG = Strength.from_lambda(3.0, learning_rates=RATES)


def test_by_hand_what_feeds_a_norm_layer_decays_by_the_square_of_the_rate() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(model[0].weight, 2.0)
    nn.init.constant_(model[2].weight, 2.0)
    optimizer = SGD(model.parameters(), lr=0.25)
    attach(optimizer, model, "corrected", strength=0.5, options={"peak_lr": 0.5})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert float(model[0].weight.detach()) == 2 - 2 * 0.25 * 0.25 / 0.5 * 0.5
    assert float(model[2].weight.detach()) == 2 - 2 * 0.25 * 0.5


def adamc(strength: float) -> list[Tensor]:
    """Their rule: groups marked as normalized decay by lr²/max_lr; max_lr is what it was built with."""
    model = make_net()
    named = dict(model.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named.items() if name in FED], "normalized": True},
        {"params": [p for name, p in named.items() if name not in FED]},
    ]
    optimizer = AdamC(groups, lr=PEAK, weight_decay=strength, eps=1e-14, foreach=False)
    return drive(model, optimizer, RATES)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("asked", [{"strength": STRONG}, {"strength": 3.0, "options": {"peak_lr": PEAK}}])
def test_it_is_adamc_of_pytorch_optimizer(kernel: dict[str, Any], asked: dict[str, Any]) -> None:
    ours = run(lambda p: AdamW(p, lr=PEAK, weight_decay=0.0, eps=1e-14, **kernel), "corrected", RATES, **asked)
    assert largest_difference(ours, adamc(3.0)) < 1e-6
    assert largest_difference(ours, adamc(0.0)) > 0.01


def test_under_sgd_it_is_corrected_sgdw_of_timm_where_all_weights_are_fed() -> None:
    def fit(theirs: bool) -> list[Tensor]:
        model: Any = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5, affine=False)).double()
        nn.init.constant_(model[0].weight, 0.5)
        if theirs:
            timms = SGDW(model.parameters(), lr=PEAK, momentum=0.9, weight_decay=3.0, corrected_weight_decay=True)
            return drive(model, timms, RATES)
        optimizer = SGD(model.parameters(), lr=PEAK, momentum=0.9)
        attach(optimizer, model, "corrected", strength=STRONG)
        return drive(model, optimizer, RATES)

    assert largest_difference(fit(theirs=False), fit(theirs=True)) < 1e-12


def test_without_norm_layers_it_is_bitwise_decoupled() -> None:
    def fit(regularizer: str, **asked: Any) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = AdamW(model.parameters(), lr=PEAK, weight_decay=0.0)
        attach(optimizer, model, regularizer, strength=2.0, **asked)
        return drive(model, optimizer, RATES)

    assert are_same_bits(fit("corrected", options={"peak_lr": PEAK}), fit("decoupled"))


def test_a_learning_rate_that_is_a_tensor_does_the_same() -> None:
    def fit(lr: float | Tensor) -> Tensor:
        model: Any = make_net()
        optimizer = SGD(model.parameters(), lr=lr)
        attach(optimizer, model, "corrected", strength=2.0, options={"peak_lr": PEAK})
        model[0].weight.grad = torch.zeros_like(model[0].weight)
        optimizer.step()
        found: Tensor = model[0].weight.detach()
        return found

    assert torch.equal(fit(torch.tensor(0.02, dtype=torch.float64)), fit(0.02))


def test_strength_zero_is_bitwise_the_bare_optimizer_and_a_resumed_run_the_unbroken_one() -> None:
    def make(p: list[nn.Parameter]) -> torch.optim.Optimizer:
        return AdamW(p, lr=PEAK, weight_decay=0.0)

    none = run(make, "corrected", RATES, dtype=torch.float32, strength=Strength.from_lambda(0.0, learning_rates=RATES))
    assert are_same_bits(none, run(make, None, RATES, dtype=torch.float32))
    whole = run(make, "corrected", RATES, dtype=torch.float32, strength=STRONG)
    assert are_same_bits(resumed(make, "corrected", RATES, 25, strength=STRONG), whole)


@pytest.mark.parametrize("options", [{}, {"peak_lr": 2 * PEAK}])
def test_an_idle_weight_ends_where_the_axis_says_and_others_decay_by_more(options: dict[str, float]) -> None:
    axis = axis_of("corrected", "adamw", options=options)
    peak = options.get("peak_lr", PEAK)
    assert total_decay(axis, 2.0, RATES) == pytest.approx(2.0 * sum(rate**2 for rate in RATES) / peak)
    model: Any = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1, bias=False)
    ).double()
    for index in (0, 2):
        nn.init.ones_(model[index].weight)
    optimizer = AdamW(model.parameters(), lr=PEAK, weight_decay=0.0)
    handle = attach(
        optimizer, model, "corrected", strength=Strength.from_total_decay(1.5, learning_rates=RATES), options=options
    )
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    fed, other = float(model[0].weight.detach()), float(model[2].weight.detach())
    assert fed == pytest.approx(idle_weight(axis, handle.strength, RATES), abs=1e-12)
    assert fed == pytest.approx(describe_strength(axis, 1.5, RATES, 10).remaining, abs=1e-12)
    assert fed == pytest.approx(math.exp(-1.5), rel=0.1)
    assert other == pytest.approx(math.prod(1 - rate * handle.strength for rate in RATES), abs=1e-12)
    assert other < fed


def test_the_axis_goes_to_lambda_and_back_and_knows_the_largest_value() -> None:
    axis = corrected_axis()
    assert axis.from_lambda(axis.to_lambda(0.7, RATES), RATES) == pytest.approx(0.7)
    assert axis.to_lambda(0.999 * axis.largest(RATES), RATES) * PEAK == pytest.approx(0.999)
    with pytest.raises(DecayError, match="too strong for these learning rates"):
        axis.to_lambda(axis.largest(RATES), RATES)
    assert lambda_of_timescale(axis, timescale_epochs(axis, 3.0, PEAK, 10), PEAK, 10) == pytest.approx(3.0)
    assert "all others decay by Σ η·λ" in axis_of("corrected", "adamw").reason


def test_lines_to_paste_name_the_peak_and_what_to_keep() -> None:
    lines = paste_lines("corrected", "adamw", 0.5, 0.1, learning_rates=[0.05, 0.1])
    assert "attach(optimizer, model, 'corrected', strength=0.5, options={'peak_lr': 0.1}" in lines
    assert "keep D = 0.0625: λ = D / Σ η²/η_max over all steps." in lines


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, r"none was given.*learning_rates=.*peak_lr"),
        ({"strength": Strength.from_lambda(0.1)}, "none was given"),
        ({"options": {"peak_lr": 0.0}}, "peak_lr must be a finite number above 0; saw 0.0"),
        ({"options": {"peak_lr": 0.01}}, "Learning rate 0.05 is above η_max = 0.01"),
        ({"options": {"peak": 0.01}}, r"Unknown option of 'corrected' 'peak'.*Did you mean 'peak_lr'"),
        ({"options": {"peak_lr": 1.0}, "strength": 20.0}, "must stay below 20"),
    ],
)
def test_what_cannot_be_corrected_is_refused(asked: dict[str, Any], message: str) -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=PEAK)
    with pytest.raises(DecayError, match=message):
        attach(optimizer, model, "corrected", **{"strength": 0.1, "multipliers": EVERYWHERE, **asked})
