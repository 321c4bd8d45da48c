"""What a regularizer must know of one optimizer step: its closure, its scaler, and whether it was seen before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.regularizers.base import Bucket, Regularizer

StepArguments = tuple[tuple[Any, ...], dict[str, Any]]


class Actor(Protocol):
    """What acts in a step."""

    def restore_gradients_(self) -> None:
        """Undo what was done to the gradients."""

    def act_(self, optimizer: Optimizer) -> None:
        """Act, before the update."""


class Closure:
    """A closure after which a regularizer acts."""

    def __init__(self, actor: Actor, optimizer: Optimizer, closure: Callable[[], Any]) -> None:
        self.actor, self.optimizer, self.closure = actor, optimizer, closure

    def is_of(self, actor: Actor) -> bool:
        """Whether this actor acts after the closure already, itself or one wrapped inside."""
        return self.actor is actor or (isinstance(self.closure, Closure) and self.closure.is_of(actor))

    def __call__(self) -> Any:
        self.actor.restore_gradients_()
        loss = self.closure()
        self.actor.act_(self.optimizer)
        return loss


@dataclass(frozen=True)
class Firing:
    """What a regularizer acted on last. An optimizer whose `step` calls its parent's fires its hooks twice a step."""

    parameter: Parameter
    gradient: Tensor
    versions: tuple[int, int]

    @classmethod
    def of(cls, buckets: Sequence[Bucket]) -> Firing | None:
        """The mark of a step, from its first parameter; None where nothing was acted on."""
        parameter = next((bucket.parameters[0] for bucket in buckets), None)
        if parameter is None or parameter.grad is None:
            return None
        return cls(parameter, parameter.grad, _versions(parameter, parameter.grad))

    def is_the_same(self) -> bool:
        """Whether nothing has touched weight or gradient since: the same step fires again."""
        gradient = self.parameter.grad
        return gradient is self.gradient and _versions(self.parameter, gradient) == self.versions


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether a GradScaler found inf and a fused optimizer, which does not ask it, will skip this step itself."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and float(found) > 0


def gradient_scale(optimizer: Optimizer) -> float:
    """What a GradScaler multiplied the gradients by and leaves to a fused optimizer to divide out; else 1."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else float(scale)


def validate_step(regularizer: Regularizer, strength: float, lr: float | Tensor) -> None:
    """Let the regularizer check η·λ.

    A learning rate on a device is not read, as that would wait for the device at every step.
    """
    if not isinstance(lr, Tensor) or lr.device.type == "cpu":
        regularizer.validate(strength, float(lr))


def _versions(parameter: Tensor, gradient: Tensor) -> tuple[int, int]:
    return parameter._version, gradient._version  # noqa: SLF001 - torch's count of in-place changes; nothing public has it
