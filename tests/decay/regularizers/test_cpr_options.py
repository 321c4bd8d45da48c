"""CPR's options, axis, strengths and states: what is refused, and how it is said."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decay_runs import make_net
from torch.optim import SGD, Adam

from segdecay.decay import Strength, attach, axis_of, build_regularizer, describe_strength, paste_lines
from segdecay.errors import DecayError

torch.set_num_threads(1)
RATES = [0.01] * 10


def test_multipliers_and_strengths_by_group_scale_the_bound() -> None:
    def bounds(**asked: Any) -> dict[str, float | None]:
        model = make_net()
        return attach(Adam(model.parameters()), model, "cpr", **asked).strengths()

    by_multiplier = bounds(strength=2.0, multipliers={"head": 4.0})
    assert (by_multiplier["0.weight"], by_multiplier["5.weight"], by_multiplier["5.bias"]) == (2.0, 0.5, None)
    by_group = bounds(strength={"head": 0.5, "body": math.inf, "bias": 2.0})
    assert (by_group["0.weight"], by_group["5.weight"], by_group["5.bias"]) == (None, 0.5, 2.0)


def test_the_axis_is_the_factor_where_less_is_stronger_and_it_has_no_lambda() -> None:
    axis = axis_of("cpr", "adamw")
    assert (axis.name, axis.stronger, axis.none, axis.has_lambda) == ("kappa_factor", "lower", math.inf, False)
    assert axis.default_grid[0] == math.inf
    assert describe_strength(axis, 0.5, RATES, 10).lambda_ is None
    model = make_net()
    handle = attach(Adam(model.parameters()), model, "cpr", strength=Strength.from_axis(0.5))
    assert handle.strength == 0.5
    assert handle.penalty() == 0.0
    assert "kappa_factor = 0.5" in paste_lines("cpr", "adamw", 0.5, 0.1, learning_rates=[0.1])


@pytest.mark.parametrize("kind", [SGD, torch.optim.ASGD])
def test_inflection_points_are_refused_without_an_adaptive_optimizer_and_other_bounds_are_not(kind: Any) -> None:
    model: Any = make_net()
    optimizer = kind(model.parameters(), lr=0.1, **({} if kind is SGD else {"lambd": 0.0}))
    with pytest.raises(DecayError, match=r"only under adaptive optimizers.*without any sign.*warm_start"):
        attach(optimizer, model, "cpr", strength=1.0)
    attach(optimizer, model, "cpr", strength=0.5, options={"kappa": "factor"})
    before = float(model[0].weight.detach().norm())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert float(model[0].weight.detach().norm()) < before


def test_all_faulty_options_are_told_at_once() -> None:
    with pytest.raises(DecayError) as told:
        build_regularizer("cpr", {"kappa": "warm", "mu": 0.0, "ema": 1.0, "interval": 0, "warm_steps": 2.5})
    text = str(told.value)
    for part in ("kappa", "mu must", "ema must", "interval must", "warm_steps must", "saw 2.5"):
        assert part in text


@pytest.mark.parametrize("strength", [0.0, -1.0, math.nan])
def test_strengths_that_are_no_factors_are_refused(strength: float) -> None:
    model = make_net()
    with pytest.raises(DecayError, match="above 0, or inf for no bound; saw"):
        attach(Adam(model.parameters()), model, "cpr", strength=strength)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"not a state of 'cpr'"),
        ({"options": {"kappa": "factor"}}, r"kappa is 'factor' in the state and 'inflection_point' here"),
        ({"parameters": {"other.weight": {}}}, r"other\.weight is in the state, not in the model"),
        ({"parameters": {"0.weight": {"steps": 3}}}, r"0\.weight lacks multiplier, reference"),
    ],
)
def test_a_state_that_is_not_its_own_is_refused(change: dict[str, Any], message: str) -> None:
    model = make_net()
    regularizer = attach(Adam(model.parameters()), model, "cpr", strength=1.0).regularizer
    with pytest.raises(DecayError, match=message):
        regularizer.load_state_dict({**regularizer.state_dict(), **change} if change else {"step": 3})
