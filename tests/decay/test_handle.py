"""The handle: what it tells, what survives a resume, and what attaching refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from decay_nets import data, make_net, same, torch_groups, weights
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from segdecay.decay import attach, group_parameters, handle_of
from segdecay.errors import DecayError

torch.set_num_threads(1)


# --- the handle -------------------------------------------------------------------------------------------------------


def test_a_copied_optimizer_has_lost_the_regularizer_and_the_handle_says_so() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, "l2", strength=0.1)
    with pytest.warns(
        UserWarning, match="A copy of an optimizer has lost its hooks: no regularizer acts on it"
    ) as warned:
        copied = copy.deepcopy(optimizer)
    assert [one.filename for one in warned] == [__file__]
    assert handle.is_attached()
    assert handle.is_attached(optimizer)
    assert not handle.is_attached(copied)
    assert handle_of(optimizer) is handle
    assert handle_of(copied) is None
    copy.deepcopy(copied)  # says nothing: nothing is lost
    with pytest.warns(UserWarning, match="lost its hooks"):
        copied, other = copy.deepcopy((optimizer, model))
    attach(copied, other, "l2", strength=0.1)
    handle.detach()
    copy.deepcopy(optimizer)  # nor does one without a regularizer


def test_the_objective_is_the_loss_plus_lambda_half_the_squares_of_what_decays() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, "l2", strength=0.5, multipliers={"head": 0.1, "bias": 0.2})
    expected = 0.5 * 0.5 * model.conv.weight.detach().double().square().sum()
    expected += 0.05 * 0.5 * model.head.weight.detach().double().square().sum()
    assert model.conv.bias is not None
    assert model.head.bias is not None
    expected += 0.1 * 0.5 * (model.conv.bias.detach().square().sum() + model.head.bias.detach().square().sum())
    terms = handle.objective(torch.tensor(1.25, requires_grad=True))
    assert terms.original == 1.25
    assert terms.penalty == pytest.approx(float(expected), rel=1e-6)
    assert terms.total == terms.original + terms.penalty
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_penalty_of_half_precision_weights_is_summed_in_float32() -> None:
    model = nn.Linear(10_000, 1, bias=False).to(torch.bfloat16)
    nn.init.constant_(model.weight, 0.5)
    handle = attach(SGD(model.parameters(), lr=0.1), model, "l2", strength=1.0)
    assert handle.penalty() == pytest.approx(0.5 * 10_000 * 0.25, rel=1e-6)


def test_the_regularizer_none_adds_nothing_to_the_objective() -> None:
    model = make_net()
    handle = attach(SGD(model.parameters(), lr=0.1), model, "none", strength=0.0)
    assert handle.objective(2.0).penalty == 0.0


def test_a_resumed_handle_goes_on_bitwise_and_its_state_is_plain_json() -> None:
    def steps(model: nn.Module, optimizer: Optimizer, numbers: range) -> None:
        for step in numbers:
            optimizer.zero_grad()
            model(data(step)).square().mean().backward()
            optimizer.step()

    unbroken = make_net()
    optimizer = AdamW(unbroken.parameters(), lr=0.01, weight_decay=0.0)
    handle = attach(optimizer, unbroken, "decoupled", strength=0.1, multipliers={"head": 0.5})
    steps(unbroken, optimizer, range(3))
    handle.set_strength(0.4)
    saved = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    text = json.dumps(handle.state_dict())
    steps(unbroken, optimizer, range(3, 6))

    resumed = make_net()
    resumed.load_state_dict(saved[0])
    other = AdamW(resumed.parameters(), lr=0.01)
    again = attach(other, resumed, "decoupled", strength=0.1, take_over=True)
    other.load_state_dict(saved[1])
    again.load_state_dict(json.loads(text))
    assert (again.strength, again.steps) == (0.4, 3)
    assert again.strengths() == handle.strengths()
    steps(resumed, other, range(3, 6))
    assert same(weights(resumed), weights(unbroken))


def test_detaching_gives_the_optimizer_back_as_it_was() -> None:
    model = make_net()
    optimizer = AdamW(torch_groups(model, 0.25), lr=0.01)
    handle = attach(optimizer, model, "decoupled", strength=0.1, take_over=True)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.0]
    optimizer.load_state_dict(optimizer.state_dict())
    handle.detach()
    handle.detach()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
    assert not handle.is_attached()
    attach(optimizer, model, "l2", strength=0.1, take_over=True)


def test_a_detached_regularizer_no_longer_acts() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "decoupled", strength=0.5).detach()
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert same(before, weights(model))


def test_decay_that_a_checkpoint_brings_back_is_taken_over_again() -> None:
    model = make_net()
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    old = copy.deepcopy(optimizer.state_dict())
    attach(optimizer, model, "none", strength=0.0, take_over=True)
    optimizer.load_state_dict(old)
    model(data(0)).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == 0.0


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(message: str, optimizer: Optimizer, model: nn.Module, **options: Any) -> None:
    with pytest.raises(DecayError, match=message):
        attach(optimizer, model, **{"regularizer": "decoupled", "strength": 0.1, **options})


def test_an_optimizer_that_decays_already_is_refused_and_take_over_is_named() -> None:
    model = make_net()
    message = r"AdamW decays already: weight_decay = 0\.01 in group 0\..*take_over=True"
    refused(message, AdamW(model.parameters()), model)
    refused(message, AdamW(model.parameters()), model, regularizer="none", strength=0.0)


def test_asgd_with_its_own_lambd_is_refused() -> None:
    model = make_net()
    refused("lambd = 0.0001", torch.optim.ASGD(model.parameters()), model)


def test_decay_that_comes_back_without_take_over_is_refused_at_the_step() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2", strength=0.1)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    with pytest.raises(
        DecayError, match=r"weight_decay = 0\.5 in group 0.*It did not when the regularizer was attached"
    ):
        optimizer.step()


def test_lbfgs_is_refused_with_the_reason() -> None:
    model = make_net()
    refused("LBFGS is refused: .*line search", torch.optim.LBFGS(model.parameters()), model)


def test_an_optimizer_of_another_model_is_refused() -> None:
    refused("holds 6 of 6 parameters that are not in this model", SGD(make_net().parameters(), lr=0.1), make_net())


def test_attaching_twice_is_refused() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2", strength=0.1)
    refused("Regularizer 'l2' is attached to this optimizer already", optimizer, model)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("regularizer", ["none", "l2", "decoupled"])
def test_a_strength_that_is_no_finite_number_from_0_is_refused(regularizer: str, strength: float) -> None:
    model = make_net()
    message = f"strength must be a finite number, 0 or more; saw {strength}"
    refused(message, SGD(model.parameters(), lr=0.1), model, regularizer=regularizer, strength=strength)


def test_a_strength_that_would_remove_the_weights_is_refused_with_the_largest_allowed() -> None:
    model = make_net()
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.25)
    refused("η·λ = 1: .*must stay below 10", optimizer, model, strength=10.0, take_over=True)
    assert optimizer.param_groups[0]["weight_decay"] == 0.25
    assert handle_of(optimizer) is None
    attach(optimizer, model, "decoupled", strength=9.99, take_over=True)


def test_a_learning_rate_that_grows_too_large_is_refused_at_the_step() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.01)
    attach(optimizer, model, "decoupled", strength=10.0)
    model(data(0)).sum().backward()
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(DecayError, match=r"Strength 10 at learning rate 0\.2 gives η·λ = 2.*must stay below 5"):
        optimizer.step()


def test_the_regularizer_none_takes_no_strength() -> None:
    model = make_net()
    refused("Regularizer 'none' has no strength; saw 0.1", SGD(model.parameters(), lr=0.1), model, regularizer="none")


def test_an_unknown_regularizer_is_refused_with_the_nearest_name() -> None:
    model = make_net()
    refused("Did you mean 'decoupled'", SGD(model.parameters(), lr=0.1), model, regularizer="decupled")


def test_something_that_is_no_optimizer_is_refused() -> None:
    refused("A torch.optim.Optimizer is needed; saw Linear", nn.Linear(1, 1), make_net())  # type: ignore[arg-type]


def test_a_differentiable_optimizer_is_refused() -> None:
    model = make_net()
    refused("differentiable=False", SGD(model.parameters(), lr=0.1, differentiable=True), model)


def test_a_partition_of_another_model_is_refused_by_name() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    refused("conv.weight is another tensor", optimizer, model, partition=group_parameters(make_net()))


def test_an_optimizer_that_holds_only_frozen_parameters_is_refused() -> None:
    model = make_net()
    model.conv.requires_grad_(requires_grad=False)
    refused("None of the optimizer's 2 parameters is trainable", SGD(model.conv.parameters(), lr=0.1), model)


def test_a_parameter_that_joins_after_attaching_is_an_error_and_not_silently_free() -> None:
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2", strength=0.1)
    late = nn.Parameter(torch.ones(5, 2))
    late.grad = torch.ones(5, 2)
    optimizer.add_param_group({"params": [late]})
    with pytest.raises(DecayError, match=r"shape \(5, 2\) joined the optimizer after attach"):
        optimizer.step()


def test_a_parameter_unfrozen_after_attaching_is_an_error_and_not_silently_free() -> None:
    model = make_net()
    model.conv.requires_grad_(requires_grad=False)
    optimizer = SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, "l2", strength=0.1)
    model.conv.requires_grad_(requires_grad=True)
    model(data(0)).sum().backward()
    with pytest.raises(DecayError, match=r"conv\.weight was frozen at attach\(\) and trains now"):
        optimizer.step()


def test_sparse_gradients_are_refused_by_name_for_l2_and_shrink_for_decoupled() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    model = nn.Sequential(embedding, nn.Linear(3, 1))
    nn.init.ones_(embedding.weight)
    optimizer = SGD(model.parameters(), lr=0.5)
    with pytest.raises(DecayError, match=r"Sparse gradients cannot carry the penalty of 'l2'.*0\.weight"):
        attach(optimizer, model, "l2", strength=0.1)
    embedding.sparse = False  # seen as dense at attach, sparse in the step
    handle = attach(optimizer, model, "l2", strength=0.1)
    embedding.sparse = True
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(DecayError, match=r"Sparse gradients cannot carry λ·w.*0\.weight"):
        optimizer.step()
    handle.detach()
    attach(optimizer, model, "decoupled", strength=0.1)
    optimizer.step()
    assert embedding.weight[0, 0].item() == pytest.approx(0.95)


def test_a_detached_handle_says_so() -> None:
    model = make_net()
    handle = attach(SGD(model.parameters(), lr=0.1), model, "l2", strength=0.1)
    handle.detach()
    with pytest.raises(DecayError, match="This handle is detached"):
        handle.penalty()


def test_a_state_of_another_regularizer_or_model_is_refused_with_the_differences() -> None:
    model, other = make_net(), make_net()
    other.norm = nn.Identity()
    handle = attach(SGD(model.parameters(), lr=0.1), model, "l2", strength=0.1)
    state = handle.state_dict()
    theirs = attach(SGD(other.parameters(), lr=0.1), other, "l2", strength=0.1)
    with pytest.raises(DecayError, match=r"norm\.weight is in the model, not in the state"):
        handle.load_state_dict(theirs.state_dict())
    with pytest.raises(DecayError, match=r"norm\.weight is in the state, not in the model"):
        theirs.load_state_dict(state)
    with pytest.raises(DecayError, match="of regularizer 'decoupled', this handle's is 'l2'"):
        handle.load_state_dict({**state, "regularizer": "decoupled"})
    with pytest.raises(DecayError, match="no state of a decay handle: strength"):
        handle.load_state_dict({key: value for key, value in state.items() if key != "strength"})
    with pytest.raises(DecayError, match="keeps no state; saw centre"):
        handle.load_state_dict({**state, "state": {"centre": 1}})
    with pytest.raises(DecayError, match="finite number"):
        handle.load_state_dict({**state, "strength": float("nan")})
