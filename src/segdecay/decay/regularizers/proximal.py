"""Regularizers that set weights or channels to exactly zero by a proximal step after the update."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from segdecay.decay.axes import Coupling, StrengthAxis, lambda_axis, relative_axis, validate_strength
from segdecay.decay.foreach import absolute_sum, add_scaled, half_square_sum, reciprocal_steps, shrink_, signs
from segdecay.decay.regularizers.base import Binding, Bucket, Channel, OptimizerTraits, Regularizer
from segdecay.decay.regularizers.l2 import shifted_by
from segdecay.decay.scale_invariance import channel_norms, channel_size, shrink_channels_
from segdecay.errors import DecayError, unknown

RECTIFIED_FROM = 5.0  # length of RAdam's average above which it divides by √v̂ (Liu et al. 2020, algorithm 2)

NO_STEP = {
    "lion": "moves by the sign of its momentum",
    "rprop": "moves by the sign of the gradient",
    "muon": "makes its update orthogonal, which mixes the coordinates",
    "adafactor": "keeps rows and columns of v only, and clips and rescales its update",
    "adadelta": "changes the numerator of its step after using it, so that its state no longer holds it",
    "asgd": "takes its step size from the state of the previous step",
}


def sgd_step_size(lr: float | Tensor, group: Mapping[str, Any]) -> float | Tensor:
    """The step η·(1 − dampening)/(1 − μ), with μ of the optimizer group at this step.

    >>> round(float(sgd_step_size(0.1, {"momentum": 0.9, "dampening": 0.0})), 6)
    1.0
    """
    return lr * Coupling(group.get("momentum", 0.0), group.get("dampening", 0.0)).gain


def coordinate_steps(bucket: Bucket) -> list[Tensor]:
    """The step t of every coordinate after the update, one tensor per parameter, in at least float32.

    Raises:
        DecayError: the optimizer has no such step, see `validate_step_size`.
    """
    for known in STEPS:
        if isinstance(bucket.optimizer, known.kind):
            return known.steps(bucket)
    raise DecayError(_refusal(type(bucket.optimizer).__name__))


def has_coordinate_steps(optimizer: OptimizerTraits) -> bool:
    """Whether the step of each coordinate under this optimizer can be read from its state."""
    return any(known.kind.__name__.lower() == optimizer.name for known in STEPS)


def validate_step_size(regularizer: str, optimizer: OptimizerTraits, binding: Binding | None = None) -> None:
    """Refuse optimizers whose step along a constant gradient is not known.

    Raises:
        DecayError: the step is not known; gives the reason and the optimizers that are allowed.
    """
    if optimizer.is_sgd:
        return
    by_name = has_coordinate_steps(optimizer)
    is_torch = binding is None or any(isinstance(binding.optimizer, known.kind) for known in STEPS)
    if not (by_name and is_torch):
        raise DecayError(f"Regularizer '{regularizer}': {_refusal(optimizer.name, by_name=by_name)}")


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
    """1 − β₂^step of every parameter: numbers, or tensors if the optimizer counts steps on the device."""
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


UNIT = "λ of the penalty λ·R"
METHODS = ("proximal", "subgradient")


class _Proximal(Regularizer):
    """R = l1_ratio·Σ|θ| + (1 − l1_ratio)·½Σθ² by its proximal step."""

    l1_ratio: float = 1.0
    _is_sgd: bool = False

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        validate_step_size(self.name, optimizer)
        if optimizer.is_sgd:
            return relative_axis(optimizer.coupling)
        return lambda_axis(
            f"under {optimizer.name} the step of each weight depends on its gradients, and so does the proximal step: "
            f"a weight without gradient is zeroed at once, so Σ η·λ predicts nothing.",
            UNIT,
        )

    def bind(self, binding: Binding) -> None:
        validate_step_size(self.name, binding.traits, binding)
        self._is_sgd = binding.traits.is_sgd

    def validate(self, strength: float, lr: float) -> None:
        """Any finite strength that is not negative: a step never goes past zero."""
        del lr
        validate_strength(strength)

    def size(self, binding: Binding) -> float | None:
        """m/(l1_ratio + (1 − l1_ratio)·m) for the median m of |θ|: the inverse of the relative pull at |θ| = m."""
        entries = [binding.parameters[name].detach().abs().float().flatten().cpu() for name in binding.decayed()]
        if not entries:
            return None
        median = float(torch.cat(entries).median())
        return median / (self.l1_ratio + (1 - self.l1_ratio) * median)

    def after_update_(self, bucket: Bucket) -> None:
        for part in bucket.parts():
            steps = sgd_step_size(part.lr, part.group) if self._is_sgd else coordinate_steps(part)
            shrink_(part.parameters, steps, part.strength * self.l1_ratio, part.strength * (1 - self.l1_ratio))

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        del names
        total = self.l1_ratio * absolute_sum(parameters)
        return total if self.l1_ratio == 1 else total + (1 - self.l1_ratio) * half_square_sum(parameters)


class L1(_Proximal):
    """L1 (lasso): R = Σ|θ|, as a proximal step after the optimizer's update, which makes exact zeros.

    For: few weights that are not zero; comparing with the lasso, whose solution it reaches.
    Not for: faster networks: single zeros in dense kernels save nothing, see 'group_lasso'. A convolution before a norm
        layer is scale-invariant: there the penalty shrinks the weights without changing the function.
    Minimises: the stated objective, under SGD and the adaptive optimizers that are allowed. Each coordinate is shrunk
        by the step t that its gradient gets: η·(1 − dampening)/(1 − μ) under SGD (with η alone the fixed point would
        have λ·(1 − μ)); η/(√v̂ + ε) through Adam, AdamW and NAdam, after the update, with amsgrad's v̂ where it is on;
        their own t through RAdam, Adamax, RMSprop and Adagrad. Others have no such t and are refused. A weight without
        gradient becomes |θ| − Σ t·λ under SGD, not below 0. Through Adam t is η/ε for a weight that never had a
        gradient, and it is zero after one step unless λ is below |θ|·ε/η.
    Defaults: no strength; method 'proximal'. 'subgradient' adds λ·sign(θ) to the gradient, for optimizers that are
        refused here; it makes no exact zeros: weights oscillate about zero by the size of a step. Axis
        relative_shrinkage Σ t·λ / median initial |θ| under SGD: at 1 a weight of median size that gets no gradient just
        reaches zero; axis lambda through other optimizers. Norm and bias are left out.
    Source: Tibshirani, 1996; scikit-learn's Lasso(alpha=λ/2) for a mean squared error; the step is ISTA of Beck and
        Teboulle, 2009, eq. 1.4. Differs in: t for momentum and for Adam.
    """

    name = "l1"
    formula = "θ ← soft(θ − η·u, t·λ),  soft(x, s) = sign(x)·max(|x| − s, 0)"
    plain_formula = "weight = soft(weight - lr * update, t * lambda), soft(x, s) = sign(x) * max(abs(x) - s, 0)"

    def __init__(self, *, method: str = "proximal") -> None:
        if method not in METHODS:
            raise DecayError(unknown("method of l1", method, METHODS))
        self.method = method

    def channel(self, optimizer: OptimizerTraits) -> Channel:
        del optimizer
        return "after" if self.method == "proximal" else "gradient"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        if self.method == "proximal":
            return super().axis(optimizer)
        if optimizer.is_sgd:
            return replace(relative_axis(optimizer.coupling), exact=False)
        return lambda_axis(
            f"{optimizer.name} changes the size of the gradient, and of the penalty in it: a weight without gradient "
            f"goes to 0 for every λ above 0, however small, so Σ η·λ predicts nothing.",
            "λ added as λ·sign(w) to the gradient",
        )

    def bind(self, binding: Binding) -> None:
        if self.method == "proximal":
            super().bind(binding)

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor] | None:
        """The gradients g + λ·sign(θ) with the method 'subgradient'.

        Raises:
            DecayError: a gradient is sparse.
        """
        if self.method == "proximal":
            return None
        parts = [shifted_by(part, signs(part.parameters), "λ·sign(w)") for part in bucket.parts()]
        return [gradient for part in parts for gradient in part]

    def after_update_(self, bucket: Bucket) -> None:
        if self.method == "proximal":
            super().after_update_(bucket)


class ElasticNet(_Proximal):
    """Elastic net: R = l1_ratio·Σ|θ| + (1 − l1_ratio)·½Σθ², as a proximal step after the optimizer's update.

    For: exact zeros in single weights with correlated inputs, of which l1 alone would keep only one of each set.
    Not for: faster networks: single zeros in dense kernels save nothing, see 'group_lasso'. A convolution before a norm
        layer is scale-invariant: there the penalty shrinks the weights without changing the function.
    Minimises: the stated objective, under the same optimizers as 'l1' and with the same step t for each coordinate.
        Weights without gradient under SGD: θ ← soft(θ, t·λ·l1_ratio)/(1 + t·λ·(1 − l1_ratio)) at every step. Through
        Adam t is η/ε for a weight that never had a gradient, and it goes to zero at once.
    Defaults: no strength; l1_ratio 0.5, from 0 (ridge) to 1 (l1): λ = l1 + l2, l1_ratio = l1/(l1 + l2). Axis
        relative_shrinkage under SGD, Σ t·λ·(l1_ratio/m + 1 − l1_ratio) with m the median initial |θ|: that of l1 at
        l1_ratio 1, and D at 0; axis lambda through other optimizers. Norm and bias are left out.
    Source: Zou and Hastie, 2005; scikit-learn's ElasticNet(alpha=λ/2, l1_ratio) for a mean squared error; the step is
        that of Parikh and Boyd, Proximal Algorithms, 2014, section 6.5.3. Differs in: t for momentum and for Adam.
    """

    name = "elastic_net"
    formula = "θ ← soft(θ − η·u, t·λ·ρ)/(1 + t·λ·(1 − ρ)),  ρ = l1_ratio"
    plain_formula = "weight = soft(weight - lr * update, t * lambda * ratio) / (1 + t * lambda * (1 - ratio))"

    def __init__(self, *, l1_ratio: float = 0.5) -> None:
        if not 0 <= l1_ratio <= 1:
            raise DecayError(
                f"l1_ratio must be from 0 to 1; saw {l1_ratio}. It is l1/(l1 + l2): 0 is ridge, 1 is l1, 0.5 the "
                f"default."
            )
        self.l1_ratio = l1_ratio


@dataclass(frozen=True)
class _Gain:
    """The gain of the norm layer behind a weight: one number for each of its output channels."""

    name: str
    parameter: Parameter


class GroupLasso(Regularizer):
    """Group lasso: R = Σ √p_g·‖W_g‖ over output channels; whole channels become exactly zero.

    W_g is the filter of one output channel together with its gain γ where the weight feeds a norm layer that has one,
    p_g the number of elements of both. Groups are the rows of linear layers; the second dimension of transposed
    convolutions (with groups > 1, the channels at the same place in every group are one); single tokens of embeddings;
    single numbers of 1-d parameters and of scales with one number per channel, as in l1; a scalar is one group.

    For: narrower layers: a channel at zero can be removed. Its output is then constant: the bias of the norm layer
        behind it, or of its own layer.
    Not for: norm layers without gains (affine=False) or with frozen ones, where the filter alone is the group: the
        penalty shrinks it, and raises its effective learning rate, without changing the function. Channels that may
        have to return: with filter and gain at zero neither gets a gradient any more.
    Minimises: the stated objective under SGD, with t = η·(1 − dampening)/(1 − μ), where filter and gain share the
        learning rate. Through every other optimizer t = η, and the result is **not** the minimiser of the group lasso:
        those optimizers scale each coordinate by itself, this step does not. The norm of a channel without gradient
        becomes ‖W_g‖ − Σ t·λ·√p_g, not below 0, and its direction is kept.
    Defaults: no strength; axis relative_shrinkage, Σ t·λ over the median initial ‖W_g‖/√p_g: at 1 a channel of median
        size that gets no gradient just reaches zero. Norm and bias are left out, except the gains of decayed weights,
        which are shrunk only together with their filters, whatever the multiplier of their group. A channel is not
        changed at a step in which its gain has no gradient.
    Source: Yuan and Lin, 2006, eq. 2.1 with K = p·I; for filters Wen et al., NeurIPS 2016. Differs in: filter and gain
        are one group, and the step is proximal.
    """

    name = "group_lasso"
    whole_tensors: ClassVar[bool] = True
    formula = "W_g ← W_g·max(0, 1 − t·λ·√p_g/‖W_g‖) after the update"
    plain_formula = "channel = channel * max(0, 1 - t * lambda * sqrt(size of channel) / norm(channel))"

    def __init__(self) -> None:
        self._dims: dict[str, int] = {}
        self._gains: dict[str, _Gain] = {}
        self._taken: frozenset[str] = frozenset()  # gains that are shrunk with their filters
        self._is_sgd = False

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        return relative_axis(optimizer.coupling if optimizer.is_sgd else None)

    def bind(self, binding: Binding) -> None:
        self._dims = {name: row.output_dim for name, row in binding.rows.items()}
        self._gains = _find_gains(binding)
        self._taken = frozenset(gain.name for gain in self._gains.values())
        self._is_sgd = binding.traits.is_sgd

    def validate(self, strength: float, lr: float) -> None:
        """Any finite strength that is not negative: a step never goes past zero."""
        del lr
        validate_strength(strength)

    def size(self, binding: Binding) -> float | None:
        parameters = [(name, binding.parameters[name]) for name in binding.decayed() if name not in self._taken]
        if not parameters:
            return None
        sizes = [self._norms(name, weight) / math.sqrt(self._size(name, weight)) for name, weight in parameters]
        return float(torch.cat([each.float().cpu() for each in sizes]).median())

    def after_update_(self, bucket: Bucket) -> None:
        step = sgd_step_size(bucket.lr, bucket.group) if self._is_sgd else bucket.lr
        for name, weight in zip(bucket.names, bucket.parameters, strict=True):
            gain = self._gain(name)
            if name in self._taken or (gain is not None and gain.grad is None):
                continue
            threshold = step * bucket.strength * math.sqrt(self._size(name, weight))
            shrink_channels_(weight, self._dims[name], threshold, gain)

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        return sum(
            math.sqrt(self._size(name, weight)) * float(self._norms(name, weight).double().sum())
            for name, weight in zip(names, parameters, strict=True)
            if name not in self._taken
        )

    def _gain(self, name: str) -> Parameter | None:
        found = self._gains.get(name)
        return None if found is None else found.parameter

    def _norms(self, name: str, weight: Tensor) -> Tensor:
        return channel_norms(weight, self._dims[name], self._gain(name))

    def _size(self, name: str, weight: Tensor) -> int:
        return channel_size(weight, self._dims[name], self._gain(name))


def _find_gains(binding: Binding) -> dict[str, _Gain]:
    """By name of a decayed weight: the trainable gain of the norm layer that only it feeds, one number per channel.

    The norm layer must be a sibling of the weight's layer; otherwise it may belong to another weight.
    """
    held = {id(parameter) for group in binding.optimizer.param_groups for parameter in group["params"]}
    found = {}
    for name in binding.decayed():
        row = binding.rows[name]
        gain = f"{row.feeds}.weight"
        if not row.feeds or gain not in binding.rows or _folder(row.feeds) != _folder(_folder(name)):
            continue
        parameter = binding.parameters[gain]
        fits = tuple(parameter.shape) == (row.shape[row.output_dim],)
        if fits and binding.rows[gain].trainable and id(parameter) in held:
            found[name] = _Gain(gain, parameter)
    shared = Counter(gain.name for gain in found.values())
    return {name: gain for name, gain in found.items() if shared[gain.name] == 1}


def _folder(name: str) -> str:
    return name.rpartition(".")[0]
