"""Weight balancing, the second stage of a trial for rare classes: it trains only the head, on frozen features.

The head has a class-balanced loss, decay and MaxNorm.

Source: Alshammari et al., CVPR 2022; differs in: classes are counted in images or components, decay is decoupled, rows
are capped after every step instead of every epoch, norm statistics are frozen, the last step is taken instead of the
best epoch on the test split, and cross-entropy replaces their binary cross-entropy of the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay import decay
from segdecay.config.schema import LossConfig, RunConfig
from segdecay.data.dataset import Dataset
from segdecay.decay.regularizers.max_norm import norm_cap
from segdecay.errors import ModelError
from segdecay.training.class_weights import count_examples
from segdecay.training.head import RowCap, head_weights, row_norms
from segdecay.training.losses import build_loss, effective_number_weights
from segdecay.training.optim import build_optimizer, learning_rates
from segdecay.training.setup import Parts, TrialTask, count_steps, is_fused


def check_balancing(config: RunConfig) -> list[str]:
    """Faults of a second stage in combination with the rest of a configuration."""
    epochs, tau = config.balancing.epochs, config.loss.logit_adjustment
    if not (epochs and tau):
        return []
    message = (
        f"balancing.epochs={epochs} and loss.logit_adjustment={tau:g} both correct for class frequencies. Set one of "
        "them to 0; two runs, one with each, can be compared."
    )
    return [message]


def head_norms(partition: decay.Partition) -> dict[str, list[float]]:
    """The row norms of every weight of the head, by its name."""
    return {weight.name: row_norms(weight.parameter, weight.dim) for weight in head_weights(partition)}


def begin_second_stage_(parts: Parts, task: TrialTask, dataset: Dataset, norms: Mapping[str, Sequence[float]]) -> None:
    """Turn the parts of the first stage into those of the second, in place.

    The group `head` and the biases of its layer are trained; λ and the cap act on the weights of the head.

    Args:
        parts: of a trial, with the final weights of the first stage or a checkpoint of the second.
        task: the trial.
        dataset: its data.
        norms: row norms of the head at the end of the first stage, by name of the weight.

    Raises:
        ModelError: the model has no head that can be trained alone.
        DecayError: η·λ ≥ 1.
    """
    config = task.config.balancing
    before = parts.handle.partition
    _validate_head(before)
    trained = _trained_names(before)
    parts.handle.detach()
    for row, parameter in before.named_parameters():
        parameter.requires_grad_(row.name in trained)
    partition = decay.group_parameters(parts.bare, rules=task.config.decay.rules or None, head=task.config.decay.head)
    multipliers = {group: float(group == "head") for group in partition.groups}
    rule = task.config.optimizer.model_copy(update={"lr": config.lr or task.config.optimizer.lr})
    parts.optimizer = build_optimizer(rule, decay.optimizer_groups(partition, multipliers), fused=is_fused(task.config))
    parts.handle = decay.attach(
        parts.optimizer,
        parts.bare,
        "decoupled",
        strength=config.decay,
        partition=partition,
        multipliers=multipliers,
    )
    parts.wrapped = parts.fabric.setup_optimizers(parts.optimizer)
    steps = count_steps(task.config, len(task.train), epochs=config.epochs)
    parts.rates += learning_rates(task.config.schedule, rule.lr, steps)
    parts.loss = build_loss(LossConfig())
    parts.examples = tuple(count_examples(dataset, task.train, config.count).tolist())
    parts.weight = effective_number_weights(np.asarray(parts.examples), config.beta).to(parts.fabric.device)
    if config.max_norm_share is not None:
        parts.caps = tuple(
            RowCap(weight, norm_cap(norms[weight.name], config.max_norm_share)) for weight in head_weights(partition)
        )
    parts.stage = 2


def _validate_head(partition: decay.Partition) -> None:
    weights = head_weights(partition)
    if not weights:
        raise ModelError(
            "balancing trains the head alone, but no weight of this model is in the group 'head'. Name it with "
            "decay.head or decay.rules, or set balancing.epochs to 0."
        )
    modules = {row.name: row.module for row in partition.rows}
    if any(modules[weight.name] == "ParametrizationList" for weight in weights):
        raise ModelError(
            "balancing caps and decays the head's weights, but the weights of this head are computed from others (a "
            "torch parametrization), so neither would act. Use a plain head, or set balancing.epochs to 0."
        )


def _trained_names(partition: decay.Partition) -> set[str]:
    """The group `head`, and the trainable biases of the modules that own its weights."""
    names = {name for name, _ in partition.parameters("head")}
    owners = {name.rpartition(".")[0] for name in names}
    beside = {row.name for row in partition.rows if row.name.rpartition(".")[0] in owners and row.trainable}
    return names | beside


def stage_facts(parts: Parts, task: TrialTask, epochs: int) -> dict[str, Any]:
    """The facts of a stage for the trial's record, as JSON: row norms of the head; of the second also its settings."""
    facts: dict[str, Any] = {"stage": parts.stage, "epochs": epochs, "row_norms": head_norms(parts.handle.partition)}
    facts["loss"] = parts.loss.words
    if parts.weight is not None:
        facts["class_weights"] = parts.weight.tolist()
    if parts.stage == 1:
        return facts
    strength, rates = parts.handle.strength, parts.rates[count_steps(task.config, len(task.train)) :]
    return facts | {
        "caps": {cap.weight.name: cap.norm for cap in parts.caps},
        "examples": list(parts.examples),
        "lambda": strength,
        "total_decay": strength * sum(rates),
    }


def log_frequencies(pixels: npt.NDArray[np.int64]) -> list[float | None]:
    """The logarithm of every class's share of the valid training pixels; None for a class without any.

    >>> log_frequencies(np.array([4, 0]))
    [0.0, None]
    """
    total = int(pixels.sum())
    return [math.log(count / total) if count else None for count in pixels.tolist()]
