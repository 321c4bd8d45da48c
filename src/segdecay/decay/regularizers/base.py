"""The base class of regularizers, and what it is given: the optimizer, the parameters, and those of each step.

A new regularizer is one file with one subclass of `Regularizer`, and one line in registry.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from segdecay.decay.axes import Coupling, StrengthAxis, validate_strength
from segdecay.decay.foreach import half_square_sum
from segdecay.decay.groups import ParameterRow
from segdecay.errors import DecayError, unknown

REFUSED = {
    "lbfgs": "LBFGS evaluates its closure several times a step along a line search, and its curvature estimate would "
    "mix gradients with and without the penalty. Add the penalty to the loss, or use SGD, Adam or AdamW.",
}
SGD_NAMES = ("sgd", "sgdw")
PART = 2**18  # elements; 1 MiB in float32
KNOWN_OPTIMIZERS = (
    "sgd",
    "sgdw",
    "adam",
    "adamw",
    "nadam",
    "radam",
    "adamax",
    "rmsprop",
    "adagrad",
    "adadelta",
    "adafactor",
    "asgd",
    "rprop",
    "muon",
)


Channel = Literal["before", "after", "gradient", "nothing"]  # the update; the gradient


@dataclass(frozen=True)
class Bucket:
    """Parameters with gradients that share strength, learning rate, device and data type, at one optimizer step."""

    names: list[str]
    parameters: list[Parameter]
    gradients: list[Tensor]  # multiplied by grad_scale if a GradScaler leaves the unscaling to a fused optimizer
    strength: float  # λ of these parameters: the handle's strength times their group's multiplier; above 0
    lr: float | Tensor  # η of their optimizer group at this step
    maximize: bool  # whether the optimizer maximizes: it will flip the sign of the gradient
    optimizer: torch.optim.Optimizer  # for its state; regularizers never change it
    group: Mapping[str, Any]  # the optimizer's group: betas, eps, momentum
    grad_scale: float = 1.0

    def state(self, parameter: Parameter) -> Mapping[str, Any]:
        """The optimizer's state of a parameter; empty before the first step."""
        found: Mapping[str, Any] = self.optimizer.state.get(parameter, {})
        return found

    def parts(self) -> Iterator[Bucket]:
        """Parts of the bucket for rules with temporary tensors: small enough for the cache of a CPU.

        On other devices the bucket itself, as there the number of kernel launches matters.
        """
        if self.parameters[0].device.type != "cpu":
            yield self
            return
        first = numbers = 0
        for end, parameter in enumerate(self.parameters, 1):
            numbers += parameter.numel()
            if numbers >= PART or end == len(self.parameters):
                cut = slice(first, end)
                yield replace(
                    self, names=self.names[cut], parameters=self.parameters[cut], gradients=self.gradients[cut]
                )
                first, numbers = end, 0


@dataclass(frozen=True)
class Binding:
    """The optimizer and the parameters to which a regularizer is attached. Mappings are over all names of the model."""

    optimizer: torch.optim.Optimizer
    traits: OptimizerTraits
    parameters: Mapping[str, Parameter]
    rows: Mapping[str, ParameterRow]
    multipliers: Mapping[str, float]  # of the strength; 0: not regularized
    learning_rates: tuple[float, ...] | None = None  # of all steps to come, if given to attach()

    def decayed(self) -> list[str]:
        """Names of the trainable parameters on which the regularizer acts."""
        return [name for name, factor in self.multipliers.items() if factor and self.rows[name].trainable]


@dataclass(frozen=True)
class OptimizerTraits:
    """The properties of an optimizer on which the axis of a regularizer depends."""

    name: str  # class name in lower case
    coupling: Coupling = field(default_factory=Coupling)

    @property
    def is_sgd(self) -> bool:
        """Whether a gradient reaches the weight linearly, through at most a momentum buffer."""
        return self.name in SGD_NAMES


class Regularizer(ABC):
    """One regularizer. Its docstring, with the sections of `SECTIONS`, is printed by `describe_regularizer`.

    A subclass overrides the methods in which it acts. The handle calls them without autograd, once per optimizer step
    that is not skipped, with buckets whose strength is not `none` and whose parameters have gradients. Options are
    keyword arguments of __init__, which checks them; attach() passes them on.
    """

    name: ClassVar[str]
    none: ClassVar[float] = 0.0  # the strength without decay; inf if smaller is stronger
    bounds: ClassVar[bool] = False  # whether it only bounds weights, so that the optimizer's weight decay may stay
    whole_tensors: ClassVar[bool] = False  # whether it needs norms or means of whole weights; shards are refused
    multiplies: ClassVar[bool] = False  # whether it only multiplies weights, so that it can also act on copies
    takes_complex: ClassVar[bool] = False  # whether the formula holds for complex weights
    in_model: ClassVar[bool] = False  # whether it acts in the model's forward pass; attach() refuses it
    formula: ClassVar[str]
    plain_formula: ClassVar[str]  # the same in ASCII

    SECTIONS: ClassVar[tuple[str, ...]] = ("For", "Not for", "Minimises", "Defaults", "Source")

    def channel(self, optimizer: OptimizerTraits) -> Channel:
        """When it acts under this optimizer, from the methods that the subclass overrides."""
        del optimizer
        kind = type(self)
        if kind.before_update_ is not Regularizer.before_update_:
            return "before"
        if kind.after_update_ is not Regularizer.after_update_:
            return "after"
        return "gradient" if kind.shifted_gradients is not Regularizer.shifted_gradients else "nothing"

    @abstractmethod
    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        """The axis under this optimizer; raises DecayError with the reason if they do not fit."""

    def bind(self, binding: Binding) -> None:
        """Called once at attach(), with the optimizer and the parameters; checks them and keeps what is needed.

        Raises:
            DecayError: the optimizer or the parameters do not fit.
        """
        del binding

    def scaled(self, strength: float, multiplier: float) -> float | None:
        """Strength of a group: the handle's times the group's multiplier; None if the group is not regularized."""
        return strength * multiplier or None

    def multiplier(self, strength: float, base: float) -> float:
        """The multiplier that turns `base` into `strength`; the inverse of `scaled`."""
        return strength / base

    def size(self, binding: Binding) -> float | None:
        """The median size of the shrunk weights if the axis is relative to it; else None."""
        del binding
        return None

    def validate(self, strength: float, lr: float) -> None:
        """Check a strength for a step with this learning rate.

        Raises:
            DecayError: the strength is negative or not finite, or η·λ ≥ 1; names the largest one allowed.
        """
        validate_strength(strength)
        if lr * strength >= 1:
            raise DecayError(
                f"Strength {strength:g} at learning rate {lr:g} gives η·λ = {lr * strength:g}: it would remove the "
                f"weights in one step. It must stay below {1 / lr:g}."
            )

    def begin_step(self, buckets: Sequence[Bucket]) -> None:
        """Called first in a step, with all buckets, for quantities that depend on all of them."""
        del buckets

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor] | None:
        """New gradients for this step, out of place; the old ones are restored after it. None: unchanged."""
        del bucket
        return None

    def before_update_(self, bucket: Bucket) -> None:
        """Change the weights before the optimizer's update, in place."""
        del bucket

    def after_update_(self, bucket: Bucket) -> None:
        """Change the weights after the optimizer's update, in place."""
        del bucket

    def idle_steps(self) -> int:
        """The number of steps at the start of a training in which the regularizer cannot act at any strength."""
        return 0

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        """R of parameters that share a strength; ½ Σ θ² unless overridden."""
        del names
        return half_square_sum(parameters)

    def summary(self) -> str:
        """A readable summary of what was found at attach(); may be empty."""
        return ""

    def state_dict(self) -> dict[str, object]:
        """The state for resuming, beside strength and multipliers: JSON values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Load a state of `state_dict`.

        Raises:
            DecayError: the state is of another regularizer.
        """
        if state:
            raise DecayError(
                f"Regularizer '{self.name}' keeps no state; saw {', '.join(state)}. Load the matching checkpoint."
            )


def traits_of(optimizer: torch.optim.Optimizer | str, *, momentum: float = 0.0) -> OptimizerTraits:
    """An optimizer's traits, from the optimizer itself or from its name and momentum.

    Raises:
        DecayError: the name is unknown, the optimizer is not supported (LBFGS), the momentum is not in [0, 1), or
            parameter groups differ in momentum.

    Example:
        >>> traits_of("SGD", momentum=0.9).coupling
        Coupling(momentum=0.9, dampening=0.0, nesterov=False)
    """
    if isinstance(optimizer, str):
        name = optimizer.lower()
        if name not in (*KNOWN_OPTIMIZERS, *REFUSED):
            raise DecayError(unknown("optimizer", optimizer, KNOWN_OPTIMIZERS))
        couplings = [Coupling(momentum if name in SGD_NAMES else 0.0)]
    else:
        optimizer = bare_optimizer(optimizer)
        name = "sgd" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__.lower()
        couplings = [
            Coupling(group.get("momentum", 0.0), group.get("dampening", 0.0), group.get("nesterov", False))
            for group in optimizer.param_groups
            if name in SGD_NAMES
        ] or [Coupling()]
    if name in REFUSED:
        raise DecayError(f"{name.upper()} is refused: {REFUSED[name]}")
    if any(coupling != couplings[0] for coupling in couplings):
        raise DecayError(
            "The optimizer's groups differ in momentum, so one strength acts differently in each. Use one momentum."
        )
    if not 0 <= couplings[0].momentum < 1:
        raise DecayError(f"momentum must be at least 0 and below 1; saw {couplings[0].momentum}.")
    return OptimizerTraits(name, couplings[0])


# Attributes in which wrappers keep their inner optimizer: wrappers of trainers, Lookahead, SAM, schedule-free.
INNER = ("optimizer", "base_optimizer", "_base_optimizer", "_optimizer", "inner_optimizer")
TRAINERS = ("lightning", "lightning_fabric", "pytorch_lightning", "accelerate")  # they change no step


def optimizer_chain(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """The optimizer whose update changes the weights, then the wrappers that change its step, outermost last.

    Raises:
        DecayError: it is not a torch optimizer.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> optimizer_chain(sgd) == [sgd]
        True
    """
    chain, one = [], optimizer
    while True:
        if type(one).__module__.split(".")[0] not in TRAINERS:
            chain.append(one)
        inner = next(
            (found for name in INNER if isinstance(found := getattr(one, name, None), torch.optim.Optimizer)), None
        )
        if inner is None or any(inner is other for other in chain):
            break
        one = inner
    if not isinstance(one, torch.optim.Optimizer):
        raise DecayError(f"A torch.optim.Optimizer is needed; saw {type(one).__name__}.")
    return [one, *(other for other in reversed(chain) if other is not one)]


def bare_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer whose update changes the weights, inside wrappers of trainers, Lookahead or SAM.

    Raises:
        DecayError: it is not a torch optimizer.
    """
    return optimizer_chain(optimizer)[0]


class BoundRegularizer(Regularizer):
    """A regularizer whose strength is a bound or a factor of one; a group's multiplier m divides the bound by m."""

    none: ClassVar[float] = math.inf
    whole_tensors: ClassVar[bool] = True
    refusal: ClassVar[str]  # error message for a strength that is no bound, with {saw}

    def scaled(self, strength: float, multiplier: float) -> float | None:
        return strength / multiplier if multiplier and math.isfinite(strength) else None

    def multiplier(self, strength: float, base: float) -> float:
        return base / strength

    def validate(self, strength: float, lr: float) -> None:
        """Raise DecayError unless the bound is above 0, at any learning rate."""
        del lr
        if math.isnan(strength) or strength <= 0:
            raise DecayError(self.refusal.format(saw=f"{strength:g}"))

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        """0: a bound is no penalty with a strength."""
        del names, parameters
        return 0.0
