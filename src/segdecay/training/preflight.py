"""The preflight of a search: a few real steps, to find errors and to measure the time of a step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segdecay.config.schema import RunConfig
from segdecay.data.dataset import Dataset, open_dataset
from segdecay.data.transforms.crops import crop_size, take_batch
from segdecay.decay import Partition
from segdecay.decay.regularizers.l2_sp import L2SP
from segdecay.errors import ConfigError, ModelError, gather
from segdecay.models.zoo import fresh_names, is_own
from segdecay.training.batches import check_draws, generator
from segdecay.training.determinism import Layer, layers_without
from segdecay.training.distributed import validate_spread
from segdecay.training.head import cap_rows_
from segdecay.training.setup import Parts, TrialTask, apply_in_training, build_parts, count_batches, partition_of
from segdecay.training.weight_balancing import begin_second_stage_, head_norms

TIMED_STEPS = 3
PAGE_BYTES = 6_000_000  # report.html, most of it the plotting library, and examples
SHOWN_TENSORS = 5


@dataclass(frozen=True)
class Preflight:
    """The results of the preflight."""

    partition: Partition
    seconds_a_batch: float
    checkpoint_bytes: int
    size: float | None = None  # median initial size of the shrunk weights, if the axis is relative to it
    fresh: tuple[str, ...] = ()  # tensors that began with random values
    tensors: int = 0  # of the model
    has_idle: bool = False  # some trainable parameters got no gradient
    varying: tuple[Layer, ...] = ()  # layers without a deterministic kernel on the device

    def room_bytes(self, workers: int, refits: int) -> int:
        """Upper bound of what a run may still write: two checkpoints per worker, two weights per refit, the report.

        >>> Preflight(Partition((), ()), 0.0, checkpoint_bytes=3_000_000).room_bytes(workers=2, refits=1)
        20000000
        """
        return 2 * workers * self.checkpoint_bytes + 2 * refits * (self.checkpoint_bytes // 3) + PAGE_BYTES


def run_preflight(task: TrialTask) -> Preflight:
    """Train a few batches of the smallest size that will occur, on a temporary model.

    Raises:
        ConfigError: class-aware crops or copy-paste have no effect on these data, or name unknown classes; a
            training is too short for its regularizer to act.
        ModelError: the model cannot be applied, or its output does not fit the masks.
        DecayError: the partition or the regularizer does not fit the model.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    dataset = open_dataset(task.dataset)
    preflight = replace(task, folder=Path(tempfile.gettempdir()))
    try:
        parts = build_parts(preflight, dataset)
        gather(ConfigError, check_draws(task.config.augment, dataset, task.train, parts.draws))
        _refuse_idle(task.config, parts)
        batches = count_batches(len(task.train), task.config.training.batch_size)
        validate_spread(task.config, len(task.train), batches, task.spread)
        initial_size = parts.handle.size()
        smallest = max(1, len(task.train) // batches // (len(task.spread.devices) if task.spread else 1))
        crop = crop_size(dataset, task.train, task.config.augment)
        images, masks = take_batch(
            dataset, list(task.train[:smallest]), crop=crop, generator=generator(task.seed, "preflight")
        )
        device = parts.fabric.device
        normal, masks = (images.to(device).float() - parts.mean) / parts.deviation, masks.to(device)
        parts.model.train()
        varying = _varying_layers(task, parts, normal)
        times = []
        for _ in range(TIMED_STEPS):
            start = _now(device)
            logits = apply_in_training(parts.model, normal)
            _validate_logits(logits, images, dataset)
            has_idle = _step(parts, logits, masks)
            times.append(_now(device) - start)
        size = sum(value.numel() * value.element_size() for value in parts.bare.state_dict().values())
        partition = partition_of(task.config, parts.bare)
        if task.config.balancing.epochs:
            begin_second_stage_(parts, preflight, dataset, head_norms(partition))
            parts.model.eval()
            _step(parts, apply_in_training(parts.model, normal), masks)
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)
    fresh = fresh_names(task.config.model, parts.bare)
    tensors = len(parts.bare.state_dict())
    return Preflight(partition, min(times), 3 * size, initial_size, fresh, tensors, has_idle, varying)


def _now(device: torch.device) -> float:
    """The time at which the device has done what it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)
    return time.perf_counter()


def _varying_layers(task: TrialTask, parts: Parts, images: torch.Tensor) -> tuple[Layer, ...]:
    """Layers without a deterministic kernel on this GPU.

    Raises:
        ConfigError: there are some, and training.deterministic=true.
    """
    wanted = task.config.training.deterministic
    if parts.fabric.device.type != "cuda" or wanted is False:
        return ()
    found = layers_without(parts.bare, images)
    if found and wanted is True:
        raise ConfigError(
            f"training.deterministic=true: on a GPU these layers have no kernel that repeats a result to the bit: "
            f"{_shown(found)}. Use training.deterministic=auto, replace them, or use --device cpu."
        )
    return found


def _shown(layers: Sequence[Layer]) -> str:
    listed = ", ".join(str(layer) for layer in layers[:SHOWN_TENSORS])
    return listed + (f" and {len(layers) - SHOWN_TENSORS} more" if len(layers) > SHOWN_TENSORS else "")


def _validate_logits(logits: torch.Tensor, images: torch.Tensor, dataset: Dataset) -> None:
    of_images = dataset.task == "classification"
    expected = (len(images), len(dataset.classes), *((1, 1) if of_images else images.shape[-2:]))
    if tuple(logits.shape) == expected:
        return
    raise ModelError(
        f"The model returned {tuple(logits.shape)} for {len(images)} images; logits of shape {expected} are needed "
        + ("(N, classes, 1, 1), or (N, classes)." if of_images else "(N, classes, H, W).")
    )


def _refuse_idle(config: RunConfig, parts: Parts) -> None:
    idle, steps = parts.handle.regularizer.idle_steps(), len(parts.rates)
    if 0 < steps <= idle:
        name = config.decay.regularizer
        options = parts.handle.regularizer.state_dict().get("options")
        raise ConfigError(
            f"Regularizer '{name}' has no effect in the first {idle} steps (options {options}), and a training here "
            f"has only {steps}: no strength would have an effect. Train longer (training.epochs, or a smaller "
            "batch), or choose options that act at once, for cpr decay.options={kappa: factor}; in a comparison leave "
            "the arm out."
        )


def start_notes(config: RunConfig, preflight: Preflight) -> list[str]:
    """Notes and warnings about repeatability and the initial weights.

    The layers whose results vary, the tensors that model.weights leaves random, and whether l2_sp would pull weights to
    random values.
    """
    notes, left = [], len(preflight.fresh)
    if preflight.varying:
        notes.append(
            "repeated trainings may differ in the last digits: no deterministic kernel on this GPU for "
            f"{_shown(preflight.varying)}"
        )
    if config.model.weights is not None and left:
        shown = ", ".join(preflight.fresh[:SHOWN_TENSORS]) + (", …" if left > SHOWN_TENSORS else "")
        notes.append(
            f"model.weights gives {preflight.tensors - left} of {preflight.tensors} tensors; {left} begin with random "
            "values: "
            f"{shown}"
        )
    is_ours = not is_own(config.model.name)
    if config.decay.regularizer == L2SP.name and is_ours and left == preflight.tensors:
        notes.append(
            "warning: l2_sp pulls weights to their initial values, which are random here: no pretrained weights are "
            "given. Set model.weights, or model.pretrained=true for an smp model, or use decoupled."
        )
    return notes


def _step(parts: Parts, logits: torch.Tensor, masks: torch.Tensor) -> bool:
    """One optimizer step; returns whether a trainable parameter got no gradient."""
    parts.fabric.backward(parts.loss(logits, masks, parts.weight, parts.adjustment))
    has_idle = any(one.requires_grad and one.grad is None for one in parts.bare.parameters())
    parts.wrapped.step()
    cap_rows_(parts.caps)
    parts.wrapped.zero_grad(set_to_none=True)
    return has_idle
