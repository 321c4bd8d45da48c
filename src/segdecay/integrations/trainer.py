"""Attach one regularizer to all optimizers of a trainer, resume it from a checkpoint, and detach it."""

from __future__ import annotations

import copy
import inspect
import numbers
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from segdecay.decay import REGULARIZERS, Handle, Strength, attach, axis_of, handle_of
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.decay.strength_argument import Given, validate_given
from segdecay.errors import DecayError, gather, unknown

REMEDY = "Pass learning_rates=[…] to Strength, one rate per optimizer step, or give strength=λ instead."
METRIC_SCHEDULERS = ("ReduceLROnPlateau", "GreedyLR")  # they need a metric


@dataclass(frozen=True)
class Ahead:
    """The trainer's future steps, computed only to convert D or τ to λ."""

    learning_rates: Callable[[Optimizer], list[float]]  # of every step to come; DecayError if unknown
    steps_per_epoch: Callable[[], float]  # optimizer steps; DecayError if unknown


class ScheduleCopy:
    """Copies of schedulers on a dummy optimizer that has the same groups and no weights.

    Args:
        optimizer: the one of the schedulers, bare or wrapped.
        schedulers: all that act on it.
        keep: objects to which schedulers refer and that are not copied, such as the model.

    Raises:
        DecayError: a scheduler needs a metric or cannot be copied.

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
            raise DecayError(
                f"The schedule cannot be copied to compute its rates ({names}: {error}). {REMEDY}"
            ) from error

    def rate(self) -> float:
        """The present learning rate.

        Raises:
            DecayError: the optimizer's groups have different rates.
        """
        rates = {float(group["lr"]) for group in self._optimizer.param_groups}
        if len(rates) > 1:
            listed = ", ".join(f"{rate:g}" for rate in sorted(rates))
            raise DecayError(
                f"The optimizer's groups have different learning rates ({listed}), so a total decay or "
                f"timescale has no single λ. Give Strength learning_rates=[…] of the group that it is meant for, or "
                f"give strength=λ."
            )
        return rates.pop()

    def step_(self, index: int) -> None:
        """Step one scheduler."""
        with warnings.catch_warnings():  # "lr_scheduler.step() before optimizer.step()": the dummy never steps
            warnings.simplefilter("ignore")
            self._schedulers[index].step()


def _waits_for_a_metric(scheduler: object) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau) or type(scheduler).__name__ in METRIC_SCHEDULERS


def _stand_in(optimizer: Optimizer) -> Optimizer:
    stand_in = torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in optimizer.param_groups], lr=0.0)
    for ours, theirs in zip(stand_in.param_groups, optimizer.param_groups, strict=True):
        ours.update({key: copy.deepcopy(value) for key, value in theirs.items() if key != "params"})
    return stand_in


# Options of earlier versions.
FORMER = {
    "total_decay": "from_total_decay(…)",
    "timescale_epochs": "from_timescale(…)",
    "axis_value": "from_axis(…)",
    "learning_rates": "from_total_decay(…, learning_rates=[…])",
    "steps_per_epoch": "from_timescale(…, steps_per_epoch=…)",
}
UNITS = {"total_decay": "D", "timescale": "τ"}


class Attachments:
    """A regularizer and its options, and the handles made from them.

    Raises:
        DecayError: the regularizer or an option is unknown, or the strength is missing or not a number.
    """

    def __init__(self, regularizer: str, options: Mapping[str, Any]) -> None:
        gather(DecayError, _check_options(regularizer, options))
        self.regularizer, self.options = regularizer, dict(options)
        self.given = Given.of(self.options["strength"])
        self.handles: list[Handle] = []

    def attach_(
        self,
        optimizers: Sequence[Optimizer],
        model: nn.Module,
        ahead: Ahead,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        """Attach to every optimizer, or to none if one is refused.

        Args:
            saved: a state of `state_dict`, whose strengths replace the given ones.

        Raises:
            DecayError: as `attach`; optimizers share parameters; the state is of another number of optimizers.
        """
        self.detach_()
        self.handles = []
        states = _handle_states(saved, len(optimizers)) if saved else [None] * len(optimizers)
        gather(DecayError, self._check_together(optimizers, model))
        try:
            for number, (optimizer, state) in enumerate(zip(optimizers, states, strict=True), start=1):
                try:
                    options = self._attach_options(optimizer, ahead, state)
                    self.handles.append(attach(optimizer, model, self.regularizer, **options))
                    self.handles[-1].refreshes_itself = True
                    if state is not None:
                        self.handles[-1].load_state_dict(state)
                except DecayError as error:
                    if len(optimizers) == 1:
                        raise
                    name = type(bare_optimizer(optimizer)).__name__
                    raise DecayError(f"Optimizer {number} of {len(optimizers)} ({name}): {error}") from error
        except DecayError:
            self.detach_()
            raise

    def detach_(self) -> None:
        """Detach every handle; they can still be read. Idempotent."""
        for handle in self.handles:
            handle.detach()

    def is_attached(self) -> bool:
        """Whether any handle acts."""
        return any(handle.is_attached() for handle in self.handles)

    def validate_attached(self, optimizers: Sequence[Optimizer]) -> None:
        """Raise DecayError if an optimizer was replaced since, which would train without decay."""
        strangers = [type(one).__name__ for one in optimizers if handle_of(one) not in self.handles]
        if strangers:
            raise DecayError(
                f"The trainer's optimizers were replaced after decay was attached ({', '.join(strangers)}). Call "
                f"segdecay.decay.attach yourself after the last of them is created."
            )

    def scalars(self) -> dict[str, float]:
        """The handles' numbers for a logger; names have a number if there are several optimizers."""
        if len(self.handles) == 1:
            return self.handles[0].scalars() if self.handles[0].is_attached() else {}
        return {
            f"{name}/{number}": value
            for number, handle in enumerate(self.handles)
            if handle.is_attached()
            for name, value in handle.scalars().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The handles' states, in the order of the optimizers."""
        return {"handles": [handle.state_dict() for handle in self.handles]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load a state of `state_dict` into the attached handles."""
        for handle, state in zip(self.handles, _handle_states(saved, len(self.handles)), strict=True):
            self._warn_of_other_strength(state)
            handle.load_state_dict(state)

    def _check_together(self, optimizers: Sequence[Optimizer], model: nn.Module) -> list[str]:
        faults = []
        if len(optimizers) > 1 and self.given.learning_rates is not None:
            faults.append(
                f"learning_rates are of one optimizer, and this trainer has {len(optimizers)}. Give strength=λ, which "
                f"is the same for all, or call segdecay.decay.attach for each."
            )
        counts: dict[int, int] = {}
        for optimizer in optimizers:
            for held in {id(one) for group in optimizer.param_groups for one in group["params"]}:
                counts[held] = counts.get(held, 0) + 1
        shared = [name for name, parameter in model.named_parameters() if counts.get(id(parameter), 0) > 1]
        if shared:
            faults.append(
                f"{len(shared)} parameters are in more than one optimizer and would decay in each of them: "
                f"{', '.join(shared[:5])}{', …' if len(shared) > 5 else ''}. Give every parameter to one optimizer, or "
                f"call segdecay.decay.attach on the one that should decay it."
            )
        return faults

    def _attach_options(self, optimizer: Optimizer, ahead: Ahead, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """The options of `attach`; a D, τ or axis value gets the learning rates and steps that it needs."""
        given = self.given.strength
        if state is not None:
            self._warn_of_other_strength(state)
        if given is None or given.unit in ("lambda", "convention"):
            return dict(self.options)
        axis = axis_of(self.regularizer, optimizer, options=self.options.get("options"))
        if given.unit in UNITS and axis.name != "total_decay":
            raise DecayError(
                f"{UNITS[given.unit]} has no meaning here: {axis.reason} Give strength=λ, or use 'decoupled'."
            )
        if state is not None:
            saved = state.get("strength", axis.none)
            given = Strength.from_lambda(saved, learning_rates=given.learning_rates)
        needs_rates = axis.square or (state is None and axis.has_lambda and axis.name != "lambda")
        if needs_rates and given.learning_rates is None:
            given = given.with_learning_rates(ahead.learning_rates(optimizer))
        if given.unit == "timescale" and given.steps_per_epoch is None:
            given = given.with_steps_per_epoch(ahead.steps_per_epoch())
        return {**self.options, "strength": given}

    def _warn_of_other_strength(self, state: Mapping[str, Any]) -> None:
        given, saved = self.given.strength, state.get("strength")
        asked = given.value if given is not None and given.unit == "lambda" else None
        if isinstance(asked, float) and isinstance(saved, numbers.Real) and asked != saved:
            warnings.warn(
                f"The checkpoint's strength {saved:g} is used, not the {asked:g} asked for. To change it during "
                f"training, call set_strength on the handle after the start.",
                UserWarning,
                stacklevel=2,
            )


def _check_options(regularizer: str, options: Mapping[str, Any]) -> list[str]:
    faults = [] if regularizer in REGULARIZERS else [unknown("regularizer", regularizer, REGULARIZERS)]
    ours = inspect.signature(attach).parameters.values()
    allowed = [one.name for one in ours if one.kind is one.KEYWORD_ONLY]
    faults += [
        f"{name}= is now part of the strength: strength=Strength.{FORMER[name]}, Strength from segdecay.decay."
        if name in FORMER
        else unknown("option", name, allowed)
        for name in options
        if name not in allowed
    ]
    if "strength" not in options:
        return [
            *faults,
            "Give strength: λ, one λ for each group, or a Strength like Strength.from_total_decay(2.0).",
        ]
    return faults + validate_given(options["strength"])


def _handle_states(saved: Mapping[str, Any], expected: int) -> list[Mapping[str, Any]]:
    states = saved.get("handles")
    if not isinstance(states, list):
        raise DecayError(f"This is not the state of a decay callback: 'handles' is missing; saw {', '.join(saved)}.")
    if len(states) != expected:
        raise DecayError(
            f"The checkpoint holds decay for {len(states)} optimizers, this trainer has {expected}. Resume with the "
            f"same configuration."
        )
    return states
