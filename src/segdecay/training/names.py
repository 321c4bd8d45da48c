"""Whether the names of a configuration's training exist, and whether their pairs have a meaning."""

from __future__ import annotations

from segdecay.config.schema import OptimizerConfig, RunConfig
from segdecay.errors import ConfigError, DecayError
from segdecay.training.class_weights import check_weight_names
from segdecay.training.losses import check_loss
from segdecay.training.optim import check_optimizer, check_schedule_name
from segdecay.training.setup import axis_for, check_dropout, multipliers_of
from segdecay.training.weight_balancing import check_balancing


def check_training(config: RunConfig) -> list[str]:
    """Faults of optimizer, schedule, loss, balancing and regularizer, each alone and together."""
    optimizer = check_optimizer(config.optimizer)
    faults = [*optimizer, *check_schedule_name(config.schedule.name), *check_dropout(config), *check_balancing(config)]
    faults += [*check_loss(config.loss), *check_weight_names(config.loss)]
    try:
        multipliers_of(config.decay)
        axis_for(config.decay, OptimizerConfig() if optimizer else config.optimizer)
    except (DecayError, ConfigError) as error:
        faults.append(str(error))
    return faults
