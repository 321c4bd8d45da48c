"""Layers unfrozen by a trainer's own callback decay from then on; what is logged is what the handle tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segdecay.decay import Strength
from segdecay.decay.diagnostics.monitor import Diagnostics
from segdecay.integrations.lightning import LightningDecay
from segdecay.integrations.trainer import Ahead, Attachments

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(batch)).sum() * 0
        return out

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=0.1, weight_decay=0.0)


class Unfreeze(BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.encoder)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.encoder, optimizer, lr=0.1)


def fit(decay: LightningDecay, logger: Any = False) -> Net:
    torch.manual_seed(0)
    module = Net()
    trainer = Trainer(
        max_epochs=3, callbacks=[Unfreeze(), decay], accelerator="cpu", logger=logger, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.randn(2, 3, 8, 8), batch_size=1))  # type: ignore[arg-type]
    return module


def test_layers_that_base_finetuning_unfreezes_decay_from_then_on() -> None:
    torch.manual_seed(0)
    start = Net()
    module = fit(LightningDecay("decoupled", strength=0.5))
    assert torch.allclose(module.head.weight, start.head.weight * 0.95**6)
    assert torch.allclose(module.encoder.weight, start.encoder.weight * 0.95**4)


def test_the_log_holds_what_the_handle_tells(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fit(LightningDecay("decoupled", strength=0.5, log=True), logger)
    logger.save()
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    assert {"decay/strength", "decay/penalty", "decay/total_decay_so_far"} <= set(columns)
    last = dict(zip(columns, lines[-1].split(","), strict=True))
    assert float(last["decay/strength"]) == 0.5
    assert float(last["decay/total_decay_so_far"]) == pytest.approx(0.3)


def test_a_strength_goes_through_json_as_a_callback_of_transformers_keeps_it() -> None:
    from segdecay.integrations.transformers import TransformersDecay

    strength = Strength.from_timescale(5.0, learning_rates=[0.1, 0.2], steps_per_epoch=2)
    state = TransformersDecay("decoupled", strength=strength, log=True).state()
    assert state["attributes"]["lost"] == []
    again = TransformersDecay(**state["args"])
    assert again._attachments.given.strength == strength
    assert again.state() == state


def test_handles_of_two_optimizers_are_told_apart() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    attachments = Attachments("l2", {"strength": 0.5})
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in net]
    attachments.attach_(optimizers, net, Ahead(lambda _: [], lambda: 1.0))
    assert {"decay/strength/0", "decay/strength/1"} <= set(attachments.scalars())
    attachments.detach_()
    assert attachments.scalars() == {}


def test_diagnostics_are_flat_numbers_for_a_logger() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    diagnostics = Diagnostics(net, optimizer, every=1)
    with diagnostics.watched(0):
        loss = net(torch.randn(2, 3, 8, 8)).square().mean()
        loss.backward()
        optimizer.step()
    found = diagnostics.read(loss).scalars()
    assert all(type(value) is float for value in found.values())
    assert any(name.startswith("diagnostics/layers/0.weight/") for name in found)
