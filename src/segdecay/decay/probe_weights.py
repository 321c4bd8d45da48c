"""A copy of an optimizer over a few small weights, on which a step can be tried without touching the model.

Every option, attribute and wrapper is copied; weights, their state and hooks are not. A few float64 weights stand in
for the real ones, one for each kind of group and of shape.
"""

from __future__ import annotations

import collections
import copy
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.regularizers.base import INNER

SIDE = 3  # numbers along each side of a stand-in, at most
KINDS = 4  # stand-ins of one kind of group
MOST = 12  # stand-ins of an optimizer
# What may differ between groups that one stand-in speaks for.
FREE = ("params", "lr", "lr_scale", "initial_lr", "weight_decay", "lambd", "name", "param_names", "layer")
RATES = ("lr", "initial_lr", "lr_scale")  # which may be tensors
DEVICE_OPTIONS = ("fused", "foreach", "capturable", "compile")  # which kernel is used; the stand-ins are on the CPU


class StandIns:
    """An optimizer with its wrappers over stand-in weights.

    Attributes:
        chain: as `optimizer_chain` gives it; the last one steps.
        weights: the stand-ins, of values around 1.
        of: id of the real parameter that each stands for.
    """

    def __init__(self, chain: Sequence[Optimizer], chosen: Sequence[Sequence[Parameter]], rate: float) -> None:
        """Args:
        chain: the real optimizers.
        chosen: for each group of the innermost one, the parameters that get a stand-in; others get none.
        rate: the learning rate of every group.
        """
        self.weights: list[Parameter] = []
        self.of: list[int] = []
        memo: dict[int, Any] = {}
        groups = []
        for group, parameters in zip(chain[0].param_groups, chosen, strict=True):
            fresh = [self._stand_in(parameter) for parameter in parameters]
            if fresh:
                groups.append({**_options(group), "params": fresh, "lr": rate})
            memo[id(group)] = groups[-1] if fresh else {}
        memo[id(chain[0].param_groups)] = groups
        copies: list[Optimizer] = []
        for one in chain:
            copied = _copied(one, memo) if vars(one) else None
            if copied is None:
                raise TypeError(f"{type(one).__name__} cannot be copied")
            copies.append(copied)
        self.chain = copies
        self.groups = groups

    def _stand_in(self, parameter: Parameter) -> Parameter:
        shape = tuple(min(side, SIDE) for side in parameter.shape)
        dtype = torch.complex128 if parameter.is_complex() else torch.float64
        numbers = torch.Size(shape).numel()
        values = torch.linspace(0.75, 1.25, max(numbers, 1), dtype=torch.float64)[:numbers].reshape(shape).to(dtype)
        made = Parameter(values)
        self.weights.append(made)
        self.of.append(id(parameter))
        return made

    def rebuild_(self) -> None:
        """Call the classes' own constructors instead of copying their attributes.

        Raises:
            TypeError: an argument is not known.
        """
        inner: Optimizer | None = None
        made = []
        for one in self.chain:
            inner = _constructed(one, self.groups, inner)
            made.append(inner)
        self.chain = made
        self.groups = made[0].param_groups

    def begin_(self) -> None:
        """Go into training mode, where the optimizer has one."""
        for one in reversed(self.chain):
            change = getattr(one, "train", None)
            if callable(change):
                change()
                break

    def step_(self, gradients: Sequence[Tensor], *, with_closure: bool) -> None:
        """One step of the outermost optimizer."""
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient.clone()
        outer = self.chain[-1]

        def closure() -> Tensor:
            for weight, gradient in zip(self.weights, gradients, strict=True):
                weight.grad = gradient.clone()
            return torch.zeros((), dtype=torch.float64)

        if with_closure:
            outer.step(closure)  # type: ignore[arg-type]
        else:
            outer.step()

    def deployed(self) -> list[Tensor]:
        """The weights that a model would be used with: after `eval()` where the optimizer has one."""
        for one in reversed(self.chain):
            change = getattr(one, "eval", None)
            if callable(change):
                change()
                break
        return [weight.detach().clone() for weight in self.weights]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in group.items():
        if key == "params":
            continue
        if key in DEVICE_OPTIONS:
            found[key] = False if value else value
        elif isinstance(value, Tensor):
            found[key] = float(value) if key in RATES else value.detach().cpu().clone()
        else:
            found[key] = copy.deepcopy(value)
    for key in ("step", "counter"):  # counts of steps: the copy has taken none
        count: Any = found.get(key)
        if isinstance(count, Tensor):
            count.zero_()
        elif isinstance(count, int):
            found[key] = 0
    return found


def _copied(one: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """The object with all its attributes but state and hooks; those in `memo` replace the real ones."""
    new = object.__new__(type(one))
    memo[id(one)] = new
    memo[id(one.state)] = collections.defaultdict(dict)
    for name, value in vars(one).items():
        if name == "__deepcopy__" or (callable(value) and hasattr(type(one), name)):
            continue  # what was patched onto this one object, such as a scheduler's count of steps
        if "hooks" in name:
            new.__dict__[name] = collections.OrderedDict()
        elif isinstance(value, torch.Generator):
            new.__dict__[name] = _same_generator(value)
        elif isinstance(value, Tensor) and value.numel() > SIDE**2:
            raise TypeError(f"{type(one).__name__} keeps a tensor as attribute {name}")
        else:
            new.__dict__[name] = copy.deepcopy(value, memo)
    return new


def _same_generator(generator: torch.Generator) -> torch.Generator:
    made = torch.Generator(generator.device)
    made.set_state(generator.get_state())
    return made


def _constructed(one: Optimizer, groups: list[dict[str, Any]], inner: Optimizer | None) -> Optimizer:
    """A new object of the class, with every argument that can be read from groups, defaults or attributes."""
    known = {**vars(one), **getattr(one, "defaults", {}), **(groups[0] if groups else {})}
    arguments: dict[str, Any] = {}
    positional: list[Any] = []
    for name, parameter in inspect.signature(type(one).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("params", "parameters"):
            positional.append([{**group, "params": list(group["params"])} for group in groups])
        elif name in INNER and inner is not None:
            arguments[name] = inner if not isinstance(getattr(one, name, None), type) else type(inner)
        elif name in known and not callable(known[name]):
            arguments[name] = known[name]
        elif parameter.default is parameter.empty:
            raise TypeError(f"{type(one).__name__} needs {name}, which cannot be read from it")
    return type(one)(*positional, **arguments)


def kind_of_group(group: Mapping[str, Any]) -> str:
    """What groups have in common that one stand-in speaks for: all options but rates, decay and names."""
    return repr(sorted((key, repr(value)[:80]) for key, value in group.items() if key not in FREE))


def choose(optimizer: Optimizer, is_decayed: Callable[[Parameter], bool]) -> list[list[Parameter]]:
    """The parameters of every group that get a stand-in: one for each kind of group and shape, if they decay."""
    seen: dict[str, set[tuple[Any, ...]]] = {}
    chosen: list[list[Parameter]] = []
    count = 0
    for group in optimizer.param_groups:
        kinds = seen.setdefault(kind_of_group(group), set())
        taken: list[Parameter] = []
        for parameter in group["params"]:
            kind = (parameter.ndim, parameter.is_complex())
            if kind in kinds or len(kinds) >= KINDS or count >= MOST or not parameter.numel():
                continue
            if is_decayed(parameter):
                kinds.add(kind)
                taken.append(parameter)
                count += 1
        chosen.append(taken)
    return chosen


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Give torch's, Python's and numpy's random numbers back as they were; keep warnings inside; compile nothing."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    theirs = numpy.random.get_state() if numpy is not None else None
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(theirs)
