"""The contract of regularizers, for our own and those of third parties: subclass it in a test module.

Needs no test framework: a broken promise is an AssertionError, and pytest collects the methods that begin with `test_`.
"""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.testing import assert_close

from segdecay.decay import REGULARIZERS, Regularizer, Strength, attach, axis_of, describe_regularizer, group_parameters
from segdecay.decay.groups import ParameterRow
from segdecay.testing.small_runs import (
    KERNELS,
    PEAK,
    RATES,
    SCALE,
    STEPS,
    SmallRun,
    expect,
    expect_same_bits,
    handle_in,
    idle_step_,
    shown,
    train_,
    weights_of,
)


class RegularizerContract:
    """What every regularizer must do. Set `regularizer` and `strength`; `left` returns what a weight with zero gradient
    becomes.

    Promises: without decay, weights are bitwise those of the bare optimizer; weights with zero gradient become what
    `left` returns; a resumed run is bitwise equal to an unbroken one; kernels for lists of tensors agree with those for
    single tensors, also with mixed data types; the regularizer acts once per optimizer step under closures,
    accumulation and a GradScaler, and never on a skipped step; parameters that are excluded, frozen or without gradient
    keep every bit; the documentation and the axis are complete.

    Example:
        >>> class TestDecoupled(RegularizerContract):
        ...     regularizer, strength = "decoupled", 2.0
        >>> TestDecoupled().test_a_weight_without_gradient_becomes_what_left_returns()
    """

    regularizer: ClassVar[str]
    strength: ClassVar[
        float
    ]  # one that clearly changes the weights of `build()` in 6 steps at learning rates up to .05
    options: ClassVar[Mapping[str, Any]] = {}
    optimizers: ClassVar[tuple[str, ...]] = ("SGD", "AdamW")  # classes of torch.optim; those the regularizer accepts
    idle_optimizer: ClassVar[str] = "SGD"  # the optimizer that `left` assumes, here without momentum
    acts: ClassVar[bool] = True  # False for a regularizer that never changes anything

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
        """The value of a weight after steps with zero gradient; by default weight · Π(1 − η·λ).

        Args:
            row: the weight's row in the partition.
            weight: before the steps, float64.
            start: the same weight at attach(), which differs from `weight`.
            rates: the learning rate of every step.
        """
        del row, start
        return weight * math.prod(1 - rate * self.strength for rate in rates)

    # --- the promises -------------------------------------------------------------------------------------------------

    def test_strength_none_is_bitwise_the_bare_optimizer(self) -> None:
        """With every kernel, with and without a closure."""
        none = REGULARIZERS[self.regularizer].none
        for name in self.optimizers:
            for kernel in KERNELS:
                ours, closed, bare = (self._start(name, strength=s, kernel=kernel) for s in (none, none, None))
                for run in (ours, closed, bare):
                    train_(run, range(STEPS), closure=run is closed)
                for run in (ours, closed):
                    expect_same_bits(run, bare, f"Strength {none:g} under {name} with {kernel}")

    def test_it_acts_alike_with_and_without_a_closure(self) -> None:
        """Once a step: after backward, before the update."""
        for name in self.optimizers:
            plain, closed, bare = (self._start(name, strength=s) for s in (self.strength, self.strength, None))
            train_(plain, range(STEPS))
            train_(closed, range(STEPS), closure=True)
            train_(bare, range(STEPS))
            expect_same_bits(plain, closed, f"With a closure under {name}")
            moved = any(not torch.equal(a, b) for a, b in zip(plain.weights(), bare.weights(), strict=True))
            expect(moved == self.acts, f"Strength {self.strength:g} under {name} changes weights: {moved}.")

    def test_a_weight_without_gradient_becomes_what_left_returns(self) -> None:
        """Equal to `left` to 1e-10 in float64."""
        run = self._start(self.idle_optimizer, strength=self.strength, momentum=0.0, dtype=torch.float64)
        start = weights_of(run.model)
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.mul_(1.5).add_(0.1)
        before = weights_of(run.model)
        for rate in RATES:
            idle_step_(run, rate)
        after = weights_of(run.model)
        strengths = handle_in(run).strengths()
        for row in handle_in(run).partition.rows:
            acted = strengths[row.name] is not None and self.acts
            name = row.name
            expected = self.left(row, before[name], start[name], RATES) if acted else before[name]
            close = torch.allclose(after[name], expected, rtol=1e-10, atol=1e-10)
            expect(close, f"{name} with zero gradient became {shown(after[name])}; `left` says {shown(expected)}.")

    def test_a_resumed_run_is_bitwise_the_unbroken_one(self) -> None:
        """From the states of model, optimizer and handle, through a file, into a network of other initial weights."""
        half = STEPS // 2
        for name in self.optimizers:
            whole = self._start(name, strength=self.strength)
            train_(whole, range(half))
            file = io.BytesIO()
            states = (whole.model, whole.optimizer, handle_in(whole))
            torch.save([copy.deepcopy(part.state_dict()) for part in states], file)
            train_(whole, range(half, STEPS))
            file.seek(0)
            resumed = self._start(name, strength=self.strength, seed=1)
            parts: tuple[Any, ...] = (resumed.model, resumed.optimizer, handle_in(resumed))
            for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
                part.load_state_dict(state)
            train_(resumed, range(half, STEPS))
            expect_same_bits(resumed, whole, f"The resumed run under {name}")
            expect(handle_in(resumed).steps == STEPS, f"Steps after resuming: {handle_in(resumed).steps}, not {STEPS}.")

    def test_all_kernels_agree(self) -> None:
        """Single tensors, foreach and fused, in float64."""
        for name in self.optimizers:
            runs = [self._start(name, strength=self.strength, dtype=torch.float64, kernel=kernel) for kernel in KERNELS]
            for run in runs:
                train_(run, range(STEPS))
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
        """Two accumulated halves of a batch equal the whole batch."""
        for name in self.optimizers:
            whole, halves = (self._start(name, strength=self.strength) for _ in range(2))
            train_(whole, range(STEPS))
            train_(halves, range(STEPS), portions=2)
            expect_same_bits(halves, whole, f"Accumulation under {name}")
            expect(handle_in(halves).steps == STEPS, f"{handle_in(halves).steps} steps were counted, not {STEPS}.")

    def test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step(self) -> None:
        """Fused optimizers too, which see scaled gradients and whose hooks fire on steps that are skipped."""
        for name in self.optimizers:
            for kernel in KERNELS:
                scaled, plain = (self._start(name, strength=self.strength, kernel=kernel) for _ in range(2))
                scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
                train_(scaled, range(2), scaler=scaler)
                before = scaled.weights()
                train_(scaled, range(2, 3), scaler=scaler, poison=True)
                kept = all(torch.equal(a, b) for a, b in zip(before, scaled.weights(), strict=True))
                expect(kept, f"A step skipped for inf changed weights under {name} with {kernel}.")
                train_(scaled, range(3, STEPS), scaler=scaler)
                train_(plain, [step for step in range(STEPS) if step != 2])
                assert_close(scaled.weights(), plain.weights(), rtol=1e-5, atol=1e-6)
                counted = handle_in(scaled).steps
                expect(counted == STEPS - 1, f"{counted} steps under {name} with {kernel}, not {STEPS - 1}.")

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
        before = weights_of(model)
        for rate in RATES:
            idle_step_(run, rate, without=(frozen, without))
        moved = [name for name, value in weights_of(model).items() if not torch.equal(value, before[name])]
        expect(set(moved) <= set(acted), f"It changed {moved}; only {acted} decay and have gradients.")
        expect(bool(moved) == self.acts, f"Of {acted}, which decay and have gradients, it changed {moved}.")

    def test_its_documentation_and_axis_are_complete(self) -> None:
        """Every section is present; the default grid begins without decay and goes from weak to strong."""
        text = describe_regularizer(self.regularizer)
        missing = [section for section in Regularizer.SECTIONS if not re.search(rf"^{section}: \S", text, re.MULTILINE)]
        expect(not missing, f"The docstring lacks the sections {', '.join(missing)}.")
        expect(REGULARIZERS[self.regularizer].plain_formula.isascii(), "plain_formula must be ASCII.")
        for name in self.optimizers:
            axis = axis_of(self.regularizer, name, options=self.options)
            grid = list(axis.default_grid)
            expect(grid[0] == axis.none, f"The grid {grid} does not begin at {axis.none:g}, no decay.")
            expect(grid == sorted(grid, reverse=axis.stronger == "lower"), f"The grid {grid} is not in order.")
            expect(
                axis.none == REGULARIZERS[self.regularizer].none,
                f"{axis.none:g} is no decay on the axis, but not in the regularizer.",
            )
            expect(axis.name != "lambda" or bool(axis.reason), "An axis 'lambda' needs a `reason` why there is no D.")

    # --- helpers ------------------------------------------------------------------------------------------------------

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
    ) -> SmallRun:
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
    ) -> SmallRun:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": [parameter]} for parameter in trained] if apart else [{"params": trained}]
        more = {"momentum": momentum} if name == "SGD" else {}
        optimizer: Optimizer = getattr(torch.optim, name)(groups, lr=PEAK, weight_decay=0.0, **more, **kernel)
        if strength is None:
            return SmallRun(model, optimizer, None)
        handle = attach(
            optimizer,
            model,
            self.regularizer,
            strength=Strength.from_lambda(strength, learning_rates=RATES),
            options=dict(self.options),
            multipliers=multipliers,
        )
        return SmallRun(model, optimizer, handle)
