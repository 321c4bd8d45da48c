"""Which ReLU outputs are zero, and which channels are nothing else, over all that passes while one watches.

By forward hooks on ReLU and ReLU6 modules; a ReLU that is called as a function is not seen. Knows modules and tensors
only; changes neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segdecay.decay.groups import bare_module
from segdecay.decay.head import bare_name

RELUS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class ActivationGauge:
    """One ReLU's output over what was watched. A module that is called several times a pass has a line for each."""

    name: str  # of the module; "relu#2" for its second call in a pass
    channels: int
    dead: int  # channels that were zero everywhere
    zeros: float  # share of all outputs that were exactly zero


class ActivationWatch:
    """What `watch_activations` has seen so far."""

    def __init__(self) -> None:
        self._alive: dict[str, Tensor] = {}  # (channels,) int64: outputs above zero
        self._numbers: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._is_inside = False

    def gauges(self) -> tuple[ActivationGauge, ...]:
        """A line for every ReLU that ran, in the order of running."""
        return tuple(
            ActivationGauge(name, alive.numel(), int((alive == 0).sum()), 1 - int(alive.sum()) / self._numbers[name])
            for name, alive in self._alive.items()
        )

    def begin_pass(self, *_: Any) -> None:
        """A forward hook of the whole model, before it."""
        self._calls, self._is_inside = {}, True

    def end_pass(self, *_: Any) -> None:
        """A forward hook of the whole model, after it: what runs again in backward (checkpointing) does not count."""
        self._is_inside = False

    @torch.no_grad()
    def see(
        self,
        name: str,
        output: Tensor,  # (N, C), (N, L, C) or (N, C, ...) with two or more places
    ) -> None:
        """Count one output."""
        if not self._is_inside or output.numel() == 0 or output.ndim == 0:
            return
        call = self._calls[name] = self._calls.get(name, 0) + 1
        key = name if call == 1 else f"{name}#{call}"
        channel = 1 if output.ndim > 3 else output.ndim - 1
        others = [dim for dim in range(output.ndim) if dim != channel]
        alive = torch.count_nonzero(output.detach(), dim=others) if others else (output.detach() != 0).long()
        if key in self._alive and self._alive[key].shape != alive.shape:
            return  # another number of channels under the same name: not the same layer
        self._alive[key] = self._alive[key] + alive if key in self._alive else alive
        self._numbers[key] = self._numbers.get(key, 0) + output.numel()


@contextmanager
def watch_activations(model: nn.Module) -> Iterator[ActivationWatch]:
    """Count the zeros of every ReLU module's output while the block runs; hooks are gone after it.

    Channels are the second dimension of outputs with four or more, the last one of others. In a compiled model hooks
    make torch compile anew: watch now and then, not at every step.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> with watch_activations(model) as watch:
        ...     _ = model(torch.tensor([[1.0], [2.0]]))
        >>> watch.gauges()
        (ActivationGauge(name='1', channels=2, dead=1, zeros=0.5),)
    """
    watch, bare = ActivationWatch(), bare_module(model)
    hooks = [bare.register_forward_pre_hook(watch.begin_pass)]

    def hook_of(name: str) -> Any:
        return lambda _module, _inputs, output: watch.see(name, output)

    for name, module in bare.named_modules():
        if isinstance(module, RELUS):
            hooks.append(module.register_forward_hook(hook_of(bare_name(name))))
    hooks.append(bare.register_forward_hook(watch.end_pass, always_call=True))
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()
