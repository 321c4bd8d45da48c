"""The weight decay that an optimizer's groups have themselves, while a regularizer acts in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.optim import Optimizer

from segdecay.errors import DecayError

KEYS = ("weight_decay", "lambd")  # `lambd` is ASGD's, 1e-4 by default
REMEDY = (
    "Beside a regularizer that would decay twice. Set it to 0, or pass take_over=True, which sets it to 0 until "
    "detach()."
)


@dataclass(frozen=True)
class OwnDecay:
    """What an optimizer's groups decayed by before a regularizer took over; given back on detach."""

    taken_over: bool
    values: tuple[tuple[int, str, float], ...]  # index of the group, key, value
    beside: bool = False  # left alone: the regularizer only bounds weights

    @classmethod
    def take_(cls, optimizer: Optimizer, *, take_over: bool, beside: bool = False) -> OwnDecay:
        """Set the optimizer's decay to 0 in place and remember it; beside a bound only when asked to take over.

        Raises:
            DecayError: it decays, take_over is False, and the regularizer is no bound.
        """
        if beside and not take_over:
            return cls(taken_over=False, values=(), beside=True)
        found = _decaying(optimizer)
        if found and not take_over:
            raise DecayError(f"{_what(optimizer)} {REMEDY}")
        _set_to_zero(optimizer, found)
        return cls(take_over, tuple(found))

    def guard_(self, optimizer: Optimizer) -> None:
        """Before each step: decay that came back, as from a checkpoint of the optimizer, is set to 0 or refused.

        Raises:
            DecayError: it decays again and was not taken over.
        """
        if self.beside:
            return
        found = _decaying(optimizer)
        if found and not self.taken_over:
            raise DecayError(f"{_what(optimizer)} It did not when the regularizer was attached. {REMEDY}")
        _set_to_zero(optimizer, found)

    def extended_(self, optimizer: Optimizer) -> OwnDecay:
        """With the groups that joined since: theirs is set to 0 and remembered, if the others' was taken over.

        Raises:
            DecayError: one that joined decays, and nothing was taken over.
        """
        known = {(index, key) for index, key, _ in self.values}
        found = [one for one in _decaying(optimizer) if one[:2] not in known]
        if self.beside or not found:
            return self
        if not self.taken_over:
            raise DecayError(f"{_what(optimizer)} {REMEDY}")
        _set_to_zero(optimizer, found)
        return replace(self, values=(*self.values, *found))

    def restore_(self, optimizer: Optimizer) -> None:
        """Give the groups their own decay back."""
        for index, key, value in self.values:
            optimizer.param_groups[index][key] = value


def _decaying(optimizer: Optimizer) -> list[tuple[int, str, float]]:
    groups = enumerate(optimizer.param_groups)
    return [(index, key, group[key]) for index, group in groups for key in KEYS if group.get(key)]


def _set_to_zero(optimizer: Optimizer, found: list[tuple[int, str, float]]) -> None:
    for index, key, _ in found:
        optimizer.param_groups[index][key] = 0.0


def _what(optimizer: Optimizer) -> str:
    groups = [f"{key} = {float(value):g} in group {index}" for index, key, value in _decaying(optimizer)]
    return f"{type(optimizer).__name__} decays already: {', '.join(groups)}."
