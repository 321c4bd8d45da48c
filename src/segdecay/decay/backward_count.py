"""A count of backward passes that no optimizer step follows: the sign that another optimizer takes the steps."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from torch import Tensor
from torch.nn import Parameter

BACKWARDS = 64  # without a step before a warning


class BackwardCount:
    """Counts backward passes through one parameter since the optimizer's last step, and warns once of many."""

    def __init__(self) -> None:
        self.count = 0
        self._hook: Any = None
        self._warned = False

    def watch_(self, parameter: Parameter | None, optimizer: str) -> None:
        """Count through this parameter from now on; None: through none."""
        if self._hook is not None:
            self._hook.remove()
        self.count, self._hook = 0, None
        if parameter is None or not parameter.is_leaf:
            return
        here = weakref.ref(self)

        def count(_: Tensor) -> None:
            counted = here()
            if counted is not None:
                counted.count += 1
                counted._warn_of_many(optimizer)  # noqa: SLF001 - a method of the same class

        self._hook = parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]

    def _warn_of_many(self, optimizer: str) -> None:
        if self.count < BACKWARDS or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"{self.count} backward passes without a step of {optimizer}, to which a regularizer is attached: nothing "
            f"decays. If another optimizer takes the steps, attach to that one; if gradients are accumulated over so "
            f"many passes, all is well.",
            UserWarning,
            stacklevel=2,
        )
