"""Decoupled decay with the correction for a changing learning rate on weights that feed a norm layer.

Knows tensors, strengths and which weights feed a norm layer.
"""

from __future__ import annotations

import math

from segdecay.decay.axes import Axis, corrected_axis
from segdecay.decay.foreach import multiply_
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.errors import DecayError

ROUNDING = 1e-6  # by which a schedule's own arithmetic may exceed its peak


class Corrected(Policy):
    """Corrected weight decay (AdamC): decay follows η², not η, where only the effective learning rate is at stake.

    For: schedules that end near 0, with weights that feed a norm layer: there decay sets the ratio of gradient to
        weight, and plain decoupled decay lets it run away as η falls. Adam, AdamW and SGD.
    Not for: networks without norm layers, where it is 'decoupled' to the bit; a peak learning rate that is not known.
    Minimises: not the stated objective; λR is shown, not minimised. Fed weights are held at a size that does not
        depend on the schedule.
    Defaults: no strength; axis total_decay D = Σ η²/η_max·λ, exact for the weights that feed a norm layer (`feeds` of
        the partition's table): exp(−D) is left of an idle one. Other weights decay as 'decoupled' does, by the larger
        Σ η·λ. η_max is the option peak_lr, else the largest of the learning_rates given to attach(); one of the two
        is needed. One η_max holds for all of the optimizer's groups. Norm and bias are left out.
    Source: Defazio, arXiv 2506.02285, 2025 (AdamC); differs in: weights that feed a norm layer are found by order of
        registration, and η_max is that of the schedule, not the rate the optimizer was built with.
    """

    name = "corrected"
    formula = "θ ← (1 − η·(η/η_max)·λ)·θ − η·u before a norm layer, else (1 − η·λ)·θ − η·u"
    plain_formula = "weight = (1 - lr * (lr / lr_max) * lambda) * weight - lr * update before a norm layer"

    def __init__(self, *, peak_lr: float | None = None) -> None:
        """Take η_max.

        Raises:
            DecayError: it is not a finite number above 0.
        """
        if peak_lr is not None and not (math.isfinite(peak_lr) and peak_lr > 0):
            raise DecayError(f"peak_lr must be a finite number above 0; saw {peak_lr}.")
        self._given = peak_lr
        self._peak = peak_lr
        self._fed: frozenset[str] = frozenset()

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        del optimizer
        return corrected_axis(
            self._given,
            "D holds for weights that feed a norm layer; all others decay by Σ η·λ, which is larger.",
        )

    def bind(self, binding: Binding) -> None:
        """Take η_max from the schedule unless it was given, and note which weights feed a norm layer.

        Raises:
            DecayError: neither learning rates nor peak_lr were given.
        """
        self._fed = frozenset(name for name, row in binding.rows.items() if row.feeds)
        if self._given is None:
            rates = binding.learning_rates
            if not rates or not max(rates) > 0:
                raise DecayError(
                    "Policy 'corrected' compares each learning rate with the largest of the schedule; saw none. Pass "
                    "learning_rates=[...], one a step, to attach(), or options={'peak_lr': ...}."
                )
            self._peak = max(rates)

    def validate(self, strength: float, lr: float) -> None:
        super().validate(strength, lr)
        if self._peak is not None and lr > self._peak * (1 + ROUNDING):
            raise DecayError(
                f"Learning rate {lr:g} is above η_max = {self._peak:g}, so that the correction would add decay instead "
                f"of taking it away. Give the schedule's largest rate as peak_lr, or all learning_rates."
            )

    def before_update_(self, bucket: Bucket) -> None:
        """Shrink before the update, as 'decoupled' does; by η²/η_max·λ what feeds a norm layer."""
        members = list(zip(bucket.names, bucket.parameters, strict=True))
        fed = [parameter for name, parameter in members if name in self._fed]
        others = [parameter for name, parameter in members if name not in self._fed]
        if fed and self._peak is not None:
            multiply_(fed, 1 - bucket.lr * (bucket.lr / self._peak) * bucket.strength)
        if others:
            multiply_(others, 1 - bucket.lr * bucket.strength)
