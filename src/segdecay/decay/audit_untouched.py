"""Leaving everything as it was: weights, buffers, gradients, modes and random states, also after an exception.

Knows modules and torch's generators; nothing of what is done in between.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the modules and the random states are afterwards what they were, bit for bit.

    Gradients are laid aside, so that a `backward()` inside finds none and leaves none. Needs memory for a copy of all
    weights and buffers.

    Example:
        >>> net = nn.BatchNorm1d(2)
        >>> with untouched(net):
        ...     _ = net(torch.randn(4, 2)); _ = net.eval()
        >>> net.running_mean.tolist(), net.training
        ([0.0, 0.0], True)
    """
    members = list(dict.fromkeys(member for module in modules for member in module.modules()))
    modes = [(member, member.training) for member in members]
    parameters = list({id(p): p for member in members for p in member.parameters(recurse=False)}.values())
    buffers = [(member, dict(member.named_buffers(recurse=False))) for member in members]
    tensors: list[Tensor] = [*parameters, *(value for _, held in buffers for value in held.values())]
    copies = [tensor.detach().clone() for tensor in tensors]
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in parameters]
    restore_random = _random_states()
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        restore_random()
        for parameter, gradient, trains in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(trains)
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                if not torch.equal(tensor.data, copy):  # an expanded buffer cannot be written to, and need not be
                    tensor.data.copy_(copy)
        for member, held in buffers:
            for name, value in held.items():
                setattr(member, name, value)
        for member, mode in modes:
            member.training = mode


def _random_states() -> Callable[[], None]:
    """A function that puts torch's, Python's and, where it is loaded, NumPy's global random states back."""
    on_cpu, python = torch.get_rng_state(), random.getstate()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    numpy: Any = sys.modules.get("numpy.random")
    drawn = numpy.get_state() if numpy is not None else None

    def restore() -> None:
        torch.set_rng_state(on_cpu)
        random.setstate(python)
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        if drawn is not None:
            numpy.set_state(drawn)

    return restore
