"""Which policies are attached to which optimizer, and which may be together.

Knows handles and optimizers by identity; nothing of what a policy does.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from segdecay.decay.copies import let_be_copied_, warn_when_copied_
from segdecay.decay.policy import bare_optimizer
from segdecay.decay.registry import may_combine
from segdecay.errors import DecayError

if TYPE_CHECKING:
    from segdecay.decay.handle import Handle

# Weak on both sides: the optimizer's hooks hold the handle, and the handle its optimizer.
_handles: weakref.WeakKeyDictionary[Optimizer, list[weakref.ref[Handle]]] = weakref.WeakKeyDictionary()


def add_handle(optimizer: Optimizer, handle: Handle) -> None:
    """Note that a handle acts on an optimizer."""
    _handles.setdefault(optimizer, []).append(weakref.ref(handle))
    warn_when_copied_(optimizer)


def remove_handle(optimizer: Optimizer, handle: Handle) -> None:
    """Note that a handle acts no more."""
    _handles[optimizer] = [weakref.ref(other) for other in handles_of(optimizer) if other is not handle]
    if not _handles[optimizer]:
        let_be_copied_(optimizer)


def handle_of(optimizer: Optimizer) -> Handle | None:
    """The handle attached to an optimizer, or None; None also for a copy, which loses its hooks."""
    return next(iter(handles_of(optimizer)), None)


def handles_of(optimizer: Optimizer) -> list[Handle]:
    """All handles attached to an optimizer; more than one where policies combine."""
    references = _handles.get(bare_optimizer(optimizer), [])
    return [handle for reference in references if (handle := reference()) is not None]


def refuse_pair(optimizer: Optimizer, policy: str) -> None:
    """Refuse a policy beside those that are attached.

    Raises:
        DecayError: they would regularise the same weights twice.
    """
    for present in handles_of(optimizer):
        if not may_combine(present.policy.name, policy):
            raise DecayError(
                f"Policy '{present.policy.name}' is attached to this optimizer already; '{policy}' beside it would "
                f"regularise the same weights twice. Only decoupled and max_norm combine. Call detach() on its handle "
                f"first."
            )
