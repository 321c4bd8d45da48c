"""What a loss does with a model beside its gradient: which tensors it reads, and whether it calls the model.

Knows torch's dispatch and module hooks; nothing of penalties.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ModelCalledError(Exception):
    """The loss calls the model; stopped before the model runs."""


@contextlib.contextmanager
def stop_at_calls(modules: Collection[nn.Module]) -> Iterator[list[str]]:
    """Raise before any of these modules runs, so that none changes a buffer; the classes that were called are listed.

    Raises:
        ModelCalledError: inside, from the call.
    """
    watched = {id(module) for module in modules}
    called: list[str] = []

    def stop(module: nn.Module, _args: Any) -> None:
        if id(module) in watched:
            called.append(type(module).__name__)
            raise ModelCalledError(type(module).__name__)

    hook = register_module_forward_pre_hook(stop)
    try:
        yield called
    finally:
        hook.remove()


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows values from named tensors through every operation, past `.data`, `detach` and `state_dict`.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> with Reads({"weight": weight}) as reads:
    ...     total = torch.tensor(1.0) + weight.data.norm()
    >>> sorted(reads.behind(total))
    ['weight']
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.as_numbers: frozenset[str] = frozenset()  # read out by .item() and float()
        self._behind: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # so that no storage is used again while we look
        for name, tensor in tensors.items():
            self._note(tensor, frozenset((name,)))

    def behind(self, tensor: Tensor) -> frozenset[str]:
        """The names of all tensors that a value was computed from."""
        key = _storage(tensor)
        return self._behind.get(key, frozenset()) if key else frozenset()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        read = frozenset[str]().union(*(self.behind(t) for t in _tensors((args, kwargs))))
        if read and str(func).startswith("aten._local_scalar_dense"):  # what .item() and float() call
            self.as_numbers |= read
        elif read:
            changed = _tensors(args[0]) if out is None and args else []  # _foreach_add_ and the like return nothing
            for tensor in (*_tensors(out), *changed):
                self._note(tensor, read)
        return out

    def _note(self, tensor: Tensor, names: frozenset[str]) -> None:
        key = _storage(tensor)
        if key:
            self._behind[key] = self._behind.get(key, frozenset()) | names
            self._alive.append(tensor)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 where it has none of its own."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
