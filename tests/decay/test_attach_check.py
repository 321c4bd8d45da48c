"""Every attach is tried on stand-in weights: it acts by its law, is adapted, refused, or said not to be proven."""

from __future__ import annotations

import copy
import math
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer as po
import torch
from timm.optim.lamb import Lamb
from timm.optim.lookahead import Lookahead
from timm.optim.madgrad import MADGRAD
from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay.decay import Strength, attach, handle_of
from segdecay.errors import DecayError

Make = Callable[..., Any]
STEPS, RATE = 200, 0.01


def over(wrapper: Any, inner: Any = torch.optim.AdamW, **more: Any) -> Make:
    def make(parameters: Any, **options: Any) -> Any:
        return wrapper(inner(parameters, **options), **more)

    return make


def layer() -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    net = nn.Linear(4, 3, bias=False).double()
    return net, net.weight.detach().clone()


def idle_(net: nn.Linear, optimizer: Any, steps: int = STEPS) -> None:
    """Steps without gradient, then the weights that are deployed."""
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(steps):
        net.weight.grad = torch.zeros_like(net.weight)
        optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()


ACTS: dict[str, Make] = {
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
    "muon": torch.optim.Muon,
    "lamb": Lamb,
    "lion": po.Lion,
    "orthograd": over(po.OrthoGrad),
}
ADAPTED: dict[str, Make] = {
    "timm lookahead": over(Lookahead),
    "timm lookahead of k 3": over(Lookahead, k=3, alpha=0.8),
    "po lookahead": over(po.Lookahead),
    "po lookahead over sgd": over(po.Lookahead, torch.optim.SGD, k=4),
    "ranger": po.Ranger,
    "schedule-free adamw": po.ScheduleFreeAdamW,
    "schedule-free sgd": po.ScheduleFreeSGD,
    "schedule-free wrapper": over(po.ScheduleFreeWrapper),
}
REFUSED: dict[str, Make] = {"trac": over(po.TRAC), "madgrad": po.MADGRAD, "timm madgrad": MADGRAD}


@pytest.mark.parametrize(("kind", "status"), [*((k, "acts") for k in ACTS), *((k, "adapted") for k in ADAPTED)])
def test_what_was_promised_is_left_of_a_weight_without_gradient(kind: str, status: str) -> None:
    net, start = layer()
    optimizer = {**ACTS, **ADAPTED}[kind](net.parameters(), lr=RATE, weight_decay=0.0)
    strength = Strength.from_total_decay(2.0, learning_rates=[RATE] * STEPS)
    handle = attach(optimizer, net, "decoupled", strength=strength)
    assert handle.proof.status == status
    assert handle_of(optimizer) is handle
    idle_(net, optimizer)
    assert handle.steps == STEPS
    assert float((net.weight.detach() / start).mean()) == pytest.approx(0.99**STEPS, rel=1e-6)


@pytest.mark.parametrize("kind", ADAPTED)
def test_copies_of_the_weights_decay_as_the_weights_do_when_gradients_act_too(kind: str) -> None:
    """Σ of what each gradient put in, shrunk by all later steps: the deployed weights are linear in the start."""
    ends = []
    for scale in (1.0, 2.0):
        net, start = layer()
        with torch.no_grad():
            net.weight.copy_(start * scale)
        optimizer = ADAPTED[kind](net.parameters(), lr=RATE, weight_decay=0.0)
        attach(optimizer, net, "decoupled", strength=1.0)
        if hasattr(optimizer, "train"):
            optimizer.train()
        for step in range(40):
            net.weight.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(step)).double()
            optimizer.step()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        ends.append(net.weight.detach().clone())
    assert torch.allclose(ends[1] - ends[0], start * 0.99**40, rtol=1e-6)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_law_that_does_not_hold_is_refused_and_nothing_stays_attached(kind: str) -> None:
    net, start = layer()
    optimizer = REFUSED[kind](net.parameters(), lr=RATE, weight_decay=0.0)
    with pytest.raises(DecayError, match=r"does not keep the law of 'decoupled'.*left, 0\.\d+ was asked"):
        attach(optimizer, net, "decoupled", strength=0.5)
    assert handle_of(optimizer) is None
    attach(optimizer, net, "decoupled", strength=0.5, proof=False).detach()
    assert torch.equal(net.weight, start)


def test_the_refusal_names_the_factor_of_d() -> None:
    net, _ = layer()
    with pytest.raises(DecayError, match=r"so that D would be 0\.\d+ times what was asked"):
        attach(po.MADGRAD(net.parameters(), lr=RATE), net, "decoupled", strength=0.5)


def test_l2_of_which_centred_gradients_leave_nothing_is_refused() -> None:
    """Ranger takes the mean off every row's gradient, and with it the pull on the mean of the weights."""
    net, _ = layer()
    with pytest.raises(DecayError, match="is not pulled towards zero"):
        attach(po.Ranger(net.parameters(), lr=RATE), net, "l2", strength=0.5)


def test_l2_on_weights_of_fixed_norm_is_refused() -> None:
    net, _ = layer()
    with pytest.raises(DecayError, match="is not pulled towards zero"):
        attach(po.Nero(net.parameters(), lr=RATE), net, "l2", strength=0.5)


def test_an_average_that_is_deployed_is_named() -> None:
    net, _ = layer()
    handle = attach(po.SPlus(net.parameters(), lr=RATE, weight_decay=0.0), net, "decoupled", strength=0.5)
    assert handle.proof.status == "acts"
    assert "eval() deploys an average of the weights" in handle.proof.text


def test_sam_decays_once_a_step() -> None:
    net, start = layer()
    optimizer: Any = po.SAM(net.parameters(), torch.optim.SGD, lr=0.1)
    handle = attach(optimizer, net, "decoupled", strength=0.5)

    def closure() -> Tensor:
        net.weight.grad = torch.zeros_like(net.weight)
        return torch.zeros(())

    closure()
    optimizer.step(closure)
    assert handle.steps == 1
    assert torch.allclose(net.weight, start * 0.95)


def test_prodigy_decays_at_the_rate_that_it_found() -> None:
    net, start = layer()
    optimizer = po.Prodigy(net.parameters(), lr=1.0, weight_decay=0.0)
    handle = attach(optimizer, net, "decoupled", strength=0.5)
    assert handle.proof.status == "adapted"
    left = 1.0
    for step in range(30):
        left *= 1 - optimizer.param_groups[0]["d"] * 0.5
        net.weight.grad = torch.zeros_like(net.weight) if step < 10 else torch.full_like(net.weight, 0.0)
        optimizer.step()
    assert float((net.weight.detach() / start).mean()) == pytest.approx(left, rel=1e-12)
    strength = Strength.from_total_decay(1.0, learning_rates=[1.0])
    with pytest.raises(DecayError, match="finds its own rate, so D and τ are not known"):
        attach(po.Prodigy(net.parameters(), lr=1.0), net, "decoupled", strength=strength)


def test_what_was_found_on_a_fresh_optimizer_is_found_after_steps() -> None:
    """Prodigy keeps the rate that it found as a tensor in its groups."""
    net, _ = layer()
    optimizer = po.Prodigy(net.parameters(), lr=1.0, weight_decay=0.0)
    net.weight.grad = torch.ones_like(net.weight)
    optimizer.step()
    assert attach(optimizer, net, "decoupled", strength=0.5).proof.status == "adapted"


class WithoutRate(Optimizer):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})


class Nothing(Optimizer):
    """A step that puts the weights back."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.kept: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.copy_(self.state[parameter].setdefault("start", parameter.clone()))


class Hermetic(Optimizer):
    """Needs what a copy cannot have."""

    def __init__(self, parameters: Any, lr: float, socket: object) -> None:
        super().__init__(parameters, {"lr": lr})
        self.seen = {id(p) for group in self.param_groups for p in group["params"]}
        assert socket

    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in self.seen:
                    raise RuntimeError("a stranger")


def test_an_optimizer_without_a_rate_is_refused_twice_with_the_same_words() -> None:
    net, _ = layer()
    optimizer = WithoutRate(net.parameters())
    for _ in range(2):
        with pytest.raises(DecayError, match=r"WithoutRate has no learning rate in group 0.*no 'lr'"):
            attach(optimizer, net, "decoupled", strength=0.1)


def test_an_optimizer_of_the_users_that_undoes_the_decay_is_refused() -> None:
    net, _ = layer()
    with pytest.raises(DecayError, match="Nothing does not keep the law"):
        attach(Nothing(net.parameters(), lr=0.1), net, "decoupled", strength=0.1)


def test_what_cannot_be_rebuilt_is_not_proven_and_says_so() -> None:
    net, _ = layer()
    optimizer = Hermetic(net.parameters(), 0.1, object())
    with pytest.warns(UserWarning, match=r"Not proven that 'decoupled' acts: Hermetic could not be tried.*stranger"):
        handle = attach(optimizer, net, "decoupled", strength=0.1)
    assert handle.proof.status == "not proven"
    handle.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attach(optimizer, net, "decoupled", strength=0.1, proof=False).proof.status == "off"


@pytest.mark.parametrize("regularizer", ["l1", "elastic_net", "scheduled", "cautious"])
def test_complex_weights_are_refused_at_attach(regularizer: str) -> None:
    net = nn.Module()
    net.w, net.out = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat)), nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0)
    with pytest.raises(DecayError, match="complex"):
        attach(optimizer, net, regularizer, strength=0.1)
    assert handle_of(optimizer) is None
    start = net.w.detach().clone()
    attach(optimizer, net, "decoupled", strength=0.1)
    net.w.grad = torch.zeros_like(net.w)
    optimizer.step()
    assert torch.allclose(net.w, start * 0.999)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_decay_or_are_refused(dtype: torch.dtype) -> None:
    net = nn.Linear(4, 3, bias=False).to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    with pytest.raises(DecayError, match="would not decay, as 1 − η·λ rounds to 1: weight"):
        attach(optimizer, net, "decoupled", strength=1e-2)
    assert handle_of(optimizer) is None
    start = net.weight.detach().clone()
    attach(optimizer, net, "decoupled", strength=10.0)
    net.weight.grad = torch.zeros_like(net.weight)
    optimizer.step()
    assert not torch.equal(net.weight, start)


@pytest.mark.parametrize(
    "make", [torch.optim.SGD, torch.optim.Adagrad, over(Lookahead), po.ScheduleFreeAdamW, over(po.TRAC)]
)
def test_a_try_changes_no_bit_of_model_optimizer_or_random_numbers(make: Make) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    net[2].bias.requires_grad_(False)
    optimizer = make([p for p in net.parameters() if p.requires_grad], lr=RATE)
    if hasattr(optimizer, "train"):
        optimizer.train()
    net(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()]))
    needs, modes = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state
    try:
        attach(optimizer, net, "decoupled", strength=0.1, take_over=True).detach()
    except DecayError as error:
        assert "does not keep the law" in str(error)  # noqa: PT017 - refused or not, nothing changes
    after = net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()]
    assert _same(before, after)
    assert needs == [p.requires_grad for p in net.parameters()]
    assert modes == [m.training for m in net.modules()]
    assert torch.equal(numbers[0], torch.get_rng_state())
    assert numbers[1] == random.getstate()
    assert all(np.array_equal(a, b) for a, b in zip(numbers[2], np.random.get_state(), strict=True))  # noqa: NPY002


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def test_the_time_does_not_grow_with_the_model() -> None:
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(400)))
    optimizer = torch.optim.AdamW([{"params": [p]} for p in net.parameters()], lr=1e-3, weight_decay=0.0)
    spent = []
    for proof in (True, False) * 3:
        started = time.process_time()
        handle = attach(optimizer, net, "decoupled", strength=0.1, proof=proof)
        spent.append(time.process_time() - started)
        handle.detach()
    assert min(spent[::2]) - min(spent[1::2]) < 0.05
    assert math.isfinite(sum(spent))
