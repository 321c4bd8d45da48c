"""Lightning with automatic optimization, clipping and a cosine schedule: decay is one callback.

Run: python examples/lightning_segmentation.py   (needs: pip install 'segdecay[lightning]')
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from segdecay.data.formats.digits import compose_scenes
from segdecay.decay import Strength
from segdecay.integrations.lightning import LightningDecay
from segdecay.models.unet import UNet

EPOCHS, BATCH, TOTAL_DECAY = 6, 4, 0.05


class Segmentation(LightningModule):
    """A U-Net with its loss; it knows nothing of decay but how to print it."""

    def __init__(self, decay: LightningDecay) -> None:
        super().__init__()
        self.net = UNet(in_channels=3, classes=11, width=8, depth=3)
        self.decay = decay
        self.losses: list[float] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        del batch_idx
        images, masks = batch
        loss = F.cross_entropy(self.net(images), masks)
        self.losses.append(loss.item())
        return loss

    def on_train_epoch_end(self) -> None:
        terms = self.decay.handles[0].objective(sum(self.losses) / len(self.losses))
        self.losses.clear()
        print(
            f"epoch {self.current_epoch + 1}: L_original {terms.original:.4f} + λR {terms.penalty:.4f} "
            f"= L {terms.total:.4f}"
        )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    """Fit on 48 scenes."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    torch.manual_seed(0)
    scenes = compose_scenes(n_train=48, n_test=1)["train"]
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2).float() / 255
    loader = DataLoader(TensorDataset(images, torch.from_numpy(scenes.masks).long()), batch_size=BATCH, shuffle=True)
    decay = LightningDecay("decoupled", strength=Strength.from_total_decay(TOTAL_DECAY))  # λ follows from the schedule
    trainer = Trainer(
        max_epochs=EPOCHS,
        callbacks=[decay],
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Segmentation(decay), loader)
    print(f"λ = {decay.handles[0].strength:.4f}, from D = {TOTAL_DECAY} over {decay.handles[0].steps} steps")


if __name__ == "__main__":
    main()
