"""Weight decay under control, for any torch optimizer: groups, strengths, regularizers.

Stands alone: needs torch and `segdecay.errors`, nothing else of the package.
"""

from segdecay.decay.attach import attach
from segdecay.decay.audit.audit import Audit, audit
from segdecay.decay.audit.findings import Finding
from segdecay.decay.audit.loss_probe import Form, LossReport
from segdecay.decay.audit.table import AuditRow, Decay
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
from segdecay.decay.conventions import (
    CONVENTIONS,
    Convention,
    Numbers,
    check_translation,
    convention_names,
    convention_of,
    from_convention,
    to_convention,
    translate,
)
from segdecay.decay.diagnostics.layers import (
    ActivationDiagnostics,
    ActivationWatch,
    HeadDiagnostics,
    equilibrium_angle,
    spearman,
    stable_rank,
    watch_activations,
)
from segdecay.decay.diagnostics.monitor import Diagnostics, DiagnosticsReading, GroupDiagnostics, LayerDiagnostics
from segdecay.decay.groups import (
    DEFAULT_MULTIPLIERS,
    GROUPS,
    ParameterRow,
    Partition,
    bare_module,
    group_multipliers,
    group_parameters,
    optimizer_groups,
)
from segdecay.decay.handle import Handle, Objective, handle_of, handles_of
from segdecay.decay.regularizers.base import Binding, Bucket, OptimizerTraits, Regularizer
from segdecay.decay.regularizers.dropout import Dropout, ridge_of_dropout
from segdecay.decay.regularizers.max_norm import max_norm_of
from segdecay.decay.regularizers.registry import (
    REGULARIZERS,
    axis_of,
    build_regularizer,
    describe_regularizer,
    may_combine,
    option_names,
    regularizer_names,
)
from segdecay.decay.snippets import paste_lines
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
    "CONVENTIONS",
    "DEFAULT_MULTIPLIERS",
    "GROUPS",
    "REGULARIZERS",
    "ActivationDiagnostics",
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
    "Diagnostics",
    "DiagnosticsReading",
    "Dropout",
    "Finding",
    "Form",
    "GroupDiagnostics",
    "Handle",
    "HeadDiagnostics",
    "LayerDiagnostics",
    "LossReport",
    "Numbers",
    "Objective",
    "OptimizerTraits",
    "ParameterRow",
    "Partition",
    "Regularizer",
    "attach",
    "audit",
    "axis_of",
    "bare_module",
    "bound_axis",
    "build_regularizer",
    "check_first_order",
    "check_translation",
    "convention_names",
    "convention_of",
    "corrected_axis",
    "decoupled_axis",
    "describe_regularizer",
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
    "regularizer_names",
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
