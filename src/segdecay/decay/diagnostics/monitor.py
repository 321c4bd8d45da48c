"""Diagnostics of the effect of decay on weights and features, read at intervals from any training loop.

Norms, stable rank, exact zeros and dead channels by layer and group; dead activations; the rotation of weights per step
against that in equilibrium; the penalty's share of the objective; the head's row norms against class frequency. Nothing
is kept between readings, and no weight, gradient, mode or random state of the training is changed.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.diagnostics.layers import (
    ActivationDiagnostics,
    HeadDiagnostics,
    exact_norm,
    frequency_correlation,
    predicted_angles,
    row_norms_of,
    stable_rank,
    turned_angle,
    watch_activations,
    zero_counts,
)
from segdecay.decay.groups import ParameterRow, Partition, group_parameters
from segdecay.decay.handle import handles_of
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.errors import DecayError


@dataclass(frozen=True)
class LayerDiagnostics:
    """One weight of two dimensions or more."""

    name: str
    group: str
    shape: tuple[int, ...]
    norm: float  # ‖W‖, Euclidean over all elements
    stable_rank: float | None  # ‖W‖² / σ_max²; None for a weight that is zero or not finite
    zeros: float  # share of exact zeros
    channels: int  # output channels
    zero_channels: int  # output channels with only zeros
    angle: float | None = None  # rotation in the watched step in radians, if it feeds a norm layer
    equilibrium: float | None = None  # the angle in equilibrium; 0 without decay, None if no formula is known

    @property
    def ratio(self) -> float | None:
        """Measured over predicted angle: 1 in equilibrium; None if one of them is unknown or there is no decay."""
        return self.angle / self.equilibrium if self.angle is not None and self.equilibrium else None


@dataclass(frozen=True)
class GroupDiagnostics:
    """All parameters of a group together."""

    group: str
    numbers: int
    norm: float
    zeros: float  # share of exact zeros
    channels: int  # output channels of its layers
    zero_channels: int
    ratio: float | None  # median over its layers


@dataclass(frozen=True)
class DiagnosticsReading:
    """One reading; `to_dict` returns it for a logger."""

    layers: tuple[LayerDiagnostics, ...]
    groups: tuple[GroupDiagnostics, ...]
    activations: tuple[ActivationDiagnostics, ...]  # of the watched step; empty if none was watched
    head: tuple[HeadDiagnostics, ...]
    penalty: float  # λR of the handles; without a handle, of the optimizer's own weight decay
    penalty_share: float | None  # of L + λR; None without a loss

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: lists and mappings; None for unknown or infinite values."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        for layer, line in zip(self.layers, plain["layers"], strict=True):
            line["ratio"] = layer.ratio
        return plain

    def scalars(self) -> dict[str, float]:
        """Numbers by flat names, for loggers that take only scalars; unknown values are left out.

        Example:
            `diagnostics/layers/encoder.0.weight/norm`: 1.25
        """
        return dict(_flat(self.to_dict(), "diagnostics"))


def _flat(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every finite number in nested mappings and lists with its path; list members by name or position."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield path, float(value)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, f"{path}/{key}")
    else:
        for position, one in enumerate(value):
            name = one.get("name", position) if isinstance(one, dict) else position
            yield from _flat(one, f"{path}/{name}")


class Diagnostics:
    """Reads the diagnostics of one model and one optimizer.

    Args:
        model: any module; the inner module of wrapped and compiled ones is read.
        optimizer: a torch optimizer that trains it. Regularizers attached to it are found.
        every: number of steps between readings, for `is_due`.
        partition: the groups; default: those of the attached regularizer, or `group_parameters(model)`.
        class_counts: how often each class occurs in the training data (pixels, images: any unit), one number per row of
            the head; classes with 0 are left out of the correlation.

    Raises:
        DecayError: `every` below 1; the optimizer holds none of the model's parameters.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
        >>> diagnostics = Diagnostics(model, optimizer, every=100, class_counts=[90, 10])
        >>> for step in range(3):
        ...     with diagnostics.watched(step):  # does nothing at steps that are not due
        ...         loss = model(torch.randn(8, 2)).square().mean()
        ...         loss.backward()
        ...         optimizer.step()
        ...     if diagnostics.is_due(step):
        ...         reading = diagnostics.read(loss)
        >>> [layer.name for layer in reading.layers], [relu.name for relu in reading.activations]
        (['0.weight', '3.weight'], ['2'])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        every: int = 500,
        partition: Partition | None = None,
        class_counts: Sequence[float] | None = None,
    ) -> None:
        if every < 1:
            raise DecayError(f"every must be 1 or more steps; saw {every}.")
        self.every, self.class_counts = every, class_counts
        self._model, self._optimizer = model, bare_optimizer(optimizer)
        handles = handles_of(self._optimizer)
        self.partition = partition or (handles[0].partition if handles else group_parameters(model))
        self._names = {id(parameter): row.name for row, parameter in self.partition.named_parameters()}
        held = [id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]]
        if not any(identity in self._names for identity in held):
            raise DecayError(
                f"The optimizer holds {len(held)} parameters, none of which is in the model "
                f"({type(model).__name__}, {len(self._names)} parameters). Build it from this model's parameters."
            )
        self._angles: dict[str, float] = {}
        self._equilibria: dict[str, float | None] = {}
        self._activations: tuple[ActivationDiagnostics, ...] = ()

    def is_due(self, step: int) -> bool:
        """Whether to read the diagnostics at a step, counted from 0."""
        return step % self.every == 0

    @contextmanager
    def watched(self, step: int | None = None) -> Iterator[None]:
        """Watch the forward passes and the one optimizer step in the block, for dead activations and angles.

        Args:
            step: if given, nothing is watched unless the step is due.

        Raises:
            DecayError: the optimizer steps more than once in the block.
        """
        self._angles, self._equilibria, self._activations = {}, {}, ()
        if step is not None and not self.is_due(step):
            yield
            return
        steps = 0

        def count(*_: Any) -> None:
            nonlocal steps
            steps += 1

        before = {name: (p, p.detach().clone(memory_format=torch.preserve_format)) for name, p in self._turning()}
        counter = self._optimizer.register_step_post_hook(count)
        try:
            with watch_activations(self._model) as watch:
                yield
        finally:
            counter.remove()
        if steps > 1:
            raise DecayError(
                f"{steps} optimizer steps ran inside watched(), but angles are those of one step. Watch one step."
            )
        self._activations = watch.diagnostics()
        self._equilibria = predicted_angles(self._optimizer, handles_of(self._optimizer), self._names)
        turned = {name: turned_angle(old, parameter) for name, (parameter, old) in before.items()}
        self._angles = {name: angle for name, angle in turned.items() if angle}  # 0: no step, or a skipped one

    @torch.no_grad()
    def read(self, loss: float | Tensor | None = None) -> DiagnosticsReading:
        """The present diagnostics; angles and activations are those of the last watched step.

        Args:
            loss: L_original of the same step, for the penalty's share.
        """
        layers = tuple(
            self._layer(row, parameter) for row, parameter in self.partition.named_parameters() if parameter.ndim > 1
        )
        penalty = self._penalty()
        original = None if loss is None else float(loss.detach()) if isinstance(loss, Tensor) else float(loss)
        total = None if original is None else original + penalty
        return DiagnosticsReading(
            layers=layers,
            groups=self._groups(layers),
            activations=self._activations,
            head=self._head(),
            penalty=penalty,
            penalty_share=penalty / total if total else None,
        )

    def _turning(self) -> Iterator[tuple[str, Parameter]]:
        """Trainable weights that feed a norm layer, which makes them scale-invariant."""
        for row, parameter in self.partition.named_parameters():
            if row.feeds and parameter.requires_grad:
                yield row.name, parameter

    def _layer(self, row: ParameterRow, parameter: Parameter) -> LayerDiagnostics:
        zeros, dead = zero_counts(parameter, row.output_dim)
        angle = self._angles.get(row.name)
        return LayerDiagnostics(
            name=row.name,
            group=row.group,
            shape=row.shape,
            norm=exact_norm(parameter),
            stable_rank=stable_rank(parameter, row.output_dim),
            zeros=zeros / max(parameter.numel(), 1),
            channels=parameter.shape[row.output_dim],
            zero_channels=dead,
            angle=angle,
            equilibrium=None if angle is None else self._equilibria.get(row.name),
        )

    def _groups(self, layers: Sequence[LayerDiagnostics]) -> tuple[GroupDiagnostics, ...]:
        found = []
        for group in dict.fromkeys(row.group for row in self.partition.rows):
            members = [(row, p) for row, p in self.partition.named_parameters() if row.group == group]
            zeros = sum(zero_counts(p, row.output_dim)[0] for row, p in members)
            numbers = sum(p.numel() for _, p in members)
            own = [layer for layer in layers if layer.group == group]
            ratios = [layer.ratio for layer in own if layer.ratio is not None]
            found.append(
                GroupDiagnostics(
                    group=group,
                    numbers=numbers,
                    norm=math.hypot(*(exact_norm(p) for _, p in members)),
                    zeros=zeros / max(numbers, 1),
                    channels=sum(layer.channels for layer in own),
                    zero_channels=sum(layer.zero_channels for layer in own),
                    ratio=statistics.median(ratios) if ratios else None,
                )
            )
        return tuple(found)

    def _head(self) -> tuple[HeadDiagnostics, ...]:
        found = []
        for row, parameter in self.partition.named_parameters():
            if row.group == "head" and parameter.ndim > 1:
                norms = row_norms_of(parameter, row.output_dim)
                found.append(HeadDiagnostics(row.name, norms, frequency_correlation(norms, self.class_counts)))
        return tuple(found)

    def _penalty(self) -> float:
        handles = handles_of(self._optimizer)
        if handles:
            return sum(handle.penalty() for handle in handles)
        return sum(
            0.5 * float(group.get("weight_decay", 0.0)) * exact_norm(parameter) ** 2
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if group.get("weight_decay", 0.0)
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
