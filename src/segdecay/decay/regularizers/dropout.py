"""Dropout, to compare with weight decay: its axis and its equivalent ridge penalty. It acts in the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from segdecay.decay.axes import StrengthAxis
from segdecay.decay.regularizers.base import Binding, OptimizerTraits, Regularizer
from segdecay.errors import DecayError

DROPOUT_GRID = (0.0, 0.1, 0.2, 0.3, 0.5)  # Srivastava et al. use .2 on inputs, .5 on hidden units


class Dropout(Regularizer):
    """Dropout: in training each channel is zeroed with probability p and the others are divided by 1 − p.

    For: a comparison with decay on the same folds; large networks without much normalisation.
    Not for: attach(): it acts in the model's forward pass, so build the model with nn.Dropout2d(p), or the built-in
        U-Net with model.dropout = p. `segdecay tune --decay dropout` does that for every strength. Nor for blocks with
        batch norm after the dropout, whose variances differ between training and prediction.
    Minimises: the mean of L over all masks. For a linear model and squared error that is ridge with
        λ_j = 2p/(1−p)·mean(x_j²) for input j, exactly (`ridge_of_dropout`); elsewhere no λR.
    Defaults: axis dropout, p from 0 to below 1; grid 0, .1, .2, .3, .5. Group multipliers and rules do not apply.
    Source: Srivastava et al., JMLR 2014; Tompson et al., CVPR 2015, drop whole channels, as torch.nn.Dropout2d does;
        Wager, Wang and Liang, NeurIPS 2013, for ridge.
    """

    name = "dropout"
    in_model: ClassVar[bool] = True
    formula = "h ← h·m/(1 − p), m = 0 with probability p, else 1, a channel"
    plain_formula = "feature = feature * mask / (1 - p), mask = 0 with probability p, else 1, a channel"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        unit = "p, the probability of zeroing a channel"
        reason = "it zeroes features, not weights."
        return StrengthAxis(self.name, unit, DROPOUT_GRID, has_lambda=False, exact=False, reason=reason, below=1.0)

    def bind(self, binding: Binding) -> None:
        del binding
        raise DecayError(
            "Dropout acts in the model's forward pass, not in the optimizer. Build the model with it "
            "(nn.Dropout2d(p) after its blocks; model.dropout=p for the built-in U-Net) and attach another regularizer "
            "or none at all. `segdecay tune --decay dropout` searches p for the built-in U-Net."
        )

    def validate(self, strength: float, lr: float) -> None:
        del lr
        if not 0 <= strength < 1:
            raise DecayError(f"Dropout's p must be from 0 to below 1; saw {strength:g}.")

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        del names, parameters
        return 0.0


def ridge_of_dropout(
    p: float,
    inputs: Tensor,  # (N, features) of a linear layer
) -> Tensor:  # (features,)
    """λ_j of the ridge penalty ½ Σ λ_j w_j² to which dropout of the inputs is equivalent under mean squared error.

    λ_j = 2p/(1−p) · mean(x_j²)

    Raises:
        DecayError: p is not in [0, 1).

    Example:
        >>> import torch
        >>> ridge_of_dropout(0.5, torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        tensor([2., 4.])

    Source: Srivastava et al., JMLR 2014, section 9.1; differs in: features are divided by 1 − p in training.
    """
    Dropout().validate(p, 0.0)
    return 2 * p / (1 - p) * inputs.square().mean(dim=0)
