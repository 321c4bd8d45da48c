"""Cost of each loss in a training step, and the error of the Lovász gradients of two implementations.

    python benchmarks/losses.py [--side 48] [--rounds 30]

One thread, the built-in U-Net (unet-tiny), batch 8, 11 classes, a tenth of the pixels ignored. Losses are timed in
turn, so that noise affects all alike; ratios are of medians, to the step with cross-entropy. The gradients are those of
one image of two classes in single precision, compared with double precision.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import segmentation_models_pytorch.losses as smp
import torch
from torch import Tensor

from segdecay.config.schema import LossConfig
from segdecay.data.dataset import IGNORE
from segdecay.models.unet import UNet
from segdecay.training.losses import LOSSES, Lovasz, build_loss

BATCH, CLASSES, WARM_UP = 8, 11, 3
BASE = "cross_entropy"
Loss = Callable[[Tensor, Tensor], Tensor]


def _losses() -> dict[str, Loss]:
    losses: dict[str, Loss] = {name: build_loss(LossConfig(name=name)) for name in [*LOSSES, "cross_entropy+dice"]}
    return losses | {
        "smp DiceLoss": smp.DiceLoss("multiclass", ignore_index=IGNORE),
        "smp LovaszLoss": smp.LovaszLoss("multiclass", ignore_index=IGNORE),
    }


def time_steps(losses: Mapping[str, Loss], side: int, rounds: int) -> dict[str, float]:
    """Median seconds of a step (forward, loss, backward, update) with each loss."""
    torch.manual_seed(0)
    net = UNet(3, CLASSES, width=8, depth=3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.0)
    images, masks = torch.randn(BATCH, 3, side, side), torch.randint(0, CLASSES, (BATCH, side, side))
    masks[torch.rand(masks.shape) < 0.1] = IGNORE
    times: dict[str, list[float]] = {name: [] for name in losses}
    for number in range(rounds + WARM_UP):
        for name, loss in losses.items():
            start = time.perf_counter()
            optimizer.zero_grad()
            loss(net(images), masks).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def gradient_error(loss: Loss, side: int) -> float:
    """Relative error of the Lovász gradient in single precision."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, side, side, generator=draw)
    target = (torch.rand(1, side, side, generator=draw) < 0.3).long()
    found = []
    for values, one in ((logits, loss), (logits.double(), Lovasz())):
        leaf = values.clone().requires_grad_()
        found.append(torch.autograd.grad(one(leaf, target), leaf)[0].double())
    return float((found[0] - found[1]).norm() / found[1].norm())


def main() -> None:
    """Print milliseconds and ratios, then the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=48, help="of the square images, in pixels")
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    taken = time_steps(_losses(), asked.side, asked.rounds)
    for name, seconds in taken.items():
        print(f"{name:<22}{1e3 * seconds:9.2f} ms {seconds / taken[BASE]:7.2f} of a step with cross-entropy")
    for side in (100, 700):
        ours, theirs = (gradient_error(loss, side) for loss in (Lovasz(), smp.LovaszLoss("multiclass")))
        print(f"Lovász gradient at {side} x {side}: relative error ours {ours:.1e}, smp {theirs:.1e}")


if __name__ == "__main__":
    main()
