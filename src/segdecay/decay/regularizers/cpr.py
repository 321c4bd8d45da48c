"""Constrained parameter regularization: an upper bound on each matrix, enforced by a Lagrange multiplier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from segdecay.decay.axes import StrengthAxis, bound_axis
from segdecay.decay.foreach import multiply_each_, norms
from segdecay.decay.regularizers.base import Binding, BoundRegularizer, Bucket, OptimizerTraits
from segdecay.errors import DecayError, gather, unknown

LEAST_GROWTH = 0.01  # of the averaged norm per interval; from the authors' code, pytorch-cpr 0.3.1
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
    """Matrices that are updated together: one vector per field, one entry per matrix."""

    names: tuple[str, ...]
    numel: Tensor  # (n,)
    fields: dict[str, Tensor]  # (n,) each: FIELDS
    steps: list[int]  # (n,)
    settled: bool  # every reference is set

    def rows(self) -> dict[str, dict[str, Any]]:
        """The state of each matrix by its name, detached from the block."""
        return {
            name: {**{field: self.fields[field][index].clone() for field in FIELDS}, "steps": self.steps[index]}
            for index, name in enumerate(self.names)
        }


class ConstraintState:
    """The blocks, by the names of their matrices, and the states of matrices that are in no block yet."""

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
        """Load states of `by_name`.

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
        """Give new matrices a state and gather the bucket's matrices in one block, before their update."""
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
        """One step of matrices with these norms; returns the factor 1 − 2λ for each."""
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
        """Set the reference of matrices whose warm-up steps are over."""
        if self.rule.warm_steps in block.steps:
            over = _mask([step == self.rule.warm_steps for step in block.steps], square)
            block.fields["reference"] = torch.where(over, square, block.fields["reference"])
            block.settled = bool(block.fields["reference"].isfinite().all())

    def _watch(self, block: Block, sizes: Tensor) -> None:
        """Average the norms; once per interval, set the reference of matrices past their inflection point.

        A matrix without reference has not been shrunk, so `sizes` still holds its norm.
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


Kappa = Literal["inflection_point", "warm_start", "factor"]
KAPPAS: tuple[str, ...] = get_args(Kappa)
NOT_ADAPTIVE = ("sgd", "sgdw", "asgd")
FACTOR_GRID = (math.inf, 2.0, 1.0, 0.5)


class CPR(BoundRegularizer):
    """Constrained parameter regularization: each matrix keeps R = Σ θ² below its own bound κ_j.

    For: Adam and AdamW without a strength to tune: with kappa="inflection_point" the bound of every matrix follows from
        its growth. Matrices of very different size or role, for which one λ does not fit.
    Not for: norm gains and other weights near 1: an excess μ·(R − κ_j)/n_j above ½ in one step flips signs, and above 1
        makes weights grow. Runs of up to 4·interval steps with "inflection_point": no bound is set in time, and nothing
        is regularized. SGD with "inflection_point": refused.
    Minimises: L_original subject to Σ θ² ≤ κ_j for each matrix, approximately (augmented Lagrangian). It is no
        penalty with a fixed λ: λR is shown as 0.
    Defaults: strength k, axis kappa_factor: κ_j = k·R_j; smaller is stronger, inf is no bound, 1 is the authors' rule.
        R_j is Σ θ² of the matrix at its point of reference. kappa="inflection_point" (default; leave k at 1): the first
        check at which its norm still grows by more than 1 % per interval, but by less than at the check before; checks
        are every `interval`=200 steps from the fourth on, on norms averaged with `ema`=0.9. kappa="warm_start": after
        `warm_steps`=1000 steps. kappa="factor": before the first step; then k is tuned. `mu`=1 is the step size of λ_j.
        A matrix below its bound is not changed; above it, a weight that gets no gradient is multiplied by 1 − 2λ_j each
        step. The learning rate has no effect. Norm and bias are left out.
    Source: Franke, Hefenbrock, Koehler and Hutter, NeurIPS 2024, and their pytorch-cpr 0.3.1 with foreach=True and
        reg_function l2; differs in: no bound at all, instead of 1e6, before it is set; its documentation says ema 0.9,
        as here, its code 0.99.
    """

    name = "cpr"
    refusal = "The factor k in κ = k·Σθ² must be above 0, or inf for no bound; saw {saw}."
    formula = "λ_j ← max(0, λ_j + (μ/n_j)·(Σθ² − κ_j)), θ ← θ − λ_j·2θ, after the update"
    plain_formula = (
        "lambda_j = max(0, lambda_j + mu / n_j * (sum(weight^2) - kappa_j)), weight -= lambda_j * 2 * weight"
    )

    def __init__(
        self,
        *,
        kappa: Kappa = "inflection_point",
        mu: float = 1.0,
        interval: int = 200,
        ema: float = 0.9,
        warm_steps: int = 1000,
    ) -> None:
        """Check and keep the options.

        Args:
            kappa: how the bounds are found.
            mu: step size of the multipliers; above 0.
            interval: steps between two checks for the inflection point; 1 or more.
            ema: weight of the old value in the running average of a norm, in [0, 1).
            warm_steps: steps before the bounds are set, with kappa="warm_start"; 1 or more.

        Raises:
            DecayError: values are out of range; all are listed.
        """
        faults = [] if kappa in KAPPAS else [unknown("kappa", kappa, KAPPAS)]
        if not (math.isfinite(mu) and mu > 0):
            faults.append(f"mu must be a finite number above 0; saw {mu}.")
        if not 0 <= ema < 1:
            faults.append(f"ema must be at least 0 and below 1; saw {ema}.")
        for name, steps in (("interval", interval), ("warm_steps", warm_steps)):
            if not isinstance(steps, int) or steps < 1:
                faults.append(f"{name} must be a whole number of steps, 1 or more; saw {steps!r}.")
        gather(DecayError, faults)
        self.rule = Rule(kappa, mu, interval, ema, warm_steps)
        self._state = ConstraintState(self.rule)

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        if self.rule.kappa == "inflection_point" and optimizer.name in NOT_ADAPTIVE:
            raise DecayError(
                "Regularizer 'cpr' finds its bounds by inflection points only under adaptive optimizers, whose steps "
                "have the size of the learning rate: it needs norms that grow by more than 1 % per interval. Under "
                f"{optimizer.name} growth follows the scale of the loss, and a bound may never be set, without any "
                f"sign of it. Use AdamW, or options={{'kappa': 'warm_start'}} or 'factor'."
            )
        reason = "it bounds Σ θ² of each matrix by k times its value at a point of reference."
        return bound_axis("kappa_factor", "k in κ = k·Σθ²", FACTOR_GRID, reason)

    def idle_steps(self) -> int:
        """The least number of steps until bounds are set: four checks, the warm start, or 0."""
        return {"inflection_point": 4 * self.rule.interval, "warm_start": self.rule.warm_steps}.get(self.rule.kappa, 0)

    def bind(self, binding: Binding) -> None:
        """Keep the names of the parameters, to check a loaded state."""
        self._state.names = frozenset(binding.parameters)

    def before_update_(self, bucket: Bucket) -> None:
        """Give parameters a state at their first step; with kappa="factor" their size is the reference."""
        self._state.meet(bucket)

    def after_update_(self, bucket: Bucket) -> None:
        """Update the multipliers, and shrink matrices above their bound."""
        multiply_each_(bucket.parameters, self._state.advance(bucket.names, norms(bucket.parameters), bucket.strength))

    def state_dict(self) -> dict[str, object]:
        """Options, and by parameter name: multiplier λ_j, reference R_j, averages of the detection, and steps."""
        return {"options": self.rule.options(), "parameters": self._state.by_name()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Load a state of `state_dict`.

        Raises:
            DecayError: the state is of another regularizer, other options or other parameters.
        """
        options, parameters = state.get("options"), state.get("parameters")
        if not isinstance(parameters, Mapping) or not isinstance(options, Mapping):
            raise DecayError(f"This is not a state of 'cpr', which has options and parameters; saw {', '.join(state)}.")
        ours = self.rule.options()
        faults = [
            f"{key} is {options.get(key)!r} in the state and {value!r} here. Attach with the same options."
            for key, value in ours.items()
            if options.get(key) != value
        ]
        faults += [f"{name} is in the state, not in the model." for name in parameters if name not in self._state.names]
        gather(DecayError, faults)
        self._state.load({name: dict(rows) for name, rows in parameters.items()})
