"""Modules, optimizers and random numbers as they were, bit for bit, whatever somebody else's code did to them."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves


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


@contextlib.contextmanager
def untouched_optimizers(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Let optimizers step from a fresh state, and give them back as they were: groups, state, attributes, bit for bit.

    Example:
        >>> weight = Parameter(torch.ones(1))
        >>> sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> with untouched_optimizers([sgd]):
        ...     sgd.param_groups[0]["lr"] = 5.0
        >>> sgd.param_groups[0]["lr"], dict(sgd.state)
        (0.1, {})
    """
    restores = [_saved_optimizer(one) for one in optimizers]
    states = {id(one.state): (one.state, dict(one.state)) for one in optimizers}
    for state, _ in states.values():
        state.clear()
    for one in optimizers:
        for group in one.param_groups:
            for key in ("step", "counter"):  # counts of steps, beside which a fresh state is not expected
                if isinstance(group.get(key), int):
                    group[key] = 0
    try:
        yield
    finally:
        for state, kept in states.values():
            state.clear()
            state.update(kept)
        for restore in restores:
            restore()


def _saved_optimizer(one: Optimizer) -> Callable[[], None]:
    """A function that puts groups and attributes back."""
    groups = [(group, {**group, "params": list(group["params"])}, _tensors_in(group)) for group in one.param_groups]
    listed = list(one.param_groups)
    plain = dict(vars(one))
    inside: list[tuple[Callable[[Any], Any], Any]] = []
    for name, value in plain.items():
        if name in ("param_groups", "state") or "hooks" in name:
            continue
        if isinstance(value, random.Random):
            inside.append((value.setstate, value.getstate()))
        elif isinstance(value, torch.Generator):
            inside.append((value.set_state, value.get_state()))
        elif isinstance(value, Tensor):
            inside.append((value.data.copy_, value.detach().clone()))
        elif isinstance(value, dict | list) and not any(isinstance(leaf, nn.Module) for leaf in tree_leaves(value)):
            inside.append((_refill(value), copy.copy(value)))
            inside += _tensors_in(value)

    def restore() -> None:
        one.param_groups[:] = listed
        for group, kept, tensors in groups:
            members = group["params"]
            group.clear()
            group.update({**kept, "params": members})
            members[:] = kept["params"]
            for put, tensor in tensors:
                put(tensor)
        vars(one).clear()
        vars(one).update(plain)
        for put, value in inside:
            put(value)

    return restore


def _refill(held: Any) -> Callable[[Any], None]:
    def put(kept: Any) -> None:
        held.clear()
        if isinstance(held, dict):
            held.update(kept)
        else:
            held.extend(kept)

    return put


def _tensors_in(tree: Any) -> list[tuple[Callable[[Any], Any], Any]]:
    """How to put back the tensors that are no parameters, as a learning rate that is a tensor."""
    values = tree.values() if isinstance(tree, Mapping) else tree
    return [
        (value.data.copy_, value.detach().clone())
        for value in values
        if isinstance(value, Tensor) and not isinstance(value, Parameter)
    ]
