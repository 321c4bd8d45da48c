"""A Lightning callback that applies a regularizer in every optimizer step of a Trainer.

Works with `lightning`, or with `pytorch_lightning` if that is not installed.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from segdecay.decay import Handle
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.errors import DecayError, need
from segdecay.integrations.trainer import REMEDY, Ahead, Attachments, ScheduleCopy

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    _alone = importlib.util.find_spec("lightning") is None and importlib.util.find_spec("pytorch_lightning")
    Callback = need("pytorch_lightning" if _alone else "lightning.pytorch", extra="lightning").Callback


class LightningDecay(Callback):
    """Attach a regularizer to every optimizer at the start of `fit`, resume from checkpoints, detach at the end.

    Acts once per optimizer step: after backward and clipping, with any accumulation, in automatic and manual
    optimization. A `partition` must be that of the whole LightningModule. The strength in a checkpoint replaces the
    given one. After layers are frozen or unfrozen during training (BaseFinetuning), parameters are grouped again before
    the next step.

    Args:
        regularizer: a name in `segdecay.decay.REGULARIZERS`.
        log: send λ, λR, D so far and steps to the trainer's loggers, every `log_every_n_steps`.
        options: those of `segdecay.decay.attach`, `strength` first. If a `Strength` needs the learning rates to come
            and has none, they are computed from a copy of the schedulers.

    Raises:
        DecayError: a name is unknown. At the start of `fit`: as `attach`; optimizers share parameters; or the learning
            rates to come cannot be computed (manual optimization, a schedule that follows a metric,
            `lr_scheduler_step` or `optimizer_step` overridden, training without an end).

    Example:
        >>> decay = LightningDecay("decoupled", strength=1e-2)  # Trainer(callbacks=[decay])
        >>> decay.handles
        []
    """

    def __init__(self, regularizer: str, *, log: bool = False, **options: Any) -> None:
        self._log = log
        self._attachments = Attachments(regularizer, options)
        self._saved: dict[str, Any] | None = None

    @property
    def handles(self) -> list[Handle]:
        """One per optimizer, in their order; empty before `fit`, detached after it."""
        return self._attachments.handles

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        self._saved = None  # a checkpoint that was only validated is not resumed from

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach before the optimizers' checkpoint is loaded, so that `take_over` reads the configured decay."""
        ahead = Ahead(
            lambda optimizer: _learning_rates(trainer, pl_module, optimizer),
            lambda: _steps_per_epoch(trainer, pl_module),
        )
        self._attachments.attach_(trainer.optimizers, pl_module, ahead, self._saved)
        self._saved = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self._attachments.validate_attached(trainer.optimizers)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del pl_module, outputs, batch, batch_idx
        if self._log and trainer.global_step % getattr(trainer, "log_every_n_steps", 50) == 0:
            for logger in trainer.loggers:
                logger.log_metrics(self._attachments.scalars(), step=trainer.global_step)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        del trainer, pl_module, exception
        self._attachments.detach_()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        self._attachments.detach_()

    def state_dict(self) -> dict[str, Any]:
        return self._attachments.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load into attached handles at once (strategies that restore late), else when `fit` starts."""
        if self._attachments.is_attached():
            self._attachments.load_state_dict(state_dict)
        else:
            self._saved = dict(state_dict)


def _steps_per_epoch(trainer: Trainer, module: LightningModule) -> float:
    if not module.automatic_optimization:
        raise DecayError(
            "With manual optimization the number of steps per epoch is not known. Pass steps_per_epoch=… to "
            "Strength.from_timescale, or give strength=λ instead."
        )
    _total_steps(trainer)  # loads the data if needed
    if not math.isfinite(trainer.num_training_batches):
        raise DecayError(
            "The training data has no length, so the number of steps per epoch is not known. Pass steps_per_epoch=… to "
            "Strength.from_timescale, or give a total decay or λ instead."
        )
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _total_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not math.isfinite(steps) or steps < 0:
        raise DecayError(
            f"Training has no end: max_steps is not set, nor max_epochs with data of known length. {REMEDY}"
        )
    return int(steps)


def _learning_rates(trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> list[float]:
    """The rate of every step of this fit, with schedulers stepped in the order of Lightning's loop."""
    if not module.automatic_optimization:
        raise DecayError(f"With manual optimization the number of steps is not known. {REMEDY}")
    changed = [name for name in ("lr_scheduler_step", "optimizer_step") if _is_overridden(module, name)]
    if changed:
        raise DecayError(f"{type(module).__name__} overrides {' and '.join(changed)}, which may set any rate. {REMEDY}")
    total, batches, accumulated = _total_steps(trainer), trainer.num_training_batches, trainer.accumulate_grad_batches
    bare = bare_optimizer(optimizer)
    configs = [one for one in trainer.lr_scheduler_configs if bare_optimizer(one.scheduler.optimizer) is bare]
    copied = ScheduleCopy(optimizer, [one.scheduler for one in configs], keep=(module, trainer))
    rates: list[float] = []
    batch = epoch = 0
    while len(rates) < total:
        batch += 1
        is_last = batch == batches
        if batch % accumulated == 0 or is_last:
            rates.append(copied.rate())
            if len(rates) == total:
                break
            _step_(copied, configs, "step", batch)
        if is_last:
            epoch += 1
            _step_(copied, configs, "epoch", epoch)
            batch = 0
    return rates


def _step_(copied: ScheduleCopy, configs: list[Any], interval: str, count: int) -> None:
    for index, config in enumerate(configs):
        if config.interval == interval and count % config.frequency == 0:
            copied.step_(index)


def _is_overridden(module: LightningModule, name: str) -> bool:
    return not getattr(type(module), name).__qualname__.startswith("LightningModule.")
