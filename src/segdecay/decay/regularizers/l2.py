"""L2, which adds the gradient of its penalty to the gradient, and helpers for such regularizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segdecay.decay.axes import StrengthAxis, lambda_axis, sgd_axis
from segdecay.decay.foreach import add_scaled
from segdecay.decay.regularizers.base import Bucket, OptimizerTraits, Regularizer
from segdecay.errors import DecayError


class L2(Regularizer):
    """Coupled L2: the gradient of λ·½Σθ² is added to the gradient before the optimizer's update.

    For: minimising L(θ) = L_original(θ) + λ·½Σθ² exactly; SGD with or without momentum; comparing with ridge or
        logistic regression, whose solutions it reaches exactly.
    Not for: Adam and similar optimizers, if all weights should decay alike. They divide the penalty by the size of the
        gradients: weights with small gradients shrink at once, those with large ones hardly. Use 'decoupled' there. A
        convolution before a norm layer is scale-invariant: its decay sets the effective learning rate, not the
        capacity.
    Minimises: the stated objective, under every optimizer that converges; R = ½ Σ θ² over the parameters that decay.
    Defaults: no strength; axis total_decay D = Σ η·λ/(1−μ) under SGD, to first order, while η·λ is far below (1−√μ)²;
        axis lambda through adaptive optimizers, where D predicts nothing. Norm and bias are left out.
    Source: torch.optim.SGD and torch.optim.Adam with weight_decay do the same; Krogh and Hertz, 1991.
    """

    name = "l2"
    takes_complex = True
    formula = "g ← g + λ·θ"
    plain_formula = "gradient = gradient + lambda * weight"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        if optimizer.is_sgd:
            return sgd_axis(optimizer.coupling)
        return lambda_axis(
            f"{optimizer.name} divides the gradient, and the penalty in it, by its own size: a weight without gradient "
            f"goes to 0 for every λ above 0, however small, so Σ η·λ predicts nothing."
        )

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor]:
        """The gradients g + λ·θ, scaled as the gradients are; g − λ·θ if the optimizer maximizes.

        Raises:
            DecayError: a gradient is sparse.
        """
        return shifted_by(bucket, bucket.parameters, "λ·w")


def shifted_by(bucket: Bucket, directions: Sequence[Tensor], what: str) -> list[Tensor]:
    """The gradients g + λ·direction, scaled as the gradients are; g − λ·direction if the optimizer maximizes.

    Raises:
        DecayError: a gradient is sparse; `what` names the penalty's gradient in the message.
    """
    refuse_sparse(bucket, what)
    sign = -1.0 if bucket.maximize else 1.0
    return add_scaled(bucket.gradients, directions, sign * bucket.grad_scale * bucket.strength)


def refuse_sparse(bucket: Bucket, what: str = "λ·w") -> None:
    """Raise DecayError if a gradient is sparse, since a penalty's dense gradient cannot be added to it."""
    sparse = [n for n, g in zip(bucket.names, bucket.gradients, strict=True) if g.layout != torch.strided]
    if sparse:
        raise DecayError(
            f"Sparse gradients cannot carry {what}, which is dense: {', '.join(sparse)}. Use sparse=False in the "
            f"embedding, or the regularizer 'decoupled'."
        )
