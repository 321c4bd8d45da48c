"""Time and memory of every regularizer, compared with the bare step and with a penalty in the loss.

    python benchmarks/decay.py 2> /dev/null    # the profiler writes to standard error

One thread. Parameters: those of torchvision's ResNet-50 (25.6 M, random gradients), under AdamW and SGD, and those of
the built-in U-Net (unet-tiny, batch 8 at 48 x 48, a real forward and backward pass), under AdamW. All optimizers are
fused. The cost of a regularizer is the additional processor time of `optimizer.step()`, on the same weights and
gradients, with bare and decayed steps in turn; the median of the differences. The cost of a penalty in the loss is its
forward and backward pass, which adds to existing gradients.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from segdecay import decay
from segdecay.models.unet import UNet
from segdecay.training.losses import pixel_cross_entropy

LEARNING_RATE = 1e-4
LAMBDA = 1e-3  # small, so that the weights stay what they are over all rounds
GOALS = {"cpr": 0.05}  # of a step of the U-Net
GOAL = 0.015  # of a step of the U-Net, for all other regularizers
GOAL_OF_PENALTY = 0.1  # of the cost of the sum of norms in the loss
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A measured regularizer."""

    regularizer: str
    strength: float = LAMBDA
    options: Mapping[str, Any] | None = None
    optimizers: tuple[str, ...] = ("adamw", "sgd")


CASES = {
    "none": Case("none", 0.0),
    "decoupled": Case("decoupled"),
    "corrected": Case("corrected"),
    "cautious": Case("cautious"),
    "scheduled": Case("scheduled", optimizers=("adamw",)),
    "l2": Case("l2"),
    "l2_sp": Case("l2_sp"),
    "l1": Case("l1"),
    "l1, subgradient": Case("l1", options={"method": "subgradient"}),
    "elastic_net": Case("elastic_net"),
    "group_lasso": Case("group_lasso"),
    "max_norm": Case("max_norm", 100.0),
    "cpr": Case("cpr", 1.0, optimizers=("adamw",)),
    "cpr, factor": Case("cpr", 2.0, {"kappa": "factor"}),
}


@dataclass
class Subject:
    """A network with its gradients, and the optimizer that steps it."""

    name: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    kind: str
    whole_step: Callable[[], None]  # forward, backward, update

    @property
    def weights(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.net.parameters())

    @contextmanager
    def decayed(self, case: Case) -> Iterator[decay.Handle]:
        """The optimizer with a regularizer, while the block runs."""
        handle = decay.attach(
            self.optimizer,
            self.net,
            case.regularizer,
            strength=decay.Strength.from_lambda(case.strength, learning_rates=[LEARNING_RATE]),
            options=case.options,
        )
        try:
            yield handle
        finally:
            handle.detach()


def _optimizer(kind: str, net: nn.Module) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
    return torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)


def resnet(kind: str) -> Subject:
    """ResNet-50 with random gradients; its whole step is at batch 2, 224 x 224."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None).to(memory_format=torch.channels_last)
    optimizer = _optimizer(kind, net)
    images = torch.randn(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    for weight in net.parameters():
        weight.grad = torch.randn_like(weight) * 1e-3

    def whole_step() -> None:
        net(images).square().mean().backward()  # onto the gradients that are there, as with zero_grad(False)
        optimizer.step()

    return Subject(f"ResNet-50, {kind}", net, optimizer, kind, whole_step)


def unet() -> Subject:
    """The built-in U-Net at the size of the digits."""
    torch.manual_seed(0)
    net = UNet(3, 11, width=12, depth=3).to(memory_format=torch.channels_last)
    optimizer = _optimizer("adamw", net)
    images = torch.randn(8, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    masks = torch.randint(0, 11, (8, 48, 48))

    def whole_step() -> None:
        optimizer.zero_grad()
        pixel_cross_entropy(net(images), masks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return Subject("U-Net, adamw", net, optimizer, "adamw", whole_step)


def sum_of_norms(weights: list[nn.Parameter]) -> None:
    """The most common form: λ·Σ ‖w‖ in the loss."""
    (LAMBDA * sum((torch.norm(w) for w in weights), torch.zeros(()))).backward()


def half_sum_of_squares(weights: list[nn.Parameter]) -> None:
    """L2 in the loss."""
    (LAMBDA * 0.5 * sum((w.square().sum() for w in weights), torch.zeros(()))).backward()  # type: ignore[no-untyped-call]


PENALTIES = {"sum of norms in the loss": sum_of_norms, "half sum of squares in the loss": half_sum_of_squares}


def _seconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def _costs(subject: Subject, rounds: int, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds that each regularizer and penalty adds to a step; and those of the bare step and the whole one."""
    added: dict[str, list[float]] = {}
    bare: list[float] = []
    whole: list[float] = []
    for _ in range(rounds):
        whole.append(_seconds(subject.whole_step))
        for name, case in CASES.items():
            if subject.kind not in case.optimizers:
                continue
            for _ in range(repeats):
                alone = _seconds(subject.optimizer.step)
                with subject.decayed(case):
                    subject.optimizer.step()
                    decayed = _seconds(subject.optimizer.step)
                bare.append(alone)
                added.setdefault(name, []).append(decayed - alone)
        for name, penalty in PENALTIES.items():
            kept = [weight.grad.clone() for weight in subject.weights if weight.grad is not None]
            added.setdefault(name, []).append(_seconds(lambda penalty=penalty: penalty(subject.weights)))  # type: ignore[misc]
            for weight, gradient in zip(subject.weights, kept, strict=True):
                weight.grad = gradient
    middle = {name: statistics.median(values) for name, values in added.items()}
    return middle, {"bare": statistics.median(bare), "whole": statistics.median(whole)}


def _peak_bytes(job: Callable[[], object]) -> int:
    """The largest memory of a job beyond its start, as counted by torch's profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        job()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    steps = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = most = 0
    for _, change in steps:
        held += change
        most = max(most, held)
    return most


def _kept_bytes(value: object) -> int:
    """Bytes of all tensors in a state."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(_kept_bytes(each) for each in values)


def _memory(subject: Subject) -> dict[str, tuple[int, int]]:
    """By regularizer or penalty: the most bytes that an update holds at once beyond weights, gradients and state (a
    fused update alone may copy a tensor), and the bytes kept after it.
    """
    found = {"bare": (_peak_bytes(subject.optimizer.step), 0)}
    for name, case in CASES.items():
        if subject.kind in case.optimizers:
            with subject.decayed(case) as handle:
                subject.optimizer.step()
                peak = _peak_bytes(subject.optimizer.step)
                found[name] = (peak, _kept_bytes(handle.state_dict()["state"]))
    for name, penalty in PENALTIES.items():
        found[name] = (_peak_bytes(lambda penalty=penalty: penalty(subject.weights)), 0)  # type: ignore[misc]
    return found


def _verdict(name: str, share: float, of_penalty: float, *, is_goal: bool) -> str:
    if name in PENALTIES or not is_goal:
        return ""
    goal = GOALS.get(CASES[name].regularizer, GOAL)
    missed = ([f"over {goal:.1%} of a step"] if share > goal else []) + (
        [f"over {GOAL_OF_PENALTY:g} of the penalty"] if of_penalty > GOAL_OF_PENALTY else []
    )
    return ", ".join(missed) or "within goals"


def _show(subject: Subject, rounds: int, repeats: int) -> None:
    for _ in range(3):
        subject.whole_step()
    added, steps = _costs(subject, rounds, repeats)
    memory = _memory(subject)
    numbers = sum(weight.numel() for weight in subject.weights)
    print(
        f"\n{subject.name}: {len(subject.weights)} tensors, {numbers} numbers, {4 * numbers / MIB:.1f} MiB; bare "
        f"update {1e3 * steps['bare']:.2f} ms, whole step {1e3 * steps['whole']:.1f} ms; the bare update holds "
        f"{memory['bare'][0] / MIB:.2f} MiB for a while"
    )
    print("| adds | ms | of a step | of the update | of the sum of norms | transient MiB | kept MiB | goals |")
    print("|---|---|---|---|---|---|---|---|")
    penalty = added["sum of norms in the loss"]
    for name, seconds in added.items():
        share = seconds / steps["whole"]
        transient, kept = memory[name]
        print(
            f"| {name} | {1e3 * seconds:.2f} | {share:.2%} | {seconds / steps['bare']:.2f} | {seconds / penalty:.3f} "
            f"| {transient / MIB:.2f} | {kept / MIB:.2f} "
            f"| {_verdict(name, share, seconds / penalty, is_goal=subject.name.startswith('U-Net'))} |",
            flush=True,
        )


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", choices=("unet", "resnet"), help="one of the two networks")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only != "resnet":
        _show(unet(), rounds=asked.rounds, repeats=8)
    if asked.only != "unet":
        for kind in ("adamw", "sgd"):
            _show(resnet(kind), rounds=asked.rounds, repeats=1)


if __name__ == "__main__":
    main()
