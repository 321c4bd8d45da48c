"""How an optimizer's own weight decay acts, measured by its steps.

The optimizer is copied over a few stand-in weights (`segdecay.decay.probe_weights`) and takes the same steps, without
gradients and then with them, in four ways: without its decay, with it, without it but with λ·w added to the gradients,
and without it on other gradients. What the decay is follows from the differences, never from the class's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from segdecay.decay.axes import Coupling
from segdecay.decay.probe_weights import StandIns, choose, kind_of_group, untouched_randomness
from segdecay.decay.regularizers.base import optimizer_chain

IDLE_STEPS = 6  # without gradients; the first is not looked at, as some optimizers only take a measure in it
WRAPPED_STEPS = 14  # more than two synchronisations of Lookahead
MOVING_STEPS = 5
SAME = 1e-4  # of what the decay takes off: two ways that differ by less are one
CLOSE = 0.5  # the same where gradients act, for updates that follow the weights
NOISE = 1e-13  # of a weight: differences below are rounding
HALVED = 0.2  # from the 2 that a share taken off twice would be, to first order
HALVES = ((0.5, 1.0), (1.0, 0.5), (0.0, 0.5))  # shares of λ and of η, to see how the decay follows them
LEAST, MOST = 1e-8, 0.1  # η·λ at which it is tried, where the optimizer's own is beyond: above rounding, below 1
USUAL_RATE = 1e-3  # where a warm-up has set the learning rate to 0
FLAGS = ("decoupled_weight_decay", "decoupled_decay", "decoupled", "weight_decouple")

How = Literal["coupled", "decoupled", "other", "nothing", "unknown"]


@dataclass(frozen=True)
class Mechanism:
    """What a step does with λ to one kind of weight.

    `coupled`: λ·w joins the gradient. `decoupled`: the weight is multiplied by 1 − f beside the update. `other`:
    neither, as where λ·w joins an update that is then scaled. `nothing`: λ has no effect. `unknown`: the optimizer
    could not be tried.
    """

    how: How
    factor: float = 1.0  # decoupled: f / (η·λ)
    rate_power: int = 1  # decoupled: f is in proportion of η to this power
    steps: int = IDLE_STEPS  # without gradients that were tried
    left: float = math.nan  # of a weight after them
    asked: float = math.nan  # what 1 − η·λ a step would have left
    is_linear: bool = False  # whether an update is in proportion of the gradients
    coupling: Coupling | None = None  # linear: how a gradient passes through momentum
    reason: str = ""  # why it is unknown


@dataclass(frozen=True)
class Mechanisms:
    """What was measured of an optimizer, by setting, kind of group and dimension of the weight."""

    found: Mapping[tuple[str, str, int], Mechanism] = field(default_factory=dict)
    reason: str = ""
    _kinds: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def _kind(self, group: Mapping[str, Any]) -> str:
        """The kind of a group, made once for all its parameters."""
        if id(group) not in self._kinds:
            self._kinds[id(group)] = kind_of_group(group)
        return self._kinds[id(group)]

    def of(self, key: str, group: Mapping[str, Any], parameter: Tensor) -> Mechanism:
        """The mechanism of a setting ("weight_decay", "lambd") for a parameter of a group."""
        kind = self._kind(group)
        near = [m for (k, g, _), m in self.found.items() if (k, g) == (key, kind)]
        return self.found.get((key, kind, parameter.ndim)) or (near[0] if near else self._by_flags(group))

    def of_group(self, group: Mapping[str, Any]) -> Mechanism | None:
        """A mechanism of this kind of group, to ask whether its updates are linear in gradients; None if not tried."""
        kind = self._kind(group)
        return next((m for (_, g, _), m in self.found.items() if g == kind), None)

    def _by_flags(self, group: Mapping[str, Any]) -> Mechanism:
        """What the group's own flags say, of an optimizer that could not be tried."""
        for flag in FLAGS:
            if flag in group:
                return Mechanism("decoupled" if group[flag] else "coupled", reason=self.reason)
        return Mechanism("unknown", reason=self.reason)


def measure(optimizer: Optimizer) -> Mechanisms:
    """Try an optimizer, with the wrappers that take part in its steps, on stand-in weights. Changes nothing.

    Example:
        >>> weight = Parameter(torch.ones(2, 2))
        >>> adam, adamw = torch.optim.Adam([weight], weight_decay=0.1), torch.optim.AdamW([weight], weight_decay=0.1)
        >>> [measure(one).of("weight_decay", one.param_groups[0], weight).how for one in (adam, adamw)]
        ['coupled', 'decoupled']
    """
    chain = optimizer_chain(optimizer)
    found: dict[tuple[str, str, int], Mechanism] = {}
    reason = ""
    keys = [key for key in ("weight_decay", "lambd") if any(group.get(key) for group in chain[0].param_groups)]
    for key in keys or ["weight_decay"]:
        kinds = {kind_of_group(group) for group in chain[0].param_groups if group.get(key)}
        speaking = [group for group in chain[0].param_groups if group.get(key) or kind_of_group(group) not in kinds]
        held = {id(parameter) for group in speaking for parameter in group["params"]}
        chosen = choose(chain[0], lambda parameter, held=held: id(parameter) in held)  # type: ignore[misc]
        try:
            with untouched_randomness():
                found |= _measure(chain, chosen, key)
        except Exception as error:  # noqa: BLE001 - somebody else's optimizer, on weights it was not built for
            first = str(error).splitlines()[0][:120] if str(error) else ""
            reason = f"{type(error).__name__}: {first}"
    return Mechanisms(found, reason)


Gradients = Callable[[int, Sequence[Tensor]], list[Tensor]]  # of the step and the weights now


@dataclass(frozen=True)
class _Walker:
    """Runs steps on fresh stand-in weights, with one way to copy and to call the optimizer."""

    chain: Sequence[Optimizer]
    chosen: Sequence[Sequence[Parameter]]
    construct: bool
    with_closure: bool

    @property
    def idle(self) -> int:
        """Steps without gradients."""
        return WRAPPED_STEPS if len(self.chain) > 1 else IDLE_STEPS

    def stand(self) -> StandIns:
        """Stand-ins with each group's own learning rate."""
        made = StandIns(self.chain, self.chosen, USUAL_RATE)
        if self.construct:
            made.rebuild_()
        real = [group for group, members in zip(self.chain[0].param_groups, self.chosen, strict=True) if members]
        for group, own in zip(made.chain[0].param_groups, real, strict=True):
            if "lr" in group:
                group["lr"] = float(own["lr"]) or float(own.get("initial_lr", 0.0)) or USUAL_RATE
            for key in ("weight_decay", "lambd"):
                product = float(group.get("lr", 0.0)) * float(group.get(key) or 0.0)
                if product and not LEAST <= product <= MOST:
                    group[key] *= min(max(product, LEAST), MOST) / product
        return made

    def walk(
        self,
        gradients: Gradients,
        key: str,
        *,
        decays: float,
        steps: int = 0,
        rates: float = 1.0,
    ) -> list[list[Tensor]]:
        """Where the stand-ins are before the first step and after each, and last those that `eval()` deploys.

        At this share of the decay and of the learning rates.
        """
        torch.default_generator.manual_seed(0)
        stand = self.stand()
        for group in stand.chain[0].param_groups:
            for other in ("weight_decay", "lambd"):
                if group.get(other):
                    group[other] *= decays if other == key else 0.0
            if "lr" in group:
                group["lr"] *= rates
        stand.begin_()
        path = [[weight.detach().clone() for weight in stand.weights]]
        for step in range(steps or self.idle + MOVING_STEPS):
            stand.step_(gradients(step, stand.weights), with_closure=self.with_closure)
            path.append([weight.detach().clone() for weight in stand.weights])
        if not all(torch.isfinite(weight).all() for weight in path[-1]):
            raise ValueError("it makes weights that are not finite")
        return [*path, stand.deployed()]


def _waves(step: int, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients that change in sign and size."""
    return [
        ((torch.arange(w.numel(), dtype=torch.float64) * (step + 1) + step).cos()).reshape(w.shape).to(w.dtype)
        for w in weights
    ]


def _measure(
    chain: Sequence[Optimizer], chosen: Sequence[Sequence[Parameter]], key: str
) -> dict[tuple[str, str, int], Mechanism]:
    def idle_then_waves(step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        return [torch.zeros_like(w) for w in weights] if step < walker.idle else _waves(step, weights)

    walker = _first_way_that_works(chain, chosen, key)
    real = [group for group, members in zip(chain[0].param_groups, chosen, strict=True) for _ in members]
    groups = [group for group in walker.stand().chain[0].param_groups for _ in group["params"]]
    lambdas = [float(group.get(key) or 0.0) for group in groups]
    signs = [-1.0 if group.get("maximize") else 1.0 for group in real]

    def with_penalty(step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        return [
            g + sign * strength * w.detach()
            for g, w, sign, strength in zip(idle_then_waves(step, weights), weights, signs, lambdas, strict=True)
        ]

    def twice(step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        return [2 * gradient for gradient in idle_then_waves(step, weights)]

    bare = walker.walk(idle_then_waves, key, decays=0.0)
    whole = [bare, walker.walk(twice, key, decays=0.0), walker.walk(_impulse, key, decays=0.0, steps=6)]
    if any(lambdas):
        whole += [walker.walk(idle_then_waves, key, decays=1.0), walker.walk(with_penalty, key, decays=0.0)]
        whole += [walker.walk(idle_then_waves, key, decays=share, steps=2, rates=rate) for share, rate in HALVES]
    found = {}
    for index, (group, strength, copied) in enumerate(zip(real, lambdas, groups, strict=True)):
        rate = float(copied.get("lr", 0.0))
        paths = [[weights[index] for weights in path] for path in whole]
        mechanism = _told(paths, rate * strength, rate, group, walker.idle)
        found[key, kind_of_group(group), bare[0][index].ndim] = mechanism
    return found


def _first_way_that_works(chain: Sequence[Optimizer], chosen: Sequence[Sequence[Parameter]], key: str) -> _Walker:
    errors: list[Exception] = []
    for construct in (False, True):
        for with_closure in (False, True):
            walker = _Walker(chain, chosen, construct, with_closure)
            try:
                walker.walk(_waves, key, decays=0.0)
            except Exception as error:  # noqa: BLE001 - the next way is tried, and the first reason told
                errors.append(error)
                continue
            return walker
    raise errors[0]


def _impulse(step: int, weights: Sequence[Tensor]) -> list[Tensor]:
    """One gradient, in the second step, as the first one may be weighted otherwise."""
    return [torch.full_like(weight, 1.0 if step == 1 else 0.0) for weight in weights]


def _told(
    paths: Sequence[Sequence[Tensor]], product: float, rate: float, group: Mapping[str, Any], idle: int
) -> Mechanism:
    """The mechanism of one stand-in weight, from its paths: without decay, with doubled gradients, with one impulse,
    with decay, with λ·w in the gradient, and with halves of λ and of η.
    """
    (bare, bare_used), (doubled, _), (impulse, _), *others = [(path[:-1], path[-1]) for path in paths]
    moved = _distance(bare, [bare[0]] * len(bare))
    is_linear = _distance([b - bare[0] for b in doubled], [2 * (b - bare[0]) for b in bare]) <= SAME * moved
    coupling = _coupling(impulse, rate, group) if is_linear else None
    if not others:
        return Mechanism("nothing", is_linear=is_linear, coupling=coupling)
    (decayed, decayed_used), (joined, _), *rest = others
    taken = _distance(decayed, bare)
    left, asked = float(torch.real((decayed[idle] / bare[idle]).mean())), (1 - product) ** idle
    told = Mechanism("other", 1.0, 1, idle, left, asked, is_linear, coupling)
    if product == 0 or taken <= NOISE * float(bare[0].abs().max()):
        return replace(told, how="nothing")
    if _distance(decayed, joined) <= SAME * taken:
        return replace(told, how="coupled")
    share = float(torch.real(1 - (decayed[idle] / decayed[idle - 1]).mean()))
    is_still = _distance(bare[: idle + 1], [bare[0]] * (idle + 1)) <= SAME * taken
    exact = _off(bare, decayed, share, idle) <= SAME and _off(bare, decayed, share, len(bare) - 1) <= CLOSE
    follows_lambda, power = _halves(bare, decayed, [path for path, _ in rest])
    averages = float(((decayed_used - bare_used) - (decayed[-1] - bare[-1])).abs().max()) > SAME * taken
    if averages or not (share > 0 and is_still and exact and follows_lambda):
        return told
    return replace(told, how="decoupled", factor=share / product, rate_power=power)


def _off(bare: Sequence[Tensor], decayed: Sequence[Tensor], share: float, last: int) -> float:
    """How far the weights are from multiplying by 1 − share a step, as a share of what that takes off."""
    told = decayed[1]
    plain = decayed[1]
    for step in range(1, last):
        told = (1 - share) * told + (bare[step + 1] - bare[step])
        plain = plain + (bare[step + 1] - bare[step])
    return float((decayed[last] - told).abs().max()) / max(float((plain - told).abs().max()), 1e-300)


def _halves(bare: Sequence[Tensor], decayed: Sequence[Tensor], halves: Sequence[Sequence[Tensor]]) -> tuple[bool, int]:
    """Whether what two steps take off is in proportion of λ, and to which power of η.

    The power is 1 usually, 0 where λ alone counts, 2 where η/η_max joins.
    """
    half_lambda, half_rate, half_rate_bare = halves
    whole = float((decayed[2] - bare[2]).abs().max())
    at_half_lambda = float((half_lambda[2] - bare[2]).abs().max())
    at_half_rate = float((half_rate[2] - half_rate_bare[2]).abs().max())
    if not min(whole, at_half_lambda, at_half_rate) > 0:
        return False, 1
    return abs(whole / at_half_lambda - 2) < HALVED, round(math.log2(whole / at_half_rate))


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def _coupling(impulse: Sequence[Tensor], rate: float, group: Mapping[str, Any]) -> Coupling | None:
    """How a gradient passes on: from the group's settings where they explain the impulse, else from the impulse."""
    passed = [float(torch.real((a - b).mean())) / rate for a, b in pairwise(impulse[1:])]
    if not rate or not passed[0]:
        return None
    size = abs(passed[0])
    passed = [abs(value) for value in passed]
    ratio = passed[2] / passed[1] if passed[1] > 1e-9 * size else 0.0
    expected = [passed[1] * ratio**step for step in range(len(passed) - 1)]
    if ratio >= 1 or max(abs(a - b) for a, b in zip(passed[1:], expected, strict=True)) > 1e-6 * size:
        return None
    gain = passed[0] + passed[1] / (1 - ratio)
    told = Coupling(
        float(group.get("momentum") or 0.0), float(group.get("dampening") or 0.0), bool(group.get("nesterov", False))
    )
    if math.isclose(told.gain, gain, rel_tol=1e-6):
        return told
    return Coupling(ratio, 1 - gain * (1 - ratio), nesterov=False)
