"""What policies have in common whose strength is a bound: smaller is stronger, inf is none, and there is no λR.

Knows strengths; nothing of what is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from segdecay.decay.policy import Policy
from segdecay.errors import DecayError


class BoundPolicy(Policy):
    """A policy whose strength is a bound, or a factor of one. A group's multiplier m divides it by m."""

    none: ClassVar[float] = math.inf
    whole_tensors: ClassVar[bool] = True
    refusal: ClassVar[str]  # what a strength that is no bound is told, with {saw}

    def scaled(self, strength: float, multiplier: float) -> float | None:
        return strength / multiplier if multiplier and math.isfinite(strength) else None

    def multiplier(self, strength: float, base: float) -> float:
        return base / strength

    def validate(self, strength: float, lr: float) -> None:
        """Raises DecayError unless the bound is above 0; the learning rate plays no part."""
        del lr
        if math.isnan(strength) or strength <= 0:
            raise DecayError(self.refusal.format(saw=f"{strength:g}"))

    def penalty(self, names: Sequence[str], parameters: Sequence[Tensor]) -> float:
        """0: a bound is no penalty with a strength."""
        del names, parameters
        return 0.0
