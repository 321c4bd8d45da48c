"""The data that findings are made from, and the record of a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.audit.loss_probe import LossReport
from segdecay.decay.audit.mechanism import Mechanisms
from segdecay.decay.audit.step_probe import StepReport
from segdecay.decay.audit.table import AuditRow, Horizon, held_parameters
from segdecay.decay.groups import Partition
from segdecay.decay.head import WEIGHT_TYPES, bare_name

Level = Literal["wrong", "doubtful", "note"]
NO_STEP = StepReport("none given", "")
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class AuditFinding:
    """One thing that an audit found.

    `wrong`: not what anybody means. `doubtful`: may be meant, often is not. `note`: good to know.
    """

    code: str
    level: Level
    parameters: tuple[str, ...]
    message: str
    advice: str


@dataclass(frozen=True)
class Subject:
    """The data that findings are made from."""

    model: nn.Module  # bare
    optimizer: Optimizer  # bare
    partition: Partition
    rows: tuple[AuditRow, ...]
    loss: LossReport
    horizon: Horizon
    clip_norm: float | None = None
    lambda_meant: float | None = None
    mechanisms: Mechanisms = field(default_factory=Mechanisms)
    step: StepReport = NO_STEP

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The model's parameters by name."""
        return {row.name: parameter for row, parameter in self.partition.named_parameters()}

    @cached_property
    def layer_weights(self) -> frozenset[str]:
        """Names of the weights of convolutions and linear layers."""
        found = ((path, m) for path, m in self.model.named_modules() if isinstance(m, WEIGHT_TYPES))
        return frozenset(bare_name(f"{path}.weight" if path else "weight") for path, _ in found)

    @property
    def strangers(self) -> list[Parameter]:
        """What the optimizer holds and the model does not."""
        known = {id(parameter) for parameter in self.parameters.values()}
        return [parameter for parameter in held_parameters(self.optimizer) if id(parameter) not in known]

    def rows_of(self, *groups: str) -> list[AuditRow]:
        """The rows of some of the partition's groups."""
        return [row for row in self.rows if row.group in groups]


def some(names: Sequence[str]) -> str:
    """The first names and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
