"""From one convention to another: round trips, where coupled and decoupled meet, and what is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

from segdecay.decay import Numbers, convention_names, translate
from segdecay.decay.axes import Coupling, decoupled_axis, sgd_axis
from segdecay.decay.conventions import CONVENTIONS, check_translation, convention_of, from_convention, to_convention
from segdecay.decay.strength import idle_weight, total_decay
from segdecay.errors import DecayError

FULL = Numbers(
    base_lr=0.02, batch_size=24, accumulate=3, n_samples=40, weight_sum=55.5, reduction="mean", momentum=0.75
)


# --- round trips, and where coupled and decoupled meet ----------------------------------------------------------------


def settings_of(name: str) -> list[tuple[str, str, str]]:
    """Every regularizer, optimizer and reduction with a meaning for a convention."""
    found = itertools.product(
        ("l2", "decoupled", "l1", "elastic_net"), ("sgd", "adam", "adamw"), convention_of(name).forms
    )
    return [row for row in found if not check_translation(name, regularizer=row[0], optimizer=row[1])]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    value=st.floats(1e-12, 1e6),
    lr=st.floats(1e-6, 1.0),
    batch=st.integers(1, 512),
    samples=st.integers(1, 10**9),
    momentum=st.floats(0.0, 0.99),
)
@pytest.mark.parametrize("name", convention_names())
def test_there_and_back_again(name: str, value: float, lr: float, batch: int, samples: int, momentum: float) -> None:
    rows = settings_of(name)
    assert rows
    for regularizer, optimizer, reduction in rows:
        at = Numbers(lr, batch, max(round(64 / batch), 1), samples, 0.7 * samples, reduction or None, momentum)
        ours = from_convention(name, value, regularizer=regularizer, optimizer=optimizer, numbers=at)
        back = to_convention(name, ours, regularizer=regularizer, optimizer=optimizer, numbers=at)
        assert back == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_coupled_and_the_decoupled_strength_of_sgd_have_the_same_total_decay(momentum: float) -> None:
    rates = [0.01] * 3000
    at = Numbers(momentum=momentum)
    decoupled = 0.08
    coupled = translate(decoupled, "timm-sgdw", "torch-sgd", regularizer="decoupled", optimizer="sgd", numbers=at)
    assert coupled == pytest.approx(decoupled * (1 - momentum))
    axis = sgd_axis(Coupling(momentum))
    assert total_decay(axis, coupled, rates) == pytest.approx(total_decay(decoupled_axis(), decoupled, rates))
    assert idle_weight(axis, coupled, rates) == pytest.approx(idle_weight(decoupled_axis(), decoupled, rates), rel=0.02)


def test_the_optimizer_itself_brings_its_momentum() -> None:
    sgd = SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.75)
    assert from_convention("torch-sgd", 0.25, regularizer="decoupled", optimizer=sgd) == pytest.approx(1.0)
    assert to_convention("torch-sgd", 1.0, regularizer="decoupled", optimizer=sgd) == pytest.approx(0.25)


def test_zero_is_zero_in_every_convention_but_c() -> None:
    for name in convention_names():
        if CONVENTIONS[name].reciprocal:
            continue
        for regularizer, optimizer, reduction in settings_of(name):
            at = Numbers(0.1, 64, 1, 10, 10.0, reduction or None, 0.9)
            assert from_convention(name, 0.0, regularizer=regularizer, optimizer=optimizer, numbers=at) == 0.0


def test_an_accumulation_that_ultralytics_would_not_take_is_refused_with_both_ways_out() -> None:
    at = Numbers(batch_size=8, accumulate=1)
    with pytest.raises(DecayError, match=r"accumulates 8 x 8.*saw 1 x 8.*Accumulate 8, or set nbs=8 in ultralytics"):
        from_convention("ultralytics", 5e-4, regularizer="l2", optimizer="sgd", numbers=at)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "regularizer", "optimizer", "message"),
    [
        ("torch-adam", "decoupled", "adamw", "strength of 'l2'.*turns into 'decoupled' on adamw.*Choose a new λ"),
        ("torch-adamw", "l2", "adam", "strength of 'decoupled'.*turns into 'l2' on adam.*Choose a new λ"),
        ("sklearn-ridge", "decoupled", "adamw", "strength of 'l2'.*turns into 'decoupled'"),
        ("timm-sgdw", "decoupled", "adamw", "is for sgd, whose learning rates.*adamw. Keep D instead"),
        ("torch-sgd", "decoupled", "adam", "is for sgd.*Keep D instead"),
        ("torch-adamw", "l2", "sgd", "is for adam.*Keep D instead"),
        ("torch-adam", "l2", "sgd", "is for adam, .*Choose a new λ"),
        ("torch-sgd", "l2", "adam", "is for sgd.*Choose a new λ"),
        ("sklearn-lasso", "l2", "sgd", "strength of 'l1', which no formula turns into 'l2'"),
        ("ultralytics", "l1", "sgd", "strength of 'l2' or 'decoupled', which no formula turns into 'l1'"),
    ],
)
def test_where_no_formula_exists_the_translation_is_refused_with_the_reason(
    name: str, regularizer: str, optimizer: str, message: str
) -> None:
    with pytest.raises(DecayError, match=message):
        from_convention(name, 0.1, regularizer=regularizer, optimizer=optimizer, numbers=FULL)
    with pytest.raises(DecayError, match=message):
        to_convention(name, 0.1, regularizer=regularizer, optimizer=optimizer, numbers=FULL)
    assert len(check_translation(name, regularizer=regularizer, optimizer=optimizer)) == 1


def test_a_translation_between_two_tools_names_both_reasons() -> None:
    with pytest.raises(DecayError) as caught:
        translate(1e-4, "torch-adam", "sklearn-lasso", regularizer="decoupled", optimizer="adamw")
    assert str(caught.value).count("\n- ") == 1


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", convention_names())
def test_a_value_that_is_no_finite_number_from_0_is_refused(name: str, value: float) -> None:
    convention = convention_of(name)
    with pytest.raises(DecayError, match=f"{convention.symbol} of {name} must be a finite number.*saw {value}"):
        convention.to_ours(value, Numbers(base_lr=1, batch_size=64, accumulate=1, n_samples=1, reduction="mean"))
    with pytest.raises(DecayError, match=f"λ of {name} must be a finite number.*saw {value}"):
        convention.from_ours(value, Numbers(base_lr=1, batch_size=64, accumulate=1, n_samples=1, reduction="mean"))


def test_c_has_no_counterpart_of_no_decay() -> None:
    at = Numbers(reduction="mean", n_samples=10)
    with pytest.raises(DecayError, match=r"λ = 0 has no finite counterpart: λ = 1/\(n·C\)"):
        CONVENTIONS["sklearn-logistic"].from_ours(0.0, at)
    with pytest.raises(DecayError, match=r"the translation of C = .* must be a finite number.*saw inf"):
        CONVENTIONS["sklearn-logistic"].to_ours(1e-320, at)


def test_all_faults_of_value_and_numbers_are_named_at_once() -> None:
    with pytest.raises(DecayError) as caught:
        from_convention("ultralytics", -1.0, regularizer="l2", optimizer="sgd", numbers=Numbers(accumulate=0))
    said = str(caught.value).splitlines()
    assert len(said) == 3
    assert "saw -1.0" in said[0]
    assert "needs batch_size (images of one micro-batch" in said[1]
    assert "accumulate must be a finite number above 0; saw 0" in said[2]


def test_a_missing_momentum_is_named_with_the_other_missing_numbers() -> None:
    with pytest.raises(DecayError) as caught:
        from_convention("adamw-paper", 0.1, regularizer="l2", optimizer="sgd")
    assert "needs momentum (μ of SGD)" in str(caught.value)
    assert "needs base_lr" in str(caught.value)


def test_a_missing_or_unknown_reduction_names_what_each_needs() -> None:
    ridge = CONVENTIONS["sklearn-ridge"]
    with pytest.raises(DecayError, match=r"needs reduction .*mean with n_samples, half_mean with n_samples, sum, half"):
        ridge.to_ours(1.0)
    with pytest.raises(DecayError, match=r"Unknown reduction 'maen'; allowed: .*Did you mean 'mean'"):
        ridge.to_ours(1.0, Numbers(reduction="maen"))
    with pytest.raises(DecayError, match="Unknown reduction 'half_mean'"):
        CONVENTIONS["sklearn-logistic"].to_ours(1.0, Numbers(reduction="half_mean", n_samples=3))


def test_an_unknown_convention_names_the_nearest() -> None:
    with pytest.raises(DecayError, match=r"Unknown convention 'torch-admw'; allowed: .*Did you mean 'torch-adamw'"):
        convention_of("torch-admw")
