"""What CPR remembers of each matrix: multiplier, reference, running norm, steps; held as vectors, kept by name.

Matrices that step together share vectors, so that a step takes a handful of operations however many there are, and
waits for no device. Knows names and norms; nothing of optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from segdecay.decay.foreach import norms
from segdecay.decay.policy import Bucket
from segdecay.errors import DecayError

LEAST_GROWTH = 0.01  # of the averaged norm in an interval; the authors' code, pytorch-cpr 0.3.1
FIELDS = ("multiplier", "reference", "average", "previous", "growth")


@dataclass(frozen=True)
class Rule:
    """The options of CPR."""

    kappa: str
    mu: float
    interval: int
    ema: float
    warm_steps: int

    def options(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass
class Block:
    """Matrices that step together: one vector a field, one entry a matrix."""

    names: tuple[str, ...]
    numel: Tensor  # (n,)
    fields: dict[str, Tensor]  # (n,) each: FIELDS
    steps: list[int]  # (n,)
    settled: bool  # every reference is set

    def rows(self) -> dict[str, dict[str, Any]]:
        """The state of each matrix by its name, cut loose."""
        return {
            name: {**{field: self.fields[field][index].clone() for field in FIELDS}, "steps": self.steps[index]}
            for index, name in enumerate(self.names)
        }


class ConstraintState:
    """The blocks, found by the names that step together, and states that are in no block yet."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.names: frozenset[str] = frozenset()
        self._blocks: dict[tuple[str, ...], Block] = {}
        self._of: dict[str, tuple[str, ...]] = {}  # the block of a name
        self._loose: dict[str, dict[str, Any]] = {}

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Every state by name: scalars of FIELDS as tensors, steps as a number."""
        rows = {name: dict(row) for name, row in self._loose.items()}
        for block in self._blocks.values():
            rows |= block.rows()
        return rows

    def load(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what `by_name` gave.

        Raises:
            DecayError: a value is missing.
        """
        for name, row in rows.items():
            missing = [field for field in (*FIELDS, "steps") if field not in row]
            if missing:
                raise DecayError(f"The state of {name} lacks {', '.join(missing)}; saw {', '.join(row)}.")
        self._blocks, self._of = {}, {}
        self._loose = {name: {f: _copied(value) for f, value in row.items()} for name, row in rows.items()}

    def meet(self, bucket: Bucket) -> None:
        """See to it that these matrices have a state and are in one block, before their update."""
        names = tuple(bucket.names)
        if names in self._blocks:
            return
        for key in {self._of[name] for name in names if name in self._of}:
            self._loose |= self._blocks.pop(key).rows()
        self._of = {name: key for name, key in self._of.items() if key in self._blocks}
        self._blocks[names] = self._gathered(names, bucket.parameters)
        self._of |= dict.fromkeys(names, names)

    def _gathered(self, names: tuple[str, ...], parameters: Sequence[Tensor]) -> Block:
        sizes = norms(parameters)
        fresh = self._fresh(sizes)
        rows = [self._loose.pop(name, None) for name in names]
        fields = {
            field: torch.stack([fresh[field][i] if row is None else row[field].to(sizes) for i, row in enumerate(rows)])
            for field in FIELDS
        }
        numel = sizes.new_tensor([float(parameter.numel()) for parameter in parameters])
        steps = [0 if row is None else int(row["steps"]) for row in rows]
        return Block(names, numel, fields, steps, bool(fields["reference"].isfinite().all()))

    def _fresh(self, sizes: Tensor) -> dict[str, Tensor]:
        """The state of matrices of these norms at their first step."""
        zeros = torch.zeros_like(sizes)
        unset = torch.full_like(sizes, torch.inf)
        return dict.fromkeys(FIELDS, zeros) | {"reference": sizes.square() if self.rule.kappa == "factor" else unset}

    def advance(self, names: Sequence[str], sizes: Tensor, strength: float) -> Tensor:  # sizes (n,) -> (n,)
        """One step of matrices that now have these norms: what each is to be multiplied by, 1 − 2λ."""
        block = self._blocks[tuple(names)]
        block.steps = [step + 1 for step in block.steps]
        square = sizes.square()
        multiplier = block.fields["multiplier"]
        excess = square - block.fields["reference"] * strength
        multiplier.add_(excess.mul_(self.rule.mu).div_(block.numel)).clamp_(min=0)
        factors = 1 - 2 * multiplier
        if not block.settled:
            if self.rule.kappa == "warm_start":
                self._end_warm_up(block, square)
            else:
                self._watch(block, sizes)
        return factors

    def _end_warm_up(self, block: Block, square: Tensor) -> None:
        """Set the reference of what has taken its warm-up steps."""
        if self.rule.warm_steps in block.steps:
            over = _mask([step == self.rule.warm_steps for step in block.steps], square)
            block.fields["reference"] = torch.where(over, square, block.fields["reference"])
            block.settled = bool(block.fields["reference"].isfinite().all())

    def _watch(self, block: Block, sizes: Tensor) -> None:
        """Average the norms; once an interval, set the reference of what has passed its inflection point.

        What has no reference has not been shrunk, so that its norm is still the one given.
        """
        interval, fields = self.rule.interval, block.fields
        weights = [1 - self.rule.ema if step >= interval else 1.0 for step in block.steps]
        fields["average"].lerp_(sizes, sizes.new_tensor(weights))
        checked = [step > interval and step % interval == 0 for step in block.steps]
        if not any(checked):
            return
        now, average = _mask(checked, sizes), fields["average"]
        growth = (average - fields["previous"]) / average
        late = _mask([step > 3 * interval for step in block.steps], sizes)
        slower = (fields["growth"] > growth) & (growth > LEAST_GROWTH)
        found = now & late & slower & fields["reference"].isinf()
        fields["reference"] = torch.where(found, sizes.square(), fields["reference"])
        fields["previous"] = torch.where(now, average, fields["previous"])
        second = _mask([step > 2 * interval for step in block.steps], sizes)
        fields["growth"] = torch.where(now & second, growth, fields["growth"])
        block.settled = bool(fields["reference"].isfinite().all())


def _mask(chosen: Sequence[bool], like: Tensor) -> Tensor:
    return torch.tensor(chosen, device=like.device)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
