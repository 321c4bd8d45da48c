"""Decoupled decay divided by the size of the gradients, which Adam's second moment gives.

Knows tensors, strengths and the state of Adam's kin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from segdecay.decay.axes import Axis, lambda_axis, validate_strength
from segdecay.decay.foreach import multiply_, norms, sums
from segdecay.decay.policy import KNOWN_OPTIMIZERS, Binding, Bucket, OptimizerTraits, Policy
from segdecay.errors import DecayError

WITH_SECOND_MOMENT = ("adam", "adamw", "nadam", "radam")  # of torch: those that keep exp_avg_sq
LARGEST_SHARE = 1 - 2**-20  # of the weights that one step may remove; float32 resolves it
Held = tuple[list[Tensor], list[Mapping[str, Any]]]  # gradients, states


class Scheduled(Policy):
    """Scheduled weight decay (SWD, AdamS): decoupled decay, stronger where the gradients of the whole model are small.

    For: Adam and AdamW, where late in training large gradient norms are to be avoided: the decay grows as the
        gradients shrink, so that weights do not settle where gradients are large.
    Not for: comparing strengths between data sets, losses or schedules: the pull depends on the scale of the loss.
        Optimizers without a second moment (exp_avg_sq), such as SGD.
    Minimises: not the stated objective; λR is shown, not minimised.
    Defaults: no strength (the authors' λ for Adam: 5e-4); axis lambda: D predicts nothing, as the gradients set the
        pull. v̄ is the mean, over all entries of all parameters with gradients, of the bias-corrected second moment
        with this step's gradient in it. η·λ/√v̄ is kept below 1: a step never flips a sign; where all gradients
        vanish it removes the weights. An idle weight is multiplied by 1 − η·λ/√v̄ each step. Norm and bias are left
        out, but their gradients count in v̄.
    Source: Xie, Xu, Zhang, Sato and Sugiyama, NeurIPS 2023; AdamS of pytorch_optimizer, which adds ε to √v̄ as here;
        differs in: the bound below 1.
    """

    name = "scheduled"
    whole_tensors: ClassVar[bool] = True
    formula = "θ ← (1 − η·λ/(√v̄ + ε))·θ − η·u, v̄ = mean of v̂ over all parameters"
    plain_formula = "weight = (1 - lr * lambda / sqrt(mean of second moments)) * weight - lr * update"

    def __init__(self) -> None:
        self._root: Tensor | None = None  # √v̄ + ε of the present step

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        if optimizer.name in KNOWN_OPTIMIZERS and optimizer.name not in WITH_SECOND_MOMENT:
            raise DecayError(
                f"Policy 'scheduled' divides by the second moment of the gradients (exp_avg_sq), which "
                f"{optimizer.name} does not keep. Use {', '.join(WITH_SECOND_MOMENT)}, or the policy 'decoupled'."
            )
        return lambda_axis(
            "the decay is divided by the root mean square of the gradients, which no schedule gives, so Σ η·λ predicts "
            "nothing.",
            "λ in θ·(1 − η·λ/√v̄)",
        )

    def bind(self, binding: Binding) -> None:
        """Refuse optimizers whose groups have no betas.

        Raises:
            DecayError: as said.
        """
        if any("betas" not in group for group in binding.optimizer.param_groups):
            raise DecayError(
                f"Policy 'scheduled' needs an optimizer with betas and exp_avg_sq; saw "
                f"{type(binding.optimizer).__name__}. Use {', '.join(WITH_SECOND_MOMENT)}."
            )

    def validate(self, strength: float, lr: float) -> None:
        """Check a strength; no η·λ is too large, as the share of a step is bounded."""
        del lr
        validate_strength(strength)

    def begin_step(self, buckets: Sequence[Bucket]) -> None:
        """Find √v̄ over all parameters with gradients, decayed or not.

        Raises:
            DecayError: the optimizer keeps no exp_avg_sq, or a gradient is sparse.
        """
        self._root = root_mean_second_moment(buckets[0].optimizer, buckets[0].grad_scale) if buckets else None

    def before_update_(self, bucket: Bucket) -> None:
        """Shrink before the update."""
        if self._root is not None:
            share = (bucket.lr * bucket.strength / self._root).clamp(max=LARGEST_SHARE)
            multiply_(bucket.parameters, (1 - share).to(bucket.parameters[0].device))


def root_mean_second_moment(optimizer: torch.optim.Optimizer, grad_scale: float = 1.0) -> Tensor:  # scalar
    """√v̄ + ε before a step: v̄ is the mean of v̂ over all entries, with the gradients that wait for the step.

    Σ v is β2·Σ v_old + (1−β2)·Σ g², so that no new tensors are made; except under amsgrad, one a parameter.

    Raises:
        DecayError: the optimizer keeps no exp_avg_sq, or a gradient is sparse.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2)); w.grad = torch.tensor([3.0, 4.0])
        >>> round(root_mean_second_moment(torch.optim.Adam([w])).item(), 5)  # √((9 + 16) / 2)
        3.53553
    """
    totals: list[Tensor] = []
    count = 0
    for (beta2, amsgrad, *_), (gradients, states) in _by_kind(optimizer).items():
        found = _sums(gradients, states, beta2, grad_scale, amsgrad=amsgrad)
        steps = torch.stack([state["step"] for state in states]).to(found) + 1 if states[0] else torch.ones_like(found)
        # 1 − β2^t, whose digits float32 would cancel
        correction = -torch.expm1(steps * (math.log(beta2) if beta2 else -math.inf))
        totals.append((found / correction).sum())
        count += sum(gradient.numel() for gradient in gradients)
    total = totals[0] if len(totals) == 1 else torch.stack([part.to(totals[0].device) for part in totals]).sum()
    return (total / count).sqrt().add(float(optimizer.defaults.get("eps", 0.0)))


def _by_kind(optimizer: torch.optim.Optimizer) -> dict[tuple[Any, ...], Held]:
    """Gradients and states of parameters that share β2, amsgrad, device, data type and whether they have a state."""
    kinds: dict[tuple[Any, ...], Held] = {}
    for group in optimizer.param_groups:
        beta2, amsgrad = float(group["betas"][1]), bool(group.get("amsgrad", False))
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = optimizer.state.get(parameter, {})
            if gradient.layout != torch.strided or (state and "exp_avg_sq" not in state):
                _refuse(optimizer, gradient, state)
            key = (beta2, amsgrad, gradient.device, gradient.dtype, not state)
            held = kinds.get(key)
            if held is None:
                held = kinds[key] = ([], [])
            held[0].append(gradient)
            held[1].append(state)
    return kinds


def _refuse(optimizer: torch.optim.Optimizer, gradient: Tensor, state: Mapping[str, Any]) -> None:
    if gradient.layout != torch.strided:
        raise DecayError("Policy 'scheduled' does not take sparse gradients. Use sparse=False in the embedding.")
    raise DecayError(
        f"Policy 'scheduled' needs the second moment exp_avg_sq; {type(optimizer).__name__} keeps "
        f"{', '.join(state)}. Use {', '.join(WITH_SECOND_MOMENT)}."
    )


def _sums(
    gradients: Sequence[Tensor], states: Sequence[Mapping[str, Any]], beta2: float, grad_scale: float, *, amsgrad: bool
) -> Tensor:  # (n,)
    """Σ v of each parameter after the step to come, without bias correction."""
    if amsgrad and states[0]:
        return torch.stack([_largest(g, s, beta2, grad_scale) for g, s in zip(gradients, states, strict=True)])
    new = norms(gradients).square_().mul_((1 - beta2) / grad_scale**2)
    return new.add_(sums([state["exp_avg_sq"] for state in states]), alpha=beta2) if states[0] else new


def _largest(gradient: Tensor, state: Mapping[str, Any], beta2: float, grad_scale: float) -> Tensor:
    """Σ of the elementwise maximum that amsgrad will divide by."""
    moment = state["exp_avg_sq"] * beta2
    moment.addcmul_(gradient, gradient, value=(1 - beta2) / grad_scale**2)
    return sums([torch.maximum(moment, state["max_exp_avg_sq"])])[0]
