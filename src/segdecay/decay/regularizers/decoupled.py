"""Regularizers that multiply weights without going through the gradient, and `none`, which does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW

from segdecay.decay.axes import StrengthAxis, corrected_axis, decoupled_axis, lambda_axis, none_axis, validate_strength
from segdecay.decay.foreach import (
    add_,
    add_scaled,
    averaged,
    multiply_,
    norms,
    scaled,
    subtract_masked_,
    sums,
    to_agreement_,
)
from segdecay.decay.regularizers.base import KNOWN_OPTIMIZERS, Binding, Bucket, OptimizerTraits, Regularizer
from segdecay.errors import DecayError


class NoDecay(Regularizer):
    """No regularization: the bare optimizer, bit for bit.

    For: the baseline of every comparison; networks that underfit.
    Not for: networks whose training score is far above their validation score.
    Minimises: L_original alone.
    Defaults: strength 0, the only one.
    Source: none.
    """

    name = "none"
    takes_complex = True
    formula = "θ ← θ − η·u"
    plain_formula = "weight = weight - lr * update"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return none_axis()

    def validate(self, strength: float, lr: float) -> None:
        super().validate(strength, lr)
        if strength != 0:
            raise DecayError(
                f"Regularizer 'none' has no strength; saw {strength:g}, allowed: 0. Choose another regularizer."
            )

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        del names, parameters
        return 0.0


class Decoupled(Regularizer):
    """Decoupled weight decay: every step multiplies the weights by 1 − η·λ, whatever the gradient is.

    For: Adam, AdamW and other adaptive optimizers; the same pull on all weights; strengths that carry over between
        schedules, batch sizes and data sizes through D = Σ η·λ. The default of segdecay.
    Not for: claims about the minimiser of L + λR. When the learning rate changes, the decay changes with it.
    Minimises: not the stated objective; λR is shown, not minimised. Under Adam it tends to min L subject to
        max|θ| ≤ 1/λ; under SGD with momentum μ to the objective with λ·(1−μ).
    Defaults: no strength; axis total_decay D = Σ η·λ, exact: exp(−D) is left of a weight that gets no gradient as η·λ
        becomes small. Norm and bias are left out. η is that of the parameter's optimizer group at the step, as in
        torch.
    Source: torch.optim.AdamW, bit for bit in float32 and float64 (in bfloat16 and float16 as its plain loop, as its
        foreach and fused kernels round once less); Loshchilov and Hutter, ICLR 2019, differs in: the paper multiplies λ
        by the schedule only, so λ here = λ of the paper / base learning rate.
    """

    name = "decoupled"
    multiplies = True
    takes_complex = True
    formula = "θ ← (1 − η·λ)·θ − η·u"
    plain_formula = "weight = (1 - lr * lambda) * weight - lr * update"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return decoupled_axis()

    def before_update_(self, bucket: Bucket) -> None:
        """Shrink before the update, which equals AdamW bit for bit."""
        multiply_(bucket.parameters, 1 - bucket.lr * bucket.strength)


class Cautious(Regularizer):
    """Cautious weight decay (CWD): decoupled decay on those entries whose update agrees with the weight in sign.

    For: Adam, AdamW, SGD and any other optimizer; the λ of 'decoupled', if decay should never oppose the update: an
        entry that the update moves away from zero is not decayed.
    Not for: stating how much decay acted: that depends on the signs, and D is only an upper bound.
    Minimises: L_original: the decay only chooses among its stationary points (the paper's claim). λR is shown.
    Defaults: no strength; axis total_decay D = Σ η·λ, an upper bound: exp(−D) is left of a weight that gets no gradient
        (an update of 0 counts as agreement), and the decay leaves at least that of others. The signs are those of the
        update u of this step, in θ ← θ − η·u, and of the weight before it. Norm and bias are left out. SGD, Adam and
        AdamW need one temporary tensor per parameter; other optimizers need a copy of the weights during the step.
    Source: Chen, Li, Liang, Su, Xie, Wang Pierse, Liang, Lao and Liu, arXiv 2510.12402, 2025. timm's `caution` is
        something else: it masks the update.
    """

    name = "cautious"
    formula = "θ ← θ − η·λ·1[u⊙θ ≥ 0]⊙θ − η·u"
    plain_formula = "weight = weight - lr * lambda * (update * weight >= 0) * weight - lr * update"

    def __init__(self) -> None:
        self._before: dict[str, list[Tensor]] = {}  # by first name of a bucket, its weights before the update

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return decoupled_axis(
            "Σ η·λ, an upper bound",
            "D bounds the decay from above: entries whose update disagrees in sign do not decay.",
        )

    def bind(self, binding: Binding) -> None:
        """Refuse complex parameters, which have no sign.

        Raises:
            DecayError: a parameter that decays is complex.
        """
        found = [name for name in binding.decayed() if binding.parameters[name].is_complex()]
        if found:
            raise DecayError(
                f"Regularizer 'cautious' compares signs, which complex numbers do not have: {', '.join(found)}. Use "
                f"'decoupled', or leave them out."
            )

    def begin_step(self, buckets: Sequence[Bucket]) -> None:
        """Discard copies from a step that was not completed."""
        del buckets
        self._before.clear()

    def before_update_(self, bucket: Bucket) -> None:
        """Decay by the signs of the coming update; keep a copy of the weights if it cannot be computed in advance."""
        for part in bucket.parts():
            updates = foretold_updates(part)
            if updates is None:
                self._before[bucket.names[0]] = [parameter.detach().clone() for parameter in bucket.parameters]
                return
            to_agreement_(updates, part.parameters)
            subtract_masked_(part.parameters, part.parameters, updates, part.lr * part.strength)

    def after_update_(self, bucket: Bucket) -> None:
        """Decay by the signs of the completed update and of the weights before it."""
        before = self._before.pop(bucket.names[0], None)
        if before is not None:
            updates = [old - new for old, new in zip(before, bucket.parameters, strict=True)]
            to_agreement_(updates, before)
            subtract_masked_(bucket.parameters, before, updates, bucket.lr * bucket.strength)


def foretold_updates(bucket: Bucket) -> list[Tensor] | None:
    """New tensors with the signs of u in θ ← θ − η·u, from gradients and state; None if they cannot be computed.

    Computed for torch's SGD, Adam and AdamW, not for subclasses, whose update may differ. The operations are those of
    the optimizer, so that rounding gives the same signs.
    """
    kind = type(bucket.optimizer)
    if kind not in (SGD, Adam, AdamW) or any(gradient.layout != torch.strided for gradient in bucket.gradients):
        return None
    factor = (-1.0 if bucket.maximize else 1.0) / bucket.grad_scale
    gradients = bucket.gradients if factor == 1.0 else scaled(bucket.gradients, factor)
    buffers = _buffers(bucket)
    follow = _sgd_updates if kind is SGD else _adam_updates
    known = [index for index, buffer in enumerate(buffers) if buffer is not None]
    kept = [buffer for buffer in buffers if buffer is not None]
    if len(kept) == len(buffers):
        return follow(kept, gradients, bucket.group)
    updates = scaled(gradients, 1.0)  # the first buffer is a positive multiple of the gradient
    if not kept:
        return updates
    for index, update in zip(known, follow(kept, [gradients[index] for index in known], bucket.group), strict=True):
        updates[index] = update
    return updates


def _buffers(bucket: Bucket) -> list[Tensor | None]:
    """The first moment of each parameter; None if it has none yet."""
    states = bucket.optimizer.state
    if bucket.group.get("momentum") == 0:
        return [None] * len(bucket.parameters)
    key = "momentum_buffer" if "momentum" in bucket.group else "exp_avg"
    return [states[parameter].get(key) if parameter in states else None for parameter in bucket.parameters]


def _sgd_updates(buffers: Sequence[Tensor], gradients: Sequence[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    new = scaled(buffers, group["momentum"])
    add_(new, gradients, 1 - group["dampening"])
    return add_scaled(gradients, new, group["momentum"]) if group["nesterov"] else new


def _adam_updates(buffers: Sequence[Tensor], gradients: Sequence[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    """The new first moments; Adam's denominator is positive and does not change the signs."""
    return averaged(buffers, gradients, 1 - group["betas"][0])


ROUNDING = 1e-6  # relative excess over the peak that rounding in a schedule may cause


class Corrected(Regularizer):
    """Corrected weight decay (AdamC): the decay of weights that feed a norm layer is proportional to η², not η.

    For: schedules that end near 0, with weights that feed a norm layer: decay sets their ratio of gradient to weight,
        which under plain decoupled decay grows as η falls. Adam, AdamW and SGD.
    Not for: networks without norm layers, where it equals 'decoupled' bit for bit; an unknown peak learning rate.
    Minimises: not the stated objective; λR is shown, not minimised. Weights that feed a norm layer are held at a size
        that does not depend on the schedule.
    Defaults: no strength; axis total_decay D = Σ η²/η_max·λ, exact for the weights that feed a norm layer (`feeds` of
        the partition's table): exp(−D) is left of one that gets no gradient. Other weights decay as under 'decoupled',
        by the larger Σ η·λ. η_max is the option peak_lr, else the largest of the learning_rates given to attach(); one
        of the two is needed. One η_max holds for all of the optimizer's groups. Norm and bias are left out.
    Source: Defazio, arXiv 2506.02285, 2025 (AdamC); differs in: weights that feed a norm layer are found by order of
        registration, and η_max is that of the schedule, not the rate the optimizer was built with.
    """

    name = "corrected"
    multiplies = True
    takes_complex = True
    formula = "θ ← (1 − η·(η/η_max)·λ)·θ − η·u before a norm layer, else (1 − η·λ)·θ − η·u"
    plain_formula = "weight = (1 - lr * (lr / lr_max) * lambda) * weight - lr * update before a norm layer"

    def __init__(self, *, peak_lr: float | None = None) -> None:
        """Check and keep η_max.

        Raises:
            DecayError: it is not a finite number above 0.
        """
        if peak_lr is not None and not (math.isfinite(peak_lr) and peak_lr > 0):
            raise DecayError(f"peak_lr must be a finite number above 0; saw {peak_lr}.")
        self._given = peak_lr
        self._peak = peak_lr
        self._fed: frozenset[str] = frozenset()

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return corrected_axis(
            self._given,
            "D holds for weights that feed a norm layer; all others decay by Σ η·λ, which is larger.",
        )

    def bind(self, binding: Binding) -> None:
        """Take η_max from the schedule unless it was given, and keep the names of weights that feed a norm layer.

        Raises:
            DecayError: neither learning rates nor peak_lr were given.
        """
        self._fed = frozenset(name for name, row in binding.rows.items() if row.feeds)
        if self._given is None:
            rates = binding.learning_rates
            if not rates or not max(rates) > 0:
                raise DecayError(
                    "Regularizer 'corrected' needs the largest learning rate of the schedule; none was given. Pass "
                    "Strength.from_lambda(λ, learning_rates=[...]), one rate a step, to attach(), or "
                    "options={'peak_lr': ...}."
                )
            self._peak = max(rates)

    def validate(self, strength: float, lr: float) -> None:
        super().validate(strength, lr)
        if self._peak is not None and lr > self._peak * (1 + ROUNDING):
            raise DecayError(
                f"Learning rate {lr:g} is above η_max = {self._peak:g}, so the correction would increase the decay "
                f"instead of reducing it. Give the schedule's largest rate as peak_lr, or all learning_rates."
            )

    def before_update_(self, bucket: Bucket) -> None:
        """Shrink before the update as 'decoupled' does, weights that feed a norm layer by η²/η_max·λ."""
        members = list(zip(bucket.names, bucket.parameters, strict=True))
        fed = [parameter for name, parameter in members if name in self._fed]
        others = [parameter for name, parameter in members if name not in self._fed]
        if fed and self._peak is not None:
            multiply_(fed, 1 - bucket.lr * (bucket.lr / self._peak) * bucket.strength)
        if others:
            multiply_(others, 1 - bucket.lr * bucket.strength)


WITH_SECOND_MOMENT = ("adam", "adamw", "nadam", "radam")  # of torch: those that keep exp_avg_sq
LARGEST_SHARE = 1 - 2**-20  # of a weight that one step may remove; below 1 in float32
Held = tuple[list[Tensor], list[Mapping[str, Any]]]  # gradients, states


class Scheduled(Regularizer):
    """Scheduled weight decay (SWD, AdamS): decoupled decay, stronger where the gradients of the whole model are small.

    For: Adam and AdamW, to avoid large gradient norms late in training: the decay grows as the gradients shrink, so
        that weights do not settle where gradients are large.
    Not for: comparing strengths between data sets, losses or schedules: the decay depends on the scale of the loss.
        Optimizers without a second moment (exp_avg_sq), such as SGD.
    Minimises: not the stated objective; λR is shown, not minimised.
    Defaults: no strength (the authors' λ for Adam: 5e-4); axis lambda: D predicts nothing, as the decay depends on
        the gradients. v̄ is the mean, over all entries of all parameters with gradients, of the bias-corrected second
        moment including this step's gradient. η·λ/√v̄ is kept below 1, so that a step never flips a sign; if all
        gradients are 0, a step removes the weights. A weight that gets no gradient is multiplied by 1 − η·λ/√v̄ each
        step. Norm and bias are left out, but their gradients count in v̄.
    Source: Xie, Xu, Zhang, Sato and Sugiyama, NeurIPS 2023; AdamS of pytorch_optimizer, which adds ε to √v̄ as here;
        differs in: the bound below 1.
    """

    name = "scheduled"
    whole_tensors: ClassVar[bool] = True
    formula = "θ ← (1 − η·λ/(√v̄ + ε))·θ − η·u, v̄ = mean of v̂ over all parameters"
    plain_formula = "weight = (1 - lr * lambda / sqrt(mean of second moments)) * weight - lr * update"

    def __init__(self) -> None:
        self._root: Tensor | None = None  # √v̄ + ε of the present step

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        if optimizer.name in KNOWN_OPTIMIZERS and optimizer.name not in WITH_SECOND_MOMENT:
            raise DecayError(
                f"Regularizer 'scheduled' divides by the second moment of the gradients (exp_avg_sq), which "
                f"{optimizer.name} does not keep. Use {', '.join(WITH_SECOND_MOMENT)}, or the regularizer 'decoupled'."
            )
        return lambda_axis(
            "the decay is divided by the root mean square of the gradients, which is not known in advance, so Σ η·λ "
            "predicts nothing.",
            "λ in θ·(1 − η·λ/√v̄)",
        )

    def bind(self, binding: Binding) -> None:
        """Refuse optimizers whose groups have no betas.

        Raises:
            DecayError: the optimizer's groups have no betas.
        """
        if any("betas" not in group for group in binding.optimizer.param_groups):
            raise DecayError(
                f"Regularizer 'scheduled' needs an optimizer with betas and exp_avg_sq; saw "
                f"{type(binding.optimizer).__name__}. Use {', '.join(WITH_SECOND_MOMENT)}."
            )

    def validate(self, strength: float, lr: float) -> None:
        """Check a strength; any η·λ is allowed, as the share that a step removes is bounded."""
        del lr
        validate_strength(strength)

    def begin_step(self, buckets: Sequence[Bucket]) -> None:
        """Compute √v̄ over all parameters with gradients, decayed or not.

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
    """√v̄ + ε before a step: v̄ is the mean of v̂ over all entries, including the gradients of the coming step.

    Σ v is β2·Σ v_old + (1−β2)·Σ g², which needs no new tensors; amsgrad needs one per parameter.

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
        # 1 − β2^t without cancellation in float32
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
        raise DecayError("Regularizer 'scheduled' does not take sparse gradients. Use sparse=False in the embedding.")
    raise DecayError(
        f"Regularizer 'scheduled' needs the second moment exp_avg_sq; {type(optimizer).__name__} keeps "
        f"{', '.join(state)}. Use {', '.join(WITH_SECOND_MOMENT)}."
    )


def _sums(
    gradients: Sequence[Tensor], states: Sequence[Mapping[str, Any]], beta2: float, grad_scale: float, *, amsgrad: bool
) -> Tensor:  # (n,)
    """Σ v of each parameter after the coming step, without bias correction."""
    if amsgrad and states[0]:
        return torch.stack([_largest(g, s, beta2, grad_scale) for g, s in zip(gradients, states, strict=True)])
    new = norms(gradients).square_().mul_((1 - beta2) / grad_scale**2)
    return new.add_(sums([state["exp_avg_sq"] for state in states]), alpha=beta2) if states[0] else new


def _largest(gradient: Tensor, state: Mapping[str, Any], beta2: float, grad_scale: float) -> Tensor:
    """Σ of the elementwise maximum that amsgrad will divide by."""
    moment = state["exp_avg_sq"] * beta2
    moment.addcmul_(gradient, gradient, value=(1 - beta2) / grad_scale**2)
    return sums([torch.maximum(moment, state["max_exp_avg_sq"])])[0]
