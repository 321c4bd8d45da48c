"""Full-batch fixed points against scikit-learn and scipy, in float64. Intercepts are not penalised.

SGD and Adam with the regularizer l2 minimise the stated objective; decoupled does not, and these tests say what it
does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from decay_nets import descend
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segdecay.decay import attach

torch.set_num_threads(1)
Array = NDArray[np.float64]
TOLERANCE = 1e-6
SAMPLES, FEATURES = 40, 4


def regression() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SAMPLES, FEATURES))
    targets = inputs @ np.array([1.5, -2.0, 0.3, 0.9]) + 0.7 + 0.3 * rng.normal(size=SAMPLES)
    return inputs, targets


def classification() -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(60, FEATURES))
    scores = inputs @ rng.normal(size=(FEATURES, 3)) + rng.gumbel(size=(60, 3))
    return inputs, scores.argmax(axis=1)


def converge(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[], Tensor],
    regularizer: str,
    strength: float,
    *,
    steps: int,
    shrink_lr_to: float | None = None,
    multipliers: dict[str, float] | None = None,
) -> None:
    """Full-batch steps, at a constant or a geometrically falling learning rate."""
    attach(optimizer, model, regularizer, strength=strength, multipliers=multipliers)
    descend(optimizer, loss, steps, shrink_lr_to)


def linear(outputs: int = 1) -> nn.Linear:
    layer = nn.Linear(FEATURES, outputs).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def squared_error(model: nn.Module, reduction: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    inputs, targets = (torch.from_numpy(array) for array in regression())
    return lambda: reduction((model(inputs).squeeze(1) - targets).square())


def assert_is_ridge(model: nn.Linear, alpha: float, tolerance: float = TOLERANCE) -> None:
    expected = Ridge(alpha=alpha, solver="cholesky").fit(*regression())
    assert model.weight.detach().numpy().ravel() == pytest.approx(expected.coef_, abs=tolerance)
    assert model.bias.item() == pytest.approx(expected.intercept_, abs=tolerance)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("reduction", "alpha", "lr"),
    [
        (lambda errors: errors.mean(), SAMPLES / 2, 0.1),
        (lambda errors: 0.5 * errors.mean(), SAMPLES, 0.2),
        (lambda errors: errors.sum(), 0.5, 0.1 / SAMPLES),
        (lambda errors: 0.5 * errors.sum(), 1.0, 0.2 / SAMPLES),
    ],
    ids=["mean", "half-mean", "sum", "half-sum"],
)
def test_l2_under_sgd_is_ridge(reduction: Callable[[Tensor], Tensor], alpha: float, lr: float, momentum: float) -> None:
    strength = 0.3
    model = linear()
    optimizer = SGD(model.parameters(), lr=lr * (1 - momentum), momentum=momentum)
    converge(model, optimizer, squared_error(model, reduction), "l2", strength, steps=500)
    assert_is_ridge(model, alpha * strength)


def test_l2_through_adam_reaches_ridge_by_another_path() -> None:
    model = linear()
    loss = squared_error(model, torch.mean)
    converge(model, Adam(model.parameters(), lr=0.1), loss, "l2", 0.3, steps=1500, shrink_lr_to=1e-7)
    assert_is_ridge(model, 0.3 * SAMPLES / 2)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_decoupled_under_sgd_is_ridge_with_lambda_times_one_minus_momentum(momentum: float) -> None:
    model = linear()
    optimizer = SGD(model.parameters(), lr=0.1 * (1 - momentum), momentum=momentum)
    converge(model, optimizer, squared_error(model, torch.mean), "decoupled", 0.5, steps=900)
    assert_is_ridge(model, 0.5 * (1 - momentum) * SAMPLES / 2)


def test_decoupled_under_adam_is_least_squares_in_a_box_and_not_ridge() -> None:
    inputs, targets = regression()
    strength, model = 0.8, linear()
    optimizer = AdamW(model.parameters(), lr=0.02, betas=(0.9, 0.95), weight_decay=0.0)
    loss = squared_error(model, torch.mean)
    everywhere = {"bias": 1.0}
    converge(model, optimizer, loss, "decoupled", strength, steps=2500, shrink_lr_to=2e-3, multipliers=everywhere)
    found = np.append(model.weight.detach().numpy().ravel(), model.bias.item())
    with_ones = np.column_stack([inputs, np.ones(SAMPLES)])
    box = lsq_linear(with_ones, targets, bounds=(-1 / strength, 1 / strength), tol=1e-12)
    assert found == pytest.approx(box.x, abs=2e-2)
    assert np.abs(found).max() == pytest.approx(1 / strength, abs=1e-2)
    ridge = Ridge(alpha=strength * SAMPLES / 2).fit(inputs, targets)
    assert np.abs(found[:-1] - ridge.coef_).max() > 0.1


def test_l2_with_one_multiplier_a_part_is_ridge_on_rescaled_columns() -> None:
    inputs, targets = regression()
    strengths = np.array([0.2, 0.2, 0.05, 0.05])

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(2, 1, bias=False)
            self.head = nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.stem(x[:, :2]) + self.head(x[:, 2:])
            return result

    model = Parts().double()
    optimizer = SGD(model.parameters(), lr=0.1)
    loss = squared_error(model, torch.mean)
    converge(model, optimizer, loss, "l2", 0.2, steps=900, multipliers={"head": 0.25})
    expected = Ridge(alpha=SAMPLES / 2, solver="cholesky").fit(inputs / np.sqrt(strengths), targets)
    found = torch.cat([model.stem.weight, model.head.weight], dim=1).detach().numpy().ravel()
    assert found == pytest.approx(expected.coef_ / np.sqrt(strengths), abs=TOLERANCE)


def logistic(strength: float, inputs: Array, labels: Sequence[int] | NDArray[np.int64], **options: Any) -> Array:
    total = options.pop("total")
    model = LogisticRegression(C=1 / (total * strength), tol=1e-12, max_iter=10_000, solver="newton-cg", **options)
    coefficients: Array = model.fit(inputs, labels).coef_
    return coefficients


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l2_on_mean_cross_entropy_is_logistic_regression(momentum: float) -> None:
    inputs, labels = classification()
    x, y, model = torch.from_numpy(inputs), torch.from_numpy(labels), linear(3)
    optimizer = SGD(model.parameters(), lr=(1 - momentum), momentum=momentum)
    converge(model, optimizer, lambda: F.cross_entropy(model(x), y), "l2", 0.05, steps=600)
    expected = logistic(0.05, inputs, labels, total=len(labels))
    assert model.weight.detach().numpy() == pytest.approx(expected, abs=TOLERANCE)


def test_l2_on_summed_cross_entropy_is_logistic_regression_with_c_one_over_lambda() -> None:
    inputs, labels = classification()
    x, y, model = torch.from_numpy(inputs), torch.from_numpy(labels), linear(3)
    optimizer = SGD(model.parameters(), lr=1 / len(labels))
    converge(model, optimizer, lambda: F.cross_entropy(model(x), y, reduction="sum"), "l2", 3.0, steps=600)
    assert model.weight.detach().numpy() == pytest.approx(logistic(3.0, inputs, labels, total=1), abs=TOLERANCE)


def test_l2_on_class_weighted_cross_entropy_is_class_weighted_logistic_regression() -> None:
    inputs, labels = classification()
    weights = np.array([0.5, 1.0, 3.0])
    x, y, w, model = torch.from_numpy(inputs), torch.from_numpy(labels), torch.from_numpy(weights), linear(3)
    optimizer = SGD(model.parameters(), lr=1.0)
    converge(model, optimizer, lambda: F.cross_entropy(model(x), y, weight=w), "l2", 0.05, steps=800)
    total = weights[labels].sum()
    expected = logistic(0.05, inputs, labels, total=total, class_weight=dict(enumerate(weights)))
    assert model.weight.detach().numpy() == pytest.approx(expected, abs=TOLERANCE)


def test_l2_on_a_1x1_convolution_with_ignored_pixels_is_logistic_regression_on_the_valid_ones() -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(2, FEATURES, 6, 7))
    masks = (images[:, :3] + rng.gumbel(size=(2, 3, 6, 7))).argmax(axis=1)
    masks[rng.random(masks.shape) < 0.3] = 255
    x, y = torch.from_numpy(images), torch.from_numpy(masks)
    model = nn.Conv2d(FEATURES, 3, 1).double()
    optimizer = SGD(model.parameters(), lr=1.0)
    converge(model, optimizer, lambda: F.cross_entropy(model(x), y, ignore_index=255), "l2", 0.05, steps=900)
    valid = masks != 255
    expected = logistic(0.05, images.transpose(0, 2, 3, 1)[valid], masks[valid], total=int(valid.sum()))
    assert model.weight.detach().numpy()[:, :, 0, 0] == pytest.approx(expected, abs=TOLERANCE)
