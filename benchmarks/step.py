"""Cost of a training step, and the additional cost of decay, augmentation and scoring.

    python benchmarks/step.py

The cost of every regularizer, in time and memory, is in benchmarks/decay.py.

One thread, the built-in U-Net (unet-tiny), batch 8 at 48 x 48, median of many steps in turn, so that noise affects all
alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from segdecay import decay
from segdecay.config.schema import AugmentConfig
from segdecay.data.transforms.augment import augment
from segdecay.metrics.confusion import image_confusions
from segdecay.models.unet import UNet
from segdecay.training.losses import pixel_cross_entropy

ROUNDS = 60


def _trainer(regularizer: str | None, penalty_in_loss: bool = False) -> Callable[[], None]:
    torch.manual_seed(0)
    net = UNet(3, 11, width=8, depth=3)
    partition = decay.group_parameters(net)
    optimizer = torch.optim.AdamW(decay.optimizer_groups(partition), lr=3e-3, weight_decay=0.0, fused=True)
    if regularizer is not None:
        decay.attach(
            optimizer,
            net,
            regularizer,
            strength=decay.Strength.from_lambda(0.1, learning_rates=[3e-3]),
            partition=partition,
        )
    images, masks = torch.randn(8, 3, 48, 48), torch.randint(0, 11, (8, 48, 48))

    def step() -> None:
        loss = pixel_cross_entropy(net(images), masks)
        if penalty_in_loss:
            loss = loss + 0.05 * sum(p.square().sum() for p in net.parameters())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _augmenter(config: AugmentConfig) -> Callable[[], None]:
    images, masks = torch.rand(8, 3, 48, 48) * 255, torch.randint(0, 11, (8, 48, 48))
    draw = torch.Generator().manual_seed(0)
    return lambda: (augment(images, masks, config=config, flip="horizontal", generator=draw), None)[1]


def main() -> None:
    """Print milliseconds and the ratio to the bare step."""
    torch.set_num_threads(1)
    masks = torch.randint(0, 11, (8, 48, 48))
    jobs: dict[str, Callable[[], object]] = {
        "bare step": _trainer(None),
        "step, decoupled": _trainer("decoupled"),
        "step, l2": _trainer("l2"),
        "step, penalty in the loss": _trainer(None, penalty_in_loss=True),
        "flips alone": _augmenter(AugmentConfig()),
        "flips, affine, colour": _augmenter(
            AugmentConfig(degrees=10, scale=0.1, shift=0.05, brightness=0.1, contrast=0.1)
        ),
        "confusion matrices of 8 images": lambda: image_confusions(masks, masks, 11),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(ROUNDS + 5):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if number >= 5:
                times[name].append(time.perf_counter() - start)
    bare = statistics.median(times["bare step"])
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(f"{name:<32}{1e3 * middle:8.2f} ms {middle / bare:8.3f} of a bare step")


if __name__ == "__main__":
    main()
