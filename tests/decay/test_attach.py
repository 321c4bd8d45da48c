"""The hooks: when a regularizer acts, how often, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from decay_nets import data, make_net, same, torch_groups, weights
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segdecay.decay import Handle, attach, group_parameters

torch.set_num_threads(1)
REGULARIZERS = ["l2", "decoupled"]


def native(regularizer: str, model: nn.Module, strength: float, **options: Any) -> Optimizer:
    """torch's optimizer that does what the regularizer does."""
    kind: type[Optimizer] = AdamW if regularizer == "decoupled" else Adam
    return kind(torch_groups(model, strength), lr=0.01, **options)  # type: ignore[call-arg]


# --- when it acts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_under_accumulation_the_regularizer_acts_once_per_step(regularizer: str) -> None:
    def fit(strength: float, own: float) -> tuple[list[Tensor], Handle | None]:
        model = make_net()
        optimizer = native(regularizer, model, own)
        handle = attach(optimizer, model, regularizer, strength=strength) if strength else None
        for step in range(12):
            (model(data(step)).square().mean() / 3).backward()
            if step % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
        return weights(model), handle

    ours, handle = fit(0.3, 0.0)
    theirs, _ = fit(0.0, 0.3)
    assert same(ours, theirs)
    assert handle is not None
    assert handle.steps == 4


def test_gradients_are_the_same_tensors_with_the_same_values_after_the_step() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2", strength=0.3)
    model(data(0)).square().mean().backward()
    before = [
        (parameter.grad, parameter.grad.clone()) for parameter in model.parameters() if parameter.grad is not None
    ]
    optimizer.step()
    for parameter, (gradient, values) in zip(model.parameters(), before, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, values)


@pytest.mark.parametrize("by_keyword", [True, False])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_with_a_closure_the_regularizer_acts_after_backward_and_clipping(regularizer: str, by_keyword: bool) -> None:
    def fit(strength: float, own: float) -> list[Tensor]:
        model = make_net()
        optimizer = native(regularizer, model, own)
        if strength:
            attach(optimizer, model, regularizer, strength=strength)
        for step in range(6):

            def closure(step: int = step) -> float:
                optimizer.zero_grad()
                loss = model(data(step)).square().mean()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                return float(loss.detach())

            value = optimizer.step(closure=closure) if by_keyword else optimizer.step(closure)
            assert value is not None
        return weights(model)

    assert same(fit(0.3, 0.0), fit(0.0, 0.3))


def test_a_closure_that_is_called_twice_sees_its_own_gradients_and_shrinks_once() -> None:
    class Twice(SGD):
        def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
            assert closure is not None
            with torch.enable_grad():
                closure()
                return closure()

    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = Twice(model.parameters(), lr=0.5)
    attach(optimizer, model, "decoupled", strength=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        model.weight.sum().backward()  # type: ignore[no-untyped-call]
        return 0.0

    optimizer.step(closure)
    assert model.weight.item() == pytest.approx(1.9)


@pytest.mark.parametrize("with_closure", [True, False])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_an_optimizer_whose_step_calls_its_parents_decays_once(regularizer: str, with_closure: bool) -> None:
    SGD([nn.Parameter(torch.zeros(1))], lr=0.1)  # from now on SGD.step fires hooks of its own

    class Child(SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    def fit(kind: type[SGD]) -> tuple[list[Tensor], int]:
        model = make_net()
        optimizer = kind(model.parameters(), lr=0.1)
        handle = attach(optimizer, model, regularizer, strength=0.3)
        for step in range(3):

            def closure(step: int = step) -> None:
                optimizer.zero_grad()
                model(data(step)).square().mean().backward()

            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        return weights(model), handle.steps

    ours, steps = fit(Child)
    expected, _ = fit(SGD)
    assert same(ours, expected)
    assert steps == 3


def test_a_new_gradient_of_the_same_values_is_a_new_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = SGD(model.parameters(), lr=0.5)
    attach(optimizer, model, "decoupled", strength=0.1)
    model.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    optimizer.step()
    assert model.weight.item() == pytest.approx(2 * 0.95**2)


# --- GradScaler -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unscale_first", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_under_a_grad_scaler_it_equals_torch_also_on_a_step_skipped_for_inf(
    regularizer: str, fused: bool, unscale_first: bool
) -> None:
    def fit(strength: float, own: float) -> tuple[list[Tensor], int | None, list[bool]]:
        model = make_net()
        optimizer = native(regularizer, model, own, fused=fused, foreach=False)
        handle = attach(optimizer, model, regularizer, strength=strength) if strength else None
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        moved = []
        for step in range(6):
            optimizer.zero_grad()
            scaler.scale(model(data(step)).square().mean()).backward()
            if step == 2:
                next(model.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr]
            if unscale_first:
                scaler.unscale_(optimizer)
            before = weights(model)
            scaler.step(optimizer)
            scaler.update()
            moved.append(not same(before, weights(model)))
        return weights(model), None if handle is None else handle.steps, moved

    ours, steps, moved = fit(0.3, 0.0)
    theirs, _, _ = fit(0.0, 0.3)
    assert moved == [True, True, False, True, True, True]
    assert steps == 5
    assert max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)) < 1e-6


# --- what it leaves alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_frozen_excluded_and_gradientless_parameters_are_untouched(regularizer: str) -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(3, 3)
            self.unused = nn.Linear(3, 3)
            self.norm = nn.LayerNorm(3)
            self.head = nn.Linear(3, 1)

    torch.manual_seed(0)
    model = Parts()
    model.frozen.requires_grad_(requires_grad=False)
    optimizer = SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, regularizer, strength=0.5)
    for parameter in (model.frozen.weight, *model.norm.parameters(), *model.head.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer.step()
    changed = [name for name, value in model.named_parameters() if not torch.equal(before[name], value)]
    assert changed == ["head.weight"]
    assert handle.strengths()["head.weight"] == 0.5
    assert handle.strengths()["frozen.weight"] is None


def test_two_optimizers_on_one_model_decay_their_own_parts() -> None:
    model = make_net()
    first = SGD(model.conv.parameters(), lr=0.1)
    second = SGD([*model.norm.parameters(), *model.head.parameters()], lr=0.1)
    handles = [attach(optimizer, model, "decoupled", strength=0.5) for optimizer in (first, second)]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = weights(model)
    first.step()
    assert torch.allclose(model.conv.weight, 0.95 * before[0])
    assert torch.equal(model.head.weight, before[-2])
    second.step()
    assert torch.allclose(model.head.weight, 0.95 * before[-2])
    total = sum(0.25 * float(weight.detach().square().sum()) for weight in (model.conv.weight, model.head.weight))
    assert sum(handle.penalty() for handle in handles) == pytest.approx(total)


def test_a_parameter_shared_between_modules_decays_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 3, bias=False)
            self.head = nn.Linear(3, 3, bias=False)
            self.head.weight = self.body.weight

    model = Tied()
    nn.init.ones_(model.body.weight)
    optimizer = SGD(model.parameters(), lr=0.5)
    handle = attach(optimizer, model, "decoupled", strength=0.1)
    assert handle.penalty() == pytest.approx(0.1 * 0.5 * 9)
    model.body.weight.grad = torch.zeros(3, 3)
    optimizer.step()
    assert model.body.weight[0, 0].item() == pytest.approx(0.95)


# --- wrappers ---------------------------------------------------------------------------------------------------------


def test_a_compiled_model_is_named_and_decayed_as_the_bare_one() -> None:
    model = make_net()
    wrapped = cast("nn.Module", torch.compile(model))
    optimizer = SGD(wrapped.parameters(), lr=0.1)
    handle = attach(optimizer, wrapped, "decoupled", strength=0.5, partition=group_parameters(model))
    assert list(handle.strengths()) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("before_setup", [True, False])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_it_acts_through_fabric_attached_before_or_after_setup(regularizer: str, before_setup: bool) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model, reference = make_net(), make_net()
    optimizer, expected = native(regularizer, model, 0.0), native(regularizer, reference, 0.3)
    handle = attach(optimizer, model, regularizer, strength=0.3) if before_setup else None
    fabric_model, fabric_optimizer = fabric.setup(model, optimizer)
    handle = handle or attach(fabric_optimizer, fabric_model, regularizer, strength=0.3)
    for step in range(3):
        fabric_optimizer.zero_grad()
        fabric.backward(fabric_model(data(step)).square().mean())
        fabric_optimizer.step()
        expected.zero_grad()
        reference(data(step)).square().mean().backward()
        expected.step()
    assert handle.steps == 3
    assert handle.is_attached(fabric_optimizer)
    assert same(weights(model), weights(reference))
