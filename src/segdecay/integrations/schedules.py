"""The learning rates that copied schedulers will give, without touching the real ones.

Knows optimizers and schedulers; nothing of trainers, policies or strengths.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from segdecay.decay.policy import bare_optimizer
from segdecay.errors import DecayError

REMEDY = "Pass learning_rates=[…], the rate of every optimizer step to come, or give strength=λ instead."
METRIC_SCHEDULERS = ("ReduceLROnPlateau", "GreedyLR")  # they wait for a metric


@dataclass(frozen=True)
class Ahead:
    """What a trainer can tell of its future, asked only where D or τ is to be turned into λ."""

    learning_rates: Callable[[Optimizer], list[float]]  # of every step to come; DecayError where unknown
    steps_per_epoch: Callable[[], float]  # optimizer steps; DecayError where unknown


class ScheduleCopy:
    """Schedulers copied onto a stand-in optimizer that has the same groups and no weights.

    Args:
        optimizer: as the schedulers hold it, bare or wrapped.
        schedulers: all that act on it.
        keep: objects that are not copied where a scheduler refers to them, such as the model.

    Raises:
        DecayError: a scheduler waits for a metric or cannot be copied.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> halving = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
        >>> copied = ScheduleCopy(sgd, [halving])
        >>> copied.step_(0); copied.rate(), sgd.param_groups[0]["lr"]
        (0.5, 1.0)
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Any], keep: Iterable[object] = ()) -> None:
        waiting = [type(s).__name__ for s in schedulers if _waits_for_a_metric(s)]
        if waiting:
            raise DecayError(f"{waiting[0]} follows a metric: its learning rates are not known beforehand. {REMEDY}")
        self._optimizer = _stand_in(bare_optimizer(optimizer))
        memo: dict[int, Any] = {id(kept): kept for kept in keep}
        wrapped: Any = optimizer
        while isinstance(wrapped, Optimizer):
            memo[id(wrapped)] = self._optimizer
            wrapped = getattr(wrapped, "optimizer", None)
        try:
            self._schedulers = copy.deepcopy(list(schedulers), memo)
        except (TypeError, ValueError, RuntimeError, AttributeError, copy.Error, pickle.PicklingError) as error:
            names = ", ".join(type(scheduler).__name__ for scheduler in schedulers)
            raise DecayError(f"The schedule cannot be copied to look ahead ({names}: {error}). {REMEDY}") from error

    def rate(self) -> float:
        """The learning rate now.

        Raises:
            DecayError: the optimizer's groups differ.
        """
        rates = {float(group["lr"]) for group in self._optimizer.param_groups}
        if len(rates) > 1:
            listed = ", ".join(f"{rate:g}" for rate in sorted(rates))
            raise DecayError(
                f"The optimizer's groups have different learning rates ({listed}), so one total decay or timescale "
                f"would be several. Pass learning_rates=[…] of the group that it is meant for, or give strength=λ."
            )
        return rates.pop()

    def step_(self, index: int) -> None:
        """Let one scheduler take its step."""
        with warnings.catch_warnings():  # "lr_scheduler.step() before optimizer.step()": the stand-in never steps
            warnings.simplefilter("ignore")
            self._schedulers[index].step()


def _waits_for_a_metric(scheduler: object) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau) or type(scheduler).__name__ in METRIC_SCHEDULERS


def _stand_in(optimizer: Optimizer) -> Optimizer:
    stand_in = torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in optimizer.param_groups], lr=0.0)
    for ours, theirs in zip(stand_in.param_groups, optimizer.param_groups, strict=True):
        ours.update({key: copy.deepcopy(value) for key, value in theirs.items() if key != "params"})
    return stand_in
