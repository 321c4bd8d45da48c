"""Time of an audit of a model with 25 M parameters: torchvision's ResNet-50, with and without a penalty in the loss.

    python benchmarks/audit.py

One thread; the fastest of three runs, since other programs can only slow it down.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import cross_entropy

from segdecay.decay import audit

REPEATS = 3


def main() -> None:
    """Print seconds."""
    torch.set_num_threads(1)
    model = torchvision.models.resnet50()
    adam = torch.optim.Adam(model.parameters(), weight_decay=1e-4)

    def penalised(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + 1e-4 * torch.stack([torch.norm(p) for p in model.parameters()]).sum()

    losses: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
        "model and optimizer": None,
        "and a loss without penalty": cross_entropy,
        "and a loss with a penalty": penalised,
    }
    numbers = sum(p.numel() for p in model.parameters())
    print(f"audit of {numbers / 1e6:.1f} M parameters, seconds")
    for name, loss in losses.items():
        taken = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            found = audit(model, adam, loss)
            taken.append(time.perf_counter() - start)
        print(f"{name:<32}{min(taken):8.2f} s   {len(found.findings)} findings")


if __name__ == "__main__":
    main()
