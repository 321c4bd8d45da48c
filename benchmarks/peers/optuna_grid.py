"""The grid of a decay search as one writes it without segdecay: Optuna, PyTorch Lightning, segmentation-models-pytorch.

    python benchmarks/peers/optuna_grid.py --work /tmp/peer                 # 9 strengths x 5 folds on digits
    python benchmarks/peers/optuna_grid.py --work /tmp/peer --trials 3       # time three trainings, extrapolate the
    rest

The data lies as PNG files in WORK/digits (written first, not timed). The network is segdecay's U-Net, so both sides
train the same one; the rest is what these libraries' own examples do: a Dataset that opens files, a DataLoader, AdamW
over all parameters with weight_decay, statistics of smp.metrics after every epoch, a GridSampler, the fold loop inside
the objective. Loggers and checkpoints are off, and loading stays in the training process (measure both with --loaders):
each would only make this side slower. What the clock sees is one trial after another, as `study.optimize` runs them.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from sklearn.model_selection import GroupKFold
from torch.utils.data import DataLoader, Dataset

from segdecay.config.schema import DataConfig
from segdecay.data import load_dataset
from segdecay.models.unet import UNet

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # Σ η·λ, as in record_grid.py
LR, BATCH_SIZE, WARMUP, CLIP_NORM = 3e-3, 8, 0.1, 1.0  # segdecay's defaults, so that both sides train alike
WIDTH, DEPTH = 12, 3  # of unet-tiny


def write_pngs(folder: Path) -> None:
    """The training part of digits as images/NAME.png and masks/NAME.png, with classes and groups in index.json."""
    dataset, _ = load_dataset(DataConfig(path="digits"), cache=folder.parent / "cache")
    groups = {}
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in dataset.part("train"):
        name = dataset.items[index].name.replace("/", "-")
        Image.fromarray(np.asarray(dataset.image(index))).save(folder / "images" / f"{name}.png")
        Image.fromarray(np.asarray(dataset.mask(index))).save(folder / "masks" / f"{name}.png")
        groups[name] = dataset.items[index].group
    (folder / "index.json").write_text(json.dumps({"classes": dataset.classes, "groups": groups}))


class Pairs(Dataset[Any]):
    """Images (3, H, W) float, normalised, and masks (H, W) int64, opened when asked for."""

    def __init__(self, folder: Path, names: list[str], mean: npt.NDArray[Any], deviation: npt.NDArray[Any]) -> None:
        self.folder, self.names, self.mean, self.deviation = folder, names, mean, deviation

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        file = f"{self.names[index]}.png"
        image = np.asarray(Image.open(self.folder / "images" / file), dtype=np.float32)
        mask = np.asarray(Image.open(self.folder / "masks" / file), dtype=np.int64)
        image = (image - self.mean) / self.deviation
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)


def _statistics(folder: Path, names: list[str], n_classes: int) -> tuple[Any, Any, Any]:
    """Mean and deviation of the bands, and the square-root class weights, of the training images."""
    images = np.stack([np.asarray(Image.open(folder / "images" / f"{name}.png")) for name in names])
    masks = np.stack([np.asarray(Image.open(folder / "masks" / f"{name}.png")) for name in names])
    pixels = np.maximum(np.bincount(masks.ravel(), minlength=n_classes), 1)
    weight = 1 / np.sqrt(pixels / pixels.sum())
    bands = images.reshape(-1, images.shape[-1]).astype(np.float32)
    return bands.mean(axis=0), bands.std(axis=0), torch.tensor(weight / weight.mean(), dtype=torch.float32)


class Segmenter(pl.LightningModule):
    """A network with its loss, optimizer and validation score."""

    def __init__(self, n_classes: int, class_weight: torch.Tensor, weight_decay: float) -> None:
        super().__init__()
        self.n_classes, self.weight_decay = n_classes, weight_decay
        self.net = UNet(3, n_classes, width=WIDTH, depth=DEPTH)
        self.loss = torch.nn.CrossEntropyLoss(weight=class_weight)
        self.statistics: list[Any] = []
        self.miou = float("nan")

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        images, masks = batch
        loss: torch.Tensor = self.loss(self.net(images), masks)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        images, masks = batch
        logits = self.net(images)
        self.log("val_loss", self.loss(logits, masks))
        predicted = logits.argmax(dim=1)
        self.statistics.append(smp.metrics.get_stats(predicted, masks, mode="multiclass", num_classes=self.n_classes))

    def on_validation_epoch_end(self) -> None:
        parts = [torch.cat(part) for part in zip(*self.statistics, strict=True)]
        self.statistics.clear()
        self.miou = float(smp.metrics.iou_score(*parts, reduction="macro"))
        self.log("val_miou", self.miou)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=LR, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        warm = max(1, int(WARMUP * steps))
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / warm, total_iters=warm)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - warm))
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warm])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass
class Search:
    """The folds, and the clock of every training."""

    folder: Path
    folds: int
    epochs: int
    loaders: int
    trials: int | None
    seconds: list[float]

    def train(self, names: list[str], held_out: list[str], classes: int, weight_decay: float, fold: int) -> float:
        """One training; the validation mIoU after its last epoch."""
        started = time.perf_counter()
        pl.seed_everything(fold, verbose=False)
        mean, deviation, weight = _statistics(self.folder, names, classes)
        more = {"batch_size": BATCH_SIZE, "num_workers": self.loaders, "persistent_workers": self.loaders > 0}
        training = DataLoader(Pairs(self.folder, names, mean, deviation), shuffle=True, **more)  # type: ignore[arg-type]
        validation = DataLoader(Pairs(self.folder, held_out, mean, deviation), **more)  # type: ignore[arg-type]
        model = Segmenter(classes, weight, weight_decay)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=self.epochs,
            gradient_clip_val=CLIP_NORM,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, training, validation)
        self.seconds.append(time.perf_counter() - started)
        return model.miou

    def objective(self, trial: optuna.Trial) -> float:
        """The mean over the folds of one strength."""
        index = json.loads((self.folder / "index.json").read_text())
        names = np.array(sorted(index["groups"]))
        groups = [index["groups"][name] for name in names]
        strength = trial.suggest_float("total_decay", min(STRENGTHS), max(STRENGTHS))
        scores = []
        for fold, (train, held_out) in enumerate(GroupKFold(self.folds).split(names, groups=groups)):
            # the rise and the cosine both average half the peak, so Σ η = LR * steps / 2
            weight_decay = 2 * strength / (LR * self.epochs * -(-len(train) // BATCH_SIZE))
            scores.append(
                self.train(names[train].tolist(), names[held_out].tolist(), len(index["classes"]), weight_decay, fold)
            )
            if self.trials is not None and len(self.seconds) >= self.trials:
                trial.study.stop()
                break
        return float(np.mean(scores))


def main() -> None:
    """Run the grid, or its first trainings, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--loaders", type=int, default=0, help="worker processes of each DataLoader")
    parser.add_argument("--trials", type=int, help="stop after so many trainings and extrapolate to the grid")
    asked = parser.parse_args()
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = asked.work / "digits"
    if not (folder / "index.json").exists():
        write_pngs(folder)
    search = Search(folder, asked.folds, asked.epochs, asked.loaders, asked.trials, seconds=[])
    started = time.perf_counter()
    sampler = optuna.samplers.GridSampler({"total_decay": list(STRENGTHS)}, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(search.objective, n_trials=len(STRENGTHS))
    taken, trials = time.perf_counter() - started, len(STRENGTHS) * asked.folds
    done = len(search.seconds)
    # the first training also warms up, so it does not speak for those that were left out
    left = (trials - done) * statistics.median(search.seconds[1:] or search.seconds)
    print(
        json.dumps(
            {
                "trials": trials,
                "trained": done,
                "extrapolated": done < trials,
                "seconds": round(taken + left, 1),
                "seconds_a_trial": [round(one, 2) for one in search.seconds],
                "best": study.best_params["total_decay"],
                "miou": round(study.best_value, 4),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
