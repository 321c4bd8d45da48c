"""Weight decay for any torch optimizer: attach a regularizer, choose its strength, audit what decays.

Needs torch and `segdecay.errors`, nothing else of the package. What is not listed here is imported from its module.
"""

from segdecay.decay.attach import attach
from segdecay.decay.audit.audit import Audit, audit
from segdecay.decay.conventions import Numbers, convention_names, translate
from segdecay.decay.diagnostics.monitor import Diagnostics
from segdecay.decay.groups import Partition, group_parameters, optimizer_groups
from segdecay.decay.handle import Handle, handle_of
from segdecay.decay.regularizers.base import Binding, Bucket, OptimizerTraits, Regularizer
from segdecay.decay.regularizers.registry import (
    REGULARIZERS,
    axis_of,
    build_regularizer,
    describe_regularizer,
    regularizer_names,
)
from segdecay.decay.snippets import paste_lines
from segdecay.decay.strength import describe_strength
from segdecay.decay.strength_argument import Strength

__all__ = [
    "REGULARIZERS",
    "Audit",
    "Binding",
    "Bucket",
    "Diagnostics",
    "Handle",
    "Numbers",
    "OptimizerTraits",
    "Partition",
    "Regularizer",
    "Strength",
    "attach",
    "audit",
    "axis_of",
    "build_regularizer",
    "convention_names",
    "describe_regularizer",
    "describe_strength",
    "group_parameters",
    "handle_of",
    "optimizer_groups",
    "paste_lines",
    "regularizer_names",
    "translate",
]
