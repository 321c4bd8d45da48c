"""Fixed points of l1, elastic_net and group_lasso against scikit-learn and scipy: full batch, float64, exact zeros.

scikit-learn minimises ½·mean squared error + α·(ρ·Σ|w| + (1 − ρ)·½Σw²); ours is twice that, so α = λ/2. Intercepts are
not penalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from decay_nets import descend
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import ElasticNet, Lasso
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from segdecay.decay import attach

torch.set_num_threads(1)
Array = NDArray[np.float64]
TOLERANCE = 1e-6
SAMPLES, FEATURES = 60, 8
STRENGTH = 0.4
Make = Callable[[Any], Optimizer]
SGD_KINDS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.8, "dampening": 0.5},
]
FAST = {"betas": (0.9, 0.95)}  # v̂ forgets the start soon
ADAPTIVE: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (Adam, FAST),
    (Adam, {"amsgrad": True, **FAST}),
    (Adam, {"foreach": False, **FAST}),
    (AdamW, {"weight_decay": 0.0, "fused": True, **FAST}),
    (NAdam, {"momentum_decay": 1.0, **FAST}),
    (RAdam, FAST),
    (Adamax, FAST),
    (RMSprop, {}),
    (RMSprop, {"momentum": 0.5}),
    (Adagrad, {"lr_decay": 1e-4}),
]


def regression(*, is_centred: bool = False) -> tuple[Array, Array]:
    """Correlated columns, some of which play no part."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SAMPLES, FEATURES)) + 0.5 * rng.normal(size=(SAMPLES, 1))
    weights = np.array([1.5, -2.0, 0.0, 0.1, 0.9, 0.0, -0.05, 0.4])
    targets = inputs @ weights + 0.7 + 0.5 * rng.normal(size=SAMPLES)
    return (inputs - inputs.mean(axis=0), targets - targets.mean()) if is_centred else (inputs, targets)


def fit(
    make: Make, regularizer: str, *, steps: int = 800, shrink_lr_to: float | None = None, **options: Any
) -> tuple[Array, float]:
    """Weights and intercept, from zero."""
    return _fit(make, nn.Linear(FEATURES, 1).double(), regression(), regularizer, steps, shrink_lr_to, options)


def fit_centred(make: Make, regularizer: str, **options: Any) -> tuple[Array, float]:
    """Without an intercept, whose gradient goes to 0, where Adam at a constant learning rate does not settle."""
    layer = nn.Linear(FEATURES, 1, bias=False).double()
    return _fit(make, layer, regression(is_centred=True), regularizer, 800, None, options)


def _fit(
    make: Make,
    model: nn.Linear,
    data: tuple[Array, Array],
    regularizer: str,
    steps: int,
    shrink_lr_to: float | None,
    options: dict[str, Any],
) -> tuple[Array, float]:
    inputs, targets = (torch.from_numpy(array) for array in data)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = make(model.parameters())
    attach(optimizer, model, regularizer, strength=STRENGTH, options=options)
    descend(optimizer, lambda: (model(inputs).squeeze(1) - targets).square().mean(), steps, shrink_lr_to)
    return model.weight.detach().numpy().ravel(), 0.0 if model.bias is None else model.bias.item()


def assert_is(found: tuple[Array, float], expected: Lasso | ElasticNet, *, is_centred: bool = False) -> None:
    expected = expected.fit(*regression(is_centred=is_centred))
    weights, intercept = found
    assert weights == pytest.approx(expected.coef_, abs=TOLERANCE)
    assert intercept == pytest.approx(expected.intercept_, abs=TOLERANCE)
    assert (weights == 0).tolist() == (expected.coef_ == 0).tolist()
    assert 0 < (weights == 0).sum() < FEATURES - 2


def lasso(strength: float = STRENGTH) -> Lasso:
    return Lasso(alpha=strength / 2, tol=1e-14, max_iter=100_000)


def elastic_net(l1_ratio: float, strength: float = STRENGTH) -> ElasticNet:
    return ElasticNet(alpha=strength / 2, l1_ratio=l1_ratio, tol=1e-14, max_iter=100_000)


@pytest.mark.parametrize("kind", SGD_KINDS)
def test_l1_under_sgd_is_the_lasso_with_the_same_zeros(kind: dict[str, Any]) -> None:
    lr = 0.1 * (1 - kind.get("momentum", 0.0))
    assert_is(fit(lambda p: SGD(p, lr=lr, **kind), "l1"), lasso())


@pytest.mark.parametrize("l1_ratio", [0.3, 0.8])
@pytest.mark.parametrize("kind", SGD_KINDS)
def test_elastic_net_under_sgd_is_elastic_net_with_the_same_zeros(kind: dict[str, Any], l1_ratio: float) -> None:
    lr = 0.1 * (1 - kind.get("momentum", 0.0))
    assert_is(fit(lambda p: SGD(p, lr=lr, **kind), "elastic_net", l1_ratio=l1_ratio), elastic_net(l1_ratio))


@pytest.mark.parametrize(("kind", "options"), ADAPTIVE)
def test_l1_through_adaptive_optimizers_is_the_lasso_with_the_same_zeros(
    kind: type[Optimizer], options: dict[str, Any]
) -> None:
    lr = 0.8 if kind is Adagrad else 0.04
    make: Make = lambda p: kind(p, lr=lr, **options)  # type: ignore[call-arg]  # noqa: E731
    assert_is(fit_centred(make, "l1"), lasso(), is_centred=True)


@pytest.mark.parametrize("l1_ratio", [0.3, 0.8])
@pytest.mark.parametrize("kind", [Adam, Adamax])
def test_elastic_net_through_adam_is_elastic_net_with_the_same_zeros(kind: Any, l1_ratio: float) -> None:
    found = fit_centred(lambda p: kind(p, lr=0.04, betas=(0.9, 0.95)), "elastic_net", l1_ratio=l1_ratio)
    assert_is(found, elastic_net(l1_ratio), is_centred=True)


def test_l1_through_adam_with_default_betas_and_an_intercept_is_the_lasso_where_the_learning_rate_falls() -> None:
    assert_is(fit(lambda p: Adam(p, lr=0.1), "l1", steps=1500, shrink_lr_to=1e-7), lasso())


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1), lambda p: SGD(p, lr=0.01, momentum=0.9)])
def test_the_subgradient_comes_near_the_lasso_without_its_zeros(make: Make) -> None:
    weights, _ = fit(make, "l1", steps=1500, shrink_lr_to=1e-4, method="subgradient")
    expected = lasso().fit(*regression()).coef_
    assert weights == pytest.approx(expected, abs=2e-3)
    assert (expected == 0).any()
    assert (weights != 0).all()


GROUPS, GROUP_SIZE = 6, 3


class Grouped(nn.Module):
    """One target from all channels together: y = Σ_k w_k·x_k + b."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.Linear(GROUP_SIZE, GROUPS, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.zeros_(self.channels.weight)

    def forward(self, x: Tensor) -> Tensor:  # (N, GROUPS, GROUP_SIZE)
        return (self.channels.weight * x).sum(dim=(1, 2)) + self.bias


def grouped_regression() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(SAMPLES, GROUPS, GROUP_SIZE)) + 0.4 * rng.normal(size=(SAMPLES, 1, 1))
    weights = rng.normal(size=(GROUPS, GROUP_SIZE)) * np.array([[1.0], [0.0], [0.1], [0.8], [0.0], [0.3]])
    return inputs, (inputs * weights).sum(axis=(1, 2)) - 0.4 + 0.5 * rng.normal(size=SAMPLES)


def group_lasso_by_projection(strength: float) -> tuple[Array, NDArray[np.bool_]]:
    """Minimiser of mean squared error + λ·Σ √p·‖w_g‖, from its dual; and which groups are zero.

    With centred columns A·√(2/n) and target y·√(2/n) the objective is ½‖Aw − y‖² + Σ c‖w_g‖; its residual is the
    projection of y on {u: ‖A_gᵀu‖ ≤ c for all g}, a smooth problem, and groups strictly inside are zero.
    """
    inputs, targets = grouped_regression()
    scale = np.sqrt(2 / SAMPLES)
    flat = inputs.reshape(SAMPLES, -1)
    columns, y = scale * (flat - flat.mean(axis=0)), scale * (targets - targets.mean())
    bound = strength * np.sqrt(GROUP_SIZE)
    blocks = columns.reshape(SAMPLES, GROUPS, GROUP_SIZE)
    slack: Any = {
        "type": "ineq",
        "fun": lambda u: bound**2 - np.square(np.einsum("ngp,n->gp", blocks, u)).sum(axis=1),
        "jac": lambda u: -2 * np.einsum("ngp,gp->gn", blocks, np.einsum("ngp,n->gp", blocks, u)),
    }

    def distance(u: Array) -> float:
        return 0.5 * float(np.square(u - y).sum())

    solve: Any = minimize  # its stubs know no dictionary of vector constraints
    found = solve(
        distance,
        0.1 * y,
        jac=lambda u: u - y,
        constraints=[slack],
        method="SLSQP",
        tol=1e-16,
    )
    inside = np.linalg.norm(np.einsum("ngp,n->gp", blocks, found.x), axis=1) < bound * (1 - 1e-5)
    active = blocks[:, ~inside].reshape(SAMPLES, -1)
    weights = np.zeros((GROUPS, GROUP_SIZE))
    weights[~inside] = np.linalg.lstsq(active, y - found.x, rcond=None)[0].reshape(-1, GROUP_SIZE)
    return weights, inside


@pytest.mark.parametrize("kind", SGD_KINDS)
def test_group_lasso_under_sgd_is_the_convex_minimiser_with_the_same_zero_channels(kind: dict[str, Any]) -> None:
    inputs, targets = (torch.from_numpy(array) for array in grouped_regression())
    model = Grouped().double()
    optimizer = SGD(model.parameters(), lr=0.1 * (1 - kind.get("momentum", 0.0)), **kind)
    attach(optimizer, model, "group_lasso", strength=0.25)
    descend(optimizer, lambda: (model(inputs) - targets).square().mean(), 1000)
    expected, zero = group_lasso_by_projection(0.25)
    found = model.channels.weight.detach().numpy()
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert (found == 0).all(axis=1).tolist() == zero.tolist()
    assert (found[~zero] != 0).all()
    assert 0 < zero.sum() < GROUPS


def test_group_lasso_through_adam_is_not_the_minimiser() -> None:
    inputs, targets = (torch.from_numpy(array) for array in grouped_regression())
    model = Grouped().double()
    optimizer = Adam(model.parameters(), lr=0.02)
    attach(optimizer, model, "group_lasso", strength=0.25)
    descend(optimizer, lambda: (model(inputs) - targets).square().mean(), 1500, 1e-6)
    expected, _ = group_lasso_by_projection(0.25)
    assert np.abs(model.channels.weight.detach().numpy() - expected).max() > 0.05
