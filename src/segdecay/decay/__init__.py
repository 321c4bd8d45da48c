"""Weight decay under control, for any torch optimizer: groups, strengths, policies.

Stands alone: needs torch and `segdecay.errors`, nothing else of the package.
"""

from segdecay.decay.attach import attach
from segdecay.decay.attached import handle_of, handles_of
from segdecay.decay.axes import (
    Axis,
    Coupling,
    bound_axis,
    decoupled_axis,
    lambda_axis,
    none_axis,
    relative_axis,
    sgd_axis,
)
from segdecay.decay.dropout import Dropout, ridge_of_dropout
from segdecay.decay.groups import GROUPS, ParameterRow, Partition, bare_module, group_parameters
from segdecay.decay.handle import Handle, Objective
from segdecay.decay.max_norm import max_norm_of
from segdecay.decay.multipliers import DEFAULT_MULTIPLIERS, group_multipliers, optimizer_groups
from segdecay.decay.paste import paste_lines
from segdecay.decay.policy import Binding, Bucket, OptimizerTraits, Policy
from segdecay.decay.registry import (
    POLICIES,
    axis_of,
    build_policy,
    describe_policy,
    may_combine,
    option_names,
    policy_names,
)
from segdecay.decay.strength import (
    Described,
    check_first_order,
    describe_strength,
    idle_weight,
    lambda_of_timescale,
    timescale_epochs,
    total_decay,
)

__all__ = [
    "DEFAULT_MULTIPLIERS",
    "GROUPS",
    "POLICIES",
    "Axis",
    "Binding",
    "Bucket",
    "Coupling",
    "Described",
    "Dropout",
    "Handle",
    "Objective",
    "OptimizerTraits",
    "ParameterRow",
    "Partition",
    "Policy",
    "attach",
    "axis_of",
    "bare_module",
    "bound_axis",
    "build_policy",
    "check_first_order",
    "decoupled_axis",
    "describe_policy",
    "describe_strength",
    "group_multipliers",
    "group_parameters",
    "handle_of",
    "handles_of",
    "idle_weight",
    "lambda_axis",
    "lambda_of_timescale",
    "max_norm_of",
    "may_combine",
    "none_axis",
    "optimizer_groups",
    "option_names",
    "paste_lines",
    "policy_names",
    "relative_axis",
    "ridge_of_dropout",
    "sgd_axis",
    "timescale_epochs",
    "total_decay",
]
