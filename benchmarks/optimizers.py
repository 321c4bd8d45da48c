"""The result of `attach` for every optimizer class of torch, timm and pytorch_optimizer, as a table in Markdown.

    python benchmarks/optimizers.py [--out docs/optimizers.md]

Each class is built on a small network (a convolution, a linear layer, a norm layer) with the options that it needs,
and `decoupled` and `l2` are attached. If attach reports that they act, this is checked: a network without gradients
takes 30 steps, and the share of the weights that is left is compared with the regularizer's formula.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import math
import pkgutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay import decay
from segdecay.errors import DecayError

RATE, LAMBDA, STEPS = 0.01, 2.0, 30
LIMIT_S = 60
CALLS: dict[str, Callable[..., Any]] = {
    name: (lambda kind: lambda parameters: kind(torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)))
    for name in ("Lookahead", "TRAC", "OrthoGrad", "ScheduleFreeWrapper")
}
CALLS |= {
    name: (lambda kind: lambda parameters: kind(parameters, torch.optim.SGD, lr=RATE))
    for name in ("SAM", "GSAM", "WSAM", "LookSAM", "FriendlySAM")
}


@dataclass(frozen=True)
class Line:
    """The result for one class and regularizer."""

    library: str
    optimizer: str
    regularizer: str
    outcome: str  # acts, adapted, refused, not proven, not constructible, broken
    why: str


def classes() -> Iterator[tuple[str, type[Optimizer]]]:
    """Every optimizer class, once, under the library that defines it."""
    seen: set[type[Optimizer]] = set()
    for library in ("torch.optim", "timm.optim", "pytorch_optimizer"):
        package = importlib.import_module(library)
        modules = [package]
        for info in pkgutil.walk_packages(package.__path__, f"{library}."):
            try:
                modules.append(importlib.import_module(info.name))
            except ImportError:
                continue
        for module in modules:
            for _, kind in sorted(inspect.getmembers(module, inspect.isclass)):
                root = library.split(".")[0]
                if not issubclass(kind, Optimizer) or kind is Optimizer or kind in seen:
                    continue
                if kind.__module__.split(".")[0] != root or kind.__name__.startswith(("_", "Base")):
                    continue
                seen.add(kind)
                yield library, kind


def make_network() -> nn.Module:
    """A convolution, a norm layer and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).double()


def build(kind: type[Optimizer], net: nn.Module) -> Any:
    """An optimizer on the network, or only on its matrices if it takes no other parameters."""
    if kind.__name__ in CALLS:
        return CALLS[kind.__name__](kind)(list(net.parameters()))
    names = inspect.signature(kind.__init__).parameters
    known: dict[str, Any] = {
        "lr": RATE,
        "weight_decay": 0.0,
        "num_iterations": STEPS,
        "model": net,
        "lars_weight_decay": 0.0,
    }
    options = {name: known[name] for name in names if name in known}
    errors = []
    matrices = [parameter for parameter in net.parameters() if parameter.ndim == 2]
    for parameters in (list(net.parameters()), matrices):
        try:
            return kind(parameters, **options)
        except Exception as error:  # noqa: BLE001 - anything that a class of another library raises
            errors.append(error)
    raise errors[0]


def left_after(net: nn.Module, optimizer: Any, handle: decay.Handle) -> tuple[float, float]:
    """The share left of decayed weights after steps without gradient, and the expected share."""
    held = {id(p) for group in handle.optimizer.param_groups for p in group["params"]}
    names = [name for name, value in handle.strengths().items() if value is not None]
    weights = {name: p for name, p in net.named_parameters() if name in names and id(p) in held}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    told = 1.0
    if hasattr(optimizer, "train"):
        optimizer.train()

    def closure() -> Tensor:
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return torch.zeros((), requires_grad=True)

    for _ in range(STEPS):
        closure()
        told *= 1 - LAMBDA * float(handle.adaptation.rate(handle.optimizer.param_groups[0]))
        try:
            optimizer.step(closure)
        except TypeError:
            optimizer.step()
    if hasattr(optimizer, "eval") and "average" not in handle.proof.text:
        optimizer.eval()
    shares = [float((weight.detach() / start[name]).median()) for name, weight in weights.items()]
    return sum(shares) / len(shares), told


def examine(library: str, kind: type[Optimizer], regularizer: str) -> Line:
    """Attach, and check by steps if it acts."""

    def line(outcome: str, why: object) -> Line:
        text = " ".join(str(why).split())
        return Line(library, kind.__name__, regularizer, outcome, text)

    net = make_network()
    try:
        optimizer = build(kind, net)
    except Exception as error:  # noqa: BLE001 - as above
        return line("not constructible", f"{type(error).__name__}: {error}")
    try:
        handle = decay.attach(optimizer, net, regularizer, strength=LAMBDA, take_over=True)
    except DecayError as error:
        return line("refused", error)
    if handle.proof.status == "not proven":
        return line("not proven", handle.proof.text)
    try:
        left, told = left_after(net, optimizer, handle)
    except Exception as error:  # noqa: BLE001 - as above
        return line("broken", f"its own step fails after attach: {type(error).__name__}: {error}")
    if regularizer == "decoupled" and not math.isclose(left, told, rel_tol=1e-3):
        return line("SILENT", f"{left:.4g} left, {told:.4g} asked")
    if regularizer == "l2" and not left < 1 - 1e-12:
        return line("SILENT", f"{left:.6g} left")
    return line(
        handle.proof.status, f"{left:.4g} left" + (f" of {told:.4g} asked" if regularizer == "decoupled" else "")
    )


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


def write(lines: list[Line]) -> str:
    """The table, one line for each optimizer, and the counts."""
    by_kind: dict[tuple[str, str], dict[str, Line]] = {}
    for one in lines:
        by_kind.setdefault((one.library, one.optimizer), {})[one.regularizer] = one
    counts = {name: Counter(one.outcome for one in lines if one.regularizer == name) for name in ("decoupled", "l2")}
    out = [f"{len(by_kind)} optimizers.", ""]
    for name, count in counts.items():
        out.append(f"- `{name}`: " + ", ".join(f"{number} {outcome}" for outcome, number in count.most_common()))
    out += ["", "| library | optimizer | decoupled | l2 | why |", "|---|---|---|---|---|"]
    for (library, optimizer), pair in by_kind.items():
        first, second = pair["decoupled"], pair["l2"]
        whys = dict.fromkeys(
            one.why.replace("|", "/")[:160] for one in (first, second) if one.outcome not in ("acts", "adapted")
        )
        out.append(f"| {library} | {optimizer} | {first.outcome} | {second.outcome} | {'; '.join(whys)} |")
    return "\n".join(out) + "\n"


def main() -> None:
    """Print the table, or write it into a file below its heading."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.compiler.set_stance("force_eager")  # Kron and others compile their steps, for minutes
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    lines = []
    for library, kind in classes():
        for regularizer in ("decoupled", "l2"):
            signal.alarm(LIMIT_S)
            try:
                found = examine(library, kind, regularizer)
            except TimeoutError as error:
                found = Line(library, kind.__name__, regularizer, "broken", str(error))
            finally:
                signal.alarm(0)
            lines.append(found)
            print(
                f"{found.library} {found.optimizer} {found.regularizer}: {found.outcome} {found.why}"[:160],
                file=sys.stderr,
            )
    text = write(lines)
    if out is None:
        print(text)
        return
    heading = out.read_text(encoding="utf-8").split("<!-- table -->")[0] if out.exists() else ""
    out.write_text(f"{heading}<!-- table -->\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
