"""Other tools' strengths against the tools: torch, timm and scikit-learn run; Keras and ultralytics by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from timm.optim.sgdw import SGDW
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segdecay.decay import Numbers, attach
from segdecay.decay.conventions import from_convention

Array = NDArray[np.float64]
SAMPLES, FEATURES = 40, 4


# --- optimizers: the tool with its weight_decay, and the bare optimizer with our regularizer at the translated λ
# -----------


def trained(optimizer: Optimizer, parameter: Tensor, steps: int = 25) -> Tensor:
    """Where a fixed sequence of gradients and falling learning rates takes a parameter."""
    noise = torch.Generator().manual_seed(0)
    peak = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * (1 - step / steps)
        parameter.grad = torch.randn(parameter.shape, generator=noise, dtype=torch.float64) + parameter.detach()
        optimizer.step()
    return parameter.detach().clone()


def fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, 3, bias=False).double()


@pytest.mark.parametrize(
    ("name", "regularizer", "tool", "ours", "options"),
    [
        ("torch-sgd", "l2", SGD, SGD, {"momentum": 0.9}),
        ("torch-sgd", "l2", SGD, SGD, {"momentum": 0.9, "nesterov": True}),
        ("torch-adam", "l2", Adam, Adam, {}),
        ("torch-adam", "l2", Adam, AdamW, {}),
        ("torch-adamw", "decoupled", AdamW, AdamW, {}),
        ("torch-adamw", "decoupled", AdamW, Adam, {}),
        ("timm-sgdw", "decoupled", SGDW, SGD, {"momentum": 0.9}),
        ("timm-sgdw", "decoupled", SGDW, SGD, {}),
    ],
)
def test_the_tool_at_its_value_and_our_regularizer_at_the_translated_strength_take_the_same_steps(
    name: str, regularizer: str, tool: Callable[..., Optimizer], ours: Any, options: dict[str, Any]
) -> None:
    value, theirs, own, idle = 0.7, fresh(), fresh(), fresh()
    expected = trained(tool(theirs.parameters(), lr=0.1, weight_decay=value, **options), theirs.weight)
    bare = ours(own.parameters(), lr=0.1, weight_decay=0.0, **options)
    attach(
        bare,
        own,
        regularizer,
        strength=from_convention(name, value, regularizer=regularizer, optimizer=bare),
    )
    torch.testing.assert_close(trained(bare, own.weight), expected, rtol=1e-12, atol=1e-14)
    undecayed = trained(ours(idle.parameters(), lr=0.1, weight_decay=0.0, **options), idle.weight)
    assert (expected - undecayed).abs().max() > 0.01


def test_the_papers_own_recursion_is_ours_at_its_strength_over_the_base_learning_rate() -> None:
    """Algorithm 2 written out: θ ← θ − m_t·(α·m̂/(√v̂+ε) + λ·θ), with m_t the schedule's multiplier alone."""
    alpha, paper, steps, (beta1, beta2) = 0.05, 0.03, 25, (0.9, 0.999)
    layer = fresh()
    weight = layer.weight.detach().numpy().copy()
    noise = torch.Generator().manual_seed(0)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(steps):
        multiplier = 1 - step / steps
        gradient = torch.randn(weight.shape, generator=noise, dtype=torch.float64).numpy() + weight
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        update = first / (1 - beta1 ** (step + 1)) / (np.sqrt(second / (1 - beta2 ** (step + 1))) + 1e-8)
        weight = weight - multiplier * (alpha * update + paper * weight)
    at = Numbers(base_lr=alpha)
    optimizer = AdamW(layer.parameters(), lr=alpha, weight_decay=0.0)
    strength = from_convention("adamw-paper", paper, regularizer="decoupled", optimizer=optimizer, numbers=at)
    assert strength == pytest.approx(0.6)
    attach(optimizer, layer, "decoupled", strength=strength)
    assert trained(optimizer, layer.weight).numpy() == pytest.approx(weight, abs=1e-12)


def test_a_keras_regularizer_in_the_loss_is_our_l2_at_twice_its_value() -> None:
    value, in_loss, own = 0.3, fresh(), fresh()
    inputs = torch.randn(10, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sgd = SGD(own.parameters(), lr=0.1)
    attach(sgd, own, "l2", strength=from_convention("keras-l2", value, regularizer="l2", optimizer=sgd))
    plain = SGD(in_loss.parameters(), lr=0.1)
    for _ in range(10):
        for optimizer, layer, penalty in ((plain, in_loss, value), (sgd, own, 0.0)):
            optimizer.zero_grad()
            (layer(inputs).square().mean() + penalty * layer.weight.square().sum()).backward()
            optimizer.step()
    torch.testing.assert_close(own.weight, in_loss.weight, rtol=1e-12, atol=1e-14)


def test_keras_weight_decay_takes_variable_times_decay_times_learning_rate_away() -> None:
    value, lr, layer = 0.4, 0.1, fresh()
    expected = layer.weight.detach() - layer.weight.detach() * value * lr
    sgd = SGD(layer.parameters(), lr=lr)
    strength = from_convention("keras-weight-decay", value, regularizer="decoupled", optimizer=sgd)
    attach(sgd, layer, "decoupled", strength=strength)
    layer.weight.grad = torch.zeros_like(layer.weight)
    sgd.step()
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("batch", "accumulate", "expected"),
    [(16, 4, 5e-4), (64, 1, 5e-4), (24, 3, 5.625e-4), (40, 2, 6.25e-4), (128, 1, 1e-3), (1, 64, 5e-4)],
)
@pytest.mark.parametrize(("regularizer", "optimizer"), [("l2", "sgd"), ("l2", "adam"), ("decoupled", "adamw")])
def test_ultralytics_scales_its_default_by_batch_and_accumulation_over_64(
    batch: int, accumulate: int, expected: float, regularizer: str, optimizer: str
) -> None:
    at = Numbers(batch_size=batch, accumulate=accumulate)
    found = from_convention("ultralytics", 5e-4, regularizer=regularizer, optimizer=optimizer, numbers=at)
    assert found == pytest.approx(expected, rel=1e-12)


# --- scikit-learn: closed fits against full-batch fits at the translated λ --------------------------------------------

SQUARED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda errors: errors.square().mean(),
    "half_mean": lambda errors: 0.5 * errors.square().mean(),
    "sum": lambda errors: errors.square().sum(),
    "half_sum": lambda errors: 0.5 * errors.square().sum(),
}
PACE = {"mean": 0.1, "half_mean": 0.2, "sum": 0.1 / SAMPLES, "half_sum": 0.2 / SAMPLES}


def regression() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SAMPLES, FEATURES))
    return inputs, inputs @ np.array([1.5, -2.0, 0.05, 0.9]) + 0.7 + 0.3 * rng.normal(size=SAMPLES)


def classification() -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(60, FEATURES))
    return inputs, (inputs @ rng.normal(size=(FEATURES, 3)) + rng.gumbel(size=(60, 3))).argmax(axis=1)


def fit(
    layer: nn.Linear, loss: Callable[[Tensor], Tensor], inputs: Array, regularizer: str, name: str, value: float,
    numbers: Numbers, *, lr: float, momentum: float = 0.0, steps: int = 600,
) -> None:  # fmt: skip
    """Full-batch SGD with our regularizer at the λ of a value in a convention."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    optimizer = SGD(layer.parameters(), lr=lr * (1 - momentum), momentum=momentum)
    strength = from_convention(name, value, regularizer=regularizer, optimizer=optimizer, numbers=numbers)
    attach(optimizer, layer, regularizer, strength=strength)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(layer(torch.from_numpy(inputs))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("reduction", SQUARED)
@pytest.mark.parametrize(
    ("regularizer", "momentum"), [("l2", 0.0), ("l2", 0.9), ("decoupled", 0.0), ("decoupled", 0.5)]
)
def test_the_translated_alpha_of_ridge_is_fitted_by_sgd(reduction: str, regularizer: str, momentum: float) -> None:
    inputs, targets = regression()
    layer, goal = nn.Linear(FEATURES, 1).double(), torch.from_numpy(targets)
    at = Numbers(reduction=reduction, n_samples=SAMPLES)

    def loss(outputs: Tensor) -> Tensor:
        return SQUARED[reduction](outputs.squeeze(1) - goal)

    fit(layer, loss, inputs, regularizer, "sklearn-ridge", 6.0, at, lr=PACE[reduction], momentum=momentum)
    expected = Ridge(alpha=6.0, solver="cholesky").fit(inputs, targets)
    assert layer.weight.detach().numpy().ravel() == pytest.approx(expected.coef_, abs=1e-6)
    assert layer.bias.item() == pytest.approx(expected.intercept_, abs=1e-6)


WEIGHTS = np.array([0.5, 1.0, 3.0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
def test_the_translated_c_of_logistic_regression_is_fitted_by_sgd(reduction: str) -> None:
    inputs, labels = classification()
    weighted = reduction == "weighted_mean"
    weights = WEIGHTS if weighted else np.ones(3)
    at = Numbers(reduction=reduction, n_samples=len(labels), weight_sum=float(weights[labels].sum()))
    layer, goal = nn.Linear(FEATURES, 3).double(), torch.from_numpy(labels)
    weight = torch.from_numpy(weights) if weighted else None

    def loss(outputs: Tensor) -> Tensor:
        return F.cross_entropy(outputs, goal, weight=weight, reduction="sum" if reduction == "sum" else "mean")

    pace = 1.0 / len(labels) if reduction == "sum" else 1.0
    fit(layer, loss, inputs, "l2", "sklearn-logistic", 0.2, at, lr=pace, steps=1500)
    expected = LogisticRegression(C=0.2, class_weight=dict(enumerate(weights)), tol=1e-10, max_iter=2000)
    expected.fit(inputs, labels)
    found = layer.weight.detach().numpy()
    assert found - found.mean(axis=0) == pytest.approx(expected.coef_ - expected.coef_.mean(axis=0), abs=1e-5)


def test_ignored_pixels_are_no_samples() -> None:
    """A 1x1 convolution with pixel cross-entropy: n counts the valid pixels."""
    inputs, labels = classification()
    marked = labels.copy()
    marked[::4] = 255
    valid = marked != 255
    layer, goal = nn.Linear(FEATURES, 3).double(), torch.from_numpy(marked)
    at = Numbers(reduction="mean", n_samples=int(valid.sum()))

    def loss(outputs: Tensor) -> Tensor:
        image = outputs.T.reshape(1, 3, 6, 10)
        return F.cross_entropy(image, goal.reshape(1, 6, 10), ignore_index=255)

    fit(layer, loss, inputs, "l2", "sklearn-logistic", 0.2, at, lr=1.0, steps=1500)
    expected = LogisticRegression(C=0.2, tol=1e-10, max_iter=2000).fit(inputs[valid], labels[valid])
    found = layer.weight.detach().numpy()
    assert found - found.mean(axis=0) == pytest.approx(expected.coef_ - expected.coef_.mean(axis=0), abs=1e-5)


@pytest.mark.parametrize("reduction", SQUARED)
@pytest.mark.parametrize(("ratio", "alpha"), [(1.0, 0.15), (0.6, 0.4)])
def test_the_fit_of_lasso_and_elastic_net_is_stationary_in_our_objective(
    reduction: str, ratio: float, alpha: float
) -> None:
    """0 is in the subgradient of L + λ·(ratio·Σ|w| + (1−ratio)·½Σw²) at scikit-learn's solution."""
    inputs, targets = regression()
    name, regularizer = ("sklearn-lasso", "l1") if ratio == 1.0 else ("sklearn-elasticnet", "elastic_net")
    model = Lasso(alpha=alpha, tol=1e-12) if ratio == 1.0 else ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-12)
    model.fit(inputs, targets)
    at = Numbers(reduction=reduction, n_samples=SAMPLES)
    strength = from_convention(name, alpha, regularizer=regularizer, optimizer="sgd", numbers=at)
    weight = torch.tensor(model.coef_, requires_grad=True)
    errors = torch.from_numpy(inputs) @ weight + float(model.intercept_) - torch.from_numpy(targets)
    (gradient,) = torch.autograd.grad(SQUARED[reduction](errors), weight)
    smooth = (gradient + strength * (1 - ratio) * weight.detach()).numpy()
    zero = model.coef_ == 0
    assert zero.any()
    assert not zero.all()
    scale = strength * ratio
    assert smooth[~zero] / scale == pytest.approx(-np.sign(model.coef_[~zero]), abs=1e-6)
    assert (np.abs(smooth[zero]) < scale).all()
