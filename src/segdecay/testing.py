"""The contract that every policy keeps, for us and for third parties: subclass it in a test module.

Knows policies by name, torch optimizers and a small network of its own; needs no test framework: a broken promise is an
AssertionError, and pytest collects the methods that begin with `test_`.
"""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.testing import assert_close

from segdecay.decay import POLICIES, Handle, ParameterRow, Policy, attach, axis_of, describe_policy, group_parameters

KERNELS: tuple[dict[str, bool], ...] = ({"foreach": False}, {"foreach": True}, {"fused": True})
STEPS = 6
PEAK = 0.05
SCALE = 1024.0  # a power of two: scaling and unscaling lose no bit


@dataclass
class Run:
    """One small training under the contract."""

    model: nn.Module
    optimizer: Optimizer
    handle: Handle | None

    def weights(self) -> list[Tensor]:
        """Copies of all parameters."""
        return [parameter.detach().clone() for parameter in self.model.parameters()]


class PolicyContract:
    """What every policy must keep. Set `policy` and `strength` below, and say in `left` what an idle weight becomes.

    Promises: strength none is bitwise the bare optimizer; the policy's own law for weights without gradient; a resumed
    run is bitwise the unbroken one; kernels for lists of tensors do as those for single ones, also with mixed data
    types; once per optimizer step under closures, accumulation and a GradScaler, never on a skipped step; excluded,
    frozen and gradient-less parameters keep every bit; the documentation and the axis are complete.

    Example:
        >>> class TestDecoupled(PolicyContract):
        ...     policy, strength = "decoupled", 2.0
        >>> TestDecoupled().test_an_idle_weight_follows_the_law()
    """

    policy: ClassVar[str]
    strength: ClassVar[
        float
    ]  # one that clearly changes the weights of `build()` in 6 steps at learning rates up to .05
    options: ClassVar[Mapping[str, Any]] = {}
    optimizers: ClassVar[tuple[str, ...]] = ("SGD", "AdamW")  # classes of torch.optim; those the policy accepts
    idle_optimizer: ClassVar[str] = "SGD"  # without momentum here: the one that `left` is about
    acts: ClassVar[bool] = True  # False for a policy that never changes anything

    def build(self) -> nn.Module:
        """A network for images (N, 3, 6, 6) with weights before norm layers, a head, gains and biases."""
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3),
            nn.Tanh(),
            nn.ConvTranspose2d(4, 4, 2),
            nn.Tanh(),
            nn.Conv2d(4, 2, 1),
        )

    def left(self, row: ParameterRow, weight: Tensor, start: Tensor, rates: Sequence[float]) -> Tensor:
        """What the policy makes of a weight that gets zero gradients; by default weight · Π(1 − η·λ).

        Args:
            row: the weight's line in the partition.
            weight: before the steps, float64.
            start: the same weight at attach(); `weight` was moved away from it.
            rates: the learning rate of every step.
        """
        del row, start
        return weight * math.prod(1 - rate * self.strength for rate in rates)

    # --- the promises -------------------------------------------------------------------------------------------------

    def test_strength_none_is_bitwise_the_bare_optimizer(self) -> None:
        """With every kernel, with and without a closure."""
        none = POLICIES[self.policy].none
        for name in self.optimizers:
            for kernel in KERNELS:
                ours, closed, bare = (self._start(name, strength=s, kernel=kernel) for s in (none, none, None))
                for run in (ours, closed, bare):
                    _train(run, range(STEPS), closure=run is closed)
                for run in (ours, closed):
                    _same_bits(run, bare, f"Strength {none:g} under {name} with {kernel}")

    def test_it_acts_alike_with_and_without_a_closure(self) -> None:
        """Once a step: after backward, before the update."""
        for name in self.optimizers:
            plain, closed, bare = (self._start(name, strength=s) for s in (self.strength, self.strength, None))
            _train(plain, range(STEPS))
            _train(closed, range(STEPS), closure=True)
            _train(bare, range(STEPS))
            _same_bits(plain, closed, f"With a closure under {name}")
            moved = any(not torch.equal(a, b) for a, b in zip(plain.weights(), bare.weights(), strict=True))
            _expect(moved == self.acts, f"Strength {self.strength:g} under {name} changes weights: {moved}.")

    def test_an_idle_weight_follows_the_law(self) -> None:
        """`left`, to 1e-10 in float64."""
        run = self._start(self.idle_optimizer, strength=self.strength, momentum=0.0, dtype=torch.float64)
        start = _by_name(run.model)
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.mul_(1.5).add_(0.1)
        before = _by_name(run.model)
        for rate in _rates():
            _idle_step(run, rate)
        after = _by_name(run.model)
        strengths = _handle(run).strengths()
        for row in _handle(run).partition.rows:
            acted = strengths[row.name] is not None and self.acts
            name = row.name
            expected = self.left(row, before[name], start[name], _rates()) if acted else before[name]
            close = torch.allclose(after[name], expected, rtol=1e-10, atol=1e-10)
            _expect(close, f"{name}, idle, became {_shown(after[name])}; the law says {_shown(expected)}.")

    def test_a_resumed_run_is_bitwise_the_unbroken_one(self) -> None:
        """From the states of model, optimizer and handle, through a file, into a network of other initial weights."""
        half = STEPS // 2
        for name in self.optimizers:
            whole = self._start(name, strength=self.strength)
            _train(whole, range(half))
            file = io.BytesIO()
            states = (whole.model, whole.optimizer, _handle(whole))
            torch.save([copy.deepcopy(part.state_dict()) for part in states], file)
            _train(whole, range(half, STEPS))
            file.seek(0)
            resumed = self._start(name, strength=self.strength, seed=1)
            parts: tuple[Any, ...] = (resumed.model, resumed.optimizer, _handle(resumed))
            for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
                part.load_state_dict(state)
            _train(resumed, range(half, STEPS))
            _same_bits(resumed, whole, f"The resumed run under {name}")
            _expect(_handle(resumed).steps == STEPS, f"Steps after resuming: {_handle(resumed).steps}, not {STEPS}.")

    def test_all_kernels_agree(self) -> None:
        """Single tensors, foreach and fused, in float64."""
        for name in self.optimizers:
            runs = [self._start(name, strength=self.strength, dtype=torch.float64, kernel=kernel) for kernel in KERNELS]
            for run in runs:
                _train(run, range(STEPS))
            for run in runs[1:]:
                assert_close(run.weights(), runs[0].weights(), rtol=1e-9, atol=1e-9)

    def test_a_list_of_weights_is_treated_as_each_alone_also_with_mixed_types(self) -> None:
        """All weights in one group of the optimizer, against a group each."""
        for name in self.optimizers:
            together, apart = (self._start(name, strength=self.strength, mixed=True, apart=a) for a in (False, True))
            for run in (together, apart):
                for step in range(STEPS):
                    draw = torch.Generator().manual_seed(step)
                    for parameter in run.model.parameters():
                        parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
                    run.optimizer.step()
            assert_close(together.weights(), apart.weights())

    def test_it_acts_once_a_step_under_accumulation(self) -> None:
        """Two halves of a loss are the loss."""
        for name in self.optimizers:
            whole, halves = (self._start(name, strength=self.strength) for _ in range(2))
            _train(whole, range(STEPS))
            _train(halves, range(STEPS), portions=2)
            _same_bits(halves, whole, f"Accumulation under {name}")
            _expect(_handle(halves).steps == STEPS, f"{_handle(halves).steps} steps were counted, not {STEPS}.")

    def test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step(self) -> None:
        """Fused optimizers too, which see scaled gradients and whose hooks fire on steps that are skipped."""
        for name in self.optimizers:
            for kernel in KERNELS:
                scaled, plain = (self._start(name, strength=self.strength, kernel=kernel) for _ in range(2))
                scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
                _train(scaled, range(2), scaler=scaler)
                before = scaled.weights()
                _train(scaled, range(2, 3), scaler=scaler, poison=True)
                kept = all(torch.equal(a, b) for a, b in zip(before, scaled.weights(), strict=True))
                _expect(kept, f"A step skipped for inf changed weights under {name} with {kernel}.")
                _train(scaled, range(3, STEPS), scaler=scaler)
                _train(plain, [step for step in range(STEPS) if step != 2])
                assert_close(scaled.weights(), plain.weights(), rtol=1e-5, atol=1e-6)
                counted = _handle(scaled).steps
                _expect(counted == STEPS - 1, f"{counted} steps were counted under {name} with {kernel}: one was not.")

    def test_what_is_excluded_frozen_or_without_gradient_keeps_every_bit(self) -> None:
        """The head by a multiplier of 0; norm and bias by default."""
        torch.manual_seed(0)
        model = self.build()
        weights = [row.name for row in group_parameters(model).rows if row.group in ("encoder", "body")]
        frozen, without, acted = weights[0], weights[1], weights[2:]
        model.get_parameter(frozen).requires_grad = False
        run = self._attached(model, self.idle_optimizer, self.strength, multipliers={"head": 0.0}, momentum=0.0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5).add_(0.1)
        before = _by_name(model)
        for rate in _rates():
            _idle_step(run, rate, without=(frozen, without))
        moved = [name for name, value in _by_name(model).items() if not torch.equal(value, before[name])]
        _expect(set(moved) <= set(acted), f"It moved {moved}; only {acted} decay and have gradients.")
        _expect(bool(moved) == self.acts, f"Of {acted}, which decay and have gradients, it moved {moved}.")

    def test_its_documentation_and_axis_are_complete(self) -> None:
        """Every section is there; the default grid begins at none and goes from weak to strong."""
        text = describe_policy(self.policy)
        missing = [section for section in Policy.SECTIONS if not re.search(rf"^{section}: \S", text, re.MULTILINE)]
        _expect(not missing, f"The docstring lacks the sections {', '.join(missing)}.")
        _expect(POLICIES[self.policy].plain_formula.isascii(), "plain_formula must be ASCII.")
        for name in self.optimizers:
            axis = axis_of(self.policy, name, options=self.options)
            grid = list(axis.default_grid)
            _expect(grid[0] == axis.none, f"The grid {grid} does not begin at none, {axis.none:g}.")
            _expect(grid == sorted(grid, reverse=axis.stronger == "lower"), f"The grid {grid} is not in order.")
            _expect(axis.none == POLICIES[self.policy].none, f"none is {axis.none:g} on the axis, not in the policy.")
            _expect(axis.name != "lambda" or bool(axis.reason), "An axis 'lambda' says why there is no D.")

    # --- how they are tried -------------------------------------------------------------------------------------------

    def _start(
        self,
        optimizer: str,
        *,
        strength: float | None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        mixed: bool = False,
        apart: bool = False,
        momentum: float = 0.9,
        kernel: Mapping[str, bool] = KERNELS[0],
    ) -> Run:
        torch.manual_seed(seed)
        model = self.build().to(dtype)
        if mixed:
            kinds = (torch.bfloat16, torch.float32, torch.float64)
            for index, parameter in enumerate(model.parameters()):
                parameter.data = parameter.data.to(kinds[index % 3])
        return self._attached(model, optimizer, strength, momentum=momentum, apart=apart, kernel=kernel)

    def _attached(
        self,
        model: nn.Module,
        name: str,
        strength: float | None,
        *,
        momentum: float,
        apart: bool = False,
        multipliers: Mapping[str, float] | None = None,
        kernel: Mapping[str, bool] = KERNELS[0],
    ) -> Run:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": [parameter]} for parameter in trained] if apart else [{"params": trained}]
        more = {"momentum": momentum} if name == "SGD" else {}
        optimizer: Optimizer = getattr(torch.optim, name)(groups, lr=PEAK, weight_decay=0.0, **more, **kernel)
        if strength is None:
            return Run(model, optimizer, None)
        handle = attach(
            optimizer,
            model,
            policy=self.policy,
            strength=strength,
            options=dict(self.options),
            multipliers=multipliers,
            learning_rates=_rates(),
        )
        return Run(model, optimizer, handle)


def _rates() -> list[float]:
    return [PEAK * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]


def _train(
    run: Run,
    steps: Sequence[int],
    *,
    closure: bool = False,
    portions: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    poison: bool = False,
) -> None:
    """Some steps on images that depend on the step alone."""
    scale: Callable[[Tensor], Tensor] = scaler.scale if scaler is not None else lambda loss: loss
    dtype = next(run.model.parameters()).dtype
    for step in steps:
        images = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(step)).to(dtype)
        for group in run.optimizer.param_groups:
            group["lr"] = _rates()[step]

        def backward(images: Tensor = images) -> float:
            run.optimizer.zero_grad()
            for _ in range(portions):
                loss = run.model(images).sub(0.5).square().mean() / portions
                scale(loss).backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        if closure:
            run.optimizer.step(backward)
            continue
        backward()
        if poison:
            for parameter in run.model.parameters():
                parameter.grad = torch.full_like(parameter, torch.inf)
        if scaler is None:
            run.optimizer.step()
        else:
            scaler.step(run.optimizer)
            scaler.update()


def _idle_step(run: Run, rate: float, *, without: Sequence[str] = ()) -> None:
    """A step with zero gradients; none for the names in `without`."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    for name, parameter in run.model.named_parameters():
        parameter.grad = None if name in without else torch.zeros_like(parameter)
    run.optimizer.step()


def _by_name(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _handle(run: Run) -> Handle:
    if run.handle is None:
        raise AssertionError("Nothing is attached to this run.")
    return run.handle


def _same_bits(one: Run, other: Run, what: str) -> None:
    pairs = zip(one.weights(), other.weights(), strict=True)
    worst = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    _expect(worst == 0, f"{what} differs by {worst:g}.")


def _shown(tensor: Tensor) -> str:
    return ", ".join(f"{value:.6g}" for value in tensor.flatten()[:3].tolist()) + ", …"


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
