"""Weight decay under control, for any torch optimizer: groups, strengths, policies.

Stands alone: needs torch and `segdecay.errors`, nothing else of the package.
"""

from segdecay.decay.attach import attach
from segdecay.decay.attached import handle_of, handles_of
from segdecay.decay.audit import Audit, audit
from segdecay.decay.audit_form import Form
from segdecay.decay.audit_loss import LossReport
from segdecay.decay.audit_mechanism import Decay
from segdecay.decay.audit_subject import Finding
from segdecay.decay.audit_table import AuditRow
from segdecay.decay.axes import (
    Axis,
    Coupling,
    bound_axis,
    corrected_axis,
    decoupled_axis,
    lambda_axis,
    none_axis,
    relative_axis,
    sgd_axis,
)
from segdecay.decay.conventions import CONVENTIONS, Convention, Numbers, convention_names, convention_of
from segdecay.decay.dropout import Dropout, ridge_of_dropout
from segdecay.decay.gauge_activations import ActivationGauge, ActivationWatch, watch_activations
from segdecay.decay.gauge_equilibrium import equilibrium_angle
from segdecay.decay.gauge_head import HeadGauge, spearman
from segdecay.decay.gauge_weights import stable_rank
from segdecay.decay.gauges import GaugeReading, Gauges, GroupGauge, LayerGauge
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
from segdecay.decay.translation import check_translation, from_convention, to_convention, translate

__all__ = [
    "CONVENTIONS",
    "DEFAULT_MULTIPLIERS",
    "GROUPS",
    "POLICIES",
    "ActivationGauge",
    "ActivationWatch",
    "Audit",
    "AuditRow",
    "Axis",
    "Binding",
    "Bucket",
    "Convention",
    "Coupling",
    "Decay",
    "Described",
    "Dropout",
    "Finding",
    "Form",
    "GaugeReading",
    "Gauges",
    "GroupGauge",
    "Handle",
    "HeadGauge",
    "LayerGauge",
    "LossReport",
    "Numbers",
    "Objective",
    "OptimizerTraits",
    "ParameterRow",
    "Partition",
    "Policy",
    "attach",
    "audit",
    "axis_of",
    "bare_module",
    "bound_axis",
    "build_policy",
    "check_first_order",
    "check_translation",
    "convention_names",
    "convention_of",
    "corrected_axis",
    "decoupled_axis",
    "describe_policy",
    "describe_strength",
    "equilibrium_angle",
    "from_convention",
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
    "spearman",
    "stable_rank",
    "timescale_epochs",
    "to_convention",
    "total_decay",
    "translate",
    "watch_activations",
]
