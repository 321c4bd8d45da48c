"""Scheduled decay against AdamS of pytorch_optimizer, by hand, and its laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decay_runs import EVERYWHERE, KERNELS, are_same_bits, drive, gradients, largest_difference, make_net, resumed, run
from pytorch_optimizer import AdamS
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, NAdam, RMSprop

from segdecay.decay import attach, axis_of, describe_strength
from segdecay.decay.regularizers.decoupled import LARGEST_SHARE, root_mean_second_moment
from segdecay.errors import DecayError

torch.set_num_threads(1)
RATES = [0.02 + 0.01 * math.cos(step / 5) for step in range(60)]
STRENGTH = 0.5


def adams(strength: float, dtype: torch.dtype = torch.float64, **options: Any) -> list[Tensor]:
    """Their rule, with decay on the weights of more than one dimension."""
    model = make_net(dtype)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0, "ratio": 0.5},
    ]
    optimizer = AdamS(groups, lr=0.1, weight_decay=strength, foreach=False, **options)
    return drive(model, optimizer, RATES)


def ours(strength: float, dtype: torch.dtype = torch.float64, **options: Any) -> list[Tensor]:
    def make(parameters: list[nn.Parameter]) -> AdamW:
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim == 1], "ratio": 0.5},
        ]
        return AdamW(groups, lr=0.1, weight_decay=0.0, **options)

    return run(make, "scheduled", RATES, dtype=dtype, strength=strength, multipliers=None)


def test_by_hand_the_decay_is_divided_by_the_root_mean_square_over_all_parameters() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.LayerNorm(1), nn.Linear(1, 1)).double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 2.0)
    optimizer = Adam(model.parameters(), lr=0.5, eps=0.0)
    attach(optimizer, model, "scheduled", strength=0.5, proof=False)  # eps 0 divides stand-ins by 0
    for parameter, gradient in zip(model.parameters(), [1.0, 2.0, 2.0, 4.0, 0.0], strict=True):
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    root = math.sqrt((1 + 4 + 4 + 16 + 0) / 5)  # at the first step, v̂ = g²
    found = [float(p.detach()) for p in model.parameters()][:4]
    assert found == pytest.approx([2 - 2 * 0.25 / root - 0.5, 1.5, 1.5, 2 - 2 * 0.25 / root - 0.5], abs=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_it_is_adams_of_pytorch_optimizer(kernel: dict[str, Any], amsgrad: bool) -> None:
    options: dict[str, Any] = {"betas": (0.9, 0.99), "eps": 1e-6}
    found = ours(STRENGTH, amsgrad=amsgrad, **options, **kernel)
    assert largest_difference(found, adams(STRENGTH, ams_bound=amsgrad, **options)) < 1e-9
    assert largest_difference(found, adams(0.0, ams_bound=amsgrad, **options)) > 0.01


def test_it_is_adams_in_single_precision_too() -> None:
    assert largest_difference(ours(STRENGTH, torch.float32), adams(STRENGTH, torch.float32)) < 1e-6


@pytest.mark.parametrize("beta2", [0.0, 0.999, 0.999999])
def test_in_single_precision_one_minus_beta2_to_the_t_keeps_its_digits(beta2: float) -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = Adam(model.parameters(), lr=0.1, betas=(0.9, beta2), eps=0.0)
    for _ in range(3):
        model.weight.grad = torch.tensor([[3.0, 4.0]])
        assert float(root_mean_second_moment(optimizer)) == pytest.approx(math.sqrt(12.5), rel=1e-6)
        optimizer.step()


def test_amsgrad_keeps_the_largest_second_moment() -> None:
    options: dict[str, Any] = {"betas": (0.9, 0.5)}
    assert largest_difference(ours(STRENGTH, amsgrad=True, **options), ours(STRENGTH, **options)) > 1e-3


def test_nadam_has_the_same_second_moment() -> None:
    model = make_net()
    optimizer = NAdam(model.parameters(), lr=0.01, betas=(0.9, 0.9), eps=0.0)
    drive(model, optimizer, [0.01] * 5)
    found = next(gradients(list(model.parameters()), 1, start=5))
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        parameter.grad = gradient
    root = root_mean_second_moment(optimizer)
    optimizer.step()
    moments = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in model.parameters()])
    assert float(root) == pytest.approx(float((moments / (1 - 0.9**6)).mean().sqrt()), rel=1e-12)


def test_parameters_that_join_late_have_their_own_bias_correction() -> None:
    model = nn.Linear(2, 1).double()
    optimizer = Adam(model.parameters(), lr=0.1, betas=(0.9, 0.5), eps=0.0)
    model.weight.grad = torch.full_like(model.weight, 2.0)
    optimizer.step()
    model.bias.grad = torch.full_like(model.bias, 3.0)
    assert float(root_mean_second_moment(optimizer)) == pytest.approx(math.sqrt((4 + 4 + 9) / 3), rel=1e-12)


def test_strength_zero_is_bitwise_the_bare_optimizer_and_a_resumed_run_the_unbroken_one() -> None:
    def make(p: list[nn.Parameter]) -> torch.optim.Optimizer:
        return AdamW(p, lr=0.1, weight_decay=0.0)

    none = run(make, "scheduled", RATES, dtype=torch.float32, strength=0.0)
    assert are_same_bits(none, run(make, None, RATES, dtype=torch.float32))
    whole = run(make, "scheduled", RATES, dtype=torch.float32, strength=STRENGTH)
    assert are_same_bits(resumed(make, "scheduled", RATES, 25, strength=STRENGTH), whole)
    assert are_same_bits(run(make, "scheduled", RATES, dtype=torch.float32, strength=STRENGTH, closure=True), whole)


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
def test_a_step_removes_all_but_a_millionth_where_gradients_vanish_and_never_flips_a_sign(lr: float | Tensor) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    optimizer = Adam(model.parameters(), lr=lr, foreach=False)
    attach(optimizer, model, "scheduled", strength=0.5)
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert float(model.weight.detach()) == pytest.approx(2 * (1 - LARGEST_SHARE), rel=1e-6)


def test_an_idle_weight_beside_others_shrinks_by_what_their_gradients_say() -> None:
    model = nn.Linear(2, 1).double()
    nn.init.constant_(model.weight, 1.0)
    optimizer = Adam(model.parameters(), lr=0.1, eps=1e-14, amsgrad=True)
    attach(optimizer, model, "scheduled", strength=0.5)
    for _ in range(10):
        model.weight.grad, model.bias.grad = torch.zeros_like(model.weight), torch.full_like(model.bias, 3.0)
        optimizer.step()
    left = (1 - 0.1 * 0.5 / math.sqrt(9 / 3)) ** 10
    assert model.weight.detach().tolist()[0] == pytest.approx([left, left], rel=1e-9)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_under_a_grad_scaler_with_a_fused_optimizer_v_is_that_of_unscaled_gradients(amsgrad: bool) -> None:
    def fit(scale: float) -> list[Tensor]:
        model = make_net(torch.float32)
        optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.0, fused=True, amsgrad=amsgrad)
        attach(optimizer, model, "scheduled", strength=STRENGTH)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        weights = list(model.parameters())
        for found in gradients(weights, 8):
            optimizer.zero_grad()
            loss = torch.stack([(p * g).sum() for p, g in zip(weights, found, strict=True)]).sum()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        return [p.detach() for p in weights]

    assert largest_difference(fit(1024.0), fit(1.0)) < 1e-5


def test_half_precision_takes_part_and_shrinks_as_single_precision_does() -> None:
    def fit(dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.ModuleList([nn.Linear(300, 300).to(torch.bfloat16).to(dtype), nn.Linear(4, 4)])
        optimizer = Adam(model.parameters(), lr=0.01)
        attach(optimizer, model, "scheduled", strength=0.1)
        parameters = list(model.parameters())
        for found in gradients(parameters, 6):
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient.to(torch.bfloat16).to(parameter.dtype)
            optimizer.step()
        return [p.detach() for p in parameters]

    half, single = fit(torch.bfloat16), fit(torch.float32)
    assert largest_difference(half[2:], single[2:]) < 1e-5
    assert float(half[0].float().norm()) == pytest.approx(float(single[0].norm()), rel=3e-3)  # decay takes 5 %


def test_the_axis_is_lambda_and_says_why() -> None:
    axis = axis_of("scheduled", "adamw")
    assert axis.name == "lambda"
    assert "Σ η·λ predicts nothing" in axis.reason
    assert "√v̄" in axis.unit
    assert describe_strength(axis, 0.01, RATES, 10).total_decay is None


@pytest.mark.parametrize("kind", [SGD, RMSprop])
def test_optimizers_without_a_second_moment_are_refused(kind: Any) -> None:
    model = make_net()
    with pytest.raises(DecayError, match=r"exp_avg_sq\), which .* does not keep. Use adam"):
        attach(kind(model.parameters(), lr=0.1), model, "scheduled", strength=0.1)


def test_unknown_optimizers_are_refused_for_what_they_lack() -> None:
    class UserFunction(SGD):
        pass

    class Signs(torch.optim.Optimizer):
        def __init__(self, parameters: Any, **defaults: Any) -> None:
            super().__init__(parameters, {"lr": 0.1, **defaults})

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            del closure
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["sign"] = 1

    model = make_net()
    with pytest.raises(DecayError, match="which sgd does not keep"):
        attach(UserFunction(model.parameters(), lr=0.1), model, "scheduled", strength=0.1)
    with pytest.raises(DecayError, match="needs an optimizer with betas and exp_avg_sq; saw Signs"):
        attach(Signs(model.parameters()), model, "scheduled", strength=0.1)
    lions = Signs(model.parameters(), betas=(0.9, 0.99))
    attach(lions, model, "scheduled", strength=0.1)
    with pytest.raises(DecayError, match=r"Signs keeps sign\. Use adam"):
        drive(model, lions, [0.1, 0.1])


def test_sparse_gradients_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(6, 2, sparse=True), nn.Linear(2, 1))
    optimizer = Adam(model.parameters())
    attach(optimizer, model, "scheduled", strength=0.1, multipliers=EVERYWHERE)
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(DecayError, match="does not take sparse gradients"):
        optimizer.step()
