"""L2-SP: pretrained weights are pulled to their starting values, new weights to zero."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from segdecay.decay.axes import StrengthAxis, decoupled_axis, lambda_axis, sgd_axis
from segdecay.decay.foreach import add_scaled, half_square_sum, multiply_, offsets, pull_
from segdecay.decay.regularizers.base import Binding, Bucket, Channel, OptimizerTraits, Regularizer
from segdecay.decay.regularizers.l2 import refuse_sparse
from segdecay.errors import DecayError, did_you_mean, gather, unknown

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of norm layers; a state_dict() holds them too
SHOWN = 8  # names of a kind in an error


@dataclass
class Anchors:
    """Reference values by parameter name, and the reasons why other parameters have no reference."""

    reference: dict[str, Tensor]  # at least float32, never changed in place
    new: dict[str, str]  # name to reason
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of every parameter of the model

    def beside(self, parameters: Mapping[str, Tensor]) -> list[Tensor]:
        """The references of these parameters, moved to their devices at the first call."""
        for name, parameter in parameters.items():
            if self.reference[name].device != parameter.device:
                self.reference[name] = self.reference[name].to(parameter.device)
        return [self.reference[name] for name in parameters]

    def table(self, ratio: float) -> str:
        """One line per weight."""
        head = (
            f"{len(self.reference)} weights are pulled to their reference, {len(self.new)} are new and decay to 0 with "
            f"λ times {ratio:g}."
        )
        rows = [("pulled", name, "") for name in self.reference] + [("new", *item) for item in self.new.items()]
        width = max((len(name) for _, name, _ in rows), default=0)
        lines = [f"{kind:6}  {name:{width}}  {_size(self.shapes[name])}  {why}".rstrip() for kind, name, why in rows]
        return "\n".join([head, *lines])

    def loaded(self, state: Mapping[str, object]) -> Anchors:
        """These anchors with the references and new names of a state.

        Raises:
            DecayError: the state is of another regularizer, or names or shapes do not fit; all faults are listed.
        """
        reference, new = state.get("reference"), state.get("new")
        if not isinstance(reference, Mapping) or not isinstance(new, Mapping):
            raise DecayError(f"A state of l2_sp holds 'reference' and 'new'; saw {', '.join(state) or 'nothing'}.")
        faults = [
            f"{name} has shape {_size(self.shapes[name])}, its reference in the state {_size(tuple(tensor.shape))}."
            for name, tensor in reference.items()
            if name in self.shapes and tuple(tensor.shape) != self.shapes[name]
        ]
        theirs, ours = {**reference, **new}, {**self.reference, **self.new}
        faults += [f"{name} is in the state, not in the model." for name in theirs if name not in self.shapes]
        faults += [f"{name} decays in the model and is not in the state." for name in ours if name not in theirs]
        gather(DecayError, faults, "The state of l2_sp does not fit this model:" if faults else "")
        kept = {name: tensor.detach().clone() for name, tensor in reference.items()}
        return Anchors(kept, {str(name): str(why) for name, why in new.items()}, self.shapes)


def reference_faults(reference: object) -> list[str]:
    """Faults of the option `reference`."""
    if isinstance(reference, Mapping):
        wrong = [name for name, value in reference.items() if not isinstance(value, Tensor)]
        return [f"reference holds values that are no tensors: {', '.join(map(str, wrong[:SHOWN]))}."] if wrong else []
    if reference == "initial":
        return []
    wanted = "'initial' or a mapping of parameter names to tensors, such as dict(pretrained.named_parameters())"
    return [f"reference must be {wanted}; saw {reference!r:.80}."]


def build_anchors(
    binding: Binding, wanted: Mapping[str, Tensor] | Literal["initial"], named_new: Sequence[str] | None
) -> Anchors:
    """The anchors of the parameters that decay.

    Raises:
        DecayError: the reference has names that are not in the model, weights have no reference and are not named new,
            or globs match nothing; all are listed, with the names of both sides.
    """
    decayed = binding.decayed()
    shapes = {name: tuple(parameter.shape) for name, parameter in binding.parameters.items()}
    given = _without_buffers(wanted) if isinstance(wanted, Mapping) else dict(binding.parameters)
    new, faults = _new_by_name(binding, decayed, named_new)
    if wanted == "initial" and named_new is None:
        new = {name: "group head" for name in decayed if binding.rows[name].group == "head"}
    without = [name for name in decayed if name not in given and name not in new]
    new |= {
        name: f"the reference's shape is {_size(tuple(given[name].shape))}"
        for name in decayed
        if name in given and name not in new and tuple(given[name].shape) != shapes[name]
    }
    strangers = [name for name in given if name not in shapes]
    if strangers or (without and named_new is not None):
        faults.append(_difference(strangers, without, list(shapes)))
    new |= dict.fromkeys(without, "no reference")
    if not faults and decayed and not any(name not in new for name in decayed):
        faults.append(
            f"All {len(decayed)} weights that decay count as new, so none is pulled to its start: {_names(decayed)}. "
            f"Name the new ones with new=[...] (new=[] if there are none), or use 'l2' or 'decoupled'."
        )
    gather(DecayError, faults)
    kept = {name: _copy(given[name], binding.parameters[name]) for name in decayed if name not in new}
    return Anchors(kept, {name: new[name] for name in decayed if name in new}, shapes)


def _without_buffers(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in wanted.items() if name.rsplit(".", 1)[-1] not in BUFFERS}


def _new_by_name(
    binding: Binding, decayed: Sequence[str], wanted: Sequence[str] | None
) -> tuple[dict[str, str], list[str]]:
    """The names that groups or globs declare new, with the reason, and faults of words that match nothing."""
    groups = {binding.rows[name].group for name in decayed}
    new: dict[str, str] = {}
    faults = []
    for word in wanted or ():
        if word in groups:
            matched, why = [name for name in decayed if binding.rows[name].group == word], f"group {word}"
        else:
            matched, why = fnmatch.filter(decayed, word), f"named by '{word}'"
        if not matched:
            near = did_you_mean(word, [*groups, *decayed])
            faults.append(f"new: '{word}' is not a group and matches no weight that decays.{near}")
        new |= {name: new.get(name, why) for name in matched}
    return new, faults


def _difference(strangers: Sequence[str], without: Sequence[str], names: Sequence[str]) -> str:
    lines = ["The reference does not fit the model by parameter names."]
    if strangers:
        lines.append(f"In the reference, not in the model ({len(strangers)}): {_names(strangers)}.")
    if without:
        lines.append(f"Decays in the model, without reference ({len(without)}): {_names(without)}.")
    prefix = _prefix(strangers, names)
    lines.append(prefix or "Drop or rename those of the reference, and name new weights with new=[...].")
    return " ".join(lines)


def _prefix(strangers: Sequence[str], names: Sequence[str]) -> str:
    """What to do if one prefix makes most of the names match; else empty."""
    found: dict[str, int] = {}
    for stranger in strangers:
        for name in names:
            if name.endswith(f".{stranger}"):
                key = f"Put '{name[: -len(stranger)]}' before the reference's names."
            elif stranger.endswith(f".{name}"):
                key = f"Remove '{stranger[: -len(name)]}' from the reference's names."
            else:
                continue
            found[key] = found.get(key, 0) + 1
    best = max(found, key=lambda key: found[key], default="")
    return best if best and 2 * found[best] > len(strangers) else ""


def _copy(reference: Tensor, parameter: Tensor) -> Tensor:
    """A copy in at least float32, with the device and memory layout of the parameter."""
    kind = torch.promote_types(parameter.dtype, torch.float32)
    return torch.empty_like(parameter, dtype=kind, requires_grad=False).copy_(reference.detach())


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"


MODES = ("auto", "coupled", "decoupled")


class L2SP(Regularizer):
    """L2 to the starting point: pretrained weights are pulled to their start θ₀, new ones (θ₀ = 0) to zero.

    For: fine-tuning pretrained encoders on small data, where plain decay removes what was learned.
    Not for: networks from random weights, whose start is worth nothing; scale-invariant layers, where only the
        direction of θ₀ matters; continuing from a checkpoint of the same task without `reference`: the start must be
        the pretrained weights, not the checkpoint's.
    Minimises: coupled: L + λ·½Σ(θ − θ₀)² over pretrained + λ·ratio·½Σθ² over new weights, under every optimizer that
        converges. Decoupled: not the stated objective; λR is shown, not minimised.
    Defaults: reference "initial": the weights at attach(), with the group head as new; or a mapping of parameter names
        to tensors, in which weights that are missing or have another shape are new. `new` names them instead, by groups
        or globs. new_ratio 1: new weights decay by λ·new_ratio. mode "auto": coupled under SGD, as the authors do,
        decoupled elsewhere, as in AdamW. No strength; axis total_decay D, the pull to θ₀: exp(−D) is left of the
        distance of a weight without gradient; exact when decoupled, to first order when coupled under SGD; axis lambda
        when coupled through adaptive optimizers. Norm and bias are left out. The reference is kept in at least float32,
        apart from the weights, so that averaging weights does not change it, and in the state, so that resuming needs
        no other copy.
    Source: Li, Grandvalet and Davoine, ICML 2018, who take α = β = 1e-4 with SGD, momentum .9 and learning rate .01;
        differs in: norm and bias are left out, and the decoupled form is ours.
    """

    name = "l2_sp"
    takes_complex = True
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

    def channel(self, optimizer: OptimizerTraits) -> Channel:
        return "gradient" if self._couples(optimizer) else "before"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
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
        """The gradients g + λ·(θ − θ₀), scaled as the gradients are; g − λ·(θ − θ₀) if the optimizer maximizes.

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
        """The weights that are pulled to their reference, and those that count as new, with the reason."""
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
