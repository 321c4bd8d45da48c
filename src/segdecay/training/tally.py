"""Sums over the steps of an epoch, kept on the device, so that no step waits for a number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

READ_EVERY = 32  # steps between two readings on a GPU


def steps_between_readings(device: torch.device) -> int:
    """After how many steps a tally is read; on a CPU, where reading costs nothing, after each."""
    return 1 if device.type == "cpu" else READ_EVERY


@dataclass
class Tally:
    """The losses and gradient norms of the steps of an epoch so far, and the first step whose loss was not finite.

    Sums are in float64; on Apple's mps, which has none, in float32.

    >>> tally = Tally.started(torch.device("cpu"))
    >>> for loss in (1.0, math.nan, 2.0):
    ...     tally.add_(torch.tensor(loss), torch.tensor(0.5))
    >>> tally.read()
    Reading(loss_sum=nan, norm_sum=1.5, norms=3, good_steps=1, bad_loss=nan)
    """

    sums: Tensor  # (5,): losses, norms, number of finite norms, steps before the first loss that is not finite, it
    is_good: Tensor  # () bool: every loss so far was finite
    steps: int = 0  # counted

    @classmethod
    def started(cls, device: torch.device, *, loss_sum: float = 0.0, norm_sum: float = 0.0, norms: int = 0) -> Tally:
        """A tally that goes on from these sums."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        sums = torch.tensor([loss_sum, norm_sum, norms, 0, 0], dtype=dtype, device=device)
        return cls(sums, torch.ones((), dtype=torch.bool, device=device))

    def zero(self) -> Tensor:
        """0 as a scalar, to which the losses of a step are added."""
        return torch.zeros((), dtype=self.sums.dtype, device=self.sums.device)

    def add_(self, loss: Tensor, norm: Tensor | None) -> None:
        """Count a step: its loss, the sum over micro-batches, and the norm of its gradients."""
        self.steps += 1
        loss = loss.to(self.sums.dtype)
        is_finite = loss.isfinite()
        norm = torch.full_like(loss, math.nan) if norm is None else norm.detach().to(self.sums.dtype)
        counted = norm.isfinite()
        is_first_bad = self.is_good & ~is_finite
        self.is_good = self.is_good & is_finite
        self.sums += torch.stack(
            [
                loss,
                norm.masked_fill(~counted, 0.0),
                counted.to(loss.dtype),
                self.is_good.to(loss.dtype),
                torch.where(is_first_bad, loss, torch.zeros_like(loss)),
            ]
        )

    def read(self) -> Reading:
        """The sums as numbers; waits for the device."""
        loss_sum, norm_sum, norms, good, bad_loss = self.sums.tolist()
        return Reading(loss_sum, norm_sum, int(norms), int(good), bad_loss)


@dataclass(frozen=True)
class Reading:
    """What a tally holds."""

    loss_sum: float
    norm_sum: float
    norms: int
    good_steps: int  # steps of this tally before the first loss that was not finite
    bad_loss: float  # that loss; 0 if there is none
