"""Policies that set single weights to exactly zero: l1 and elastic net, as proximal steps after the update.

Knows tensors, strengths and the optimizer's step; nothing of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from segdecay.decay.axes import Axis, lambda_axis, relative_axis, validate_strength
from segdecay.decay.foreach import absolute_sum, half_square_sum, shrink_, signs
from segdecay.decay.penalties import shifted_by
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.decay.step_size import coordinate_steps, sgd_step_size, validate_step_size
from segdecay.errors import DecayError, unknown

UNIT = "λ of the penalty λ·R"
METHODS = ("proximal", "subgradient")


class _Proximal(Policy):
    """R = l1_ratio·Σ|θ| + (1 − l1_ratio)·½Σθ² by its proximal step."""

    l1_ratio: float = 1.0
    _is_sgd: bool = False

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        validate_step_size(self.name, optimizer)
        if optimizer.is_sgd:
            return relative_axis(optimizer.coupling)
        return lambda_axis(
            f"{optimizer.name} gives each weight a step of its own, by the size of its gradients, and the proximal "
            f"step shrinks by the same: a weight without gradient is zeroed at once, so Σ η·λ predicts nothing.",
            UNIT,
        )

    def bind(self, binding: Binding) -> None:
        validate_step_size(self.name, binding.traits, binding)
        self._is_sgd = binding.traits.is_sgd

    def validate(self, strength: float, lr: float) -> None:
        """Any finite strength that is not negative: a step never goes past zero."""
        del lr
        validate_strength(strength)

    def size(self, binding: Binding) -> float | None:
        """m/(l1_ratio + (1 − l1_ratio)·m) for the median m of |θ|: one over the relative pull on a weight of size m."""
        entries = [binding.parameters[name].detach().abs().float().flatten().cpu() for name in binding.decayed()]
        if not entries:
            return None
        median = float(torch.cat(entries).median())
        return median / (self.l1_ratio + (1 - self.l1_ratio) * median)

    def after_update_(self, bucket: Bucket) -> None:
        for part in bucket.parts():
            steps = sgd_step_size(part.lr, part.group) if self._is_sgd else coordinate_steps(part)
            shrink_(part.parameters, steps, part.strength * self.l1_ratio, part.strength * (1 - self.l1_ratio))

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        del names
        total = self.l1_ratio * absolute_sum(parameters)
        return total if self.l1_ratio == 1 else total + (1 - self.l1_ratio) * half_square_sum(parameters)


class L1(_Proximal):
    """L1 (lasso): R = Σ|θ|, as a proximal step after the optimizer's update, which makes exact zeros.

    For: few weights that matter, the rest exactly zero; comparing with the lasso, whose solution it reaches.
    Not for: faster networks: single zeros in dense kernels save nothing, see 'group_lasso'. A convolution before a norm
        layer is scale-invariant: there the penalty shrinks the weights without changing the function.
    Minimises: the stated objective, under SGD and the adaptive optimizers that are allowed. Each coordinate is shrunk
        by the step t that its gradient gets: η·(1 − dampening)/(1 − μ) under SGD (with η alone the fixed point would
        have λ·(1 − μ)); η/(√v̂ + ε) through Adam, AdamW and NAdam, after the update, with amsgrad's v̂ where it is on;
        their own t through RAdam, Adamax, RMSprop and Adagrad. Others have no such t and are refused. Idle weights,
        that is those without gradient: |θ| − Σ t·λ under SGD, not below 0. Through Adam t is η/ε for a weight that
        never had a gradient, and it is zero after one step unless λ is below |θ|·ε/η.
    Defaults: no strength; method 'proximal'. 'subgradient' adds λ·sign(θ) to the gradient: for optimizers that are
        refused here; it makes no exact zeros, weights jitter about zero by the size of a step. Axis relative_shrinkage
        Σ t·λ / median initial |θ| under SGD: at 1 an idle weight of median size just reaches zero; axis lambda through
        other optimizers. Norm and bias are left out.
    Source: Tibshirani, 1996; scikit-learn's Lasso(alpha=λ/2) for a mean squared error; the step is ISTA of Beck and
        Teboulle, 2009, eq. 1.4. Differs in: t for momentum and for Adam.
    """

    name = "l1"
    formula = "θ ← soft(θ − η·u, t·λ),  soft(x, s) = sign(x)·max(|x| − s, 0)"
    plain_formula = "weight = soft(weight - lr * update, t * lambda), soft(x, s) = sign(x) * max(abs(x) - s, 0)"

    def __init__(self, *, method: str = "proximal") -> None:
        if method not in METHODS:
            raise DecayError(unknown("method of l1", method, METHODS))
        self.method = method

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        if self.method == "proximal":
            return super().axis(optimizer)
        if optimizer.is_sgd:
            return replace(relative_axis(optimizer.coupling), exact=False)
        return lambda_axis(
            f"{optimizer.name} changes the size of the gradient, and of the penalty in it: a weight without gradient "
            f"goes to 0 for every λ above 0, however small, so Σ η·λ predicts nothing.",
            "λ added as λ·sign(w) to the gradient",
        )

    def bind(self, binding: Binding) -> None:
        if self.method == "proximal":
            super().bind(binding)

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor] | None:
        """The gradients g + λ·sign(θ) with the method 'subgradient'.

        Raises:
            DecayError: a gradient is sparse.
        """
        if self.method == "proximal":
            return None
        parts = [shifted_by(part, signs(part.parameters), "λ·sign(w)") for part in bucket.parts()]
        return [gradient for part in parts for gradient in part]

    def after_update_(self, bucket: Bucket) -> None:
        if self.method == "proximal":
            super().after_update_(bucket)


class ElasticNet(_Proximal):
    """Elastic net: R = l1_ratio·Σ|θ| + (1 − l1_ratio)·½Σθ², as a proximal step after the optimizer's update.

    For: exact zeros in single weights where inputs are correlated, and l1 alone would keep one of each set.
    Not for: faster networks: single zeros in dense kernels save nothing, see 'group_lasso'. A convolution before a norm
        layer is scale-invariant: there the penalty shrinks the weights without changing the function.
    Minimises: the stated objective, under the same optimizers as 'l1' and with the same step t for each coordinate.
        Idle weights under SGD: θ ← soft(θ, t·λ·l1_ratio)/(1 + t·λ·(1 − l1_ratio)) at every step. Through Adam t is
        η/ε for a weight that never had a gradient, and it goes to zero at once.
    Defaults: no strength; l1_ratio 0.5, from 0 (ridge) to 1 (l1): λ = l1 + l2, l1_ratio = l1/(l1 + l2). Axis
        relative_shrinkage under SGD, Σ t·λ·(l1_ratio/m + 1 − l1_ratio) with m the median initial |θ|: that of l1 at
        l1_ratio 1, and D at 0; axis lambda through other optimizers. Norm and bias are left out.
    Source: Zou and Hastie, 2005; scikit-learn's ElasticNet(alpha=λ/2, l1_ratio) for a mean squared error; the step is
        that of Parikh and Boyd, Proximal Algorithms, 2014, section 6.5.3. Differs in: t for momentum and for Adam.
    """

    name = "elastic_net"
    formula = "θ ← soft(θ − η·u, t·λ·ρ)/(1 + t·λ·(1 − ρ)),  ρ = l1_ratio"
    plain_formula = "weight = soft(weight - lr * update, t * lambda * ratio) / (1 + t * lambda * (1 - ratio))"

    def __init__(self, *, l1_ratio: float = 0.5) -> None:
        if not 0 <= l1_ratio <= 1:
            raise DecayError(
                f"l1_ratio must be from 0 to 1; saw {l1_ratio}. It is l1/(l1 + l2): 0 is ridge, 1 is l1, 0.5 the "
                f"default."
            )
        self.l1_ratio = l1_ratio
