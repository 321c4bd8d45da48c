"""A policy attached to an optimizer: the hooks, the handle that holds them, and what it can tell.

The policy acts once per optimizer step, through torch's own step hooks, after backward and clipping and before the
update. Knows optimizers and partitions; nothing of losses, data, loops or files. With a closure the pre-hook runs
*before* backward, so the closure is wrapped; a fused optimizer under a GradScaler sees scaled gradients and also fires
on steps that are skipped for inf; an optimizer whose `step` calls its parent's fires twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.attached import add_handle, handles_of, remove_handle
from segdecay.decay.groups import FROZEN, Partition
from segdecay.decay.own_decay import OwnDecay
from segdecay.decay.policy import Binding, Bucket, Policy, bare_optimizer, traits_of
from segdecay.decay.step import Closure, Firing, gradient_scale, is_skipped, validate_step
from segdecay.errors import DecayError, did_you_mean, gather

StepArguments = tuple[tuple[Any, ...], dict[str, Any]]
Schedule = Callable[[int], float]  # λ at a step, counted from 0


@dataclass(frozen=True)
class Objective:
    """The terms of one training step: total = original + penalty."""

    original: float
    penalty: float
    total: float


class Handle:
    """A policy on one optimizer, until `detach`. Made by `attach`."""

    def __init__(
        self,
        optimizer: Optimizer,
        partition: Partition,
        policy: Policy,
        multipliers: Mapping[str, float],
        *,
        take_over: bool,
        learning_rates: Sequence[float] | None = None,
    ) -> None:
        self.policy, self.partition = policy, partition
        self.steps = 0  # optimizer steps that were not skipped
        self._strength: float | Schedule = policy.none
        self._optimizer = optimizer
        self._own_decay = OwnDecay.take_(optimizer, take_over=take_over, beside=policy.bounds)
        self._multiplier = {row.name: multipliers.get(row.group, 0.0) for row in partition.rows}
        self._frozen = {row.name for row in partition.rows if row.group == FROZEN}
        self._name = {id(parameter): row.name for row, parameter in partition.named_parameters()}
        self._put_back: list[tuple[Parameter, Tensor, Tensor]] = []
        self._buckets: list[Bucket] | None = None
        self._firing: Firing | None = None
        self._hooks: list[Any] = []
        try:
            policy.bind(self._binding(optimizer, learning_rates))
        except DecayError:
            self._own_decay.restore_(optimizer)
            raise
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
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

    @property
    def strength(self) -> float:
        """λ of the next step, before the groups' multipliers."""
        return float(self._strength(self.steps)) if callable(self._strength) else self._strength

    def set_strength(self, strength: float | Schedule) -> None:
        """Go on with another λ, or a schedule of λ over steps, from the next step.

        Raises:
            DecayError: negative, not finite, or η·λ ≥ 1 at the present learning rates.
        """
        optimizer = self._attached_optimizer()
        value = float(strength(self.steps)) if callable(strength) else strength
        self.policy.validate(value, 0.0)
        for group in optimizer.param_groups:
            for multiplier in {self._multiplier[self._name_of(parameter)] for parameter in group["params"]}:
                scaled = self.policy.scaled(value, multiplier)
                if scaled is not None:
                    validate_step(self.policy, scaled, group["lr"])
        self._strength = strength if callable(strength) else float(strength)

    def strengths(self) -> dict[str, float | None]:
        """λ of every parameter by name; None where nothing acts on it."""
        return {name: self._strength_of(name) for name in self._multiplier}

    def is_attached(self, optimizer: Optimizer | None = None) -> bool:
        """Whether the policy acts on this optimizer (default: its own). A copied or unpickled optimizer lost it."""
        other = self._optimizer if optimizer is None else bare_optimizer(optimizer)
        return other is self._optimizer and any(handle is self for handle in handles_of(other))

    def penalty(self) -> float:
        """λ·R now: Σ over groups of λ_group · R(θ_group), R = ½ Σ θ² unless the policy has another; 0 for bounds.

        Computed without autograd; waits for the device. With `decoupled` it is shown, not minimised.
        """
        optimizer = self._attached_optimizer()
        present: dict[float, tuple[list[str], list[Tensor]]] = {}
        now = self.strength
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = self._name_of(parameter)
                strength = self.policy.scaled(now, self._multiplier[name])
                if strength is not None:
                    names, tensors = present.setdefault(strength, ([], []))
                    names.append(name)
                    tensors.append(parameter)
        return sum(strength * self.policy.penalty(*members) for strength, members in present.items())

    def objective(self, original: float | Tensor) -> Objective:
        """L_original, λR and L, for a log."""
        loss = float(original.detach()) if isinstance(original, Tensor) else float(original)
        penalty = self.penalty()
        return Objective(loss, penalty, loss + penalty)

    def size(self) -> float | None:
        """The median size of what the policy shrinks, where its axis is relative to it; else None."""
        return self.policy.size(self._binding(self._attached_optimizer(), None))

    def detach(self) -> None:
        """Remove the hooks and give the optimizer its own weight decay back, if it was taken over. Twice is once."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self.is_attached():
            remove_handle(self._optimizer, self)
            self._own_decay.restore_(self._optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Policy, strength, multipliers by parameter name and steps taken, as plain values; and the policy's state.

        Of a schedule, only its present value: attach the same schedule again, it goes on at `steps`.
        """
        return {
            "policy": self.policy.name,
            "strength": self.strength,
            "multipliers": dict(self._multiplier),
            "steps": self.steps,
            "state": self.policy.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over strength, multipliers and steps from `state_dict` of a handle on the same model and policy.

        Raises:
            DecayError: another policy, or parameter names that differ (both lists' differences are shown).
        """
        missing = [key for key in ("policy", "strength", "multipliers", "steps", "state") if key not in state]
        if missing:
            raise DecayError(
                f"This is no state of a decay handle: {', '.join(missing)} missing; saw {', '.join(state)}."
            )
        if state["policy"] != self.policy.name:
            raise DecayError(
                f"The state is of policy '{state['policy']}', this handle's is '{self.policy.name}'. "
                f"Attach the same policy."
            )
        theirs = state["multipliers"]
        faults = [
            f"{name} is in the state, not in the model.{did_you_mean(name, self._multiplier)}"
            for name in theirs
            if name not in self._multiplier
        ]
        faults += [f"{name} is in the model, not in the state." for name in self._multiplier if name not in theirs]
        gather(DecayError, faults, "The state does not fit this model by parameter names:" if faults else "")
        self.policy.validate(state["strength"], 0.0)
        self.policy.load_state_dict(state["state"])
        self.steps = int(state["steps"])
        if not callable(self._strength):
            self._strength = float(state["strength"])
        self._multiplier = {name: float(theirs[name]) for name in self._multiplier}

    def restore_gradients_(self) -> None:
        """Put the gradients back that the policy replaced for the step."""
        for parameter, original, replaced in self._put_back:
            if parameter.grad is replaced:
                parameter.grad = original
        self._put_back = []

    @torch.no_grad()
    def act_(self, optimizer: Optimizer) -> None:
        """The policy's part before the update: after backward and clipping, once per step."""
        if is_skipped(optimizer):
            self._buckets = None
            return
        first = self._buckets is None
        self._buckets = self._collect(optimizer)
        if first:
            self.policy.begin_step(self._buckets)
        for bucket in self._buckets:
            if first:
                self.policy.before_update_(bucket)
            shifted = self.policy.shifted_gradients(bucket)
            if shifted is not None:
                self._replace_gradients_(bucket, shifted)
        self._firing = Firing.of(self._buckets)

    def _replace_gradients_(self, bucket: Bucket, shifted: Sequence[Tensor]) -> None:
        for parameter, old, new in zip(bucket.parameters, bucket.gradients, shifted, strict=True):
            parameter.grad = new
            self._put_back.append((parameter, old, new))

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepArguments | None:
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
            self.policy.after_update_(bucket)
        self._buckets, self._firing = None, None
        self.steps += 1

    def _collect(self, optimizer: Optimizer) -> list[Bucket]:
        """Decaying parameters with gradients, by strength, optimizer group, device and data type."""
        scale, now = gradient_scale(optimizer), self.strength
        strengths = {factor: self.policy.scaled(now, factor) for factor in set(self._multiplier.values())}
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
                    validate_step(self.policy, strength, group["lr"])
                    maximize = bool(group.get("maximize", False))
                    bucket = Bucket([], [], [], strength, group["lr"], maximize, optimizer, group, scale)
                    buckets[key] = bucket
                bucket.names.append(name)
                bucket.parameters.append(parameter)
                bucket.gradients.append(gradient)
        return list(buckets.values())

    def _strength_of(self, name: str) -> float | None:
        """Strength of a parameter; None where nothing acts on it."""
        return self.policy.scaled(self.strength, self._multiplier[name])

    def _name_of(self, parameter: Parameter) -> str:
        name = self._name.get(id(parameter))
        if name is None:
            raise DecayError(
                f"A parameter of shape {tuple(parameter.shape)} joined the optimizer after attach() and is in no "
                f"group. Call handle.detach() and attach again."
            )
        if name in self._frozen and parameter.requires_grad:
            raise DecayError(
                f"{name} was frozen at attach() and trains now, in no group. Call handle.detach() and attach again."
            )
        return name

    def _attached_optimizer(self) -> Optimizer:
        if not self.is_attached():
            raise DecayError("This handle is detached. Attach again.")
        return self._optimizer
