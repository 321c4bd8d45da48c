"""Dropout as a comparator: ridge on linear inputs, its axis, and what attach() says instead of attaching."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from segdecay.decay import attach, axis_of, paste_lines
from segdecay.decay.regularizers.dropout import ridge_of_dropout
from segdecay.errors import DecayError
from segdecay.models.unet import ConvBlock

torch.set_num_threads(1)
P = 0.3
FEATURES = 4


def regression() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 2.0, 1.0], dtype=torch.float64)
    inputs = torch.randn(40, FEATURES, generator=draw, dtype=torch.float64) * scale
    noise = torch.randn(40, generator=draw, dtype=torch.float64)
    return inputs, inputs @ torch.tensor([1.5, -2.0, 0.3, 0.9], dtype=torch.float64) + 0.7 + 0.3 * noise


def test_the_mean_over_all_masks_is_ridge_with_the_strengths_of_ridge_of_dropout() -> None:
    inputs, targets = regression()
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=FEATURES)), dtype=torch.float64)
    chance = torch.where(masks > 0, 1 - P, P).prod(dim=1)
    model = nn.Linear(FEATURES, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        dropped = inputs * masks.unsqueeze(1) / (1 - P)  # (masks, images, features)
        errors = (model(dropped).squeeze(2) - targets).square().mean(dim=1)
        (chance * errors).sum().backward()
        optimizer.step()
    strengths = ridge_of_dropout(P, inputs).numpy()
    fitted = Ridge(alpha=len(targets) / 2, solver="cholesky").fit(inputs.numpy() / np.sqrt(strengths), targets.numpy())
    assert model.weight.detach().numpy().ravel() == pytest.approx(fitted.coef_ / np.sqrt(strengths), abs=1e-8)
    assert model.bias.item() == pytest.approx(fitted.intercept_, abs=1e-8)


def test_the_dropout_of_the_built_in_block_costs_that_ridge_in_expectation() -> None:
    inputs, targets = regression()
    weight = torch.tensor([1.0, -0.5, 0.2, 2.0], dtype=torch.float64)
    (layer,) = [module for module in ConvBlock(3, FEATURES, "batch", P).modules() if isinstance(module, nn.Dropout2d)]
    torch.manual_seed(0)
    draws = 20_000
    images = inputs.repeat(draws // 40, 1)[:, :, None, None].expand(-1, -1, 2, 2)  # a channel is dropped as one
    errors = (layer(images)[:, :, 0, 1] @ weight - targets.repeat(draws // 40)).square()
    expected = (inputs @ weight - targets).square().mean() + 0.5 * (ridge_of_dropout(P, inputs) * weight**2).sum()
    standard_error = float(errors.std()) / draws**0.5
    assert float(errors.mean()) == pytest.approx(float(expected), abs=4 * standard_error)
    assert standard_error < 0.03 * float(expected)


def test_attach_refuses_it_and_says_what_to_do() -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.3)
    with pytest.raises(DecayError, match=r"forward pass.*nn\.Dropout2d\(p\).*segdecay tune --decay dropout"):
        attach(optimizer, net, "dropout", strength=0.2, take_over=True)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


def test_its_axis_ends_below_one() -> None:
    axis = axis_of("dropout", "sgd")
    assert (axis.name, axis.default_grid, axis.none, axis.largest([0.1])) == ("dropout", (0, 0.1, 0.2, 0.3, 0.5), 0, 1)
    assert axis.to_strength(0.5, [0.1]) == 0.5
    for value in (1.0, 1.5, -0.1):
        with pytest.raises(DecayError, match="dropout must be"):
            axis.validate(value)
    with pytest.raises(DecayError, match="p must be from 0 to below 1; saw 1"):
        ridge_of_dropout(1.0, torch.ones(1, 1))


def test_lines_to_paste_name_p_and_decay_nothing() -> None:
    lines = paste_lines("dropout", "adamw", 0.2, 0.01)
    assert "torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)" in lines
    assert "The model is built with dropout p = 0.2" in lines


def test_lines_to_paste_carry_options_and_bounds() -> None:
    lines = paste_lines("l2_sp", "adamw", 0.2, 0.01, regularizer_options={"new": ["head"]}, learning_rates=[0.01] * 10)
    assert "attach(optimizer, model, 'l2_sp', strength=0.2, options={'new': ['head']}" in lines
    assert "keep D = 0.02" in lines
    lines = paste_lines("max_norm", "sgd", 2.0, 0.01)
    assert "attach(optimizer, model, 'max_norm', strength=2.0" in lines
    assert "max_norm = 2 does not depend on schedule, epochs or batch size." in lines
    lines = paste_lines("max_norm", "sgd", float("inf"), 0.01)
    assert "attach" not in lines
    assert "Nothing decays" in lines
