"""L_original: the loss of a configuration, one loss or a sum of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segdecay.config.schema import LossConfig
from segdecay.errors import ConfigError, did_you_mean, gather, unknown
from segdecay.training.losses.base import Loss, prepared
from segdecay.training.losses.cross_entropy import CrossEntropy, Focal, Ohem
from segdecay.training.losses.regions import Dice, Lovasz, Tversky
from segdecay.utils.plugins import Registry

OURS: tuple[type[Loss], ...] = (CrossEntropy, Focal, Dice, Tversky, Lovasz, Ohem)
LOSSES: Registry[type[Loss]] = Registry("segdecay.losses", {loss.name: loss for loss in OURS})


@dataclass(frozen=True)
class OriginalLoss:
    """Σ factor · loss over the valid pixels of a batch.

    >>> build_loss(LossConfig(name="cross_entropy+dice", factors=(1.0, 0.5))).words
    'cross-entropy + 0.5·Dice'
    """

    losses: tuple[Loss, ...]
    factors: tuple[float, ...]

    def __call__(
        self, logits: Tensor, target: Tensor, weight: Tensor | None = None, adjustment: Tensor | None = None
    ) -> Tensor:
        """As a `Loss`: a scalar, for logits (N, C, ...) and classes or IGNORE (N, ...)."""
        logits = prepared(logits, target, adjustment)
        values = [f * loss.value(logits, target, weight) for f, loss in zip(self.factors, self.losses, strict=True)]
        return torch.stack(values).sum() if len(values) > 1 else values[0]

    def sums(
        self, logits: Tensor, target: Tensor, weight: Tensor | None = None, adjustment: Tensor | None = None
    ) -> Tensor:  # (losses, 2) float64
        """Sum and mass of every loss, to be summed over batches and passed to `of_sums`."""
        logits = prepared(logits, target, adjustment)
        pairs = [torch.stack(loss.sums(logits, target, weight)) for loss in self.losses]
        sums = torch.stack(pairs)
        return sums.cpu().double() if sums.device.type == "mps" else sums.double()  # mps has no double precision

    def of_sums(self, sums: Tensor) -> float:
        """The loss of a data set, independent of its batches; NaN without a valid pixel."""
        pairs: Sequence[tuple[float, float]] = sums.tolist()
        terms = [f * total / mass if mass else math.nan for f, (total, mass) in zip(self.factors, pairs, strict=True)]
        return math.fsum(terms)

    @property
    def words(self) -> str:
        """The loss as text."""
        shown = zip(self.factors, self.losses, strict=True)
        return " + ".join(loss.words if factor == 1 else f"{factor:g}·{loss.words}" for factor, loss in shown)


def check_loss(config: LossConfig) -> list[str]:
    """Every fault of the name, the options and the factors of a loss."""
    names = config.name.split("+")
    faults = [unknown("loss", name, LOSSES) for name in names if name not in LOSSES]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults += [f"loss.name={config.name} holds {name} twice; name each loss once." for name in twice]
    if config.factors is not None and len(config.factors) != len(names):
        faults.append(
            f"loss.factors lists {len(config.factors)} numbers; loss.name={config.name} has {len(names)} losses. Give "
            "one for each, in their order, or null for 1 each."
        )
    known = [LOSSES[name] for name in names if name in LOSSES]
    return faults + _option_faults(config, known) if len(known) == len(names) else faults


def _option_faults(config: LossConfig, losses: Sequence[type[Loss]]) -> list[str]:
    faults = []
    allowed = {key for loss in losses for key in loss.options()}
    for key, value in config.options.items():
        if key not in allowed:
            users = [name for name, loss in LOSSES.items() if key in loss.options()]
            hint = f" It is an option of {', '.join(users)}." if users else did_you_mean(key, allowed)
            shown = ", ".join(sorted(allowed)) or "none"
            faults.append(f"loss.options.{key} is not an option of loss.name={config.name}; allowed: {shown}.{hint}")
            continue
        rule = next(loss.options()[key].metadata for loss in losses if key in loss.options())
        least, most, above = rule["least"], rule["most"], rule["above"]
        if not (math.isfinite(value) and (value > least if above else value >= least) and value <= most):
            low = f"above {least:g}" if above else f"at least {least:g}"
            high = f" and at most {most:g}" if math.isfinite(most) else ""
            faults.append(f"loss.options.{key} must be a number, {low}{high}; saw {value:g}.")
    return faults


def build_loss(config: LossConfig) -> OriginalLoss:
    """The loss of a configuration.

    Raises:
        ConfigError: as `check_loss`.
    """
    gather(ConfigError, check_loss(config))
    built = []
    for name in config.name.split("+"):
        own = {key: value for key, value in config.options.items() if key in LOSSES[name].options()}
        built.append(LOSSES[name](**own))
    return OriginalLoss(tuple(built), config.factors or (1.0,) * len(built))
