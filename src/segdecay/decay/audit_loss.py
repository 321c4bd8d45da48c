"""What a loss does to the weights by itself: its gradient on outputs that do not depend on them.

Whatever gradient reaches a parameter then is a penalty's. The loss is called up to four times, never with the model's
own output. Knows losses and parameters; nothing of optimizers or groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from segdecay.decay.audit_form import Form, possible_forms, settle_forms
from segdecay.decay.audit_samples import Sample, samples
from segdecay.decay.audit_untouched import untouched
from segdecay.decay.audit_watch import Reads, stop_at_calls

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
    gradient_norm: float = 0.0  # of the penalty, over all parameters
    batch_factor: float = 1.0  # of the penalty's gradient when the batch is twice as large; 1 where it cannot be seen


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
) -> LossReport:
    """Probe a loss. A loss that cannot be probed is "not examined", with the reason; never an error.

    Everything is left as it was, also when the loss raises.
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
    offered = samples(classes, first.device, first.dtype, output, target)
    probe = _Probe(loss, trained, dict(model.named_buffers()))
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

    def first_that_works(self, offered: Sequence[Sample], called: Sequence[str]) -> LossReport:
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

    def _examine(self, sample: Sample) -> LossReport:
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
        hidden, numbers, buffers = self._reads(sample, forms)
        return LossReport("examined", sample.words, forms, (), hidden, numbers, buffers, size, factor)

    def _value(self, sample: Sample) -> Tensor:
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

    def _gradients(self, sample: Sample, *, twice: bool) -> Gradients:
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

    def _batch_factor(self, sample: Sample, gradients: Gradients) -> float:
        try:
            doubled = self._gradients(sample.doubled(), twice=False)
        except Exception:  # noqa: BLE001 - a loss may know its batch size; then this cannot be seen
            return 1.0
        pairs = [(a.detach(), b) for a, b in zip(gradients, doubled, strict=True) if a is not None and b is not None]
        inner = sum(float((a * b).float().sum()) for a, b in pairs)
        return inner / sum(float(a.float().square().sum()) for a, _ in pairs) if pairs else 0.0

    def _reads(self, sample: Sample, forms: Mapping[str, Form]) -> tuple[tuple[str, ...], ...]:
        """Parameters in the value without a gradient, those read out as numbers, and buffers in the value."""
        names = {f"buffer {name}": buffer for name, buffer in self.buffers.items()}
        try:
            with Reads({**self.trained, **names}) as reads:
                value = self._value(sample)
        except Exception:  # noqa: BLE001 - as a compiled loss may, under a dispatch mode; then there is nothing to see
            return (), (), ()
        behind = reads.behind(value)
        hidden = tuple(name for name in self.trained if name in behind and name not in forms)
        numbers = tuple(name for name in self.trained if name in reads.as_numbers and name not in (*forms, *hidden))
        return hidden, numbers, tuple(name for name in names if name in behind)


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
        report.gradient_norm if forms else 0.0,
        report.batch_factor if forms else 1.0,
    )
