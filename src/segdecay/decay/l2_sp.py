"""L2-SP: weights that were pretrained are pulled to where they started, new ones to zero.

Knows parameters, strengths and a reference by parameter name; nothing of files or where weights come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from segdecay.decay.anchors import Anchors, build_anchors, reference_faults
from segdecay.decay.axes import Axis, decoupled_axis, lambda_axis, sgd_axis
from segdecay.decay.foreach import add_scaled, half_square_sum, multiply_, offsets, pull_
from segdecay.decay.penalties import refuse_sparse
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.errors import DecayError, gather, unknown

MODES = ("auto", "coupled", "decoupled")


class L2SP(Policy):
    """L2 to the starting point: pretrained weights are pulled to their start θ₀, new ones (θ₀ = 0) to zero.

    For: fine-tuning pretrained encoders on small data, where plain decay pulls away what was learned.
    Not for: networks from random weights, where the start is no knowledge; a scale-invariant layer, where only the
        direction of θ₀ counts; continuing from a checkpoint of the same task without `reference`: the start must be
        the pretrained weights, not the checkpoint's.
    Minimises: coupled: L + λ·½Σ(θ − θ₀)² over pretrained + λ·ratio·½Σθ² over new weights, under every optimizer that
        converges. Decoupled: not the stated objective; λR is shown, not minimised.
    Defaults: reference "initial": the weights at attach(), where the group head counts as new; else a mapping of
        parameter names to tensors, in which what is missing or has another shape is new. `new`: groups or globs over
        names instead. new_ratio 1: new weights decay with λ times it. mode "auto": coupled under SGD, as the authors
        do, decoupled elsewhere, as in AdamW. No strength; axis total_decay D, the pull to θ₀: exp(−D) is left of the
        distance of a weight without gradient; exact when decoupled, to first order when coupled under SGD; axis lambda
        when coupled through adaptive optimizers. Norm and bias are left out. The reference is kept in at least
        float32 beside the weights, so averages of weights never touch it, and in the state: resuming needs no copy.
    Source: Li, Grandvalet and Davoine, ICML 2018, who take α = β = 1e-4 with SGD, momentum .9 and learning rate .01;
        differs in: norm and bias are left out, and the decoupled form is ours.
    """

    name = "l2_sp"
    formula = "g ← g + λ·(θ − θ₀)  or  θ ← θ − η·λ·(θ − θ₀) − η·u"
    plain_formula = "gradient = gradient + lambda * (weight - start)  or  weight -= lr * lambda * (weight - start)"

    def __init__(
        self,
        *,
        reference: Mapping[str, Tensor] | Literal["initial"] = "initial",
        new: Sequence[str] | None = None,
        new_ratio: float = 1.0,
        mode: Literal["auto", "coupled", "decoupled"] = "auto",
    ) -> None:
        faults = reference_faults(reference)
        if isinstance(new, str):
            faults.append(f"new takes a list of groups or globs; saw the text '{new}'. Write new=['{new}'].")
        if not (isinstance(new_ratio, int | float) and math.isfinite(new_ratio) and new_ratio >= 0):
            faults.append(
                f"new_ratio must be a finite number, 0 or more; saw {new_ratio!r}. 1 decays new weights by λ."
            )
        if mode not in MODES:
            faults.append(unknown("mode", str(mode), MODES))
        gather(DecayError, faults)
        self._wanted, self._named_new = reference, new
        self._ratio, self._mode = float(new_ratio), mode
        self._is_coupled = False
        self._anchors = Anchors({}, {})

    def axis(self, optimizer: OptimizerTraits) -> Axis:
        if not self._couples(optimizer):
            return decoupled_axis()
        if optimizer.is_sgd:
            return sgd_axis(optimizer.coupling)
        return lambda_axis(
            f"{optimizer.name} divides the gradient, and the pull in it, by its own size: a weight without gradient "
            f"goes to its start for every λ above 0, however small, so Σ η·λ predicts nothing."
        )

    def bind(self, binding: Binding) -> None:
        self._is_coupled = self._couples(binding.traits)
        self._anchors = build_anchors(binding, self._wanted, self._named_new)

    def validate(self, strength: float, lr: float) -> None:
        super().validate(strength, lr)
        if lr * strength * self._ratio >= 1:
            raise DecayError(
                f"Strength {strength:g} times new_ratio {self._ratio:g} at learning rate {lr:g} would remove the new "
                f"weights in one step. The strength must stay below {1 / (lr * self._ratio):g}."
            )

    def before_update_(self, bucket: Bucket) -> None:
        if self._is_coupled:
            return
        for part in bucket.parts():
            pulled, new = self._sides(part.names, part.parameters)
            multiply_(list(new.values()), 1 - part.lr * part.strength * self._ratio)
            pull_(list(pulled.values()), self._anchors.beside(pulled), part.lr * part.strength)

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor] | None:
        """The gradients g + λ·(θ − θ₀), scaled as the gradients are; minus where the optimizer will flip the sign.

        Raises:
            DecayError: a gradient is sparse.
        """
        if not self._is_coupled:
            return None
        refuse_sparse(bucket)
        return [gradient for part in bucket.parts() for gradient in self._shifted(part)]

    def _shifted(self, bucket: Bucket) -> list[Tensor]:
        factor = (-1.0 if bucket.maximize else 1.0) * bucket.grad_scale * bucket.strength
        shifted = dict(zip(bucket.names, bucket.gradients, strict=True))
        pulled, new = self._sides(bucket.names, bucket.parameters)
        for members, targets, scale in (
            (pulled, offsets(list(pulled.values()), self._anchors.beside(pulled)), factor),
            (new, list(new.values()), factor * self._ratio),
        ):
            gradients = [shifted[name] for name in members]
            shifted.update(zip(members, add_scaled(gradients, targets, scale), strict=True))
        return [shifted[name] for name in bucket.names]

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        """½ Σ (θ − θ₀)² over pretrained weights + ratio · ½ Σ θ² over new ones."""
        pulled, new = self._sides(names, parameters)
        moved = offsets(list(pulled.values()), self._anchors.beside(pulled))
        return half_square_sum(moved) + self._ratio * half_square_sum(list(new.values()))

    def summary(self) -> str:
        """Which weights are pulled to their reference and which count as new, with the reason."""
        return self._anchors.table(self._ratio)

    def state_dict(self) -> dict[str, object]:
        return {"reference": dict(self._anchors.reference), "new": dict(self._anchors.new)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self._anchors = self._anchors.loaded(state)

    def _couples(self, optimizer: OptimizerTraits) -> bool:
        return optimizer.is_sgd if self._mode == "auto" else self._mode == "coupled"

    def _sides(self, names: Sequence[str], parameters: Sequence[Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pretrained and new weights by name."""
        pairs = list(zip(names, parameters, strict=True))
        is_new = self._anchors.new
        return {n: p for n, p in pairs if n not in is_new}, {n: p for n, p in pairs if n in is_new}
