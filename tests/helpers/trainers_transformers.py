"""The small net as a model for transformers, its Trainer, and optimizers for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, IterableDataset, SequentialSampler
from trainers import Net, make_batches, make_net
from transformers import Trainer, TrainerCallback, TrainingArguments


class Segmenter(nn.Module):
    """A model that returns the loss, as transformers requires."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Net = make_net()

    def forward(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        logits = self.net(images)
        return {"loss": F.cross_entropy(logits, masks), "logits": logits}


class Images(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.items = [(image, mask) for batch in make_batches() for image, mask in zip(*batch, strict=True)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, mask = self.items[index]
        return {"images": image, "masks": mask}


class Endless(IterableDataset[dict[str, Tensor]]):
    def __iter__(self) -> Any:
        while True:
            yield from (Images()[index] for index in range(12))


class Unshuffled(Trainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(data)


class Rates(TrainerCallback):
    """Records the learning rate of every optimizer step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control
        self.seen.append(float(kwargs["optimizer"].param_groups[0]["lr"]))


class StopAt(TrainerCallback):
    """Save and stop at a step, like an interrupted run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def make_trainer(
    folder: Path,
    *callbacks: TrainerCallback,
    build: Callable[[nn.Module], Optimizer] | None = None,
    schedule: Callable[[Any], LRScheduler] | None = None,
    data: Any = None,
    **options: Any,
) -> Trainer:
    model = Segmenter()
    settings: dict[str, Any] = {"output_dir": str(folder), "num_train_epochs": 2, "per_device_train_batch_size": 4}
    settings |= {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no", "max_grad_norm": 0.0}
    settings |= {"lr_scheduler_type": "constant", "learning_rate": 0.01, "dataloader_pin_memory": False}
    optimizer = build(model.net) if build else None
    scheduler = schedule(optimizer) if schedule and optimizer else None
    return Unshuffled(
        model,
        TrainingArguments(**{**settings, **options}),
        train_dataset=data or Images(),
        callbacks=list(callbacks),
        optimizers=(optimizer, scheduler),  # type: ignore[arg-type]
    )


def trained(trainer: Trainer, **options: Any) -> Net:
    trainer.train(**options)
    assert isinstance(trainer.model, Segmenter)
    return trainer.model.net


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
