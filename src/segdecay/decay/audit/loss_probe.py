"""What a loss does to the weights by itself: its gradient on outputs that do not depend on them.

Any gradient that reaches a parameter then comes from a penalty. The loss is called up to four times, never with the
model's own output.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segdecay.decay.audit.forms import Form, possible_forms, settle_forms
from segdecay.decay.audit.untouched import untouched

BATCH, SIDE = 2, 16  # the side is above the 11 pixels of SSIM's window
SEED = 0


@dataclass(frozen=True)
class ProbeSample:
    """An output (scores or probabilities, with gradients) and a target, with a description."""

    output: Any
    target: Any
    words: str

    def doubled(self) -> ProbeSample:
        """The same images twice: a mean over the batch does not change."""
        return ProbeSample(_twice(self.output), _twice(self.target), self.words)


@dataclass(frozen=True)
class _Maker:
    classes: int
    device: torch.device
    dtype: torch.dtype

    def scores(self, shape: Sequence[int]) -> Tensor:
        draw = torch.Generator().manual_seed(SEED)
        return torch.randn(*shape, generator=draw).to(self.device, self.dtype).requires_grad_()

    def probabilities(self, shape: Sequence[int]) -> Tensor:
        return self.scores(shape).detach().sigmoid().requires_grad_()

    def labels(self, shape: Sequence[int]) -> Tensor:
        count = int(torch.tensor(shape).prod()) if shape else 1
        return (torch.arange(count) % self.classes).reshape(tuple(shape)).to(self.device)

    def shares(self, shape: Sequence[int]) -> Tensor:
        count = int(torch.tensor(shape).prod()) if shape else 1
        return (torch.arange(count) % 2).reshape(tuple(shape)).to(self.device, self.dtype)


def samples(
    classes: int,  # that the model tells apart
    device: torch.device,
    dtype: torch.dtype,
    output: Any = None,  # a shape, a tensor, or a mapping or list of them
    target: Any = None,
) -> list[ProbeSample]:
    """What a loss may be called with, most usual first. Random numbers come from a generator of its own."""
    make = _Maker(max(classes, 2), device, dtype)
    pixels, single = (BATCH, classes, SIDE, SIDE), (BATCH, 1, SIDE, SIDE)
    if output is None:
        outputs: list[Any] = [pixels, (BATCH, classes)] + ([single] if classes > 1 else [])
    else:
        outputs = [output]
    found = []
    for fill_output, kind in ((make.scores, ""), (make.probabilities, " between 0 and 1")):
        for shape in outputs:
            for target_kind, wanted in _targets(shape, target):
                fill = make.labels if target_kind == "class indices" else make.shares
                words = f"output {_words(shape)}{kind}, target {_words(wanted)} of {target_kind}"
                found.append(ProbeSample(_fill(shape, fill_output), _fill(wanted, fill), words))
    return found


def _targets(output: Any, target: Any) -> list[tuple[str, Any]]:
    if target is not None:
        kinds = ["0 and 1", "class indices"] if target == output else ["class indices", "0 and 1"]
        return [(kind, target) for kind in kinds]
    if not _is_shape(output):
        return [("0 and 1", output)]
    labels = [("class indices", (output[0], *output[2:]))] if len(output) > 1 else []
    return [*labels, ("0 and 1", tuple(output))]


def _is_shape(tree: Any) -> bool:
    return isinstance(tree, Sequence) and not isinstance(tree, str) and all(isinstance(side, int) for side in tree)


def _fill(tree: Any, fill: Any) -> Any:
    """The tree with tensors in place of shapes; tensors and everything else as they are."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if _is_shape(tree):
        return fill(tree)
    if isinstance(tree, Mapping):
        return {key: _fill(value, fill) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_fill(value, fill) for value in tree]
    return tree


def _twice(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        doubled = torch.cat([tree.detach(), tree.detach()]) if tree.ndim else tree.detach()
        return doubled.requires_grad_(tree.requires_grad)
    if isinstance(tree, Mapping):
        return {key: _twice(value) for key, value in tree.items()}
    return [_twice(value) for value in tree] if isinstance(tree, list) else tree


def _words(tree: Any) -> str:
    if isinstance(tree, Tensor):
        return f"of {tuple(tree.shape)}"
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key}: {_words(value)}" for key, value in tree.items()) + "}"
    return str(tuple(tree)) if _is_shape(tree) else str(tree)


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


def copies_behind(
    results: Sequence[Any],  # what is differentiated
    parameters: Mapping[str, Parameter],  # of the model
    known: Collection[int],  # ids of what the model, the loss and the optimizers hold
    *,
    may_have_moved: bool = False,
) -> tuple[str, ...]:
    """Names of the parameters of which the results depend on a copy: a leaf of the graph that nobody trains.

    A copy is known by its values; with `may_have_moved` also where every matrix of the model has one of its shape
    there, as an average of the weights has. Where other networks run, one of the same kind would be taken for a copy.

    >>> weight = nn.Parameter(torch.randn(2, 2))
    >>> copied = nn.Parameter(weight.detach().clone())
    >>> copies_behind([copied.sum()], {"weight": weight}, {id(weight)})
    ('weight',)
    """
    leaves = [leaf for leaf in _leaves_behind(results) if id(leaf) not in known]
    if not leaves:
        return ()
    matrices = {name: p for name, p in parameters.items() if p.ndim > 1 and bool((p != p.flatten()[0]).any())}
    equal = [
        name
        for name, p in matrices.items()
        if any(leaf.shape == p.shape and torch.equal(leaf.detach(), p.detach()) for leaf in leaves)
    ]
    if not equal and may_have_moved and len(matrices) > 1:
        shapes = Counter(leaf.shape for leaf in leaves)
        shapes.subtract(Counter(p.shape for p in matrices.values()))
        return tuple(matrices) if min(shapes.values()) >= 0 else ()
    return tuple(equal)


def _leaves_behind(results: Sequence[Any]) -> list[Tensor]:
    """The leaves of the graphs behind the results that collect gradients."""
    found: dict[int, Tensor] = {}
    waiting = [result.grad_fn for result in results if isinstance(result, Tensor) and result.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return list(found.values())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 where it has none of its own."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


Gradients = Sequence[Tensor | None]
RECOGNISED = ("squared", "norm", "joint_norm", "row_norm", "l1", "elastic")
ERRORS_SHOWN = 2


@dataclass(frozen=True)
class LossReport:
    """What the probe of a loss found. Only "examined" says anything about a penalty."""

    status: Literal["none given", "examined", "not examined"]
    reason: str  # why not, or what it was called with
    forms: Mapping[str, Form] = field(default_factory=dict)  # by name, of parameters the loss depends on
    owned: tuple[str, ...] = ()  # parameters the loss trains itself: no penalty
    read_without_gradient: tuple[str, ...] = ()  # in the loss's value, past autograd
    read_as_numbers: tuple[str, ...] = ()  # read out by .item(); may be in the value
    read_buffers: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()  # parameters of whose copies the loss depends, which no optimizer holds
    gradient_norm: float = 0.0  # of the penalty, over all parameters
    batch_factor: float = 1.0  # of the penalty's gradient when the batch is twice as large; 1 where it cannot be seen


SAME = 1e-3  # of a factor of two


class _UnusableLossError(Exception):
    """The loss returned nothing that can be differentiated."""


def examine_loss(
    model: nn.Module,  # as it was given, wrapped or not
    parameters: Mapping[str, Parameter],  # by name, all of the model
    loss: Callable[..., Any] | None,
    *,
    classes: int,
    output: Any = None,
    target: Any = None,
    held: Collection[int] = (),
) -> LossReport:
    """Probe a loss. One that cannot be probed is reported as "not examined" with the reason; nothing is raised.

    Everything is left as it was, also when the loss raises. `held` are the ids of what the optimizers hold.
    """
    if loss is None:
        return LossReport("none given", "pass the loss to see penalties in it")
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    first = next(iter(trained.values()))
    if any(parameter.is_meta for parameter in trained.values()):
        return LossReport("not examined", "the model is on the meta device, without values")
    owner = loss if isinstance(loss, nn.Module) else getattr(loss, "__self__", None)
    owner = owner if isinstance(owner, nn.Module) and owner is not model else None
    holds_model = owner is not None and any(module is model for module in owner.modules())
    own_modules = set(owner.modules()) if owner is not None and not holds_model else set()
    watched = [module for module in model.modules() if module not in own_modules]
    guarded = [model, owner] if owner is not None else [model]
    real = first.dtype.to_real() if first.is_complex() else first.dtype  # losses take scores, which are real
    offered = samples(classes, first.device, real, output, target)
    own = {id(parameter) for module in guarded for parameter in module.parameters()}
    probe = _Probe(loss, trained, dict(model.named_buffers()), frozenset({*held, *own}))
    with (
        untouched(*guarded),
        stop_at_calls(watched) as called,
        warnings.catch_warnings(),
        torch.inference_mode(mode=False),  # which also ends no_grad
    ):
        warnings.simplefilter("ignore")
        report = probe.first_that_works(offered, called)
    if not own_modules or owner is None:
        return report
    ids = {id(parameter) for parameter in owner.parameters()}
    return _without_owned(report, {name for name, parameter in trained.items() if id(parameter) in ids})


@dataclass(frozen=True)
class _Probe:
    loss: Callable[..., Any]
    trained: Mapping[str, Parameter]
    buffers: Mapping[str, Tensor]
    known: frozenset[int]  # ids of what the model, the loss and the optimizers hold

    def first_that_works(self, offered: Sequence[ProbeSample], called: Sequence[str]) -> LossReport:
        """The report on the first sample that the loss takes."""
        refusals = []
        for sample in offered:
            try:
                report = self._examine(sample)
            except Exception as error:  # noqa: BLE001 - somebody else's code may raise anything
                refusals.append(
                    f"{sample.words}: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
                    if str(error)
                    else f"{sample.words}: {type(error).__name__}"
                )
                report = None
            if called:
                return LossReport("not examined", f"the loss calls the model itself ({called[0]})")
            if report is not None:
                return report
        more = f"; and {len(refusals) - ERRORS_SHOWN} more" if len(refusals) > ERRORS_SHOWN else ""
        return LossReport("not examined", "; ".join(refusals[:ERRORS_SHOWN]) + more)

    def _examine(self, sample: ProbeSample) -> LossReport:
        gradients = self._gradients(sample, twice=True)
        curvatures = self._curvatures(gradients)
        possible, norms = {}, {}
        for (name, parameter), gradient, curvature in zip(self.trained.items(), gradients, curvatures, strict=True):
            if gradient is not None:
                possible[name] = possible_forms(parameter, gradient, curvature)
                norms[name] = float(parameter.detach().float().norm())
        forms = settle_forms(possible, norms)
        size = sum(float(g.detach().float().square().sum()) for g in gradients if g is not None) ** 0.5
        factor = self._batch_factor(sample, gradients) if size > 0 else 1.0
        hidden, numbers, buffers, copies = self._reads(sample, forms)
        return LossReport("examined", sample.words, forms, (), hidden, numbers, buffers, copies, size, factor)

    def _value(self, sample: ProbeSample) -> Tensor:
        """The loss as one number; of a tuple the first, of a dict "loss", of many numbers the mean."""
        value = self.loss(sample.output, sample.target)
        if isinstance(value, tuple | list) and value:
            value = value[0]
        if isinstance(value, Mapping):
            value = value.get("loss")
        if not isinstance(value, Tensor) or not value.requires_grad:
            kind = "a tensor without gradient" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise _UnusableLossError(f"it returns {kind}, where a tensor that can be differentiated is needed")
        return value if value.ndim == 0 else value.mean()

    def _gradients(self, sample: ProbeSample, *, twice: bool) -> Gradients:
        found: Gradients = torch.autograd.grad(
            self._value(sample), list(self.trained.values()), create_graph=twice, allow_unused=True
        )
        return [g.to_dense() if g is not None and g.layout != torch.strided else g for g in found]

    def _curvatures(self, gradients: Gradients) -> Gradients:
        """H·θ by parameter; None where the loss cannot be differentiated twice."""
        reached = [
            (parameter, gradient)
            for parameter, gradient in zip(self.trained.values(), gradients, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        flat = [None if gradient is None else torch.zeros_like(gradient) for gradient in gradients]
        if not reached:
            return flat
        try:
            found = torch.autograd.grad(
                [gradient for _, gradient in reached],
                list(self.trained.values()),
                [parameter.detach() for parameter, _ in reached],
                allow_unused=True,
            )
        except RuntimeError:
            return [None] * len(gradients)
        return [zero if curve is None else curve for zero, curve in zip(flat, found, strict=True)]

    def _batch_factor(self, sample: ProbeSample, gradients: Gradients) -> float:
        try:
            doubled = self._gradients(sample.doubled(), twice=False)
            whole = float(self._value(sample.doubled()).detach()) / float(self._value(sample).detach())
        except Exception:  # noqa: BLE001 - a loss may know its batch size; then this cannot be seen
            return 1.0
        pairs = [(a.detach(), b) for a, b in zip(gradients, doubled, strict=True) if a is not None and b is not None]
        inner = sum(float((a * b).float().sum()) for a, b in pairs)
        factor = inner / sum(float(a.float().square().sum()) for a, _ in pairs) if pairs else 0.0
        # A summed loss doubles with its batch as a whole: N·λ beside it is N times (mean loss + λR).
        return 1.0 if abs(whole - 2.0) < SAME and abs(factor - 2.0) < SAME else factor

    def _reads(self, sample: ProbeSample, forms: Mapping[str, Form]) -> tuple[tuple[str, ...], ...]:
        """Parameters in the value without a gradient, those read out as numbers, buffers in it, and those copied."""
        names = {f"buffer {name}": buffer for name, buffer in self.buffers.items()}
        try:
            with Reads({**self.trained, **names}) as reads:
                value = self._value(sample)
        except Exception:  # noqa: BLE001 - as a compiled loss may, under a dispatch mode; then there is nothing to see
            return (), (), (), ()
        behind = reads.behind(value)
        hidden = tuple(name for name in self.trained if name in behind and name not in forms)
        numbers = tuple(name for name in self.trained if name in reads.as_numbers and name not in (*forms, *hidden))
        copies = copies_behind([value], self.trained, self.known, may_have_moved=True)
        return hidden, numbers, tuple(name for name in names if name in behind), copies


def _without_owned(report: LossReport, owned: set[str]) -> LossReport:
    """The report without the gradients of parameters that the loss trains; a penalty of a known form stays."""
    mine = {name for name in owned if name not in report.forms or report.forms[name].kind not in RECOGNISED}
    forms = {name: form for name, form in report.forms.items() if name not in mine}
    return LossReport(
        report.status,
        report.reason,
        forms,
        tuple(sorted(mine)),
        tuple(name for name in report.read_without_gradient if name not in mine),
        tuple(name for name in report.read_as_numbers if name not in mine),
        report.read_buffers,
        report.copies,
        report.gradient_norm if forms else 0.0,
        report.batch_factor if forms else 1.0,
    )
