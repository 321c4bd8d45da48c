"""The policy that sets whole output channels to exactly zero, each with the gain of the norm layer behind it.

Knows rows of a partition and tensors; nothing of modules.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from segdecay.decay.axes import Axis, relative_axis, validate_strength
from segdecay.decay.channels import channel_norms, channel_size, shrink_channels_
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.decay.step_size import sgd_step_size


@dataclass(frozen=True)
class _Gain:
    """The gain of the norm layer behind a weight: one number for each of its output channels."""

    name: str
    parameter: Parameter


class GroupLasso(Policy):
    """Group lasso: R = Σ √p_g·‖W_g‖ over output channels; whole channels become exactly zero.

    W_g is the filter of one output channel together with its gain γ where the weight feeds a norm layer that has one,
    p_g the count of both. Linear layers: rows; transposed convolutions: their second dimension (with groups > 1, the
    channels at the same place in every group are one); embeddings: one token; 1-d parameters and scales of one number a
    channel: every number by itself, as in l1; a scalar is one group.

    For: narrower layers: a channel at zero can be cut out. Behind a norm layer it then emits the layer's bias, a
        constant, whatever its filter is; elsewhere the bias of its own layer.
    Not for: norm layers without gains (affine=False) or with frozen ones, where the filter alone is the group: the
        penalty shrinks it, and raises its effective learning rate, without changing the function. Channels that must
        be able to return: with filter and gain at zero neither gets a gradient any more.
    Minimises: the stated objective under SGD, with t = η·(1 − dampening)/(1 − μ), where filter and gain share the
        learning rate. Through every other optimizer t = η, and it is **not** the minimiser of the group lasso: their
        update divides each coordinate by a size of its own, this step does not. Channels without gradient: ‖W_g‖ −
        Σ t·λ·√p_g, not below 0, the direction kept.
    Defaults: no strength; axis relative_shrinkage, Σ t·λ over the median initial ‖W_g‖/√p_g: at 1 an idle channel of
        median size just reaches zero. Norm and bias are left out, but for the gains of decayed weights, which are
        shrunk with their filters and only so, whatever the multiplier of their group. Nothing happens to a channel at
        a step in which its gain has no gradient.
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

    def axis(self, optimizer: OptimizerTraits) -> Axis:
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
    """By name of a decayed weight: the trainable gain of the norm layer it feeds, one for each channel, of it alone.

    The norm layer is a sibling of the weight's layer: where its name was not known, "norm" may be another one's.
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
