"""The step t that an optimizer takes along a constant gradient: what a proximal step must shrink by, times λ.

θ ← prox_{t·λR}(θ − t·g) leaves θ where it is exactly where θ minimises L + λR; with another t in the two places the
fixed point is that of another λ. Under SGD with momentum μ the update is η·(1 − dampening)/(1 − μ)·g in the long run,
through Adam η/(√v̂ + ε)·g for each coordinate. Knows optimizers' settings and state; nothing of penalties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from segdecay.decay.axes import Coupling
from segdecay.decay.foreach import add_scaled, reciprocal_steps
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits
from segdecay.errors import DecayError

RECTIFIED_FROM = 5.0  # length of RAdam's average above which it divides by √v̂ (Liu et al. 2020, algorithm 2)

NO_STEP = {
    "lion": "moves by the sign of its momentum",
    "rprop": "moves by the sign of the gradient",
    "muon": "makes its update orthogonal, which mixes the coordinates",
    "adafactor": "keeps rows and columns of v only, and clips and rescales its update",
    "adadelta": "changes the step's numerator after using it, so that its state no longer tells it",
    "asgd": "takes its step size from the state of the step before",
}


def sgd_step_size(lr: float | Tensor, group: Mapping[str, Any]) -> float | Tensor:
    """The step η·(1 − dampening)/(1 − μ), with μ of the optimizer group at this step.

    >>> round(float(sgd_step_size(0.1, {"momentum": 0.9, "dampening": 0.0})), 6)
    1.0
    """
    return lr * Coupling(group.get("momentum", 0.0), group.get("dampening", 0.0)).gain


def coordinate_steps(bucket: Bucket) -> list[Tensor]:
    """The step t of every coordinate, one tensor a parameter, in at least float32; after the optimizer's update.

    Raises:
        DecayError: the optimizer has no such step, see `validate_step_size`.
    """
    for known in STEPS:
        if isinstance(bucket.optimizer, known.kind):
            return known.steps(bucket)
    raise DecayError(_refusal(type(bucket.optimizer).__name__))


def has_coordinate_steps(optimizer: OptimizerTraits) -> bool:
    """Whether this optimizer, by its name, divides each coordinate's gradient by what its state tells."""
    return any(known.kind.__name__.lower() == optimizer.name for known in STEPS)


def validate_step_size(policy: str, optimizer: OptimizerTraits, binding: Binding | None = None) -> None:
    """Refuse optimizers whose step along a constant gradient is not known.

    Raises:
        DecayError: says why for those that are known, and which are allowed.
    """
    if optimizer.is_sgd:
        return
    by_name = has_coordinate_steps(optimizer)
    is_torch = binding is None or any(isinstance(binding.optimizer, known.kind) for known in STEPS)
    if not (by_name and is_torch):
        raise DecayError(f"Policy '{policy}': {_refusal(optimizer.name, by_name=by_name)}")


def _refusal(name: str, *, by_name: bool = False) -> str:
    allowed = ", ".join(["SGD", *(known.kind.__name__ for known in STEPS)])
    reason = NO_STEP.get(name.lower(), "has an update whose step is not known here")
    if by_name:
        reason = "is not the optimizer of that name in torch.optim, so its state may mean something else"
    return (
        f"{name} {reason}: there is no t with which a proximal step minimises L + λR. Allowed: {allowed}. Use one of "
        f"them, or l1 with method='subgradient', which any optimizer takes but which makes no exact zeros."
    )


def _bias_corrections(bucket: Bucket) -> list[Any]:
    """1 − β₂^step of every parameter; numbers, or tensors where the optimizer counts on the device."""
    beta2 = bucket.group["betas"][1]
    return [1 - beta2 ** _count(bucket, index) for index in range(len(bucket.parameters))]


def _count(bucket: Bucket, index: int) -> Any:
    step = bucket.state(bucket.parameters[index])["step"]
    return float(step) if not isinstance(step, Tensor) or step.device.type == "cpu" else step


def _kept(bucket: Bucket, key: str) -> list[Tensor]:
    return [bucket.state(parameter)[key] for parameter in bucket.parameters]


def _adam(bucket: Bucket) -> list[Tensor]:
    squares = _kept(bucket, "max_exp_avg_sq" if bucket.group.get("amsgrad") else "exp_avg_sq")
    roots = [correction**0.5 for correction in _bias_corrections(bucket)]
    return reciprocal_steps(squares, bucket.lr, root=True, divisors=roots, eps=bucket.group["eps"])


def _radam(bucket: Bucket) -> list[Tensor]:
    """As torch: a plain step η while the average is short; then η·rectification·√(1 − β₂^step)/(√v + ε)."""
    beta2 = bucket.group["betas"][1]
    longest = 2 / (1 - beta2) - 1
    corrections = _bias_corrections(bucket)
    steps = reciprocal_steps(_kept(bucket, "exp_avg_sq"), bucket.lr, root=True, eps=bucket.group["eps"])
    for index, (step, correction) in enumerate(zip(steps, corrections, strict=True)):
        count = _count(bucket, index)
        length = longest - 2 * count * beta2**count / correction
        share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        if isinstance(length, Tensor):
            step.mul_((share.clamp(min=0) * correction).sqrt())
            steps[index] = torch.where(length > RECTIFIED_FROM, step, bucket.lr)
        elif length > RECTIFIED_FROM:
            step.mul_((share * correction) ** 0.5)
        else:
            step.fill_(bucket.lr)
    return steps


def _adamax(bucket: Bucket) -> list[Tensor]:
    return reciprocal_steps(_kept(bucket, "exp_inf"), bucket.lr)  # ε is inside


def _rmsprop(bucket: Bucket) -> list[Tensor]:
    squares = _kept(bucket, "square_avg")
    if bucket.group["centered"]:
        means = _kept(bucket, "grad_avg")
        squares = add_scaled(squares, [mean.square() for mean in means], -1.0)
        for square in squares:
            square.clamp_(min=0)
    lr = bucket.lr / (1 - bucket.group["momentum"])
    return reciprocal_steps(squares, lr, root=True, eps=bucket.group["eps"])


def _adagrad(bucket: Bucket) -> list[Tensor]:
    counts = [_count(bucket, index) for index in range(len(bucket.parameters))]
    steps = reciprocal_steps(_kept(bucket, "sum"), bucket.lr, root=True, eps=bucket.group["eps"])
    if bucket.group["lr_decay"]:
        for step, count in zip(steps, counts, strict=True):
            step.div_(1 + (count - 1) * bucket.group["lr_decay"])
    return steps


@dataclass(frozen=True)
class _Known:
    kind: type[Optimizer]
    steps: Callable[[Bucket], list[Tensor]]


STEPS = (
    _Known(RAdam, _radam),
    _Known(Adam, _adam),
    _Known(AdamW, _adam),
    _Known(NAdam, _adam),
    _Known(Adamax, _adamax),
    _Known(RMSprop, _rmsprop),
    _Known(Adagrad, _adagrad),
)
