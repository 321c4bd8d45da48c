"""A callback for transformers.Trainer that applies a regularizer in every optimizer step.

Its state is saved in the checkpoint's trainer_state.json.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay.decay import Handle, Strength
from segdecay.decay.own_decay import KEYS
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.errors import DecayError, need
from segdecay.integrations.trainer import REMEDY, Ahead, Attachments, ScheduleCopy

MARK = "__safetensors__"


def to_json(value: Any) -> Any:
    """Mappings with text keys, sequences, numbers, text, None and tensors as JSON values.

    Raises:
        DecayError: a value of another type.

    Example:
        >>> import torch
        >>> from_json(to_json({"steps": 3, "kappa": torch.tensor([0.5])}))
        {'steps': 3, 'kappa': tensor([0.5000])}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return {MARK: base64.b64encode(save({"tensor": value.detach().cpu().contiguous()})).decode("ascii")}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    raise DecayError(
        f"A regularizer's state holds a {type(value).__name__}; only plain values and tensors can be saved."
    )


def from_json(value: Any) -> Any:
    """The inverse of `to_json`; tuples become lists, tensors are on the CPU."""
    if isinstance(value, dict):
        if value.keys() == {MARK}:
            return load(base64.b64decode(value[MARK]))["tensor"]
        return {key: from_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return value


if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState
else:
    TrainerCallback = need("transformers", extra="transformers").TrainerCallback
    ExportableState = need("transformers.trainer_callback", extra="transformers").ExportableState


class TransformersDecay(TrainerCallback, ExportableState):
    """Attach a regularizer to the trainer's optimizer at the start of `train`, resume from checkpoints, detach at the
    end.

    Acts once per optimizer step: after backward and clipping, with any accumulation. The strength in a checkpoint
    replaces the given one. TrainingArguments' `weight_decay` is 0 by default; if it is not, pass take_over=True. If
    `train` raises, the regularizer stays attached until the next `train` or `detach`.

    Args:
        regularizer: a name in `segdecay.decay.REGULARIZERS`.
        log: add λ, λR, D so far and steps to the trainer's logs.
        options: those of `segdecay.decay.attach`, `strength` first. If a `Strength` needs the learning rates to come
            and has none, they are computed from a copy of the scheduler.

    Raises:
        DecayError: a name is unknown. At the start of `train`: as `attach`; the learning rates to come cannot be
            computed (a schedule that follows a metric); or `restore_callback_states_from_checkpoint=True` has lost an
            option.

    Example:
        >>> from segdecay.decay import Strength  # then Trainer(..., callbacks=[decay])
        >>> decay = TransformersDecay("decoupled", strength=Strength.from_total_decay(2.0))
        >>> decay.handles
        []
    """

    def __init__(self, regularizer: str, *, log: bool = False, **options: Any) -> None:
        self._log = log
        self._attachments = Attachments(regularizer, options)
        self._own_decay: list[dict[str, float]] = []
        self.lost: list[str] = []  # options that a callback rebuilt from JSON lacks
        self.checkpointed: dict[str, Any] = {}

    @property
    def handles(self) -> list[Handle]:
        """One, for the trainer's optimizer; empty before `train`, detached after it."""
        return self._attachments.handles

    def detach(self) -> None:
        """Remove the regularizer; needed only after a `train` that raised. Idempotent."""
        self._attachments.detach_()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        del control
        if self.lost:
            raise DecayError(
                f"restore_callback_states_from_checkpoint=True rebuilds this callback from JSON, which cannot hold "
                f"{', '.join(self.lost)}. Leave it False: the state of TransformersDecay is restored in any case."
            )
        self.detach()
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        saved = _saved_state(state) if state.global_step > 0 else None
        if saved is not None:
            _restore_own_decay_(optimizer, saved.get("own_decay", []))
        self._own_decay = [{key: group[key] for key in KEYS if key in group} for group in optimizer.param_groups]
        ahead = Ahead(
            lambda held: _learning_rates(state, model, held, kwargs.get("lr_scheduler")),
            lambda: _steps_per_epoch(args, kwargs.get("train_dataloader")),
        )
        self._attachments.attach_([optimizer], model, ahead, saved)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        del args, control
        logs = kwargs.get("logs")
        if self._log and isinstance(logs, dict) and self._attachments.is_attached():
            logs.update(self._attachments.scalars())
            state.log_history[-1].update(self._attachments.scalars())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        del args, state, control, kwargs
        self.detach()

    def state(self) -> dict[str, Any]:
        """The state for trainer_state.json, with tensors as base64."""
        options = _plain_strength(self._attachments.options)
        kept = {key: value for key, value in options.items() if _survives_json(value)}
        saved = {**self._attachments.state_dict(), "own_decay": self._own_decay}
        return {
            "args": {"regularizer": self._attachments.regularizer, "log": self._log, **kept},
            "attributes": {
                "lost": [key for key in options if key not in kept],
                "checkpointed": to_json(saved) if self.handles else {},
            },
        }


def _saved_state(state: TrainerState) -> dict[str, Any] | None:
    """The state in the checkpoint from which training resumes; None if it was written without a TransformersDecay."""
    by_name: Any = state.stateful_callbacks or {}
    stored = by_name.get(TransformersDecay.__name__)
    if isinstance(stored, list):
        raise DecayError(f"The checkpoint holds {len(stored)} TransformersDecay callbacks; one is allowed.")
    found = stored["attributes"].get("checkpointed") if stored else None
    return dict(from_json(found)) if found else None


def _restore_own_decay_(optimizer: Optimizer, values: list[Mapping[str, float]]) -> None:
    """Give the groups their decay before the first start, since the checkpoint holds 0 after `take_over`."""
    for group, own in zip(optimizer.param_groups, values, strict=False):
        group.update(own)


def _plain_strength(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with a `Strength` as JSON values, which `attach` accepts."""
    strength = options.get("strength")
    if isinstance(strength, Strength) and not callable(strength.value):
        return {**options, "strength": json.loads(json.dumps(strength.to_json()))}
    return dict(options)


def _survives_json(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _steps_per_epoch(args: TrainingArguments, loader: Any) -> float:
    try:
        batches = len(loader)
    except TypeError as error:
        raise DecayError(
            "The training data has no length, so the number of steps per epoch is not known. Pass steps_per_epoch=… to "
            "Strength.from_timescale, or give a total decay or λ instead."
        ) from error
    return math.ceil(batches / args.gradient_accumulation_steps)


def _learning_rates(state: TrainerState, model: nn.Module, optimizer: Optimizer, scheduler: Any) -> list[float]:
    """The rate of every step to come; the trainer steps the scheduler after each."""
    held = getattr(scheduler, "optimizer", None)
    if not isinstance(held, Optimizer) or bare_optimizer(held) is not bare_optimizer(optimizer):
        raise DecayError(f"{type(scheduler).__name__} is not a scheduler of the trainer's optimizer. {REMEDY}")
    copied = ScheduleCopy(held, [scheduler], keep=(model,))
    rates = []
    for step in range(state.global_step, state.max_steps):
        if step > state.global_step:
            copied.step_(0)
        rates.append(copied.rate())
    return rates
