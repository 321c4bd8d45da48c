"""What a training step does to the weights apart from fitting the data: penalties, hooks, decay by hand.

The step is the user's own function and runs on the user's own model, as hooks and closures are tied to it; everything
that it changes is put back, bit for bit. It runs once as it is, to see which weights get a gradient, and then with
outputs of the model that do not depend on the weights, so that any change of a weight then does not come from the data.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from segdecay.decay.audit.forms import Form, possible_forms, settle_forms
from segdecay.decay.audit.loss_probe import copies_behind
from segdecay.decay.audit.untouched import untouched, untouched_optimizers
from segdecay.decay.regularizers.base import optimizer_chain

TOLERANCE = 1e-3  # of the largest element
NOISE = 1e-9  # of a weight: a smaller change is rounding
ROUNDED = 1e-5  # of a gradient: the same


@dataclass(frozen=True)
class ByHand:
    """What takes part of a weight outside the optimizers' updates."""

    by: Literal["step", "hook"]  # the step's own code, or a hook on a parameter or an optimizer
    share: float | None = None  # of the weight that one step takes off; None where it is no share
    form: Form | None = None  # of what is added to the gradient; None where the weight itself is changed


@dataclass(frozen=True)
class StepReport:
    """What the probe of a step found. Only "examined" says anything about what it does."""

    status: Literal["none given", "examined", "not examined"]
    reason: str
    forms: Mapping[str, Form] = field(default_factory=dict)  # by name: penalties in what is differentiated
    by_hand: Mapping[str, tuple[ByHand, ...]] = field(default_factory=dict)
    copies: tuple[str, ...] = ()  # parameters of whose copies the loss depends
    gradient_norm: float = 0.0  # of the penalty, over all parameters
    passes: int = 0  # backward passes in a step
    batch: int | None = None  # images, where the model is called with them


@dataclass
class _Seen:
    """What one run of the step did."""

    passes: int = 0
    batch: int | None = None
    start: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)  # weights at the start, then after each update
    backward: dict[str, Tensor] = field(default_factory=dict)  # gradients after the last backward pass
    entered: dict[str, Tensor] = field(default_factory=dict)  # gradients as the optimizer got them
    outside: dict[str, Tensor] = field(default_factory=dict)  # change of the weights outside the updates
    copies: tuple[str, ...] = ()
    unreplaced: str = ""  # class of an output in which no tensor was found

    def note_outside(self, name: str, now: Tensor) -> None:
        """Add what changed since the last update."""
        change = now - self.last[name]
        self.outside[name] = self.outside[name] + change if name in self.outside else change


class _StepError(Exception):
    """The step cannot be examined."""


def examine_step(
    model: nn.Module,
    parameters: Mapping[str, Parameter],  # by name, all of the model
    optimizers: Sequence[Optimizer],
    step: Callable[[], object] | None,
    loss: object = None,  # a module's own state is put back too
) -> StepReport:
    """Run a step a few times, each from the same weights, and put everything back. Never an error.

    A step that cannot be examined is "not examined", with the reason.
    """
    if step is None:
        return StepReport("none given", "pass step=, a function that takes one training step, to see what it does")
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    if any(parameter.is_meta for parameter in trained.values()):
        return StepReport("not examined", "the model is on the meta device, without values")
    inner = [optimizer_chain(one)[0] for one in optimizers]
    held = {id(p) for one in inner for group in one.param_groups for p in group["params"]}
    known = frozenset(held | {id(parameter) for parameter in parameters.values()})
    probe = _StepProbe(model, {n: p for n, p in trained.items() if id(p) in held}, optimizers, step, loss, known)
    try:
        return probe.report()
    except Exception as error:  # noqa: BLE001 - somebody else's code may raise anything
        first = str(error).splitlines()[0][:160] if str(error) else ""
        why = first if isinstance(error, _StepError) else f"it raised {type(error).__name__}: {first}"
        return StepReport("not examined", why)


@dataclass(frozen=True)
class _StepProbe:
    model: nn.Module
    trained: Mapping[str, Parameter]
    optimizers: Sequence[Optimizer]
    step: Callable[[], object]
    loss: object
    known: frozenset[int]  # ids of all parameters of the model and the optimizers

    def report(self) -> StepReport:
        real = self._run(idle=False, hooked=True)
        if not real.backward:
            raise _StepError("no gradient reached a parameter of the model that the optimizers hold")
        if not real.entered:
            raise _StepError("no optimizer that was given took a step")
        reached = set(real.entered)
        seen = self._run(idle=True, hooked=True)
        if seen.unreplaced:
            raise _StepError(f"the model returns a {seen.unreplaced}, in which no tensor with gradient is found")
        bare = self._run(idle=True, hooked=False) if _has_hooks(self.trained.values(), self.optimizers) else seen
        twice = self._run(idle=True, hooked=False, scale=2.0)
        forms = self._forms(bare, twice, _unscaled(bare), reached)
        by_hand: dict[str, tuple[ByHand, ...]] = {}
        for name in (name for name in self.trained if name in reached):
            found = (*_by_step(bare, name), *_by_hooks(seen, bare, name))
            if found:
                by_hand[name] = found
        size = sum(float(g.float().square().sum()) for n, g in bare.backward.items() if n in forms) ** 0.5
        return StepReport(
            "examined",
            f"{real.passes} backward {'pass' if real.passes == 1 else 'passes'} a step",
            forms,
            by_hand,
            real.copies,
            size,
            real.passes,
            real.batch,
        )

    def _forms(self, bare: _Seen, twice: _Seen, scale: float, reached: set[str]) -> dict[str, Form]:
        """The penalties in what is differentiated, from gradients at the weights and at twice the weights.

        A gradient that is linear in θ has H·θ = g(2θ) − g(θ); that of a norm or an absolute value does not change.
        """
        possible, norms = {}, {}
        for name, gradient in bare.backward.items():
            if name in reached and gradient.any():
                weight = bare.start[name]
                possible[name] = possible_forms(weight, scale * gradient, scale * (twice.backward[name] - gradient))
                norms[name] = float(weight.float().norm())
        return settle_forms(possible, norms)

    def _run(self, *, idle: bool, hooked: bool, scale: float = 1.0) -> _Seen:
        seen = _Seen()
        chains = [member for one in self.optimizers for member in optimizer_chain(one)]
        owners = [
            module for module in (self.loss, getattr(self.step, "__self__", None)) if isinstance(module, nn.Module)
        ]
        with contextlib.ExitStack() as stack:
            stack.enter_context(untouched(self.model, *owners))
            stack.enter_context(untouched_optimizers(chains))
            stack.enter_context(_without_hooks(self.trained.values(), chains, all_hooks=not hooked))
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if scale != 1.0:
                with torch.no_grad():
                    for parameter in self.trained.values():
                        parameter.mul_(scale)
            seen.start = {name: p.detach().clone() for name, p in self.trained.items()}
            seen.last = dict(seen.start)
            stack.enter_context(_outputs_of(self.model, seen, idle=idle))
            stack.enter_context(_backward_passes(self.trained, self.known, seen))
            names = {id(parameter): name for name, parameter in self.trained.items()}
            stack.enter_context(_Updates(names, seen).watched(self.optimizers))
            self.step()
            for name, parameter in self.trained.items():
                seen.note_outside(name, parameter.detach())
        return seen


def _by_step(bare: _Seen, name: str) -> tuple[ByHand, ...]:
    """What the step's own code does to a weight outside updates, or to its gradient after the last backward pass."""
    zero = torch.zeros_like(bare.start[name])
    added = _added(bare.backward.get(name, zero), bare.entered.get(name, zero))
    return _told("step", bare.start[name], bare.outside[name], added)


def _by_hooks(seen: _Seen, bare: _Seen, name: str) -> tuple[ByHand, ...]:
    """What is done with the hooks of parameters and optimizers in place, and not without them."""
    zero = torch.zeros_like(bare.start[name])
    added = _added(bare.entered.get(name, zero), seen.entered.get(name, zero))
    return _told("hook", seen.start[name], seen.outside[name] - bare.outside[name], added)


def _added(before: Tensor, after: Tensor) -> Tensor | None:
    """What was added to a gradient; None where it is the same or was made smaller, as by clipping and unscaling."""
    size = float(before.double().square().sum())
    factor = float((before.double() * after.double()).sum()) / size if size else 0.0
    if 0 < factor <= 1 + ROUNDED and float((after - factor * before).abs().max()) <= ROUNDED * float(after.abs().max()):
        return None
    added = after - before
    return added if float(added.abs().max()) > ROUNDED * float(before.abs().max()) else None


def _told(by: Literal["step", "hook"], start: Tensor, moved: Tensor, added: Tensor | None) -> tuple[ByHand, ...]:
    found = []
    share = _share(start, moved)
    if share != 0.0:
        found.append(ByHand(by, share=share))
    if added is not None:
        forms = possible_forms(start, added, None)
        kind = "squared" if "squared" in forms else next(iter(forms))
        found.append(ByHand(by, form=Form(kind, forms[kind])))
    return tuple(found)


def _share(start: Tensor, moved: Tensor) -> float | None:
    """The share of a weight that was taken off; None where the change is no share of it; 0 where there is none."""
    size = float(start.abs().max())
    if float(moved.abs().max()) <= NOISE * size or not size:
        return 0.0
    share = -float((moved.double() * start.double()).sum() / start.double().square().sum())
    off = float((moved + share * start).abs().max())
    rounding = 2 * torch.finfo(start.dtype).eps * size
    return share if off <= TOLERANCE * abs(share) * size + rounding else None


def _unscaled(seen: _Seen) -> float:
    """The factor by which a GradScaler unscaled gradients between backward and step: a power of two below 1; else 1."""
    both = [(seen.entered[name].double(), g.double()) for name, g in seen.backward.items() if name in seen.entered]
    size = sum(float(before.square().sum()) for _, before in both)
    factor = sum(float((after * before).sum()) for after, before in both) / size if size else 1.0
    if not 0 < factor < 1:
        return 1.0
    mantissa, _ = math.frexp(factor)
    return factor if min(abs(mantissa - 0.5), abs(mantissa - 1.0)) < TOLERANCE**2 else 1.0


class _Idle(torch.autograd.Function):
    """An output that does not depend on the weights, with gradients of zeros for them."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *parameters: Tensor) -> Tensor:
        ctx.shapes = [(p.shape, p.dtype, p.device) for p in parameters]
        return output.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        del gradients
        return (None, *[torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.shapes])


@contextlib.contextmanager
def _outputs_of(model: nn.Module, seen: _Seen, *, idle: bool) -> Iterator[None]:
    """Watch the outermost calls of a model's modules; with `idle` their outputs do not depend on the weights."""
    members = {id(module) for module in model.modules()}
    depth = 0

    def enter(module: nn.Module, args: Any) -> None:
        nonlocal depth
        if id(module) in members:
            if depth == 0 and seen.batch is None:
                shaped = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.ndim > 1]
                seen.batch = shaped[0].shape[0] if shaped else None
            depth += 1

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal depth
        del args
        if id(module) not in members:
            return None
        depth -= 1
        if depth or not idle:
            return None
        weights = [p for p in module.parameters() if p.requires_grad]
        count = 0

        def replaced(leaf: Any) -> Any:
            nonlocal count
            if not isinstance(leaf, Tensor) or not leaf.requires_grad:
                return leaf
            count += 1
            return _Idle.apply(leaf, *weights)

        found = tree_map(replaced, output)
        if not count and weights:
            seen.unreplaced = type(output).__name__
        return found

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _backward_passes(trained: Mapping[str, Parameter], known: frozenset[int], seen: _Seen) -> Iterator[None]:
    """Note every gradient as it stands after each backward pass, and copies behind what is passed back."""

    def note(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if parameter.grad is not None:
                seen.backward[name] = _dense(parameter.grad)

        return hook

    hooks = [p.register_post_accumulate_grad_hook(note(name)) for name, p in trained.items() if p.is_leaf]  # type: ignore[no-untyped-call]
    whole = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        seen.passes += 1
        seen.copies = tuple(dict.fromkeys((*seen.copies, *copies_behind(tree_leaves(tensors), trained, known))))
        return whole(tensors, *args, **kwargs)

    torch.autograd.backward = backward  # what Tensor.backward calls, in this process alone and put back below
    try:
        yield
    finally:
        torch.autograd.backward = whole
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Updates:
    """Notes gradients and weights around every optimizer's update, inside the hooks of others."""

    names: Mapping[int, str]  # by id of the parameter
    seen: _Seen
    inside: set[int] = field(default_factory=set)  # ids of optimizers inside of a wrapper's step

    def held(self, optimizer: Optimizer) -> Iterator[tuple[str, Parameter]]:
        """The model's parameters that an optimizer holds, by name."""
        members = (p for group in optimizer.param_groups for p in group["params"])
        return ((self.names[id(p)], p) for p in members if id(p) in self.names)

    def enter(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Gradients as the optimizer gets them; with a closure they are not there yet."""
        if (len(args) > 1 and callable(args[1])) or callable(kwargs.get("closure")):
            return
        for name, parameter in self.held(optimizer):
            if parameter.grad is not None:
                self.seen.entered[name] = _dense(parameter.grad)

    def leave(self, optimizer: Optimizer, args: Any = (), kwargs: Any = None) -> None:
        """Where a closure ran backward inside the step, its gradients are what the optimizer got."""
        del args, kwargs
        for name, _ in self.held(optimizer):
            if name in self.seen.backward and name not in self.seen.entered:
                self.seen.entered[name] = self.seen.backward[name]

    def before(self, optimizer: Optimizer, args: Any = (), kwargs: Any = None) -> None:
        """What changed the weights since the last update."""
        del args, kwargs
        if id(optimizer) in self.inside:
            return
        for name, parameter in self.held(optimizer):
            self.seen.note_outside(name, parameter.detach())

    def after(self, optimizer: Optimizer, args: Any = (), kwargs: Any = None) -> None:
        """Where the update left the weights."""
        del args, kwargs
        if id(optimizer) in self.inside:
            return
        for name, parameter in self.held(optimizer):
            self.seen.last[name] = parameter.detach().clone()

    def around(self, inner: Optimizer, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step of a wrapper, as one update."""

        def whole(*args: Any, **kwargs: Any) -> Any:
            self.before(inner)
            self.inside.add(id(inner))
            try:
                return step(*args, **kwargs)
            finally:
                self.inside.discard(id(inner))
                self.after(inner)

        return whole

    @contextlib.contextmanager
    def watched(self, optimizers: Sequence[Optimizer]) -> Iterator[None]:
        """Register all this until the end of the block."""
        hooks: list[Any] = []
        for one in optimizers:
            inner, outer = optimizer_chain(one)[0], optimizer_chain(one)[-1]
            if outer is not inner:  # put back with the wrapper's other attributes
                outer.step = self.around(inner, outer.step)  # type: ignore[method-assign]
            hooks += [inner.register_step_pre_hook(hook) for hook in (self.enter, self.before)]
            for end in (self.after, self.leave):
                made = inner.register_step_post_hook(end)
                inner._optimizer_step_post_hooks.move_to_end(made.id, last=False)  # type: ignore[attr-defined] # noqa: SLF001
                hooks.append(made)
        try:
            yield
        finally:
            for held in hooks:
                held.remove()


def _dense(gradient: Tensor) -> Tensor:
    """A copy of a gradient that no later pass changes."""
    gradient = gradient.detach()
    return (gradient.to_dense() if gradient.layout != torch.strided else gradient).clone()


def _hook_tables(parameters: Sequence[Parameter], optimizers: Sequence[Optimizer]) -> list[dict[int, Any]]:
    tables = []
    for parameter in parameters:
        tables += [parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None)]  # noqa: SLF001
    for one in optimizers:
        tables += [one._optimizer_step_pre_hooks, one._optimizer_step_post_hooks]  # noqa: SLF001
    return [table for table in tables if table]


def _is_ours(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("segdecay.decay")


def _has_hooks(parameters: Any, optimizers: Sequence[Optimizer]) -> bool:
    tables = _hook_tables(list(parameters), [member for one in optimizers for member in optimizer_chain(one)])
    return any(not _is_ours(hook) for table in tables for hook in table.values())


@contextlib.contextmanager
def _without_hooks(parameters: Any, optimizers: Sequence[Optimizer], *, all_hooks: bool) -> Iterator[None]:
    """Take out hooks of parameters and optimizers: segdecay's, which the table knows; or all of them."""
    kept = []
    for table in _hook_tables(list(parameters), optimizers):
        kept.append((table, dict(table)))
        for key, hook in list(table.items()):
            if all_hooks or _is_ours(hook):
                del table[key]
    try:
        yield
    finally:
        for table, hooks in kept:
            table.clear()
            table.update(hooks)
