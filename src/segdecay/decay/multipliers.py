"""How hard each group decays relative to the others, and a partition as groups of a torch optimizer.

Knows partitions; nothing of policies, hooks or learning rates: a learning rate of a group never touches its strength.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from segdecay.decay.axes import validate_strength
from segdecay.decay.groups import FROZEN, GROUPS, Partition
from segdecay.errors import DecayError, gather, unknown

DEFAULT_MULTIPLIERS: Mapping[str, float] = MappingProxyType(
    {"encoder": 1.0, "body": 1.0, "head": 1.0, "norm": 0.0, "bias": 0.0}
)


def group_multipliers(partition: Partition, multipliers: Mapping[str, float] | None = None) -> dict[str, float]:
    """The multiplier of every group of a partition: those given, over the defaults.

    Raises:
        DecayError: a name is no group, a value is negative or not finite, or a group made by a rule has no value.

    Example:
        >>> from torch import nn
        >>> from segdecay.decay.groups import group_parameters
        >>> group_multipliers(group_parameters(nn.Linear(2, 1)), {"bias": 0.5})
        {'head': 1.0, 'bias': 0.5}
    """
    given = dict(multipliers or {})
    own = [group for group in partition.groups if group not in GROUPS]
    allowed = (*GROUPS, *own)
    faults = [unknown("group", name, allowed) for name in given if name not in allowed]
    faults += [
        f"The multiplier of group '{name}' must be a finite number, 0 or more; saw {value}."
        for name, value in given.items()
        if not math.isfinite(value) or value < 0
    ]
    faults += [
        f"Group '{name}' comes from a rule and has no default: give multipliers={{'{name}': …}}. If it is not meant to "
        f"be a new group, the usual ones are {', '.join(GROUPS)}."
        for name in own
        if name not in given
    ]
    gather(DecayError, faults)
    return {group: float(given.get(group, DEFAULT_MULTIPLIERS.get(group, 0.0))) for group in partition.groups}


def optimizer_groups(
    partition: Partition, multipliers: Mapping[str, float] | None = None, *, strength: float = 0.0
) -> list[dict[str, Any]]:
    """The trainable parameters as groups for a torch optimizer, each with an explicit weight_decay.

    Args:
        partition: of the model.
        multipliers: of the strength, by group.
        strength: λ of the optimizer's own weight decay; 0 where a policy is attached instead.

    Returns:
        One dict a group that is not empty: params, weight_decay = strength times multiplier, name.

    Raises:
        DecayError: as `group_multipliers`; the strength is negative or not finite.

    Example:
        >>> from torch import nn
        >>> from segdecay.decay.groups import group_parameters
        >>> groups = optimizer_groups(group_parameters(nn.Linear(2, 1)), strength=0.1)
        >>> [(group["name"], group["weight_decay"], len(group["params"])) for group in groups]
        [('head', 0.1, 1), ('bias', 0.0, 1)]
    """
    validate_strength(strength)
    return [
        {
            "params": [parameter for _, parameter in partition.parameters(group)],
            "weight_decay": strength * multiplier,
            "name": group,
        }
        for group, multiplier in group_multipliers(partition, multipliers).items()
        if group != FROZEN
    ]
