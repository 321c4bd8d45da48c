"""Cautious decay: by hand, against the rule written out with what the bare optimizer does, and its laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decay_runs import (
    EVERYWHERE,
    KERNELS,
    Make,
    are_same_bits,
    gradients,
    largest_difference,
    make_net,
    resumed,
    run,
)
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, NAdam, RMSprop

from segdecay.decay import attach, axis_of
from segdecay.errors import DecayError

torch.set_num_threads(1)
RATES = [0.02 + 0.02 * math.cos(step) for step in range(40)]
STRENGTH = 4.0


class Contrary(Adam):
    """A subclass that does something else with its gradients, so that its update cannot be foretold."""

    def _init_group(self, group: Any, params: Any, grads: list[Tensor], *others: Any) -> Any:
        found = super()._init_group(group, params, grads, *others)  # type: ignore[no-untyped-call]
        grads[:] = [-gradient for gradient in grads]
        return found


OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd maximize": lambda p: SGD(p, lr=0.1, maximize=True),
    "sgd momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "sgd nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd dampening": lambda p: SGD(p, lr=0.1, momentum=0.8, dampening=0.5, maximize=True),
    "adam": lambda p: Adam(p, lr=0.1),
    "adamw": lambda p: AdamW(p, lr=0.1, betas=(0.5, 0.9), weight_decay=0.0, maximize=True),
    "adam amsgrad": lambda p: Adam(p, lr=0.1, amsgrad=True),
    "a subclass": lambda p: Contrary(p, lr=0.1),
    "nadam": lambda p: NAdam(p, lr=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=0.1, momentum=0.9),
    "adam with tensors as betas": lambda p: Adam(
        p, lr=0.1, betas=(torch.tensor(0.9), torch.tensor(0.99)), foreach=False
    ),
}


def written_out(make: Make, rates: list[float], strength: float) -> list[Tensor]:
    """θ ← θ − ηλ·1[u⊙θ ≥ 0]⊙θ − ηu, with ηu from the bare optimizer on weights of its own."""
    weights = [p.detach().clone() for p in make_net().parameters()]
    bare = [nn.Parameter(torch.zeros_like(w)) for w in weights]
    optimizer = make(bare)
    for rate, found in zip(rates, gradients(weights, len(rates)), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(bare, found, strict=True):
            parameter.grad = gradient
            nn.init.zeros_(parameter)
        optimizer.step()
        for weight, parameter in zip(weights, bare, strict=True):
            step = -parameter.detach()
            flat, steps = weight.view(-1), step.view(-1)
            for index in range(len(flat)):
                agrees = bool(steps[index] == 0) or bool((steps[index] > 0) == (flat[index] > 0)) or flat[index] == 0
                flat[index] = flat[index] - (rate * strength * flat[index] if agrees else 0.0) - steps[index]
    return weights


def one_step(weight: list[float], gradient: list[float], **options: Any) -> list[float]:
    model = nn.Linear(len(weight), 1, bias=False).double()
    model.weight.data = torch.tensor([weight], dtype=torch.float64)
    optimizer = SGD(model.parameters(), lr=0.5, **options)
    attach(optimizer, model, "cautious", strength=0.5)
    model.weight.grad = torch.tensor([gradient], dtype=torch.float64)
    optimizer.step()
    found: list[float] = model.weight.detach()[0].tolist()
    return found


def test_by_hand_an_entry_decays_where_update_and_weight_agree_or_one_is_zero() -> None:
    # θ − 0.5·0.5·θ where it decays, then − 0.5·g
    found = one_step([2.0, 2.0, -2.0, -2.0, 2.0, 0.0], [1.0, -1.0, -1.0, 1.0, 0.0, 3.0])
    assert found == [1.0, 2.5, -1.0, -2.5, 1.5, -1.5]


def test_by_hand_an_ascending_optimizer_turns_the_signs_round() -> None:
    assert one_step([2.0, 2.0], [1.0, -1.0], maximize=True) == [2.5, 1.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_rule_written_out(name: str) -> None:
    ours = run(OPTIMIZERS[name], "cautious", RATES[:12], strength=STRENGTH)
    assert largest_difference(ours, written_out(OPTIMIZERS[name], RATES[:12], STRENGTH)) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize("closure", [False, True])
def test_all_of_torchs_kernels_and_closures_do_the_same(kernel: dict[str, Any], kind: str, closure: bool) -> None:
    def make(p: list[nn.Parameter], **kernel: Any) -> torch.optim.Optimizer:
        if kind == "sgd":
            return SGD(p, lr=0.1, momentum=0.9, nesterov=True, **kernel)
        return AdamW(p, lr=0.1, weight_decay=0.0, **kernel)

    ours = run(lambda p: make(p, **kernel), "cautious", RATES, strength=STRENGTH, closure=closure)
    expected = run(lambda p: make(p, foreach=False), "cautious", RATES, strength=STRENGTH)
    plain = run(lambda p: make(p, **kernel), "decoupled", RATES, strength=STRENGTH)
    assert largest_difference(ours, expected) < 1e-12
    assert largest_difference(ours, plain) > 1e-2


def test_a_learning_rate_that_is_a_tensor_does_the_same() -> None:
    rates = [0.05] * 10

    def fit(lr: float | Tensor) -> list[Tensor]:
        model = make_net()
        optimizer = AdamW(model.parameters(), lr=lr, weight_decay=0.0, foreach=False)
        attach(optimizer, model, "cautious", strength=STRENGTH, multipliers=EVERYWHERE)
        for found in gradients(list(model.parameters()), len(rates)):
            for parameter, gradient in zip(model.parameters(), found, strict=True):
                parameter.grad = gradient
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    assert largest_difference(fit(torch.tensor(0.05, dtype=torch.float64)), fit(0.05)) < 1e-12


@pytest.mark.parametrize("name", ["sgd nesterov", "adam", "rmsprop"])
def test_strength_zero_is_bitwise_the_bare_optimizer(name: str) -> None:
    ours = run(OPTIMIZERS[name], "cautious", RATES, dtype=torch.float32, strength=0.0)
    assert are_same_bits(ours, run(OPTIMIZERS[name], None, RATES, dtype=torch.float32))


@pytest.mark.parametrize("name", ["sgd", "adam", "nadam"])
def test_an_idle_weight_decays_as_the_axis_says(name: str) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, -1.0)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    attach(optimizer, model, "cautious", strength=2.0)
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    assert float(model.weight.detach()) == pytest.approx(-math.prod(1 - 2 * rate for rate in RATES), abs=1e-12)


def test_the_axis_says_that_d_is_a_bound_and_converts_as_decoupled() -> None:
    axis = axis_of("cautious", "adamw")
    assert "upper bound" in axis.unit
    assert "from above" in axis.reason
    assert axis.to_lambda(1.5, RATES) == axis_of("decoupled", "adamw").to_lambda(1.5, RATES)


def scaled_run(regularizer: str | None, scale: float, kind: type[SGD | AdamW], **options: Any) -> list[Tensor]:
    model = make_net(torch.float32)
    optimizer = kind(model.parameters(), lr=0.05, fused=True, weight_decay=0.0, **options)
    if regularizer:
        attach(optimizer, model, regularizer, strength=STRENGTH, multipliers=EVERYWHERE)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
    weights = list(model.parameters())
    for found in gradients(weights, 15):
        optimizer.zero_grad()
        loss = torch.stack([(p * g).sum() for p, g in zip(weights, found, strict=True)]).sum()
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
    return [p.detach().clone() for p in weights]


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_under_a_grad_scaler_with_a_fused_optimizer_the_signs_are_those_of_unscaled_gradients(kind: Any) -> None:
    options = {"momentum": 0.9} if kind is SGD else {}
    assert (
        largest_difference(
            scaled_run("cautious", 4096.0, kind, **options), scaled_run("cautious", 1.0, kind, **options)
        )
        < 1e-6
    )


@pytest.mark.parametrize("name", ["sgd momentum", "adam", "rmsprop"])
def test_a_resumed_run_is_bitwise_the_unbroken_one(name: str) -> None:
    whole = run(OPTIMIZERS[name], "cautious", RATES, dtype=torch.float32, strength=STRENGTH)
    assert are_same_bits(resumed(OPTIMIZERS[name], "cautious", RATES, 17, strength=STRENGTH), whole)


def test_half_precision_and_parameters_that_join_late_decay_by_the_same_rule() -> None:
    def fit(make: Make) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.ModuleList([nn.Linear(40, 40).to(torch.bfloat16), nn.Linear(4, 4), nn.Linear(4, 2).double()])
        optimizer = make(list(model.parameters()))
        attach(optimizer, model, "cautious", strength=1.0, multipliers=EVERYWHERE)
        parameters = list(model.parameters())
        for step, found in enumerate(gradients(parameters, 10)):
            for index, (parameter, gradient) in enumerate(zip(parameters, found, strict=True)):
                parameter.grad = gradient if step > 2 or index % 2 else None
            optimizer.step()
        return [p.detach() for p in parameters]

    foretold = fit(lambda p: Adam(p, lr=0.1, foreach=False))
    seen = fit(lambda p: Contrary(p, lr=0.1, maximize=True, foreach=False))
    assert largest_difference(foretold[2:], seen[2:]) < 1e-6
    differs = (foretold[0] - seen[0]).abs() > 0.01  # where rounding hides the sign of a small update
    assert differs.float().mean() < 0.04


def test_tiny_values_of_half_precision_keep_their_sign() -> None:
    def fit(strength: float) -> Tensor:
        model = nn.Linear(1, 1, bias=False).to(torch.float16)
        nn.init.constant_(model.weight, 1e-3)
        optimizer = SGD(model.parameters(), lr=0.5)
        attach(optimizer, model, "cautious", strength=strength)
        model.weight.grad = torch.full_like(model.weight, -1e-6)  # times the weight: 0 in float16
        optimizer.step()
        return model.weight.detach()

    assert torch.equal(fit(1.0), fit(0.0))


def test_excluded_frozen_and_gradientless_parameters_are_untouched() -> None:
    model = make_net()
    model[3].requires_grad_(requires_grad=False)
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "cautious", strength=1.0)
    start = [p.detach().clone() for p in model.parameters()]
    for name, parameter in model.named_parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad and name != "5.weight" else None
    optimizer.step()
    changed = [name for (name, p), old in zip(model.named_parameters(), start, strict=True) if not torch.equal(p, old)]
    assert changed == ["0.weight"]


def test_sparse_gradients_decay_as_dense_ones() -> None:
    def fit(sparse: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(6, 2, sparse=sparse), nn.Linear(2, 1))
        optimizer = SGD(model.parameters(), lr=0.1)
        attach(optimizer, model, "cautious", strength=1.0, multipliers=EVERYWHERE)
        for step in range(4):
            optimizer.zero_grad()
            model(torch.tensor([step, 5])).sum().backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    assert largest_difference(fit(sparse=True), fit(sparse=False)) < 1e-6


def test_complex_weights_are_refused() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    with pytest.raises(DecayError, match=r"not defined for complex weights: weight"):
        attach(SGD(model.parameters(), lr=0.1), model, "cautious", strength=0.1)
