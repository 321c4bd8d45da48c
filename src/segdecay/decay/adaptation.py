"""What was found when a regularizer was tried on an optimizer, and what its handle does beside the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

OWN_RATE = ("d0", "d_coef", "growth_rate")  # beside "d": D-Adaptation and Prodigy, whose rate is lr·d


@dataclass(frozen=True)
class Adaptation:
    """How a regularizer reaches the weights and rate that count.

    Attributes:
        doubles: keys of the state that hold copies of the weights, which are multiplied with them.
        rate_key: key of the group that multiplies lr; empty where lr is the rate.
    """

    doubles: tuple[str, ...] = ()
    rate_key: str = ""

    def rate(self, group: Mapping[str, Any]) -> float | Tensor:
        """η of a group at this step."""
        found: float | Tensor = group["lr"]
        return found * float(group[self.rate_key]) if self.rate_key else found

    def copies(self, chain: Sequence[Optimizer], parameters: Sequence[Tensor]) -> list[Tensor]:
        """The copies of these weights that the optimizers keep now."""
        return [
            one.state[parameter][key]
            for one in chain
            for parameter in parameters
            if parameter in one.state
            for key in self.doubles
            if key in one.state[parameter]
        ]


Status = Literal["acts", "adapted", "not proven", "off"]


@dataclass(frozen=True)
class Proof:
    """What was found at attach.

    Attributes:
        status: "acts"; "adapted": acts, as attach also decays the copies of the weights that the optimizer keeps, or
            reads the rate that it finds for itself; "not proven": the optimizer could not be rebuilt; "off".
        text: in words.
        adaptation: what the handle does for it.
    """

    status: Status
    text: str
    adaptation: Adaptation = field(default_factory=Adaptation)


UNTRIED = Proof("off", "Not tried.")


def adaptive_rate(optimizer: Optimizer) -> str:
    """The key of the factor that the optimizer finds for its learning rate; empty where it finds none."""
    groups = optimizer.param_groups
    return "d" if groups and all("d" in group and any(key in group for key in OWN_RATE) for group in groups) else ""


def base_rate(group: Mapping[str, Any]) -> float:
    """The learning rate of a group before any schedule scaled it, times timm's `lr_scale`.

    timm's layer-wise decay keeps `lr_scale` beside `lr`, and its scheduler multiplies; a group without `initial_lr`
    whose rate was multiplied by hand carries no `lr_scale`.

    >>> base_rate({"lr": 0.1, "lr_scale": 0.5}), base_rate({"lr": 0.05, "initial_lr": 0.1, "lr_scale": 0.5})
    (0.05, 0.05)
    """
    return float(group.get("initial_lr", group.get("lr", 0.0))) * float(group.get("lr_scale", 1.0))
