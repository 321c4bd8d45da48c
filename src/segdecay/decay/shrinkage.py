"""Policies that act on the weights themselves, past the gradient; and the one that does nothing.

Knows tensors and strengths only.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from segdecay.decay.axes import Axis, decoupled_axis, none_axis
from segdecay.decay.foreach import multiply_
from segdecay.decay.policy import Bucket, OptimizerTraits, Policy
from segdecay.errors import DecayError


class NoDecay(Policy):
    """No regularisation: the bare optimizer, bit for bit.

    For: the baseline of every comparison; networks that underfit.
    Not for: networks whose training score is far above their validation score.
    Minimises: L_original alone.
    Defaults: strength 0, the only one.
    Source: none.
    """

    name = "none"
    formula = "θ ← θ − η·u"
    plain_formula = "weight = weight - lr * update"

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        del optimizer
        return none_axis()

    def validate(self, strength: float, lr: float) -> None:
        super().validate(strength, lr)
        if strength != 0:
            raise DecayError(f"Policy 'none' has no strength; saw {strength:g}, allowed: 0. Choose another policy.")

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        del names, parameters
        return 0.0


class Decoupled(Policy):
    """Decoupled weight decay: every step multiplies the weights by 1 − η·λ, whatever the gradient is.

    For: Adam, AdamW and other adaptive optimizers; an even pull on all weights; strengths that carry over between
        schedules, batch and data sizes through D = Σ η·λ. The default of segdecay.
    Not for: claims about the minimiser of L + λR. A learning rate that changes changes the decay with it.
    Minimises: not the stated objective; λR is shown, not minimised. Under Adam it tends to min L subject to
        max|θ| ≤ 1/λ; under SGD with momentum μ to the objective with λ·(1−μ).
    Defaults: no strength; axis total_decay D = Σ η·λ, exact: exp(−D) is left of an idle weight as η·λ becomes small.
        Norm and bias are left out. η is that of the parameter's optimizer group at the step, as in torch.
    Source: torch.optim.AdamW, bit for bit; Loshchilov and Hutter, ICLR 2019, differs in: the paper multiplies λ by the
        schedule only, so λ here = λ of the paper / base learning rate.
    """

    name = "decoupled"
    formula = "θ ← (1 − η·λ)·θ − η·u"
    plain_formula = "weight = (1 - lr * lambda) * weight - lr * update"

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        del optimizer
        return decoupled_axis()

    def before_update_(self, bucket: Bucket) -> None:
        """Shrink before the update: there it equals AdamW to the bit; after it, it does not."""
        multiply_(bucket.parameters, 1 - bucket.lr * bucket.strength)
