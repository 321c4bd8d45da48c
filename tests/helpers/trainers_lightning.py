"""The small net in a LightningModule, its Trainer, and optimizers for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from trainers import Batch, Net, make_batches, make_net

from segdecay.integrations.lightning import LightningDecay


class Module(LightningModule):
    def __init__(self, build: Callable[[Net], Any], net: Net | None = None) -> None:
        super().__init__()
        self.net: Net = make_net() if net is None else net
        self.build = build

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        images, masks = batch
        return F.cross_entropy(self.net(images), masks)

    def configure_optimizers(self) -> Any:
        return self.build(self.net)


class Adversary(Module):
    """Two optimizers with manual optimization, the first with a closure."""

    automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        first, second = optimizers

        def closure() -> Tensor:
            first.zero_grad()
            loss = super(Adversary, self).training_step(batch, batch_idx)
            self.manual_backward(loss)
            return loss

        first.step(closure=closure)
        second.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        second.step()
        return loss


class Rates(Callback):
    """Records the learning rate of every optimizer step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        del trainer, pl_module
        self.seen.append(float(optimizer.param_groups[0]["lr"]))


def loader() -> DataLoader[Batch]:
    return DataLoader(make_batches(), batch_size=None)  # type: ignore[arg-type]


def make_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False}
    settings |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(callbacks=list(callbacks), **{**settings, **options})


def fit(decay: LightningDecay, build: Callable[[Net], Any], **options: Any) -> Module:
    module = Module(build)
    make_trainer(decay, **options).fit(module, loader())
    return module


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.0)


def halves(model: Net) -> list[Optimizer]:
    rest = [*model.norm.parameters(), *model.head.parameters()]
    return [SGD(model.conv.parameters(), lr=0.1), AdamW(rest, lr=0.01, weight_decay=0.0)]


def decayed_adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.3)


def stairs(model: nn.Module) -> Any:
    optimizer = sgd(model)
    return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.3), "interval": "epoch", "frequency": 2}]
