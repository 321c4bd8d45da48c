"""Arms: every one has settings, equal grids, and is refused before training where it makes no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segdecay.config.schema import CompareConfig, RunConfig, parse_compare, parse_config
from segdecay.errors import ConfigError
from segdecay.search.comparison.arms import ARMS, NONE, epochs_at, strengths_of
from segdecay.training.losses.weights import class_weights, power_weights
from segdecay.workflows.compare import prepared
from segdecay.workflows.request import check_names

PIXELS = np.array([900, 90, 10])


def shared(**sections: Any) -> RunConfig:
    return parse_config({"data": {"path": "digits"}, "loss": {"class_weights": "none"}, **sections})


def asked(*arms: str, strengths: int = 3, grids: Any = None, **sections: Any) -> CompareConfig:
    values = {"arms": list(arms), "strengths": strengths, "grids": grids or {}}
    return parse_compare(parse_config({"data": {"path": "digits"}, **sections}), values)


def refused(*arms: str, grids: Any = None, **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        prepared(asked(*arms, grids=grids, **sections))
    return str(error.value)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("name", [name for name in ARMS if name != NONE])
def test_every_arm_has_as_many_strengths_as_asked(name: str, n: int) -> None:
    config = shared()
    found = strengths_of(ARMS[name], config, 100, n, None)
    assert len(set(found)) == n
    axis = ARMS[name].axis
    assert axis is not None
    sign = -1 if axis(config, 100).stronger == "lower" else 1
    assert list(found) == sorted(found, key=lambda value: sign * value)


@pytest.mark.parametrize("name", list(ARMS))
def test_every_setting_of_every_arm_is_a_valid_configuration_that_differs_from_none(name: str) -> None:
    config = shared()
    none = ARMS[NONE].settle(config, 0.0, PIXELS)
    for value in strengths_of(ARMS[name], config, 100, 3, None):
        settled = ARMS[name].settle(config, value, PIXELS)
        assert check_names(settled.config) == []
        assert (settled.config, settled.value) != (none.config, none.value)


def test_none_has_no_decay_and_nothing_to_tune() -> None:
    settled = ARMS[NONE].settle(shared(), 0.0, PIXELS)
    assert settled.config.decay.regularizer == NONE
    assert settled.value == 0
    assert strengths_of(ARMS[NONE], shared(), 100, 3, None) == ()


def test_weight_balancing_trains_as_many_epochs_as_the_others() -> None:
    config = ARMS["weight_balancing"].settle(shared(training={"epochs": 40}), 0.1, PIXELS).config
    assert config.training.epochs + config.balancing.epochs == 40
    assert config.balancing.decay == 0.1


def test_class_weights_of_a_half_are_those_of_inverse_sqrt() -> None:
    known = class_weights("inverse_sqrt", PIXELS, PIXELS)
    assert known is not None
    assert power_weights(PIXELS, 0.5) == pytest.approx(known.numpy(), rel=1e-6)
    config = ARMS["class_weights"].settle(shared(), 0.5, PIXELS).config
    assert config.loss.class_weights == tuple(power_weights(PIXELS, 0.5).tolist())


def test_early_stopping_shortens_the_schedule() -> None:
    config = shared(training={"epochs": 80})
    assert ARMS["early_stopping"].settle(config, 0.25, PIXELS).config.training.epochs == 20
    assert epochs_at(config, 0.001) == 1


def test_a_grid_of_ones_own_must_have_as_many_strengths() -> None:
    arm = ARMS["decoupled"]
    assert strengths_of(arm, shared(), 100, 2, (4.0, 1.0)) == (1.0, 4.0)
    with pytest.raises(ConfigError, match="2 distinct strengths"):
        strengths_of(arm, shared(), 100, 2, (4.0,))
    with pytest.raises(ConfigError, match="2 distinct strengths"):
        strengths_of(arm, shared(), 100, 2, (0.0, 4.0))


@pytest.mark.parametrize(
    ("name", "value", "below"),
    [
        ("early_stopping", 1.5, "1 "),
        ("dropout", 1.5, "1 "),
        ("weight_balancing", 1e6, "333.333 "),
        ("decoupled", 1e9, ""),
    ],
)
def test_a_strength_beyond_the_end_of_its_axis_is_refused(name: str, value: float, below: str) -> None:
    with pytest.raises(ConfigError, match=f"finite and above 0, and below {below}"):
        strengths_of(ARMS[name], shared(), 100, 1, (value,))


@pytest.mark.parametrize(
    ("grids", "part"),
    [
        ({"l2": [0.1, 0.2, 0.3]}, r"compare.grids.l2: the arm is not among --arms (l1)"),
        ({"none": [1.0]}, "compare.grids.none: none is a single setting"),
        ({"l3": [1.0]}, "compare.grids: Unknown arm 'l3'"),
    ],
)
def test_a_grid_that_no_arm_takes_is_told(grids: Any, part: str) -> None:
    assert part in refused("l1", grids=grids)


def test_no_arm_at_all_is_told() -> None:
    with pytest.raises(ConfigError, match="no arm is named"):
        parse_compare(shared(), {"arms": []})


def test_without_class_weights_asked_for_no_arm_has_any() -> None:
    assert prepared(asked("l1")).loss.class_weights == NONE
    assert prepared(asked("l1", loss={"class_weights": "median"})).loss.class_weights == "median"


def test_none_is_always_compared_and_first() -> None:
    assert prepared(asked("l1", "none", "l2")).compare.arms == ("none", "l1", "l2")


def test_unknown_arms_are_all_told_with_the_nearest_name() -> None:
    said = refused("dropuot", "l3", "l1")
    assert "Did you mean 'dropout'?" in said
    assert "Unknown arm 'l3'" in said


def test_arms_that_make_no_sense_are_all_refused_with_their_reasons() -> None:
    said = refused(
        "l2_sp",
        "dropout",
        "class_weights",
        "cpr",
        "logit_adjustment",
        model={"dropout": 0.2},
        loss={"class_weights": [1.0, 2.0], "logit_adjustment": 1.0},
        optimizer={"name": "sgd"},
    )
    for part in ("l2_sp: pulls", "model.dropout=0.2", "given for all arms (a list)", "cpr: Regularizer 'cpr'", "τ=1"):
        assert part in said


def test_dropout_is_refused_for_a_network_that_has_none() -> None:
    assert "model.name=smp:unet has none" in refused("dropout", model={"name": "smp:unet"})


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"decay": {"regularizer": "l1"}}, "decay.regularizer=l1"),
        ({"search": {"grid": [0, 1]}}, "search.grid"),
        ({"balancing": {"epochs": 3}}, "balancing.epochs=3"),
        ({"search": {"max_class_loss": 0.1}}, "search.max_class_loss"),
    ],
)
def test_keys_that_arms_vary_are_refused(sections: Any, part: str) -> None:
    assert part in refused("l1", **sections)


def test_an_unknown_key_of_the_section_is_told() -> None:
    with pytest.raises(ConfigError, match="strengths"):
        parse_compare(shared(), {"strenghts": 3})
