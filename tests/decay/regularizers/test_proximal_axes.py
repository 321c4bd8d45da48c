"""What l1, elastic_net and group_lasso are tuned along, refuse and report."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sparse_nets import RATES, SPARSE, idle, linear, make_net, steps, weights
from torch import nn
from torch.optim import ASGD, SGD, Adadelta, Adafactor, Optimizer, Rprop

from segdecay.decay import Strength, attach, axis_of, build_regularizer, paste_lines
from segdecay.decay.scale_invariance import channel_norms, shrink_channels_
from segdecay.errors import DecayError

torch.set_num_threads(1)


def test_penalties_are_what_the_formulas_say() -> None:
    layer = linear([[3.0, -4.0], [0.0, 2.0]])
    for regularizer, options, expected in (
        ("l1", {}, 9.0),
        ("elastic_net", {"l1_ratio": 0.25}, 0.25 * 9 + 0.75 * 14.5),
        ("group_lasso", {}, math.sqrt(2) * 7),
    ):
        optimizer = SGD(layer.parameters(), lr=0.1)
        handle = attach(optimizer, layer, regularizer, strength=0.5, options=options)
        assert handle.penalty() == pytest.approx(0.5 * expected)


@pytest.mark.parametrize("regularizer", ["l1", "elastic_net"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: Adafactor(p, lr=0.1, weight_decay=0.0), "adafactor keeps rows and columns"),
        (lambda p: Adadelta(p, lr=0.1), "adadelta changes the numerator of its step"),
        (lambda p: ASGD(p, lr=0.1, lambd=0.0), "asgd takes its step size from the state of the previous step"),
        (lambda p: Rprop(p, lr=0.1), "rprop moves by the sign"),
        (lambda p: _Lion(p, {"lr": 0.1}), "lion moves by the sign of its momentum"),
        (lambda p: _Own(p, {"lr": 0.1}), "own has an update whose step is not known"),
        (lambda p: _Foreign(p, {"lr": 0.1}), "adamw is not the optimizer of that name in torch.optim"),
    ],
)
def test_optimizers_without_a_known_step_are_refused_with_the_reason(regularizer: str, make: Any, reason: str) -> None:
    net = make_net()
    with pytest.raises(
        DecayError, match=rf"Regularizer '{regularizer}': {reason}.*Allowed: SGD, RAdam, Adam.*subgradient"
    ):
        attach(make(net.parameters()), net, regularizer, strength=0.1, proof=False)


class _Lion(Optimizer):
    """Named as others name theirs."""


_Lion.__name__ = "Lion"


class _Own(Optimizer):
    """An optimizer of one's own."""


_Own.__name__ = "Own"


class _Foreign(Optimizer):
    """An AdamW that is not torch's."""


_Foreign.__name__ = "AdamW"


def test_the_subgradient_and_group_lasso_go_with_every_optimizer() -> None:
    for regularizer, options in (("l1", {"method": "subgradient"}), ("group_lasso", {})):
        net = make_net()
        optimizer = Rprop(net.parameters(), lr=0.01)
        attach(optimizer, net, regularizer, strength=0.1, options=options)
        start = weights(net)
        steps(optimizer, net, 1)
        assert not torch.equal(net.get_parameter("0.weight"), start[0])


@pytest.mark.parametrize(
    ("regularizer", "options", "message"),
    [
        ("l1", {"method": "proximl"}, "Unknown method of l1 'proximl'.*Did you mean 'proximal'"),
        ("elastic_net", {"l1_ratio": 1.5}, "l1_ratio must be from 0 to 1; saw 1.5"),
        ("elastic_net", {"l1_ratio": math.nan}, "saw nan"),
        ("elastic_net", {"ratio": 0.5}, "Unknown option of 'elastic_net' 'ratio'"),
        ("group_lasso", {"ratio": 0.5}, "has no options"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(regularizer: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DecayError, match=message):
        build_regularizer(regularizer, options)


def test_sparse_gradients_carry_no_subgradient() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    net = nn.Sequential(embedding, nn.Linear(3, 2))
    optimizer = SGD(embedding.parameters(), lr=0.1)
    with pytest.raises(DecayError, match=r"cannot carry the penalty of 'l1', which is dense: 0.weight"):
        attach(optimizer, net, "l1", strength=0.1, options={"method": "subgradient"})


def test_at_one_on_the_relative_axis_an_idle_weight_of_median_size_just_reaches_zero() -> None:
    for regularizer, options in (("l1", {}), ("elastic_net", {"l1_ratio": 1.0}), ("group_lasso", {})):
        for value, left in ((0.75, 0.25 * 0.5), (1.0, 0.0)):
            layer = linear([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]])
            optimizer = SGD(layer.parameters(), lr=0.1, momentum=0.5)
            attach(
                optimizer, layer, regularizer, strength=Strength.from_axis(value, learning_rates=RATES), options=options
            )
            idle(optimizer, layer, RATES)
            assert layer.weight[1].tolist() == pytest.approx([left, left], abs=1e-9)
            assert (layer.weight[2] > 0).all()


def test_the_relative_axis_of_elastic_net_without_l1_is_total_decay() -> None:
    layer = linear([[0.1, 0.1, 0.4]])
    handle = attach(
        SGD(layer.parameters(), lr=0.1),
        layer,
        regularizer="elastic_net",
        strength=Strength.from_axis(3.0, learning_rates=RATES),
        options={"l1_ratio": 0.0},
    )
    assert handle.strength == pytest.approx(3.0 / sum(RATES))


def test_axes_by_optimizer() -> None:
    assert axis_of("l1", "sgd", momentum=0.9).gain == pytest.approx(10.0)
    for regularizer in SPARSE:
        assert axis_of(regularizer, "sgd").name == "relative_shrinkage"
        assert axis_of(regularizer, "adamw").name == (
            "relative_shrinkage" if regularizer == "group_lasso" else "lambda"
        )
    assert axis_of("group_lasso", "adamw").gain == 1.0
    assert "zeroed at once" in axis_of("l1", "adam").reason
    subgradient = {"method": "subgradient"}
    assert axis_of("l1", "rprop", options=subgradient).unit == "λ added as λ·sign(w) to the gradient"
    assert not axis_of("l1", "sgd", options=subgradient).exact


def test_lines_to_paste_attach_the_regularizer_and_say_what_to_keep() -> None:
    lines = paste_lines("l1", "sgd", 0.5, 0.1, learning_rates=[0.1] * 30)
    assert "attach(optimizer, model, 'l1', strength=0.5)" in lines
    assert "keep Σ η·λ = 1.5 over all steps" in lines


def test_channels_at_zero_stay_numbers() -> None:
    weight, gain = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([0.0, 0.0])
    for threshold in (0.0, 1.0):
        shrink_channels_(weight, 0, threshold, gain)
    assert channel_norms(weight, 0, gain).tolist() == [0.0, pytest.approx(4.0)]
