"""CPR against the authors' pytorch-cpr, by hand, and its laws: what is below its bound is left alone."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from decay_runs import EVERYWHERE, KERNELS, are_same_bits, drive, largest_difference, make_net, resumed, run
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from segdecay.decay import Handle, attach, build_regularizer

torch.set_num_threads(1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # it uses torch.jit
    AdamCPR: Any = importlib.import_module("pytorch_cpr").AdamCPR
RATES = [0.003 * min(1.0, (step + 1) / 20) for step in range(400)]
DRIFT = 0.2  # makes weights grow, first fast and then slowly
INTERVAL = 20


def authors_optimizer(model: nn.Module, method: str, parameter: float, ema: float = 0.9, mu: float = 1.0) -> Any:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "regularize": True},
        {"params": [p for p in model.parameters() if p.ndim == 1], "regularize": False},
    ]
    return AdamCPR(
        groups,
        lr=0.01,
        kappa_init_method=method,
        kappa_init_param=parameter,
        kappa_update=mu,
        reg_step_size=INTERVAL,
        reg_ema_decay=ema,
        foreach=True,
    )


def drive_authors(model: nn.Module, optimizer: Any, rates: Sequence[float]) -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_compiling.* is deprecated")
        return drive(model, optimizer, rates, drift=DRIFT)


def authors(rates: Sequence[float], method: str, parameter: float, **options: float) -> list[Tensor]:
    """Theirs, on the weights of more than one dimension; the last entry is how many bounds were found."""
    model = make_net()
    optimizer = authors_optimizer(model, method, parameter, **options)
    weights = drive_authors(model, optimizer, rates)
    bounds = torch.stack([optimizer.state[p]["kappa"] for p in optimizer.param_groups[0]["params"]])
    return [*weights, (bounds < 1e6).sum()]


def make(parameters: list[nn.Parameter], **options: Any) -> AdamW:
    return AdamW(parameters, lr=0.01, weight_decay=0.0, **options)


def cpr(
    rates: Sequence[float], strength: float = 1.0, dtype: torch.dtype = torch.float64, **options: Any
) -> list[Tensor]:
    return run(make, "cpr", rates, dtype=dtype, drift=DRIFT, strength=strength, multipliers=None, options=options)


@pytest.mark.parametrize("ema", [0.9, 0.99])
def test_with_inflection_points_it_is_the_authors_trajectory(ema: float) -> None:
    *expected, found = authors(RATES, "inflection_point", 0.0, ema=ema)
    ours = cpr(RATES, interval=INTERVAL, ema=ema)
    assert int(found) == 3
    assert largest_difference(ours, expected) < 1e-6
    assert largest_difference(ours, run(make, None, RATES, drift=DRIFT)) > 0.5


@pytest.mark.parametrize("mu", [1.0, 0.3])
def test_with_a_warm_start_it_is_the_authors_trajectory(mu: float) -> None:
    *expected, _ = authors(RATES, "warm_start", 50, mu=mu)
    assert largest_difference(cpr(RATES, kappa="warm_start", warm_steps=50, mu=mu), expected) < 1e-6


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_with_a_factor_it_is_the_authors_trajectory(factor: float) -> None:
    *expected, _ = authors(RATES, "dependent", factor)
    assert largest_difference(cpr(RATES, factor, kappa="factor"), expected) < 1e-6


def state_of(handle: Handle, name: str) -> dict[str, Any]:
    state: Any = handle.regularizer.state_dict()
    found: dict[str, Any] = state["parameters"][name]
    return found


def idle(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def test_by_hand_the_multiplier_learns_and_the_weight_shrinks() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data = torch.tensor([[0.3, 0.4]], dtype=torch.float64)  # Σθ² = 0.25, κ = 0.05, n = 2
    optimizer = Adam(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, "cpr", strength=0.2, options={"kappa": "factor"})
    idle(model, optimizer)
    assert float(state_of(handle, "weight")["multiplier"]) == pytest.approx(0.1)
    assert model.weight.detach().tolist()[0] == pytest.approx([0.3 * 0.8, 0.4 * 0.8])
    idle(model, optimizer)
    assert float(state_of(handle, "weight")["multiplier"]) == pytest.approx(0.1 + (0.16 - 0.05) / 2)


def test_by_hand_a_large_excess_flips_signs_and_a_larger_one_makes_weights_grow() -> None:
    for value, left in ((1.0, -0.5), (2.0, -10.0)):  # λ = 0.75 and 3, by 1 − 2λ
        model = nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(model.weight, value)
        optimizer = Adam(model.parameters(), lr=0.1)
        attach(optimizer, model, "cpr", strength=0.25, options={"kappa": "factor"})
        idle(model, optimizer)
        assert float(model.weight.detach()) == pytest.approx(left)


def test_an_idle_weight_above_its_bound_ends_below_it_and_one_below_is_left_alone() -> None:
    model = nn.Linear(5, 5, bias=False)
    start = model.weight.detach().clone()
    optimizer = Adam(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, "cpr", strength=2.0, options={"kappa": "factor"})
    idle(model, optimizer)
    assert torch.equal(model.weight, start)
    handle.set_strength(0.25)
    for _ in range(60):
        idle(model, optimizer)
    assert 0.1 < float(model.weight.detach().norm() / start.norm()) <= 0.5


@pytest.mark.parametrize("options", [{}, {"kappa": "warm_start", "warm_steps": 3}, {"kappa": "factor"}])
def test_strength_inf_is_bitwise_the_bare_optimizer(options: dict[str, Any]) -> None:
    ours = cpr(RATES[:60], math.inf, torch.float32, **options)
    assert are_same_bits(ours, run(make, None, RATES[:60], dtype=torch.float32, drift=DRIFT))


def test_before_its_bound_is_found_nothing_acts() -> None:
    short = RATES[: 4 * INTERVAL]
    assert are_same_bits(cpr(short, 1e-9, interval=INTERVAL), run(make, None, short, drift=DRIFT))


@pytest.mark.parametrize(
    ("options", "idle_steps"),
    [({"interval": INTERVAL}, 4 * INTERVAL), ({"kappa": "warm_start", "warm_steps": 50}, 50), ({"kappa": "factor"}, 0)],
)
def test_its_idle_steps_are_bitwise_the_bare_optimizers_and_the_next_one_is_not(
    options: dict[str, Any], idle_steps: int
) -> None:
    assert build_regularizer("cpr", options).idle_steps() == idle_steps
    before, after = RATES[:idle_steps], RATES[: idle_steps + 1]
    assert are_same_bits(cpr(before, 0.5, **options), run(make, None, before, drift=DRIFT))
    assert not are_same_bits(cpr(after, 0.5, **options), run(make, None, after, drift=DRIFT))


@pytest.mark.parametrize("cut", [10, 60, 79, 80, 150])
@pytest.mark.parametrize(
    "options", [{"interval": INTERVAL}, {"kappa": "warm_start", "warm_steps": 70}, {"kappa": "factor"}]
)
def test_a_resumed_run_is_bitwise_the_unbroken_one(options: dict[str, Any], cut: int) -> None:
    asked: dict[str, Any] = {"strength": 0.7, "multipliers": {"body": 2.0}, "options": options}
    whole = run(make, "cpr", RATES[:180], dtype=torch.float32, drift=DRIFT, **asked)
    assert are_same_bits(resumed(make, "cpr", RATES[:180], cut, drift=DRIFT, **asked), whole)
    assert not are_same_bits(whole, run(make, None, RATES[:180], dtype=torch.float32, drift=DRIFT))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("closure", [False, True])
def test_all_of_torchs_kernels_and_closures_do_the_same(kernel: dict[str, Any], closure: bool) -> None:
    asked: dict[str, Any] = {"strength": 0.5, "options": {"kappa": "warm_start", "warm_steps": 5}}
    ours = run(lambda p: make(p, **kernel), "cpr", RATES[:60], drift=DRIFT, closure=closure, **asked)
    expected = run(lambda p: make(p, foreach=False), "cpr", RATES[:60], drift=DRIFT, **asked)
    assert largest_difference(ours, expected) < 1e-12


def test_each_matrix_counts_its_own_steps_whoever_steps_beside_it() -> None:
    def fit(names: Sequence[str]) -> dict[str, Tensor]:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        torch.manual_seed(1)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        optimizer = Adam(model.parameters(), lr=0.05)
        attach(optimizer, model, "cpr", strength=0.5, options={"kappa": "warm_start", "warm_steps": 4})
        for step in range(30):
            for name, parameter in model.named_parameters():
                skips = name == "0.weight" and step % 3 == 0
                parameter.grad = torch.ones_like(parameter) if name in names and not skips else None
            optimizer.step()
        return {name: p.detach() for name, p in model.named_parameters()}

    both, first, second = fit(["0.weight", "2.weight"]), fit(["0.weight"]), fit(["2.weight"])
    assert torch.equal(both["0.weight"], first["0.weight"])
    assert torch.equal(both["2.weight"], second["2.weight"])
    assert not torch.equal(first["2.weight"], second["2.weight"])


def test_mixed_data_types_do_as_each_alone_and_half_precision_follows_single() -> None:
    def fit(kinds: Sequence[torch.dtype]) -> list[Tensor]:
        torch.manual_seed(0)
        weights = torch.randn(3, 30, 30)
        model = nn.ModuleList([nn.Linear(30, 30, bias=False).to(kind) for kind in kinds])
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.data = weight.to(parameter.dtype)
        optimizer = Adam(model.parameters(), lr=0.0, foreach=False)
        attach(optimizer, model, "cpr", strength=0.9, multipliers=EVERYWHERE, options={"kappa": "factor"})
        for _ in range(5):
            idle(model, optimizer)
        return [p.detach() for p in model.parameters()]

    mixed = fit([torch.bfloat16, torch.float32, torch.float64])
    single = fit([torch.float32] * 3)
    assert torch.equal(mixed[1], single[1])
    assert float((mixed[2] - single[2]).abs().max()) < 1e-6
    assert float(mixed[0].float().norm()) == pytest.approx(float(single[0].norm()), rel=5e-3)
    assert float(single[0].norm()) < 0.9 * 30


def test_excluded_frozen_and_gradientless_parameters_are_untouched() -> None:
    model = make_net()
    model[3].requires_grad_(requires_grad=False)
    optimizer = Adam(model.parameters(), lr=0.1)
    attach(optimizer, model, "cpr", strength=0.1, options={"kappa": "factor"})
    start = [p.detach().clone() for p in model.parameters()]
    for name, parameter in model.named_parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad and name != "5.weight" else None
    optimizer.step()
    named = zip(model.named_parameters(), start, strict=True)
    assert [name for (name, p), old in named if not torch.equal(p, old)] == ["0.weight"]


def test_what_is_remembered_of_half_precision_is_single_precision() -> None:
    model = nn.Linear(50, 50, bias=False).to(torch.bfloat16)
    optimizer = Adam(model.parameters(), lr=0.0, foreach=False)
    handle = attach(optimizer, model, "cpr", strength=0.9, options={"kappa": "factor"})
    expected = float(model.weight.detach().double().square().sum())
    idle(model, optimizer)
    reference = state_of(handle, "weight")["reference"]
    assert reference.dtype == torch.float32
    assert float(reference) == pytest.approx(expected, rel=1e-6)


def test_a_state_that_was_loaded_is_given_back_before_the_first_step() -> None:
    model = make_net()
    optimizer = make(list(model.parameters()))
    handle = attach(optimizer, model, "cpr", strength=1.0, options={"interval": 2})
    drive(model, optimizer, RATES[:9], drift=DRIFT)
    saved = handle.state_dict()
    handle.detach()
    again = attach(optimizer, model, "cpr", strength=1.0, options={"interval": 2})
    again.load_state_dict(saved)
    assert again.state_dict() == saved


@pytest.mark.parametrize("steps", [INTERVAL - 1, INTERVAL, INTERVAL + 1, 2 * INTERVAL, 3 * INTERVAL + 1])
def test_what_is_remembered_for_detection_is_what_the_authors_remember(steps: int) -> None:
    ours, theirs = make_net(), make_net()
    optimizer = make(list(ours.parameters()))
    handle = attach(optimizer, ours, "cpr", strength=1.0, options={"interval": INTERVAL})
    drive(ours, optimizer, RATES[:steps], drift=DRIFT)
    other = authors_optimizer(theirs, "inflection_point", 0.0)
    drive_authors(theirs, other, RATES[:steps])
    for name in ("0.weight", "5.weight"):
        found, expected = state_of(handle, name), other.state[theirs.get_parameter(name)]
        for field, key in (
            ("average", "inflection_point_emas"),
            ("previous", "prev_reg"),
            ("growth", "prev_reg_gradient"),
        ):
            assert float(found[field]) == pytest.approx(float(expected[key]), rel=1e-4, abs=1e-7)
