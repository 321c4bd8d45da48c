"""Cost of a reading of the diagnostics, as a share of a training step and of a training.

    python benchmarks/diagnostics.py

One thread; the built-in U-Net (unet-tiny, batch 8 at 48 x 48) and torchvision's ResNet-50 (batch 2 at 224 x 224), AdamW
with decoupled decay. Medians of bare steps and steps with a reading, measured in turn, so that noise affects both
alike. The share of a training is given for readings every 100 steps, the most frequent in a trial by default, and every
500, the default of `segdecay.decay.Diagnostics`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from segdecay import decay
from segdecay.models.unet import UNet

TRIAL_STEPS = 100  # between two readings of a trial, at least
DEFAULT_STEPS = 500


@dataclass(frozen=True)
class DiagnosticsCost:
    """Seconds of a bare training step, and the additional seconds of watching and reading."""

    name: str
    step_s: float
    watching_s: float  # hooks, copies of the weights and angles
    reading_s: float

    @property
    def steps(self) -> float:
        """A reading in bare steps."""
        return (self.watching_s + self.reading_s) / self.step_s

    def share(self, every: int) -> float:
        """The share of the training time, with a reading every `every` steps."""
        return self.steps / every


def measure(name: str, model: nn.Module, images: Tensor, target: Tensor, *, rounds: int) -> DiagnosticsCost:
    """Medians over `rounds` of a bare step, a watched step and a reading, in turn."""
    partition = decay.group_parameters(model)
    optimizer = torch.optim.AdamW(decay.optimizer_groups(partition), lr=1e-3, weight_decay=0.0, fused=True)
    decay.attach(
        optimizer,
        model,
        "decoupled",
        strength=decay.Strength.from_lambda(0.1, learning_rates=[1e-3]),
        partition=partition,
    )
    diagnostics = decay.Diagnostics(model, optimizer, class_counts=[10.0 + k for k in range(11)])

    def step() -> None:
        loss = cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def watched_step() -> None:
        with diagnostics.watched():
            step()

    jobs: tuple[Callable[[], object], ...] = (step, watched_step, diagnostics.read)
    times: list[list[float]] = [[], [], []]
    for number in range(rounds + 1):
        for job, taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            if number:
                taken.append(time.perf_counter() - start)
    bare, watched, reading = (statistics.median(taken) for taken in times)
    # differences of pairs: noise that lasts longer than a step cancels
    added = statistics.median(b - a for a, b in zip(times[0], times[1], strict=True))
    return DiagnosticsCost(name, bare, max(added, watched - bare, 0.0), reading)


def unet_cost(rounds: int = 40) -> DiagnosticsCost:
    """The built-in U-Net."""
    torch.manual_seed(0)
    images = torch.randn(8, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    net = UNet(3, 11, width=8, depth=3).to(memory_format=torch.channels_last)
    return measure("built-in U-Net", net, images, torch.randint(0, 11, (8, 48, 48)), rounds=rounds)


def resnet_cost(rounds: int = 4) -> DiagnosticsCost:
    """Torchvision's ResNet-50."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 224, 224)
    return measure("ResNet-50", torchvision.models.resnet50(), images, torch.tensor([1, 2]), rounds=rounds)


def main() -> None:
    """Print milliseconds, and the ratios."""
    torch.set_num_threads(1)
    for cost in (unet_cost(), resnet_cost()):
        print(
            f"{cost.name:<16} step {1e3 * cost.step_s:8.1f} ms, watching {1e3 * cost.watching_s:7.1f} ms, reading "
            f"{1e3 * cost.reading_s:7.1f} ms: {cost.steps:.2f} steps; every {TRIAL_STEPS} steps "
            f"{100 * cost.share(TRIAL_STEPS):.2f} % of the training, every {DEFAULT_STEPS} "
            f"{100 * cost.share(DEFAULT_STEPS):.3f} %"
        )


if __name__ == "__main__":
    main()
