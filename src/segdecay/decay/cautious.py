"""Decoupled decay only where the optimizer's update already moves the weight towards zero.

Knows tensors, strengths and how SGD and Adam make their update from gradient and state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW

from segdecay.decay.axes import Axis, decoupled_axis
from segdecay.decay.foreach import add_, add_scaled, averaged, scaled, subtract_masked_, to_agreement_
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.errors import DecayError


class Cautious(Policy):
    """Cautious weight decay (CWD): decoupled decay on those entries whose update agrees with the weight in sign.

    For: Adam, AdamW, SGD and any other optimizer; the λ of 'decoupled', where decay should never work against the
        gradient: an entry that the update drives away from zero is left alone.
    Not for: a statement of how much decay acted: it depends on the signs, and D only bounds it.
    Minimises: L_original: the decay only chooses among its stationary points (the paper's claim). λR is shown.
    Defaults: no strength; axis total_decay D = Σ η·λ, an upper bound: exp(−D) is left of an idle weight (equality
        counts as agreement), and at least that of others by the decay. The signs are those of the update u of this
        step, in θ ← θ − η·u, and of the weight before it. Norm and bias are left out. SGD, Adam and AdamW need one
        passing tensor a parameter; other optimizers a copy of the weights during the step.
    Source: Chen, Li, Liang, Su, Xie, Wang Pierse, Liang, Lao and Liu, arXiv 2510.12402, 2025. timm's `caution` is
        something else: it masks the update.
    """

    name = "cautious"
    formula = "θ ← θ − η·λ·1[u⊙θ ≥ 0]⊙θ − η·u"
    plain_formula = "weight = weight - lr * lambda * (update * weight >= 0) * weight - lr * update"

    def __init__(self) -> None:
        self._before: dict[str, list[Tensor]] = {}  # by first name of a bucket, its weights before the update

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        del optimizer
        return decoupled_axis(
            "Σ η·λ, an upper bound",
            "D bounds the decay from above: entries whose update disagrees in sign do not decay.",
        )

    def bind(self, binding: Binding) -> None:
        """Refuse what has no sign.

        Raises:
            DecayError: a parameter that decays is complex.
        """
        found = [name for name in binding.decayed() if binding.parameters[name].is_complex()]
        if found:
            raise DecayError(
                f"Policy 'cautious' compares signs, which complex numbers do not have: {', '.join(found)}. Use "
                f"'decoupled', or leave them out."
            )

    def begin_step(self, buckets: Sequence[Bucket]) -> None:
        """Forget copies of a step that broke off."""
        del buckets
        self._before.clear()

    def before_update_(self, bucket: Bucket) -> None:
        """Decay by the sign of the update to come; keep a copy where it cannot be foretold."""
        for part in bucket.parts():
            updates = foretold_updates(part)
            if updates is None:
                self._before[bucket.names[0]] = [parameter.detach().clone() for parameter in bucket.parameters]
                return
            to_agreement_(updates, part.parameters)
            subtract_masked_(part.parameters, part.parameters, updates, part.lr * part.strength)

    def after_update_(self, bucket: Bucket) -> None:
        """Decay by the update that took place, with the weights before it."""
        before = self._before.pop(bucket.names[0], None)
        if before is not None:
            updates = [old - new for old, new in zip(before, bucket.parameters, strict=True)]
            to_agreement_(updates, before)
            subtract_masked_(bucket.parameters, before, updates, bucket.lr * bucket.strength)


def foretold_updates(bucket: Bucket) -> list[Tensor] | None:
    """New tensors with the signs of u in θ ← θ − η·u, from gradients and state; None where they cannot be told.

    Told for torch's SGD, Adam and AdamW themselves: a subclass may do something else. Computed by the same operations
    as theirs, so that rounding gives the same signs.
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
    """The first moment of each parameter; None where there is none (yet)."""
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
    """The new first moments: what Adam divides them by is positive."""
    return averaged(buffers, gradients, 1 - group["betas"][0])
