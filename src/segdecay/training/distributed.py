"""One training over several devices: ranks, shares of batches, weighted averages of losses.

Each process has a device and its share of every batch; gradients are averaged by torch's DistributedDataParallel
through Fabric.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from lightning_utilities.core import imports
from torch import Tensor, nn

from segdecay.config.schema import RunConfig
from segdecay.errors import ConfigError, gather
from segdecay.training.losses.base import pixel_weights


@contextmanager
def _by_metadata() -> Iterator[None]:
    """Compare versions of torchmetrics by its metadata."""
    by_import = imports.compare_version

    def compare(package: str, op: Any, version: str, *rest: Any, **options: Any) -> bool:
        if package == "torchmetrics" and op.__name__ == "ge":
            return bool(imports.RequirementCache(f"{package}>={version}"))
        return bool(by_import(package, op, version, *rest, **options))

    imports.compare_version = compare
    try:
        yield
    finally:
        imports.compare_version = by_import


with _by_metadata():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.wrappers import _FabricModule as FabricModule

__all__ = ["DDPStrategy", "Fabric", "FabricModule", "LightningEnvironment"]


WAITS = timedelta(hours=2)  # for the first process, which scores alone; the parent process notices one that ends


@dataclass(frozen=True)
class Spread:
    """The devices that share every batch of one training; the first also scores and writes."""

    devices: tuple[str, ...]
    has_idle: bool = False  # some trainable parameters are unused in the forward pass, so DDP has to search for them


@dataclass(frozen=True)
class Ranks:
    """A process among those of one training; by default the only one."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process scores and writes."""
        return self.rank == 0

    @property
    def key(self) -> tuple[int, ...]:
        """Additional key of this process for random draws; empty if it is alone."""
        return (self.rank,) if self.count > 1 else ()

    def share(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The images of a batch for this process: every size-th image.

        >>> Ranks(1, 2).share(np.array([4, 7, 9])).tolist(), Ranks().share(np.array([4, 7, 9])).tolist()
        ([7], [4, 7, 9])
        """
        return indices[self.rank :: self.count]

    def agree(
        self,
        loss: Tensor,  # () of this share
        target: Tensor,  # (N, H, W) its masks, class indices or IGNORE
        weight: Tensor | None,  # (C,) class weights
        *,
        stop: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss for the backward pass, the loss of the whole batch, and 1 if any process is asked to stop.

        The last two are scalars on the device, so that no step waits for them; the third is None for one process.

        Gradients are averaged over processes. The loss of a share is therefore weighted by its labelled pixels, each by
        the weight of its class, so that the mean gradient is that of the whole batch's mean loss.
        """
        if self.count == 1:
            return loss, loss.detach(), None
        own = pixel_weights(target, weight, torch.float64).sum()
        told = torch.stack([own, own * loss.detach().double(), torch.full_like(own, float(stop))])
        dist.all_reduce(told)
        total = told[0].clamp_min(torch.finfo(torch.float64).tiny)
        return loss * (self.count * own / total).to(loss.dtype), told[1] / total, told[2]

    def meet(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            dist.barrier()

    def without_exchange(self, fabric: Fabric, model: Any, *, is_last: bool) -> AbstractContextManager[Any]:
        """The context of the backward pass of a micro-batch: gradients are averaged only at the last one."""
        if self.count == 1 or is_last:
            return nullcontext()
        return fabric.no_backward_sync(model)


class _OneOfOurs(LightningEnvironment):
    """Processes started by segdecay, on one machine."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def join_group(ranks: Ranks, device: str, meeting_point: Path) -> None:
    """Join the process group of this machine through a file that does not exist yet."""
    kind, _, index = device.partition(":")
    more: dict[str, Any] = {}
    if kind == "cuda":
        torch.cuda.set_device(int(index))
        more["device_id"] = torch.device(device)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        init_method=meeting_point.as_uri(),
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=WAITS,
        **more,
    )


def leave_group() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def build_fabric(precision: Any, device: str, ranks: Ranks, spread: Spread | None) -> Fabric:
    """Fabric on one device, "cpu", "cuda:INDEX" or "mps", or as one of the processes of `spread`."""
    kind, _, index = device.partition(":")
    precision = "32-true" if precision in ("auto", "tf32") else precision  # tf32 is a setting of torch
    if spread is None or ranks.count == 1:
        alone: Any = [int(index or 0)] if kind == "cuda" else 1
        return Fabric(accelerator=kind, devices=alone, precision=precision)
    places: Any = [int(one.partition(":")[2]) for one in spread.devices] if kind == "cuda" else ranks.count
    strategy = DDPStrategy(cluster_environment=_OneOfOurs(ranks.rank), find_unused_parameters=spread.has_idle)
    fabric = Fabric(accelerator=kind, devices=places, precision=precision, strategy=strategy)
    fabric.launch()
    return fabric


def scoring_model(fabric: Fabric, model: nn.Module, bare: nn.Module, ranks: Ranks) -> nn.Module:
    """The model without DDP, for one process alone: DDP's forward pass communicates with the others."""
    return model if ranks.count == 1 else FabricModule(bare, fabric.strategy, original_module=bare)


def validate_spread(config: RunConfig, images: int, batches: int, spread: Spread | None) -> None:
    """Refuse a training that cannot be split: every device needs an image of every batch, and stages are not supported.

    Raises:
        ConfigError: fewer images in the smallest batch than devices; a second stage.
    """
    if spread is None:
        return
    asked, faults = f"--devices {len(spread.devices)}", []
    if images // batches < len(spread.devices):
        faults.append(
            f"{asked}: every device takes its share of a batch, and {images} training images in {batches} batches "
            f"leave {images // batches} for the smallest. Raise training.batch_size (now "
            f"{config.training.batch_size}), or use fewer devices."
        )
    if config.balancing.epochs:
        faults.append(
            f"{asked}: balancing.epochs={config.balancing.epochs} freezes all but the head in a second stage, which is "
            "not supported on several devices. Use one device, or balancing.epochs=0."
        )
    gather(ConfigError, faults)
