"""Examines a model, its optimizer and its loss: which parameters decay, how strongly and by which mechanism; faults.

Nothing is trained and nothing is changed: no weight, gradient, buffer, mode or random state.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from segdecay.decay.audit import decay_findings, group_findings, penalty_findings
from segdecay.decay.audit.loss_probe import LossReport, examine_loss
from segdecay.decay.audit.mechanism import Mechanisms, measure
from segdecay.decay.audit.step_probe import StepReport, examine_step
from segdecay.decay.audit.subject import NO_STEP, AuditFinding, Subject
from segdecay.decay.audit.table import (
    AuditRow,
    Horizon,
    audit_partition,
    audit_rows,
    folded_lines,
    held_parameters,
    joined_rows,
    parameter_lines,
)
from segdecay.decay.axes import validate_rates
from segdecay.decay.groups import Partition, bare_module
from segdecay.decay.handle import handles_of
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.errors import DecayError, gather
from segdecay.utils.tables import data_frame, html_list, html_table

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("wrong", "doubtful", "note")
SCHEMA_VERSION = 1
CHECKS: tuple[Callable[[Subject], list[AuditFinding]], ...] = (
    decay_findings.check_twice,
    decay_findings.check_by_hand,
    penalty_findings.check_forms,
    penalty_findings.check_strength,
    penalty_findings.check_mean,
    penalty_findings.check_batch,
    penalty_findings.check_without_gradient,
    penalty_findings.check_clipping,
    group_findings.check_two_groups,
    group_findings.check_frozen,
    group_findings.check_filter,
    group_findings.check_head,
    decay_findings.check_half,
    decay_findings.check_size,
    decay_findings.check_default,
    decay_findings.check_coupled,
    decay_findings.check_oscillation,
    group_findings.check_spared,
    decay_findings.check_mechanism,
    decay_findings.check_effective_rate,
    decay_findings.check_schedule,
)


WHOLE_CHECKS = (  # of all optimizers together
    penalty_findings.check_copies,
    penalty_findings.check_examined,
    decay_findings.check_nothing,
)


@dataclass(frozen=True, repr=False)
class Audit:
    """The table and the findings. `print(audit)` shows both."""

    model: str
    optimizer: str
    rows: tuple[AuditRow, ...]
    findings: tuple[AuditFinding, ...]  # wrong first, then doubtful, then notes
    loss: LossReport
    step: StepReport = NO_STEP

    @property
    def is_wrong(self) -> bool:
        """Whether a finding has level wrong."""
        return any(finding.level == "wrong" for finding in self.findings)

    def codes(self, level: str | None = None) -> tuple[str, ...]:
        """The codes of all findings, or of those of a level, each once."""
        return tuple(dict.fromkeys(f.code for f in self.findings if level in (None, f.level)))

    def table(self, *, by_parameter: bool = False) -> str:
        """The table as aligned text: one line for parameters of a group that decay alike, or one for each parameter."""
        lines = parameter_lines(self.rows) if by_parameter else folded_lines(self.rows)
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    def headline(self) -> str:
        """What was audited, in one line."""
        step = "" if self.step.status == "none given" else f"; step: {self.step.status} ({self.step.reason})"
        return f"{self.model}, {self.optimizer}; loss: {self.loss.status} ({self.loss.reason}){step}"

    def __str__(self) -> str:
        lines = [self.headline(), ""]
        for finding in self.findings:
            lines += [f"{finding.level}: {finding.code}: {finding.message}", f"    {finding.advice}"]
        return "\n".join([*lines, *([] if self.findings else ["No findings."]), "", self.table()])

    def __repr__(self) -> str:
        counts = ", ".join(f"{level} {n}" for level in LEVELS if (n := sum(f.level == level for f in self.findings)))
        return f"Audit({self.model}, {self.optimizer}: {counts or 'no findings'}; {len(self.rows)} parameters)"

    def _repr_html_(self) -> str:
        lines = folded_lines(self.rows)
        findings = html_list(f"{one.level}: {one.code}: {one.message} {one.advice}" for one in self.findings)
        return (
            f"<p>{html.escape(self.headline())}</p>{findings or '<p>no findings</p>'}{html_table(lines[0], lines[1:])}"
        )

    def dataframe(self) -> pd.DataFrame:
        """One row a parameter: group, what decays it, how strongly, τ and D."""
        return data_frame(
            {
                "parameter": row.name,
                "shape": row.shape,
                "module": row.module,
                "group": row.group,
                "optimizer_groups": row.optimizer_groups,
                "is_decayed": row.is_decayed,
                "decayed_by": " + ".join(one.label for one in row.decays),
                "lambda": [one.strength for one in row.decays],
                "feeds": row.feeds,
                "timescale_epochs": row.timescale_epochs,
                "total_decay": row.total_decay,
            }
            for row in self.rows
        )

    def findings_dataframe(self) -> pd.DataFrame:
        """One row a finding, the worst first."""
        return data_frame(asdict(finding) for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; None where a number is not finite."""
        rows = []
        for row in self.rows:
            decays = [
                {"source": d.source, "mechanism": d.mechanism, "strength": _finite(d.strength), "label": d.label}
                for d in row.decays
            ]
            rows.append({**asdict(row), "decays": decays, "is_decayed": row.is_decayed})
        loss = {
            **asdict(self.loss),
            "gradient_norm": _finite(self.loss.gradient_norm),
            "batch_factor": _finite(self.loss.batch_factor),
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "optimizer": self.optimizer,
            "is_wrong": self.is_wrong,
            "findings": [asdict(finding) for finding in self.findings],
            "parameters": rows,
            "loss": loss,
            "step": {**asdict(self.step), "gradient_norm": _finite(self.step.gradient_norm)},
        }


def audit(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    loss: Callable[..., Any] | None = None,
    *,
    step: Callable[[], object] | None = None,
    output: Any = None,
    target: Any = None,
    learning_rates: Sequence[float] | None = None,
    steps_per_epoch: float | None = None,
    clip_norm: float | None = None,
    lambda_meant: float | None = None,
    partition: Partition | None = None,
) -> Audit:
    """Examine which parameters of a model decay, how strongly and by which mechanism, and list what is wrong.

    The loss is called up to four times as loss(output, target), with outputs that do not depend on the parameters, so
    that any gradient that reaches them comes from a penalty. It is stopped before it calls the model. The step is taken
    up to four times, and all that it did is put back. How an optimizer's own decay acts is measured on a copy of it
    over stand-in weights. Nothing is changed.

    Args:
        model: bare, compiled or wrapped.
        optimizer: over the model's parameters, bare or wrapped; or several that share them, such as Muon for matrices
            and AdamW for the rest. Regularizers attached to them are part of the table.
        loss: loss(output, target) → a number with gradient; of a tuple the first, of a dict "loss", of many the mean.
        step: one whole training step, as a function without arguments: forward, backward, whatever is done to gradients
            and weights, and the optimizers' steps. Leave out what should not happen again, as a scheduler's step, a log
            or an average of the weights.
        output: shape of what the model returns, batch first, or a tensor, or a mapping or list of these. Default:
            class scores of pixels, then of images, then one score a pixel.
        target: the same for the target. Default: class indices, then 0 and 1 of the output's shape.
        learning_rates: of the optimizer's first group at every step to come; other groups in proportion of their base
            rates. Shows D.
        steps_per_epoch: optimizer steps. Shows τ.
        clip_norm: the norm that gradients are clipped to, if they are.
        lambda_meant: the λ that the penalty in the loss is meant to have, in λ·½Σθ².
        partition: of this model; default `group_parameters(model)`.

    Raises:
        DecayError: an argument is no module, optimizer or function, or out of range; the optimizer holds none of the
            model's parameters; nothing trains.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        >>> adam = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
        >>> loss = lambda x, y: nn.functional.cross_entropy(x, y) + 1e-4 * sum(torch.norm(p) for p in net.parameters())
        >>> audit(net, adam, loss).codes("wrong")
        ('decays_twice', 'norm_not_squared')
    """
    _validate(
        model, loss, step, learning_rates, steps_per_epoch, {"clip_norm": clip_norm, "lambda_meant": lambda_meant}
    )
    given = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    optimizers = [bare_optimizer(one) for one in given]
    if not optimizers:
        raise DecayError("No optimizer: give one, or a list of all that train the model.")
    placed = partition or audit_partition(model)
    gather(DecayError, placed.check_fits(model)[:10], "The partition is not of this model:" if partition else "")
    parameters = {row.name: parameter for row, parameter in placed.named_parameters()}
    for one in optimizers:
        _validate_overlap(model, one, placed)
    held = {id(parameter) for one in optimizers for parameter in held_parameters(one)}
    classes = _classes(placed)
    report = examine_loss(model, parameters, loss, classes=classes, output=output, target=target, held=held)
    taken = examine_step(model, parameters, given, step, loss)
    if taken.status == "examined":
        report = replace(report, forms=taken.forms, gradient_norm=taken.gradient_norm)
    horizon = Horizon(None if learning_rates is None else tuple(validate_rates(learning_rates)), steps_per_epoch)
    bare = bare_module(model)
    subjects = []
    for one, outer in zip(optimizers, given, strict=True):
        mechanisms = measure(outer) if _may_decay(one, report, taken) else Mechanisms()
        table = audit_rows(one, placed, report.forms, horizon, mechanisms, taken.by_hand)
        rows = table if len(optimizers) == 1 else tuple(row for row in table if row.optimizer_groups)
        subjects.append(
            (table, Subject(bare, one, placed, rows, report, horizon, clip_norm, lambda_meant, mechanisms, taken))
        )
    found = [finding for _, subject in subjects for check in CHECKS for finding in check(subject)]
    rows = joined_rows([table for table, _ in subjects])
    whole = Subject(bare, optimizers[0], placed, rows, report, horizon, clip_norm, lambda_meant, step=taken)
    found += group_findings.check_no_group(whole, loss if isinstance(loss, nn.Module) else None)
    for check in WHOLE_CHECKS if len(optimizers) == 1 else (*WHOLE_CHECKS, group_findings.check_two_groups):
        found += check(whole)
    found = list(dict.fromkeys(found))
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    names = " and ".join(type(one).__name__ for one in optimizers)
    return Audit(type(bare).__name__, names, rows, tuple(found), report, taken)


def _may_decay(optimizer: Optimizer, loss: LossReport, step: StepReport) -> bool:
    """Whether anything is there whose mechanism must be known."""
    own = any(group.get(key) for group in optimizer.param_groups for key in ("weight_decay", "lambd"))
    return own or bool(loss.forms or step.by_hand or handles_of(optimizer))


def _validate(
    model: object,
    loss: object,
    step: object,
    learning_rates: Sequence[float] | None,
    steps_per_epoch: float | None,
    positive: dict[str, float | None],
) -> None:
    faults = []
    if not isinstance(model, nn.Module):
        faults.append(f"model must be a torch.nn.Module; saw {type(model).__name__}.")
    if loss is not None and not callable(loss):
        faults.append(f"loss must be a function loss(output, target), or None; saw {type(loss).__name__}.")
    if step is not None and not callable(step):
        faults.append(f"step must be a function without arguments, or None; saw {type(step).__name__}.")
    faults += [
        f"{name} must be a finite number above 0; saw {value}."
        for name, value in {"steps_per_epoch": steps_per_epoch, **positive}.items()
        if value is not None and not (math.isfinite(value) and value > 0)
    ]
    try:
        if learning_rates is not None:
            validate_rates(learning_rates)
    except DecayError as error:
        faults.append(str(error))
    gather(DecayError, faults)


def _validate_overlap(model: nn.Module, optimizer: Optimizer, partition: Partition) -> None:
    known = {id(parameter) for _, parameter in partition.named_parameters()}
    held = held_parameters(optimizer)
    if not any(id(parameter) in known for parameter in held):
        raise DecayError(
            f"None of the {len(held)} parameters of {type(optimizer).__name__} is in {type(model).__name__} "
            f"({len(known)} parameters): it was built for another model, or for one that was copied since. Pass the "
            f"model that it trains."
        )


def _classes(partition: Partition) -> int:
    """Output channels of the head, to call the loss with; 2 where there is none."""
    heads = [row for row in partition.rows if row.group == "head" and len(row.shape) > 1]
    heads += [row for row in partition.rows if not heads and len(row.shape) > 1][-1:]
    return heads[-1].shape[heads[-1].output_dim] if heads else 2


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
