"""Builds the parts of a trial from its task: device, model, optimizer, regularizer, normalisation, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segdecay import decay
from segdecay.config.schema import DecayConfig, ModelConfig, OptimizerConfig, RunConfig
from segdecay.data.dataset import Dataset
from segdecay.data.transforms.user import UserTransform
from segdecay.decay.axes import StrengthAxis
from segdecay.decay.groups import DEFAULT_MULTIPLIERS
from segdecay.decay.regularizers.dropout import Dropout
from segdecay.decay.regularizers.l2_sp import L2SP
from segdecay.errors import ConfigError, ModelError
from segdecay.models.zoo import PRESETS, build_model, fresh_names, logits_of
from segdecay.runs.records import StrengthRecord
from segdecay.training.batches import Draws, build_draws, derive_seed, generator
from segdecay.training.class_weights import Pixels, build_class_weights, pixel_statistics
from segdecay.training.distributed import Fabric, Ranks, Spread, build_fabric, scoring_model
from segdecay.training.head import RowCap
from segdecay.training.losses import OriginalLoss, build_loss, logit_adjustment
from segdecay.training.optim import FUSED, build_optimizer, example_optimizer, learning_rates, momentum_of
from segdecay.training.precision import prepare_torch
from segdecay.training.user_api import UserFunction, user_axis

ALONE = Ranks()


@dataclass(frozen=True)
class TrialTask:
    """One training to run. Indices point into the decoded data set; nothing depends on other trials."""

    folder: Path
    dataset: Path
    config: RunConfig
    setting: str
    value: float  # on the regularizer's axis
    fold: int
    seed: int
    train: tuple[int, ...]
    scored: tuple[int, ...]  # validation images, or the test part of a refit
    device: str = "cpu"
    keep_model: bool = False  # for refits, and for folds of an ensemble
    is_refit: bool = False
    scores_on_the_way: int = 8  # validation scores in the curve before the last; 0 for a test part
    checkpoint_every_s: float = 5.0
    diagnostics_steps: int = 100  # at least, between two diagnostics, each of which costs about half a step
    user: UserFunction | None = None  # trained by the user's function in place of the built-in loop
    transform: UserTransform | None = None  # a callable of the user's, given in Python; others are named in `config`
    spread: Spread | None = None  # several devices; None: `device` alone
    batches_ahead: int = 0  # prepared by a thread on a CPU, where it gains nothing by default; on a GPU always some
    trials_on_device: int = 1  # at a time; they share its memory

    @property
    def drawn_from(self) -> int:
        """The seed of all random draws of this trial: the run's seed plus the trial's."""
        return self.config.seed + self.seed


def count_batches(n_images: int, batch_size: int) -> int:
    """Batches per epoch; images are split evenly so that no batch is nearly empty."""
    return -(-n_images // batch_size)


def count_steps(config: RunConfig, n_images: int, *, epochs: int | None = None) -> int:
    """Optimizer steps of `epochs` epochs; by default of the first stage, for which a strength is tuned."""
    batches = count_batches(n_images, config.training.batch_size)
    return (config.training.epochs if epochs is None else epochs) * -(-batches // config.training.accumulate)


def count_epochs(config: RunConfig) -> int:
    """Epochs of a whole trial, both stages."""
    return config.training.epochs + config.balancing.epochs


def epoch_batches(task: TrialTask, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """The training indices of every batch of one epoch: the same for every setting of a fold and seed."""
    order = torch.randperm(len(task.train), generator=generator(task.drawn_from, task.fold, "order", epoch)).numpy()
    indices = np.asarray(task.train, dtype=np.int64)[order]
    yield from np.array_split(indices, count_batches(len(indices), task.config.training.batch_size))


def axis_for(config: DecayConfig, optimizer: OptimizerConfig) -> StrengthAxis:
    """The axis that this regularizer and optimizer are tuned along.

    Raises:
        DecayError: the regularizer or an option is unknown, or regularizer and optimizer do not fit.
    """
    if config.axis is not None:
        return user_axis(config.axis)
    built = optimizer.name if optimizer.name in FUSED else example_optimizer(optimizer)
    return decay.axis_of(config.regularizer, built, momentum=momentum_of(optimizer), options=config.options)


def check_dropout(config: RunConfig) -> list[str]:
    """Faults of a configuration that searches dropout."""
    if config.decay.regularizer != Dropout.name:
        return []
    faults = []
    if config.model.name not in PRESETS:
        faults.append(
            f"decay.regularizer=dropout sets the Dropout2d of the built-in U-Net ({', '.join(PRESETS)}); saw "
            f"model.name={config.model.name}. For a user model, set the dropout in the model, in one run per p."
        )
    if config.model.dropout:
        faults.append(
            f"decay.regularizer=dropout searches model.dropout; saw it set to {config.model.dropout:g}. Leave "
            "model.dropout out."
        )
    return faults


def model_at(config: RunConfig, value: float) -> ModelConfig:
    """The model of a setting, with the setting's dropout if dropout is searched."""
    if config.decay.regularizer != Dropout.name:
        return config.model
    return config.model.model_copy(update={"dropout": value})


def strength_of(config: RunConfig, value: float, n_images: int, *, size: float | None = None) -> StrengthRecord:
    """An axis value in all its units, for a training on `n_images` images.

    `size` is the median initial size of the shrunk weights; an axis relative to it has no λ without it.
    """
    axis = axis_for(config.decay, config.optimizer).with_size(size)
    steps = count_steps(config, n_images)
    rates = learning_rates(config.schedule, config.optimizer.lr, steps)
    described = decay.describe_strength(axis, value, rates, steps / config.training.epochs)
    return StrengthRecord(axis.name, value, described.lambda_, described.timescale_epochs, described.total_decay)


def largest_value(config: RunConfig, n_images: int) -> float:
    """The largest axis value whose steps keep ηλ below 1."""
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, n_images))
    return axis_for(config.decay, config.optimizer).largest(rates)


def partition_of(config: RunConfig, model: nn.Module) -> decay.Partition:
    """The groups of a model's parameters under this configuration."""
    return decay.group_parameters(model, rules=config.decay.rules or None, head=config.decay.head)


def multipliers_of(config: DecayConfig) -> dict[str, float]:
    """The strength of every group, relative to the searched one.

    Raises:
        ConfigError: a negative multiplier.
    """
    wrong = {name: value for name, value in config.groups.items() if value < 0}
    if wrong:
        raise ConfigError(f"decay.groups: multipliers must not be negative; saw {wrong}.")
    return {**DEFAULT_MULTIPLIERS, **config.groups}


def initial_size(config: RunConfig, dataset: Dataset) -> float | None:
    """The median initial size of the weights that the regularizer shrinks, if the axis is relative to it; else None."""
    if axis_for(config.decay, config.optimizer).name != "relative_shrinkage":
        return None
    torch.manual_seed(config.seed)
    model = build_model(config.model, in_channels=dataset.bands, classes=len(dataset.classes))
    _, handle = attach_regularizer(config, model, 0.0, [config.optimizer.lr])
    return handle.size()


@dataclass
class Parts:
    """The objects of one training."""

    fabric: Fabric
    model: nn.Module  # set up by Fabric
    scoring: nn.Module  # the same weights without DDP
    bare: nn.Module
    optimizer: torch.optim.Optimizer
    wrapped: Any  # the optimizer as wrapped by Fabric
    handle: decay.Handle
    rates: tuple[float, ...]
    loss: OriginalLoss
    weight: Tensor | None  # (C,)
    adjustment: Tensor | None  # (C,)
    mean: Tensor  # (1, B, 1, 1)
    deviation: Tensor  # (1, B, 1, 1)
    pixels: Pixels
    strength: StrengthRecord  # of the first stage
    stage: int = 1
    caps: tuple[RowCap, ...] = ()  # of the head's rows in the second stage
    draws: Draws = field(default_factory=Draws)
    examples: tuple[int, ...] = ()  # (C,) counts of the second stage's loss
    ranks: Ranks = field(default_factory=Ranks)


def build_parts(task: TrialTask, dataset: Dataset, ranks: Ranks = ALONE) -> Parts:
    """New parts for one trial; the same initial weights for every setting of a fold and seed."""
    config = task.config
    prepare_torch(config, task.device)
    fabric = build_fabric(config.training.precision, task.device, ranks, task.spread)
    torch.manual_seed(derive_seed(task.drawn_from, task.fold, "init"))
    bare = build_model(model_at(config, task.value), in_channels=dataset.bands, classes=len(dataset.classes))
    # on the device before its weights are remembered anywhere
    bare = bare.to(memory_format=torch.channels_last).to(fabric.device)
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, len(task.train)))
    optimizer, handle = attach_regularizer(config, bare, task.value, rates)
    strength = strength_of(config, task.value, len(task.train), size=handle.size())
    model, wrapped = fabric.setup(bare, optimizer)
    pixels = pixel_statistics(dataset, task.train)
    weight = build_class_weights(config.loss, dataset, task.train, pixels)
    adjustment = logit_adjustment(config.loss.logit_adjustment, pixels.counts, weight)

    def on_device(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=fabric.device).view(1, -1, 1, 1)

    return Parts(
        fabric=fabric,
        model=model,
        scoring=scoring_model(fabric, model, bare, ranks),
        bare=bare,
        optimizer=optimizer,
        wrapped=wrapped,
        handle=handle,
        rates=rates,
        loss=build_loss(config.loss),
        weight=None if weight is None else weight.to(fabric.device),
        adjustment=None if adjustment is None else adjustment.to(fabric.device),
        mean=on_device(pixels.mean),
        deviation=on_device(pixels.deviation),
        pixels=pixels,
        strength=strength,
        draws=build_draws(
            config.augment, dataset, task.train, seed=task.drawn_from, fold=task.fold, transform=task.transform
        ),
        ranks=ranks,
    )


def is_fused(config: RunConfig) -> bool:
    """Whether the optimizer's step is one kernel. Not with a scaled loss: such a kernel unscales after clipping."""
    return config.training.precision != "16-mixed"


def attach_regularizer(
    config: RunConfig, model: nn.Module, value: float, rates: Sequence[float]
) -> tuple[torch.optim.Optimizer, decay.Handle]:
    """The optimizer of a model, with the regularizer attached at an axis value (nothing for dropout, which is in the
    model).

    Raises:
        DecayError: the regularizer does not fit the model, or the value does not fit the learning rates.
    """
    partition = partition_of(config, model)
    groups = decay.optimizer_groups(partition)
    optimizer = build_optimizer(config.optimizer, groups, fused=is_fused(config))
    in_model = decay.REGULARIZERS[config.decay.regularizer].in_model
    handle = decay.attach(
        optimizer,
        model,
        "none" if in_model else config.decay.regularizer,
        options=None if in_model else regularizer_options(config, model, partition),
        strength=decay.Strength.from_axis(0.0 if in_model else value, learning_rates=rates),
        partition=partition,
        multipliers=multipliers_of(config.decay),
    )
    return optimizer, handle


def regularizer_options(config: RunConfig, model: nn.Module, partition: decay.Partition) -> dict[str, Any]:
    """The regularizer's options; for l2_sp with the tensors that no file or hub initialised."""
    options = config.decay.options
    has_start = config.model.weights is not None or config.model.pretrained
    if config.decay.regularizer != L2SP.name or "new" in options or not has_start:
        return options
    fresh, factors = set(fresh_names(config.model, model)), multipliers_of(config.decay)
    decayed = [row.name for row in partition.rows if row.trainable and factors.get(row.group)]
    return {**options, "new": [name for name in decayed if name in fresh]}


def apply_in_training(
    model: nn.Module,
    images: Tensor,  # (N, B, H, W) normalised
) -> Tensor:  # (N, C, H, W)
    """Logits of a training batch.

    Raises:
        ModelError: a batch of one image reaches BatchNorm, or the model does not take such images.
    """
    try:
        return logits_of(model, images)
    except (RuntimeError, ValueError, TypeError) as error:
        if "more than 1 value per channel" in str(error):
            message = (
                f"A batch of {len(images)} image(s) reaches a BatchNorm layer with one value per channel, which has "
                "no variance. Use training.batch_size of 2 or more with at least 2 training images, or "
                "model.norm=group."
            )
            raise ModelError(message) from error
        raise ModelError(f"The model cannot be applied to {tuple(images.shape)} images: {error}") from error
