"""λ, τ and D in both directions, the axes, and what has no meaning."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segdecay.decay import axis_of, describe_strength
from segdecay.decay.axes import Coupling, StrengthAxis, decoupled_axis, sgd_axis
from segdecay.decay.strength import check_first_order, idle_weight, lambda_of_timescale, timescale_epochs, total_decay
from segdecay.errors import DecayError

RATES = [0.05, 0.1, 0.1, 0.05, 0.0]


def test_the_published_numbers_of_total_decay_are_met() -> None:
    """torch's default AdamW (lr 1e-3, λ 0.01) over 20,000 cosine steps: D = 0.1; an lr of 1e-4: 0.01."""
    cosine = [0.5e-4 * (1 + math.cos(math.pi * step / 20_000)) for step in range(20_000)]
    assert total_decay(decoupled_axis(), 0.01, cosine) == pytest.approx(0.01, rel=1e-3)
    poly = [0.01 * (1 - step / 250_000) ** 0.9 for step in range(250_000)]
    nnunet = total_decay(sgd_axis(Coupling(0.99, nesterov=True)), 3e-5, poly)
    assert nnunet == pytest.approx(3.95, abs=0.01)
    assert math.exp(-nnunet) == pytest.approx(0.02, abs=0.001)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rates=st.lists(st.floats(1e-6, 0.1), min_size=1, max_size=20),
    share=st.floats(0.0, 0.99),
    momentum=st.sampled_from([None, 0.0, 0.9]),
)
def test_lambda_and_the_value_on_the_axis_are_inverse(rates: list[float], share: float, momentum: float | None) -> None:
    axis = decoupled_axis() if momentum is None else sgd_axis(Coupling(momentum))
    value = share * axis.largest(rates)
    lambda_ = axis.to_lambda(value, rates)
    assert axis.from_lambda(lambda_, rates) == pytest.approx(value, rel=1e-12)
    assert max(rates) * lambda_ < 1
    if lambda_ > 0:
        timescale = timescale_epochs(axis, lambda_, max(rates), 7)
        assert lambda_of_timescale(axis, timescale, max(rates), 7) == pytest.approx(lambda_, rel=1e-12)


def test_the_timescale_is_one_over_lr_lambda_steps_an_epoch() -> None:
    assert timescale_epochs(decoupled_axis(), 0.5, 0.01, 20) == pytest.approx(10.0)
    assert timescale_epochs(sgd_axis(Coupling(0.9)), 0.5, 0.01, 20) == pytest.approx(1.0)


def test_a_strength_is_described_in_every_unit_it_has() -> None:
    described = describe_strength(decoupled_axis(), 1.2, RATES, steps_per_epoch=2)
    assert described.lambda_ == pytest.approx(4.0)
    assert described.total_decay == pytest.approx(1.2)
    assert described.timescale_epochs == pytest.approx(1 / (0.1 * 4.0 * 2))
    assert described.remaining == pytest.approx(0.8 * 0.6 * 0.6 * 0.8)


def test_no_decay_has_no_timescale_and_leaves_everything() -> None:
    described = describe_strength(decoupled_axis(), 0.0, RATES, steps_per_epoch=2)
    assert (described.lambda_, described.timescale_epochs) == (0.0, None)
    assert (described.total_decay, described.remaining) == (0.0, 1.0)


def test_on_the_lambda_axis_only_lambda_is_described() -> None:
    described = describe_strength(axis_of("l2", "adam"), 1e-3, RATES, steps_per_epoch=2)
    assert described.lambda_ == 1e-3
    assert (described.timescale_epochs, described.total_decay, described.remaining) == (None, None, None)


# --- axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regularizer", "optimizer", "name", "exact"),
    [
        ("decoupled", "adamw", "total_decay", True),
        ("decoupled", "sgd", "total_decay", True),
        ("decoupled", "RMSprop", "total_decay", True),
        ("l2", "sgd", "total_decay", False),
        ("l2", "adam", "lambda", False),
        ("l2", "adamw", "lambda", False),
        ("none", "sgd", "total_decay", True),
    ],
)
def test_every_regularizer_on_every_optimizer_declares_its_axis(
    regularizer: str, optimizer: str, name: str, exact: bool
) -> None:
    axis = axis_of(regularizer, optimizer, momentum=0.9)
    assert (axis.name, axis.exact) == (name, exact)
    assert axis.none in axis.default_grid
    assert sorted(axis.default_grid) == list(axis.default_grid)
    assert axis.stronger == "higher"
    assert axis.to_lambda(axis.none, RATES) == 0.0


def test_the_default_grids_have_zero_and_a_logarithmic_rest() -> None:
    for axis in (axis_of("decoupled", "adamw"), axis_of("l2", "adam")):
        zero, *rest = axis.default_grid
        ratios = [after / before for before, after in itertools.pairwise(rest)]
        assert zero == 0.0
        assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_an_optimizer_itself_gives_the_same_axis_as_its_name_and_momentum() -> None:
    parameters = list(nn.Linear(1, 1).parameters())
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5)
    assert axis_of("l2", sgd).gain == pytest.approx(5.0)
    assert axis_of("l2", torch.optim.SGD(parameters, lr=0.1, momentum=0.9)) == axis_of("l2", "sgd", momentum=0.9)
    assert axis_of("l2", torch.optim.Adam(parameters)) == axis_of("l2", "adam")


@pytest.mark.parametrize(
    ("regularizer", "optimizer", "momentum", "message"),
    [
        ("l22", "sgd", 0.0, "Unknown regularizer 'l22'; allowed: none, l2, decoupled, .*Did you mean 'l2'"),
        ("l2", "adamm", 0.0, "Unknown optimizer 'adamm'.*Did you mean"),
        ("decoupled", "LBFGS", 0.0, "LBFGS is refused"),
        ("l2", "sgd", 1.0, "momentum must be at least 0 and below 1; saw 1.0"),
    ],
)
def test_what_has_no_axis_is_refused(regularizer: str, optimizer: str, momentum: float, message: str) -> None:
    with pytest.raises(DecayError, match=message):
        axis_of(regularizer, optimizer, momentum=momentum)


def test_groups_that_differ_in_momentum_have_no_axis() -> None:
    layer = nn.Linear(1, 1)
    groups: list[dict[str, Any]] = [{"params": [layer.weight], "momentum": 0.5}, {"params": [layer.bias]}]
    with pytest.raises(DecayError, match="differ in momentum"):
        axis_of("l2", torch.optim.SGD(groups, lr=0.1))


# --- validity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_inside_its_stated_validity_the_first_order_is_off_by_a_few_percent_of_d(momentum: float) -> None:
    bound = (1 - math.sqrt(momentum)) ** 2
    rates = [0.01] * max(400, int(400 / bound**0.5))
    axis = sgd_axis(Coupling(momentum))
    lambda_ = 0.099 * bound / 0.01
    assert check_first_order(axis, lambda_, rates) == ()
    steps = rates[: max(1, int(3.0 / (0.01 * lambda_ * axis.gain)))]
    left = idle_weight(axis, lambda_, steps)
    transient = 1.0 / (1.0 - momentum) * 0.01 * lambda_ * axis.gain  # the buffer has still to fill and to empty
    assert -math.log(left) == pytest.approx(total_decay(axis, lambda_, steps), rel=0.06, abs=transient)


def test_where_the_first_order_is_left_a_finding_says_what_happens() -> None:
    axis = sgd_axis(Coupling(0.99))
    bound = (1 - math.sqrt(0.99)) ** 2
    (off,) = check_first_order(axis, 0.5 * bound / 0.01, [0.01])
    assert "off by more than a few percent" in off
    (oscillates,) = check_first_order(axis, 2 * bound / 0.01, [0.01])
    assert "oscillates" in oscillates
    assert "use 'decoupled'" in oscillates
    assert check_first_order(decoupled_axis(), 50.0, [0.01]) == ()


def test_total_decay_four_at_momentum_099_overshoots_where_exp_says_two_percent() -> None:
    axis = sgd_axis(Coupling(0.99))
    rates = [0.01] * 100
    lambda_ = axis.to_lambda(4.0, rates)
    assert idle_weight(axis, lambda_, rates) < 0 < math.exp(-4.0)
    assert check_first_order(axis, lambda_, rates)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("axis", [decoupled_axis(), sgd_axis(Coupling(0.9)), axis_of("l2", "adam")])
def test_a_value_that_is_no_finite_number_from_0_is_refused(axis: StrengthAxis, value: float) -> None:
    with pytest.raises(DecayError, match=f"{axis.name} must be a finite number, 0 or more; saw {value}"):
        axis.to_lambda(value, RATES)


@pytest.mark.parametrize("axis", [decoupled_axis(), sgd_axis(Coupling(0.9)), axis_of("l2", "adam")])
def test_a_value_from_the_largest_on_is_refused_and_the_largest_is_named(axis: StrengthAxis) -> None:
    largest = axis.largest(RATES)
    assert max(RATES) * axis.to_lambda(0.999 * largest, RATES) == pytest.approx(0.999)
    with pytest.raises(DecayError, match=f"η·λ would reach 1.*must stay below {largest:.6g}"):
        axis.to_lambda(largest, RATES)


def test_the_regularizer_none_has_only_the_value_0() -> None:
    with pytest.raises(DecayError, match="Regularizer 'none' has no strength; saw 2, allowed: 0"):
        axis_of("none", "sgd").to_lambda(2.0, RATES)


def test_total_decay_and_timescale_through_adam_are_refused_with_the_reason() -> None:
    axis = axis_of("l2", "adam")
    with pytest.raises(DecayError, match=r"D has no meaning here: adam divides the gradient.*Tune λ itself"):
        total_decay(axis, 0.1, RATES)
    with pytest.raises(DecayError, match="τ has no meaning here: adam divides"):
        timescale_epochs(axis, 0.1, 0.1, 2)
    with pytest.raises(DecayError, match="D has no meaning here"):
        idle_weight(axis, 0.1, RATES)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([], "No learning rates were given: give those of all steps"),
        ([0.0, 0.0], "All 2 learning rates are 0"),
        ([0.1, -0.1], "Learning rate of step 1 is -0.1"),
        ([math.nan], "Learning rate of step 0 is nan"),
    ],
)
def test_unusable_learning_rates_are_refused(rates: list[float], message: str) -> None:
    with pytest.raises(DecayError, match=message):
        decoupled_axis().to_lambda(1.0, rates)


def test_all_unusable_numbers_of_a_timescale_are_reported_at_once() -> None:
    with pytest.raises(DecayError) as caught:
        timescale_epochs(decoupled_axis(), 0.0, -0.1, math.nan)
    assert str(caught.value).count("must be a finite number above 0") == 3
