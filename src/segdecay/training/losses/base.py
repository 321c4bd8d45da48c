"""Base classes of losses: functions of logits and index masks that ignore pixels with the value IGNORE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE


def option(default: float, *, least: float = 0.0, most: float = float("inf"), above: bool = False) -> Any:
    """A field of a loss that a configuration may set; `above`: `least` itself is not allowed."""
    return field(default=default, metadata={"least": least, "most": most, "above": above})


class Loss(ABC):
    """A loss over the valid pixels. A subclass is a frozen dataclass whose fields are its options.

    It takes raw scores and returns a scalar: 0 with gradients of 0 if every pixel is ignored.

    >>> from segdecay.training.losses import CrossEntropy
    >>> logits = torch.tensor([[[[0.0, 9.0]], [[0.0, -9.0]]]])  # two pixels, two classes
    >>> round(CrossEntropy()(logits, torch.tensor([[[0, IGNORE]]])).item(), 4)
    0.6931
    """

    name: ClassVar[str]  # in a configuration
    words: ClassVar[str]  # in a sentence

    def __call__(
        self,
        logits: Tensor,  # (N, C, ...) float, raw scores
        target: Tensor,  # (N, ...) int64, class indices or IGNORE
        weight: Tensor | None = None,  # (C,) class weights
        adjustment: Tensor | None = None,  # (C,) from `logit_adjustment`
    ) -> Tensor:
        return self.value(prepared(logits, target, adjustment), target, weight)

    @abstractmethod
    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The loss of a batch, a scalar; logits as `prepared` gives them."""

    @abstractmethod
    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """A sum and a mass (scalars), whose ratio over a data set does not depend on the batches.

        Over pixels for losses that are means over pixels; over images, each scored separately, for the others.
        """

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The options by name, with default and range."""
        return {one.name: one for one in fields(cls)}  # type: ignore[arg-type]


class PixelLoss(Loss):
    """A mean of losses of single pixels, weighted by their true classes as in torch."""

    @abstractmethod
    def of_pixels(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, ...), without weights; 0 at ignored pixels."""

    def value(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return ratio(*self.sums(logits, target, weight))

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        mass = pixel_weights(target, weight, logits.dtype)
        return (self.of_pixels(logits, target) * mass).sum(), mass.sum()


class ImageLoss(Loss):
    """A loss of all pixels together: of the whole batch in training, of each image in `sums`."""

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        values = [self.value(logits[i : i + 1], target[i : i + 1], weight) for i in range(len(logits))]
        counted = (target != IGNORE).flatten(1).any(dim=1)
        return torch.stack(values).sum(), counted.sum().to(logits.dtype)


def prepared(logits: Tensor, target: Tensor, adjustment: Tensor | None) -> Tensor:
    """Logits in single precision or better, adjusted, and 0 at ignored pixels, whose values may be infinite."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # before half precision rounds the adjustment
    if adjustment is not None:
        logits = logits + by_class(adjustment, logits)
    return logits.masked_fill((target == IGNORE).unsqueeze(1), 0.0)


def by_class(values: Tensor, logits: Tensor) -> Tensor:
    """(C,) as (1, C, 1 ...), in the type of the logits."""
    return values.to(logits.dtype).view(1, -1, *([1] * (logits.dim() - 2)))


def pixel_weights(target: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(N, ...): the weight of every pixel's class, 0 where ignored."""
    is_valid = target != IGNORE
    if weight is None:
        return is_valid.to(dtype)
    return weight.to(dtype)[target.masked_fill(~is_valid, 0)] * is_valid


def truth_of(logits: Tensor, target: Tensor) -> Tensor:
    """(N, C, ...) bool, one-hot: the class of every pixel; False for all classes where ignored."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    return target.unsqueeze(1) == classes.view(1, -1, *([1] * (logits.dim() - 2)))


def ratio(total: Tensor, mass: Tensor) -> Tensor:
    """A sum divided by its mass; 0 if both are 0."""
    return total / mass.clamp_min(torch.finfo(total.dtype).tiny)


def mean_over_classes(
    losses: Tensor,  # (C,)
    is_present: Tensor,  # (C,) bool: has a valid pixel in the truth
    weight: Tensor | None,  # (C,)
) -> Tensor:
    """The weighted mean over the classes of the truth; 0 without any."""
    mass = is_present.to(losses.dtype) * (1.0 if weight is None else weight.to(losses.dtype))
    return ratio((losses * mass).sum(), mass.sum())
