"""How an optimizer decays is measured by its steps; names and flags are not believed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_optimizer as po
import torch
from torch import nn
from torch.optim import Optimizer

from segdecay.decay import audit
from segdecay.decay.audit.mechanism import Mechanism, measure

create_optimizer: Any = importlib.import_module("timm.optim").create_optimizer_v2


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3))]


def of_timm(name: str) -> Callable[[Any], Any]:
    def make(held: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Kron recommends a package
            return create_optimizer(held, opt=name, lr=0.01, weight_decay=0.1)

    return make


def of_first(optimizer: Optimizer, key: str = "weight_decay") -> Mechanism:
    group = optimizer.param_groups[0]
    return measure(optimizer).of(key, group, group["params"][0])


class Scheduled(Optimizer):
    """A Lion whose decay follows the schedule only: 1 − λ·η/η_0."""

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.base = lr

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] / self.base * group["weight_decay"]).add_(p.grad.sign(), alpha=-group["lr"])


class Constant(Scheduled):
    """One whose decay does not follow the rate at all."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["weight_decay"]).add_(p.grad.sign(), alpha=-group["lr"])


class Deaf(Scheduled):
    """One that does not read its weight_decay."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad.sign(), alpha=-group["lr"])


class AdamW(torch.optim.Adam):
    """The name of a decoupled one, the step of a coupled one."""


class MySGD(Optimizer):
    """Momentum under names of its own, as an average of gradients."""

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "mu": 0.8})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.mul_(group["mu"]).add_(p.grad + group["weight_decay"] * p, alpha=1 - group["mu"])
                p.sub_(buffer, alpha=group["lr"])


class Strange(Scheduled):
    """One that works on the weights that it was made with, and on no others."""

    def __init__(self, params: Any, lr: float, weight_decay: float, key: object) -> None:
        super().__init__(params, lr, weight_decay)
        self.first = {id(p) for group in self.param_groups for p in group["params"]}
        assert key

    def step(self) -> None:  # type: ignore[override]
        if self.first != {id(p) for group in self.param_groups for p in group["params"]}:
            raise RuntimeError("other weights")


OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "timm's Kron, whose decay joins the preconditioned update": (of_timm("kron"), "decoupled"),
    "timm's Lamb, which scales what λ·w has joined": (of_timm("lamb"), "other"),
    "schedule-free": (lambda held: po.ScheduleFreeAdamW(held, lr=0.01, weight_decay=0.1), "other"),
    "Lookahead over AdamW": (of_timm("lookahead_adamw"), "other"),
    "Prodigy, which finds its own rate": (lambda held: po.Prodigy(held, weight_decay=0.1), "other"),
    "Adan, which divides by 1 + η·λ": (of_timm("adan"), "decoupled"),
    "a child of Adam that is called AdamW": (lambda held: AdamW(held, lr=0.01, weight_decay=0.1), "coupled"),
    "an SGD of one's own": (lambda held: MySGD(held, lr=0.01, weight_decay=0.1), "coupled"),
    "SAM": (lambda held: po.SAM(held, torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3), "coupled"),
    "one that ascends": (lambda held: torch.optim.Adam(held, weight_decay=0.1, maximize=True), "coupled"),
    "one that reads no λ": (lambda held: Deaf(held, 0.01, 0.1), "nothing"),
    "one that cannot be copied": (lambda held: Strange(held, 0.01, 0.1, object()), "unknown"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_mechanism_is_what_a_step_does(name: str) -> None:
    make, how = OPTIMIZERS[name]
    held = weights()
    assert of_first(make(held)).how == how
    assert all(torch.equal(p, torch.ones_like(p)) for p in held)


@pytest.mark.parametrize(
    ("make", "factor", "power"),
    [
        (lambda held: torch.optim.AdamW(held, lr=0.01, weight_decay=0.1), 1.0, 1),
        (lambda held: Scheduled(held, 1e-4, 0.01), 1e4, 1),
        (lambda held: Constant(held, 0.01, 0.001), 100.0, 0),
        (of_timm("cadamc"), 1.0, 2),
    ],
)
def test_the_factor_and_how_it_follows_the_rate(make: Any, factor: float, power: int) -> None:
    found = of_first(make(weights()))
    assert found.how == "decoupled"
    assert found.factor == pytest.approx(factor, rel=1e-3)
    assert found.rate_power == power


def test_d_of_a_lion_of_ones_own_is_what_it_takes_off() -> None:
    net = nn.Linear(4, 3, bias=False)
    optimizer = Scheduled(net.parameters(), 1e-4, 0.01)
    start = net.weight.detach().clone()
    told = audit(net, optimizer, learning_rates=[1e-4]).rows[0].total_decay
    net.weight.grad = torch.zeros(3, 4)
    optimizer.step()
    assert told == pytest.approx(1 - float((net.weight.detach() / start).mean()), rel=1e-4)
    (message,) = [f.message for f in audit(net, optimizer).findings if f.code == "other_mechanism"]
    assert "f is 1e+04 times η·λ" in message


def test_what_has_no_d_has_none_in_the_table() -> None:
    net = nn.Linear(4, 3)
    for make in (of_timm("lamb"), lambda held: Constant(held, 0.01, 0.001)):
        row = audit(net, make(list(net.parameters())), learning_rates=[0.01] * 9).rows[0]
        assert (row.is_decayed, row.total_decay) == (True, None)


def test_decay_that_is_ignored_is_no_decay() -> None:
    net = nn.Linear(4, 3)
    found = audit(net, Deaf(net.parameters(), 0.01, 0.1))
    assert {"weight_decay_ignored", "no_decay"} <= set(found.codes())


def test_momentum_is_seen_where_no_setting_has_its_name() -> None:
    net = nn.Linear(4, 3)
    row = audit(net, MySGD(net.parameters(), 0.01, 0.1), learning_rates=[0.01] * 100).rows[0]
    assert row.total_decay == pytest.approx(100 * 0.01 * 0.1, rel=1e-6)
    plain = audit(
        net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.8, weight_decay=0.1), learning_rates=[0.01]
    )
    assert plain.rows[0].total_decay == pytest.approx(5 * 0.01 * 0.1)


def test_kinds_of_weights_are_told_apart() -> None:
    """timm's SGDP projects updates of matrices, and multiplies vectors by 1 − η·λ/(1−μ)."""
    held = weights()
    optimizer = of_timm("sgdp")(held)
    found = measure(optimizer)
    groups = [group for group in optimizer.param_groups for _ in group["params"]]
    kinds = {p.ndim: found.of("weight_decay", g, p) for g, p in zip(groups, held, strict=True)}
    assert kinds[1].how == "decoupled"
    assert kinds[1].factor == pytest.approx(10.0)


def test_random_numbers_are_as_they_were() -> None:
    optimizer = of_timm("kron")(weights())
    before = torch.get_rng_state()
    measure(optimizer)
    assert torch.equal(before, torch.get_rng_state())


def test_near_a_squared_root_weights_oscillate_and_far_below_they_do_not() -> None:
    net = nn.Linear(4, 3)
    codes = [
        audit(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.99, weight_decay=strength)).codes()
        for strength in (5e-4, 1e-6)
    ]
    assert ["oscillates" in found for found in codes] == [True, False]
