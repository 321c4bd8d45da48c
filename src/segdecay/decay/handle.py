"""A regularizer attached to an optimizer: the hooks, the handle that holds them, and the figures it gives.

The regularizer acts once per optimizer step, through torch's own step hooks, after backward and clipping and before the
update. With a closure the pre-hook runs *before* backward, so the closure is wrapped; a fused optimizer under a
GradScaler sees scaled gradients and also fires on steps that are skipped for inf; an optimizer whose `step` calls its
parent's fires twice.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.adaptation import UNTRIED, Proof
from segdecay.decay.backward_count import BackwardCount
from segdecay.decay.copied_optimizer import let_be_copied_, warn_when_copied_
from segdecay.decay.foreach import HALF_TYPES
from segdecay.decay.groups import FROZEN, Partition
from segdecay.decay.optimizer_step import (
    Closure,
    Firing,
    StepArguments,
    gradient_scale,
    is_skipped,
    validate_step,
)
from segdecay.decay.own_decay import OwnDecay
from segdecay.decay.regularizers.base import Binding, Bucket, Regularizer, bare_optimizer, traits_of
from segdecay.decay.regularizers.registry import may_combine
from segdecay.decay.strength_argument import Schedule, number_of, scheduled
from segdecay.errors import DecayError, did_you_mean, gather


def merged(fresh: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings joined; where both have a key, the kept value.

    >>> merged({"a": {"x": 1, "y": 1}, "b": 1}, {"a": {"x": 2}})
    {'a': {'x': 2, 'y': 1}, 'b': 1}
    """
    out = dict(fresh)
    for key, value in kept.items():
        here = out.get(key)
        out[key] = merged(here, value) if isinstance(here, Mapping) and isinstance(value, Mapping) else value
    return out


@dataclass(frozen=True)
class Objective:
    """The terms of one training step: total = original + penalty."""

    original: float
    penalty: float
    total: float


class Handle:
    """A regularizer on one optimizer, until `detach`. Made by `attach`."""

    def __init__(
        self,
        optimizer: Optimizer,
        partition: Partition,
        regularizer: Regularizer,
        multipliers: Mapping[str, float],
        *,
        take_over: bool,
        learning_rates: Sequence[float] | None = None,
        proof: Proof = UNTRIED,
        chain: Sequence[Optimizer] = (),
        multipliers_of: Callable[[Partition], Mapping[str, float]] | None = None,
        expects_rates: bool = False,
    ) -> None:
        """Args:
        multipliers_of: the multiplier of every group of a partition made anew, for `refresh`.
        expects_rates: warn at the first step whose learning rate is not the one in `learning_rates`.
        """
        self.refreshes_itself = False  # whether a step after freezing or unfreezing calls `refresh`
        self._multipliers_of = multipliers_of
        self._learning_rates = learning_rates
        self._expects_rates = expects_rates and learning_rates is not None
        self._decay_done = 0.0
        self._backwards = BackwardCount()
        self.regularizer, self.partition = regularizer, partition
        self.proof = proof
        self.adaptation = proof.adaptation
        self._chain = [weakref.ref(one) for one in chain or [optimizer]]
        self.steps = 0  # optimizer steps that were not skipped
        self._strength: float | Schedule = regularizer.none
        self._optimizer = optimizer
        self._own_decay = OwnDecay.take_(optimizer, take_over=take_over, beside=regularizer.bounds)
        self._multiplier = {row.name: multipliers.get(row.group, 0.0) for row in partition.rows}
        self._frozen = {row.name for row in partition.rows if row.group == FROZEN}
        self._name = {id(parameter): row.name for row, parameter in partition.named_parameters()}
        self._put_back: list[tuple[Parameter, Tensor, Tensor]] = []
        self._buckets: list[Bucket] | None = None
        self._firing: Firing | None = None
        self._hooks: list[Any] = []
        try:
            regularizer.bind(self._binding(optimizer, learning_rates))
            self._hooks = [
                optimizer.register_step_pre_hook(self._before_step),
                optimizer.register_step_post_hook(self._after_step),
            ]
        except BaseException:
            for hook in self._hooks:
                hook.remove()
            self._own_decay.restore_(optimizer)
            raise
        self._watch_backward_()
        add_handle(optimizer, self)

    def _binding(self, optimizer: Optimizer, learning_rates: Sequence[float] | None) -> Binding:
        return Binding(
            optimizer,
            traits_of(optimizer),
            {row.name: parameter for row, parameter in self.partition.named_parameters()},
            {row.name: row for row in self.partition.rows},
            dict(self._multiplier),
            None if learning_rates is None else tuple(learning_rates),
        )

    def validate_half_weights(self, learning_rates: Sequence[float] | None) -> None:
        """Refuse decay that half-precision weights round away in every step.

        Raises:
            DecayError: 1 − η·λ rounds to 1 at the largest known rate; names the weights and the smallest η·λ that acts.
        """
        if not self.regularizer.multiplies:
            return
        lost = []
        for group in self._attached_optimizer().param_groups:
            rates = [float(self.adaptation.rate(group)), float(group.get("initial_lr", 0.0)), *(learning_rates or ())]
            for parameter in group["params"]:
                if parameter.dtype not in HALF_TYPES:
                    continue
                name = self._name_of(parameter)
                reached, smallest = max(rates) * (self._strength_of(name) or 0.0), torch.finfo(parameter.dtype).eps / 4
                if 0 < reached < smallest:
                    lost.append(f"{name} ({parameter.dtype}: η·λ = {reached:.3g}, {smallest:.3g} is needed)")
        if lost:
            raise DecayError(
                f"{len(lost)} half-precision weights would not decay, as 1 − η·λ rounds to 1: {', '.join(lost[:3])}"
                f"{', …' if len(lost) > 3 else ''}. Keep the weights in float32 (autocast computes in half precision), "
                f"or give a larger λ."
            )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer whose steps it acts in: the innermost one of wrappers."""
        return self._optimizer

    @property
    def strength(self) -> float:
        """λ of the next step, before the groups' multipliers."""
        return scheduled(self._strength, self.steps) if callable(self._strength) else self._strength

    def set_strength(self, strength: float | Schedule) -> None:
        """Go on with another λ, or a schedule of λ over steps, from the next step.

        Raises:
            DecayError: no number, a schedule that fails, negative, not finite, or η·λ ≥ 1 at the present learning
                rates.
        """
        optimizer = self._attached_optimizer()
        value = scheduled(strength, self.steps) if callable(strength) else number_of(strength, "strength")
        self.regularizer.validate(value, 0.0)
        for group in optimizer.param_groups:
            for multiplier in {self._multiplier[self._name_of(parameter)] for parameter in group["params"]}:
                scaled = self.regularizer.scaled(value, multiplier)
                if scaled is not None:
                    validate_step(self.regularizer, scaled, self.adaptation.rate(group))
        self._strength = strength if callable(strength) else value

    def strengths(self) -> dict[str, float | None]:
        """λ of every parameter by name; None where nothing acts on it."""
        return {name: self._strength_of(name) for name in self._multiplier}

    def is_attached(self, optimizer: Optimizer | None = None) -> bool:
        """Whether the regularizer acts on this optimizer (default: its own). A copied or unpickled optimizer has
        lost it.
        """
        other = self._optimizer if optimizer is None else bare_optimizer(optimizer)
        return other is self._optimizer and any(handle is self for handle in handles_of(other))

    @property
    def total_decay_so_far(self) -> float:
        """D of the steps taken: Σ η·λ at the rates that were used, of the hardest decayed weights; NaN without a D.

        On a device where reading the learning rate would wait for it, NaN as well.
        """
        axis = self.regularizer.axis(traits_of(self._optimizer))
        return self._decay_done * axis.gain if axis.name == "total_decay" else math.nan

    def scalars(self) -> dict[str, float]:
        """Flat numbers for a logger: λ, λR, D so far and steps; waits for the device."""
        found = {
            "decay/strength": self.strength,
            "decay/penalty": self.penalty(),
            "decay/steps": float(self.steps),
            "decay/total_decay_so_far": self.total_decay_so_far,
        }
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def refresh(self) -> tuple[str, ...]:
        """Group the model again as it is now: after freezing, unfreezing, `add_param_group` or a new head.

        What trained before keeps its multiplier and the regularizer's state; what was frozen or is new gets those of
        its group. Groups that joined the optimizer with a decay of their own are taken over, if the others were.

        Returns:
            Names of the parameters that the regularizer decays from now on and did not before.

        Raises:
            DecayError: the handle is detached; a group that joined decays by itself; the partition cannot be made
                anew. The handle is then as it was.
        """
        optimizer = self._optimizer
        if not self.is_attached():
            raise DecayError("This handle is detached. Attach again.")
        if self._multipliers_of is None:
            raise DecayError("This handle was not made by attach: attach again.")
        partition = self.partition.regrouped()
        multipliers = self._multipliers_of(partition)
        before = {name: factor for name, factor in self._multiplier.items() if name not in self._frozen}
        fresh = {row.name: before.get(row.name, multipliers.get(row.group, 0.0)) for row in partition.rows}
        self._own_decay = self._own_decay.extended_(optimizer)
        old = self.partition, self._multiplier
        kept = self.regularizer.state_dict()
        self.partition, self._multiplier = partition, fresh
        try:
            self.regularizer.bind(self._binding(optimizer, self._learning_rates))
            self.regularizer.load_state_dict(merged(self.regularizer.state_dict(), kept))
        except BaseException:
            self.partition, self._multiplier = old
            raise
        self._frozen = {row.name for row in partition.rows if row.group == FROZEN}
        self._name = {id(parameter): row.name for row, parameter in partition.named_parameters()}
        self._watch_backward_()
        return tuple(
            name for name, factor in fresh.items() if factor and not before.get(name) and name not in self._frozen
        )

    def is_stale(self) -> bool:
        """Whether the optimizer holds parameters that joined, or were unfrozen, since the model was grouped."""
        return any(
            (name := self._name.get(id(parameter))) is None or (name in self._frozen and parameter.requires_grad)
            for group in self._optimizer.param_groups
            for parameter in group["params"]
        )

    def _watch_backward_(self) -> None:
        held = [p for group in self._optimizer.param_groups for p in group["params"]]
        acting = [p for p in held if self._multiplier.get(self._name.get(id(p), ""), 0.0) and p.requires_grad]
        self._backwards.watch_(acting[0] if acting else None, type(self._optimizer).__name__)

    def penalty(self) -> float:
        """λ·R now: Σ over groups of λ_group · R(θ_group), R = ½ Σ θ² unless the regularizer has another; 0 for bounds.

        Computed without autograd; waits for the device. With `decoupled` it is shown, not minimised.
        """
        optimizer = self._attached_optimizer()
        present: dict[float, tuple[list[str], list[Tensor]]] = {}
        now = self.strength
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = self._name_of(parameter)
                strength = self.regularizer.scaled(now, self._multiplier[name])
                if strength is not None:
                    names, tensors = present.setdefault(strength, ([], []))
                    names.append(name)
                    tensors.append(parameter)
        return sum(strength * self.regularizer.penalty(*members) for strength, members in present.items())

    def objective(self, original: float | Tensor) -> Objective:
        """L_original, λR and L, for a log."""
        loss = float(original.detach()) if isinstance(original, Tensor) else float(original)
        penalty = self.penalty()
        return Objective(loss, penalty, loss + penalty)

    def size(self) -> float | None:
        """The median size of what the regularizer shrinks, where its axis is relative to it; else None."""
        return self.regularizer.size(self._binding(self._attached_optimizer(), None))

    def detach(self) -> None:
        """Remove the hooks and give the optimizer its own weight decay back, if it was taken over. Idempotent."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.restore_gradients_()  # of a step that raised after the regularizer had acted
        self._backwards.watch_(None, "")
        if self.is_attached():
            remove_handle(self._optimizer, self)
            self._own_decay.restore_(self._optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Regularizer, strength, multipliers by parameter name and steps taken, as plain values; and the regularizer's
        state.

        Of a schedule, only its present value: attach the same schedule again; it continues at `steps`.
        """
        return {
            "regularizer": self.regularizer.name,
            "strength": self.strength,
            "multipliers": dict(self._multiplier),
            "steps": self.steps,
            "state": self.regularizer.state_dict(),
            "frozen": sorted(self._frozen),
            "decay_done": self._decay_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over strength, multipliers and steps from `state_dict` of a handle on the same model and regularizer.

        Raises:
            DecayError: another regularizer, or parameter names that differ (both lists' differences are shown).
        """
        missing = [key for key in ("regularizer", "strength", "multipliers", "steps", "state") if key not in state]
        if missing:
            raise DecayError(
                f"This is no state of a decay handle: {', '.join(missing)} missing; saw {', '.join(state)}."
            )
        if state["regularizer"] != self.regularizer.name:
            raise DecayError(
                f"The state is of regularizer '{state['regularizer']}', this handle's is '{self.regularizer.name}'. "
                f"Attach the same regularizer."
            )
        theirs = state["multipliers"]
        faults = [
            f"{name} is in the state, not in the model.{did_you_mean(name, self._multiplier)}"
            for name in theirs
            if name not in self._multiplier
        ]
        faults += [f"{name} is in the model, not in the state." for name in self._multiplier if name not in theirs]
        gather(DecayError, faults, "The state does not fit this model by parameter names:" if faults else "")
        self.regularizer.validate(state["strength"], 0.0)
        self.regularizer.load_state_dict(state["state"])
        self.steps = int(state["steps"])
        if not callable(self._strength):
            self._strength = float(state["strength"])
        self._decay_done = float(state.get("decay_done", 0.0))
        frozen_then = set(state.get("frozen", ()))
        thawed = [name for name in frozen_then if name not in self._frozen and self._multiplier[name] != theirs[name]]
        self._multiplier = {
            name: now if name in frozen_then else float(theirs[name]) for name, now in self._multiplier.items()
        }
        if thawed:
            warnings.warn(
                f"{len(thawed)} parameters were frozen when this state was saved and train now: "
                f"{', '.join(sorted(thawed)[:3])}{', …' if len(thawed) > 3 else ''}. They keep the multiplier of this "
                f"attach.",
                UserWarning,
                stacklevel=2,
            )

    def restore_gradients_(self) -> None:
        """Put the gradients back that the regularizer replaced for the step."""
        for parameter, original, replaced in self._put_back:
            if parameter.grad is replaced:
                parameter.grad = original
        self._put_back = []

    @torch.no_grad()
    def act_(self, optimizer: Optimizer) -> None:
        """The regularizer's part before the update: after backward and clipping, once per step."""
        if is_skipped(optimizer):
            self._buckets = None
            return
        first = self._buckets is None
        self._buckets = self._collect(optimizer)
        try:
            self._act_on_(self._buckets, first=first)
        except BaseException:
            self.restore_gradients_()
            self._buckets = None
            raise
        self._firing = Firing.of(self._buckets)

    def _act_on_(self, buckets: Sequence[Bucket], *, first: bool) -> None:
        if first:
            self.regularizer.begin_step(buckets)
        for bucket in buckets:
            if first:
                self.regularizer.before_update_(bucket)
                self._decay_copies_(bucket)
            shifted = self.regularizer.shifted_gradients(bucket)
            if shifted is not None:
                self._replace_gradients_(bucket, shifted)

    def _decay_copies_(self, bucket: Bucket) -> None:
        """Multiply the copies that the optimizer keeps of the weights, as the weights were."""
        if not self.adaptation.doubles:
            return
        chain = [one for reference in self._chain if (one := reference()) is not None]
        for name, parameter, gradient in zip(bucket.names, bucket.parameters, bucket.gradients, strict=True):
            for copied in self.adaptation.copies(chain, [parameter]):
                held = cast("list[Parameter]", [copied])
                self.regularizer.before_update_(replace(bucket, names=[name], parameters=held, gradients=[gradient]))

    def _replace_gradients_(self, bucket: Bucket, shifted: Sequence[Tensor]) -> None:
        for parameter, old, new in zip(bucket.parameters, bucket.gradients, shifted, strict=True):
            parameter.grad = new
            self._put_back.append((parameter, old, new))

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepArguments | None:
        if self.refreshes_itself and self.is_stale():
            self.refresh()
        self._backwards.count = 0
        self._own_decay.guard_(optimizer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if (isinstance(closure, Closure) and closure.is_of(self)) or (
            self._firing is not None and self._firing.is_the_same()
        ):
            return None
        self._buckets, self._put_back, self._firing = None, [], None
        if not callable(closure):
            self.act_(optimizer)
            return None
        wrapped = Closure(self, optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del optimizer, args, kwargs
        self.restore_gradients_()
        if self._buckets is None:
            return
        for bucket in self._buckets:
            self.regularizer.after_update_(bucket)
        self._note_rates_(self._buckets)
        self._buckets, self._firing = None, None
        self.steps += 1

    def _note_rates_(self, buckets: Sequence[Bucket]) -> None:
        """Add η·λ of this step to D so far; warn once where η is not the one that D was computed from."""
        known = [b for b in buckets if not isinstance(b.lr, Tensor) or b.lr.device.type == "cpu"]
        if not known:
            self._decay_done = math.nan if buckets else self._decay_done
            return
        rates = [float(bucket.lr) for bucket in known]
        axis = self.regularizer.axis(traits_of(self._optimizer))
        if axis.name == "total_decay":
            peak = axis.peak_lr or max(self._learning_rates or [0.0])
            taken = [r * r / peak if axis.square and peak else r for r in rates]
            self._decay_done += max(rate * bucket.strength for rate, bucket in zip(taken, known, strict=True))
        if not self._expects_rates or self._learning_rates is None:
            return
        told = self._learning_rates[self.steps] if self.steps < len(self._learning_rates) else None
        if told is not None and any(math.isclose(rate, told, rel_tol=1e-6, abs_tol=1e-12) for rate in rates):
            return
        self._expects_rates = False
        saw = "no rate is given for it" if told is None else f"the learning rates given say {told:g}"
        warnings.warn(
            f"Step {self.steps} is taken at lr {rates[0]:g}, and {saw}: the total decay will not be what was asked. "
            f"handle.total_decay_so_far tells what it is. Give the rates that are used, one for each optimizer step.",
            UserWarning,
            stacklevel=2,
        )

    def _collect(self, optimizer: Optimizer) -> list[Bucket]:
        """Decaying parameters with gradients, by strength, optimizer group, device and data type."""
        scale, now = gradient_scale(optimizer), self.strength
        strengths = {factor: self.regularizer.scaled(now, factor) for factor in set(self._multiplier.values())}
        buckets: dict[tuple[Any, ...], Bucket] = {}
        for index, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                name = self._name_of(parameter)
                strength = strengths[self._multiplier[name]]
                if strength is None:
                    continue
                key = (index, strength, parameter.device, parameter.dtype, gradient.dtype)
                bucket = buckets.get(key)
                if bucket is None:
                    rate = self.adaptation.rate(group)
                    validate_step(self.regularizer, strength, rate)
                    maximize = bool(group.get("maximize", False))
                    bucket = Bucket([], [], [], strength, rate, maximize, optimizer, group, scale)
                    buckets[key] = bucket
                bucket.names.append(name)
                bucket.parameters.append(parameter)
                bucket.gradients.append(gradient)
        return list(buckets.values())

    def _strength_of(self, name: str) -> float | None:
        """Strength of a parameter; None where nothing acts on it."""
        return self.regularizer.scaled(self.strength, self._multiplier[name])

    def _name_of(self, parameter: Parameter) -> str:
        name = self._name.get(id(parameter))
        if name is None:
            raise DecayError(
                f"A parameter of shape {tuple(parameter.shape)} joined the optimizer after attach() and is in no "
                f"group. Call handle.refresh(), which groups the model again."
            )
        if name in self._frozen and parameter.requires_grad:
            raise DecayError(
                f"{name} was frozen at attach() and trains now, in no group. Call handle.refresh(), which groups "
                f"the model again."
            )
        return name

    def _attached_optimizer(self) -> Optimizer:
        if not self.is_attached():
            raise DecayError("This handle is detached. Attach again.")
        if self.refreshes_itself and self.is_stale():
            self.refresh()
        return self._optimizer


# Weak on both sides: the optimizer's hooks hold the handle, and the handle its optimizer.
_handles: weakref.WeakKeyDictionary[Optimizer, list[weakref.ref[Handle]]] = weakref.WeakKeyDictionary()


def add_handle(optimizer: Optimizer, handle: Handle) -> None:
    """Register a handle as acting on an optimizer."""
    _handles.setdefault(optimizer, []).append(weakref.ref(handle))
    warn_when_copied_(optimizer)


def remove_handle(optimizer: Optimizer, handle: Handle) -> None:
    """Unregister a handle."""
    _handles[optimizer] = [weakref.ref(other) for other in handles_of(optimizer) if other is not handle]
    if not _handles[optimizer]:
        let_be_copied_(optimizer)


def handle_of(optimizer: Optimizer) -> Handle | None:
    """The handle attached to an optimizer, or None; None also for a copy, which loses its hooks."""
    return next(iter(handles_of(optimizer)), None)


def handles_of(optimizer: Optimizer) -> list[Handle]:
    """All handles attached to an optimizer; more than one where regularizers combine."""
    references = _handles.get(bare_optimizer(optimizer), [])
    return [handle for reference in references if (handle := reference()) is not None]


def refuse_pair(optimizer: Optimizer, regularizer: str) -> None:
    """Refuse a regularizer beside those that are attached.

    Raises:
        DecayError: they would regularize the same weights twice.
    """
    for present in handles_of(optimizer):
        if not may_combine(present.regularizer.name, regularizer):
            raise DecayError(
                f"Regularizer '{present.regularizer.name}' is attached to this optimizer already; '{regularizer}' "
                "beside it would "
                f"regularize the same weights twice. Only decoupled and max_norm combine. Call detach() on its handle "
                f"first."
            )
