"""Every regularizer of the registry under the contract that is shipped for third parties. A new regularizer adds a
class.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from segdecay.decay import REGULARIZERS, Bucket, Handle, Regularizer, attach
from segdecay.decay.adaptation import Proof
from segdecay.decay.groups import ParameterRow
from segdecay.decay.regularizers.decoupled import Decoupled
from segdecay.decay.regularizers.l2 import L2
from segdecay.errors import DecayError
from segdecay.testing import RegularizerContract

torch.set_num_threads(1)


class TestNone(RegularizerContract):
    regularizer, strength, acts = "none", 0.0, False


class TestL2(RegularizerContract):
    regularizer, strength = "l2", 1.0


class TestDecoupled(RegularizerContract):
    regularizer, strength = "decoupled", 2.0


class _AroundTheStart(RegularizerContract):
    regularizer, strength = "l2_sp", 2.0

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        origin = torch.zeros_like(start) if row.group == "head" else start
        return origin + super().left(row, weight - origin, start, rates)


class TestL2SP(_AroundTheStart):
    """Coupled under SGD, decoupled under AdamW."""


class TestL2SPCoupled(_AroundTheStart):
    options: ClassVar[dict[str, Any]] = {"mode": "coupled"}


class TestL2SPDecoupled(_AroundTheStart):
    options: ClassVar[dict[str, Any]] = {"mode": "decoupled"}


class TestMaxNorm(RegularizerContract):
    regularizer, strength = "max_norm", 0.5

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del start, rates
        rows = weight.movedim(row.output_dim, 0).clone()
        for index, filters in enumerate(rows):
            rows[index] = filters * min(1.0, self.strength / math.sqrt(float((filters**2).sum())))
        return rows.movedim(0, row.output_dim)


class TestL1(RegularizerContract):
    regularizer, strength = "l1", 0.5

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del row, start
        return weight.sign() * (weight.abs() - self.strength * sum(rates)).clamp(min=0)


class TestL1Subgradient(RegularizerContract):
    regularizer, strength = "l1", 0.01
    options: ClassVar[dict[str, Any]] = {"method": "subgradient"}

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del row, start
        for rate in rates:
            weight = weight - rate * self.strength * weight.sign()
        return weight


class TestElasticNet(RegularizerContract):
    regularizer, strength = "elastic_net", 0.5
    options: ClassVar[dict[str, Any]] = {"l1_ratio": 0.25}

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del row, start
        for rate in rates:
            soft = weight.sign() * (weight.abs() - rate * 0.25 * self.strength).clamp(min=0)
            weight = soft / (1 + rate * 0.75 * self.strength)
        return weight


class TestGroupLasso(RegularizerContract):
    """On a network without norm layers: a gain belongs to its filter's group, and is shrunk although it is excluded."""

    regularizer, strength = "group_lasso", 0.5

    def build(self) -> nn.Module:
        return nn.Sequential(*[layer for layer in super().build().children() if not isinstance(layer, nn.BatchNorm2d)])

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del start
        rows = weight.movedim(row.output_dim, 0).clone()
        for rate in rates:
            for index, filters in enumerate(rows):
                size = math.sqrt(float((filters**2).sum()))
                rows[index] = filters * max(0.0, 1 - rate * self.strength * math.sqrt(filters.numel()) / size)
        return rows.movedim(0, row.output_dim)


class TestCautious(RegularizerContract):
    """An idle weight agrees in sign with an update of zero: equality counts."""

    regularizer, strength = "cautious", 2.0


class TestCorrected(RegularizerContract):
    regularizer, strength = "corrected", 2.0
    options: ClassVar[dict[str, Any]] = {"peak_lr": 0.1}

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del start
        factors = [rate * rate / 0.1 if row.feeds else rate for rate in rates]
        return weight * math.prod(1 - factor * self.strength for factor in factors)


class TestScheduled(RegularizerContract):
    """Without any gradient the pull is the largest that is allowed."""

    regularizer, strength = "scheduled", 0.001
    optimizers = ("Adam", "AdamW")
    idle_optimizer = "AdamW"

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del row, start
        return weight * (2.0**-20) ** len(rates)


class TestCPR(RegularizerContract):
    regularizer, strength = "cpr", 0.5
    options: ClassVar[dict[str, Any]] = {"kappa": "factor"}
    optimizers = ("Adam", "AdamW")
    idle_optimizer = "AdamW"

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        del row, start
        pull, bound = 0.0, self.strength * float((weight**2).sum())
        for _ in rates:
            pull = max(0.0, pull + (float((weight**2).sum()) - bound) / weight.numel())
            weight = weight - pull * 2 * weight
        return weight


def test_every_regularizer_that_attaches_is_under_contract() -> None:
    def below(kind: type[RegularizerContract]) -> set[str]:
        return {getattr(kind, "regularizer", "")}.union(*[below(child) for child in kind.__subclasses__()])

    asked = {name for name, regularizer in REGULARIZERS.items() if not regularizer.in_model}
    assert asked - below(RegularizerContract) == set()


# --- the contract catches what it is for ------------------------------------------------------------------------------


class _NeverNone(Decoupled):
    """Shrinks at strength none too."""

    def scaled(self, strength: float, multiplier: float) -> float | None:
        return super().scaled(strength + 0.01, multiplier)


class _Unscaled(L2):
    """Forgets that gradients may be scaled."""

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor]:
        return [g + bucket.strength * p for g, p in zip(bucket.gradients, bucket.parameters, strict=True)]


class _Forgetful(Decoupled):
    """Shrinks more with every step and keeps no state."""

    def __init__(self) -> None:
        self.calls = 0

    def before_update_(self, bucket: Bucket) -> None:
        self.calls += 1
        for parameter in bucket.parameters:
            parameter.mul_(1 - 0.001 * self.calls)


class _Stray(Decoupled):
    """Shrinks the whole group of the optimizer."""

    def before_update_(self, bucket: Bucket) -> None:
        for parameter in bucket.group["params"]:
            parameter.mul_(0.9)


class _FirstOnly(Decoupled):
    """Shrinks the first weight of a bucket only."""

    def before_update_(self, bucket: Bucket) -> None:
        bucket.parameters[0].mul_(1 - bucket.lr * bucket.strength)


class _Undocumented(Decoupled):
    """Says nothing."""


class _Idle(Decoupled):
    """Does nothing."""

    def before_update_(self, bucket: Bucket) -> None:
        pass


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(kind: type[Regularizer]) -> RegularizerContract:
        kind.name = "broken"
        monkeypatch.setitem(REGULARIZERS, "broken", kind)
        contract = type("Contract", (RegularizerContract,), {"regularizer": "broken", "strength": 2.0})()
        assert isinstance(contract, RegularizerContract)
        return contract

    return register


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (_NeverNone, "test_strength_none_is_bitwise_the_bare_optimizer"),
        (_Unscaled, "test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step"),
        (_Forgetful, "test_a_resumed_run_is_bitwise_the_unbroken_one"),
        (_Forgetful, "test_a_weight_without_gradient_becomes_what_left_returns"),
        (_Stray, "test_what_is_excluded_frozen_or_without_gradient_keeps_every_bit"),
        (_FirstOnly, "test_a_list_of_weights_is_treated_as_each_alone_also_with_mixed_types"),
        (_Idle, "test_it_acts_alike_with_and_without_a_closure"),
        (_Undocumented, "test_its_documentation_and_axis_are_complete"),
    ],
)
def test_a_regularizer_that_breaks_a_promise_is_caught(registered: Any, kind: type[Regularizer], promise: str) -> None:
    with pytest.raises(AssertionError):
        getattr(registered(kind), promise)()


def test_acting_on_a_skipped_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdecay.decay.handle.is_skipped", lambda _optimizer: False)
    with pytest.raises(AssertionError, match="A step skipped for inf changed weights"):
        TestDecoupled().test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step()


def test_acting_twice_a_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Handle.act_

    def twice(handle: Handle, optimizer: torch.optim.Optimizer) -> None:
        original(handle, optimizer)
        handle._buckets = None
        original(handle, optimizer)

    monkeypatch.setattr(Handle, "act_", twice)
    with pytest.raises(DecayError, match="so that D would be 2 times what was asked"):  # the proof at attach sees it
        TestDecoupled().test_a_weight_without_gradient_becomes_what_left_returns()
    untried = Proof("off", "Not tried.")
    monkeypatch.setitem(attach.__globals__, "prove", lambda *_, **__: untried)
    with pytest.raises(AssertionError, match="`left` says"):
        TestDecoupled().test_a_weight_without_gradient_becomes_what_left_returns()


def test_the_contract_has_no_promise_that_nothing_here_breaks() -> None:
    promises = [name for name, _ in inspect.getmembers(RegularizerContract) if name.startswith("test_")]
    assert len(promises) == 10
