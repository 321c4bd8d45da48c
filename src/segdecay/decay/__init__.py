"""Weight decay under control, for any torch optimizer: groups, strengths, policies.

Stands alone: needs torch and `segdecay.errors`, nothing else of the package.
"""

from segdecay.decay.attach import attach
from segdecay.decay.conventions import CONVENTIONS, Convention, Numbers, convention_names, convention_of
from segdecay.decay.groups import GROUPS, ParameterRow, Partition, bare_module, group_parameters
from segdecay.decay.handle import Handle, Objective, handle_of
from segdecay.decay.multipliers import DEFAULT_MULTIPLIERS, group_multipliers, optimizer_groups
from segdecay.decay.paste import paste_lines
from segdecay.decay.policy import Bucket, OptimizerTraits, Policy
from segdecay.decay.registry import POLICIES, axis_of, build_policy, describe_policy, policy_names
from segdecay.decay.strength import (
    Axis,
    Coupling,
    Described,
    check_first_order,
    decoupled_axis,
    describe_strength,
    idle_weight,
    lambda_axis,
    lambda_of_timescale,
    none_axis,
    sgd_axis,
    timescale_epochs,
    total_decay,
)
from segdecay.decay.translation import check_translation, from_convention, to_convention, translate

__all__ = [
    "CONVENTIONS",
    "DEFAULT_MULTIPLIERS",
    "GROUPS",
    "POLICIES",
    "Axis",
    "Bucket",
    "Convention",
    "Coupling",
    "Described",
    "Handle",
    "Numbers",
    "Objective",
    "OptimizerTraits",
    "ParameterRow",
    "Partition",
    "Policy",
    "attach",
    "axis_of",
    "bare_module",
    "build_policy",
    "check_first_order",
    "check_translation",
    "convention_names",
    "convention_of",
    "decoupled_axis",
    "describe_policy",
    "describe_strength",
    "from_convention",
    "group_multipliers",
    "group_parameters",
    "handle_of",
    "idle_weight",
    "lambda_axis",
    "lambda_of_timescale",
    "none_axis",
    "optimizer_groups",
    "paste_lines",
    "policy_names",
    "sgd_axis",
    "timescale_epochs",
    "to_convention",
    "total_decay",
    "translate",
]
