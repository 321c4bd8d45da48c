"""A copied optimizer has lost its hooks, and says so."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch.optim import Optimizer

NAME = "__deepcopy__"  # looked up on the optimizer itself by copy.deepcopy; no part of its state, so no copy has it


def warn_when_copied_(optimizer: Optimizer) -> None:
    """Let `copy.deepcopy` of this optimizer warn that nothing acts on the copy."""

    def copied(memo: dict[int, Any]) -> Optimizer:
        warnings.warn(
            "A copy of an optimizer has lost its hooks: no regularizer acts on it. Call segdecay.decay.attach on the "
            "copy, "
            "with the model whose parameters it holds.",
            UserWarning,
            stacklevel=3,
        )
        let_be_copied_(optimizer)
        try:
            return copy.deepcopy(optimizer, memo)
        finally:
            warn_when_copied_(optimizer)

    setattr(optimizer, NAME, copied)


def let_be_copied_(optimizer: Optimizer) -> None:
    """Undo `warn_when_copied_`."""
    vars(optimizer).pop(NAME, None)
