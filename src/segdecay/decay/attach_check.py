"""Proof at attach: does a step of this optimizer do to a weight what the regularizer promises?

A regularizer acts in one of three moments: on the weights before the update, on them after it, or in the gradient. The
moment is tried on stand-in weights (`probe_weights`), with zero and with small gradients, with and without the
regularizer, and the difference is held against its law: 1 − η·λ a step for what acts on weights; for what acts in the
gradient, a pull towards zero, by SGD's own recursion where the optimizer is SGD alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from segdecay.decay.adaptation import Adaptation, Proof, adaptive_rate
from segdecay.decay.axes import StrengthAxis, lambda_axis, sgd_axis
from segdecay.decay.foreach import multiply_
from segdecay.decay.groups import ParameterRow, Partition
from segdecay.decay.handle import Handle
from segdecay.decay.probe_weights import StandIns, choose, untouched_randomness
from segdecay.decay.regularizers.base import Bucket, Channel, OptimizerTraits, Regularizer, traits_of
from segdecay.decay.regularizers.l2 import shifted_by
from segdecay.decay.strength import idle_weight
from segdecay.errors import DecayError

RATE = 2.0**-6
LAMBDA = 4.0  # η·λ = 1/16: far above rounding, far below 1
IDLE_STEPS = 2  # without gradient, where nothing keeps a copy of the weights
COPY_STEPS = 8  # where a copy is kept: at least one synchronisation of Lookahead (k = 5 or 6), after which it is seen
WRAPPED_STEPS = 14  # of wrappers, which may make their copy at the first synchronisation: more than two of them
MOVING_STEPS = 1
EXACT = 1e-6  # of the decay, where no gradient acts
PULL = 1e-9  # of the weight: what a pull towards zero takes off at least
CLOSE = 0.5  # of the decay, where gradients act and updates may depend on the weights


class Probe(Regularizer):
    """Multiplies by 1 − η·λ before or after the update, or adds λ·θ to the gradient."""

    name = "probe"
    multiplies = True
    takes_complex = True

    def __init__(self, moment: Channel) -> None:
        self.moment = moment

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        return lambda_axis(f"of {optimizer.name}")

    def shifted_gradients(self, bucket: Bucket) -> Sequence[Tensor] | None:
        return shifted_by(bucket, bucket.parameters, "λ·w") if self.moment == "gradient" else None

    def before_update_(self, bucket: Bucket) -> None:
        if self.moment == "before":
            multiply_(bucket.parameters, 1 - bucket.lr * bucket.strength)

    def after_update_(self, bucket: Bucket) -> None:
        if self.moment == "after":
            multiply_(bucket.parameters, 1 - bucket.lr * bucket.strength)


@dataclass(frozen=True)
class _Trial:
    """Where the stand-ins went, step by step."""

    path: list[list[Tensor]]  # [step][stand-in]; the first is the start
    factors: list[float]  # 1 − η·λ of every step
    idle: int  # steps without gradient
    deployed: list[Tensor]
    keys: tuple[str, ...] = ()  # of the state, that hold copies which steps average with the weights
    has_copies: bool = False  # whether anything in the state is what the weights were at the start


@dataclass(frozen=True)
class _Found:
    """Held against the law."""

    holds: bool
    left: float  # share left after the steps without gradient
    asked: float
    pulls: bool  # every stand-in is nearer to zero than without the regularizer
    averages: bool = False  # what `eval` deploys lags behind the weights that are trained


def prove(
    chain: Sequence[Optimizer],
    partition: Partition,
    rule: Regularizer,
    multipliers: Mapping[str, float],
    *,
    needs_law: bool,
) -> Proof:
    """Try the regularizer's moment on stand-ins of the optimizer.

    Args:
        chain: as `optimizer_chain` gives it.
        partition: of the model.
        rule: to be attached.
        multipliers: by group.
        needs_law: whether D or τ was asked for, so that a pull in the gradient must follow SGD's recursion.

    Raises:
        DecayError: the law does not hold; says what was left and what was asked.
    """
    rate = adaptive_rate(chain[0])
    moment = rule.channel(traits_of(chain[0]))
    acting = {id(p) for row, p in partition.named_parameters() if multipliers.get(row.group, 0.0) and p.requires_grad}
    chosen = choose(chain[0], lambda parameter: id(parameter) in acting)
    if moment == "nothing" or not any(chosen):
        return Proof("acts", "Nothing is to be decayed.", Adaptation(rate_key=rate))
    name = " over ".join(type(one).__name__ for one in reversed(chain))
    try:
        with untouched_randomness():
            found, keys, doubles = _try(chain, chosen, rate, moment, multiplies=rule.multiplies)
    except Exception as error:  # noqa: BLE001 - somebody else's optimizer, on weights it was not built for
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
        return Proof("not proven", f"{name} could not be tried on stand-in weights ({why}).", Adaptation(rate_key=rate))
    must_follow_sgd = needs_law and traits_of(chain[0]).is_sgd
    is_kept = found.holds if moment != "gradient" or must_follow_sgd else found.pulls
    if not is_kept:
        raise DecayError(_refusal(name, rule, found, moment, doubled=bool(keys)))
    if doubles:
        text = f"{name} keeps copies of the weights ({', '.join(doubles)}), which are decayed with them."
        return Proof("adapted", text, Adaptation(doubles, rate))
    if rate:
        return Proof("adapted", f"{name} finds its own rate: η is lr·{rate}.", Adaptation((), rate))
    return Proof("acts", _words(name, found, moment))


def _words(name: str, found: _Found, moment: Channel) -> str:
    if moment == "gradient":
        return "Tried on stand-in weights: λ·w in the gradient pulls them towards zero."
    average = f" {name}.eval() deploys an average of the weights, which lags behind." if found.averages else ""
    return f"Tried on stand-in weights: {found.left:.4g} left, {found.asked:.4g} asked.{average}"


def _try(
    chain: Sequence[Optimizer], chosen: Any, rate: str, moment: Channel, *, multiplies: bool
) -> tuple[_Found, tuple[str, ...], tuple[str, ...]]:
    """What was found; the keys of copies of the weights; those that must be decayed too for the law to hold."""
    bare, builder = _bare_trial(chain, chosen, rate)
    if builder.idle_steps == IDLE_STEPS and (bare.keys or bare.has_copies):
        builder = replace(builder, idle_steps=COPY_STEPS)
        bare = builder.bare()
    found = _hold(bare, builder.with_probe(moment, bare), moment, chain)
    if moment == "gradient" and not found.pulls and builder.idle_steps == IDLE_STEPS:
        builder = replace(builder, idle_steps=COPY_STEPS)  # some move no weight in their first steps
        bare = builder.bare()
        found = _hold(bare, builder.with_probe(moment, bare), moment, chain)
    if not found.holds and bare.keys and multiplies:
        both = _hold(bare, builder.with_probe(moment, bare, bare.keys), moment, chain)
        if both.holds:
            return both, bare.keys, bare.keys
    return found, bare.keys, ()


def _bare_trial(chain: Sequence[Optimizer], chosen: Any, rate: str) -> tuple[_Trial, _Builder]:
    """The steps without the regularizer, and how to make them with it."""
    first: Exception | None = None
    for construct in (False, True):
        for with_closure in (False, True):
            if with_closure and first is not None and not _may_need_closure(first):
                continue
            steps = WRAPPED_STEPS if len(chain) > 1 else IDLE_STEPS
            how = _Builder(chain, chosen, rate, construct=construct, with_closure=with_closure, idle_steps=steps)
            try:
                return how.bare(), how
            except Exception as error:  # noqa: BLE001 - the next way is tried, and the first reason told
                first = first or error
    raise first or TypeError("it cannot be built")


def _may_need_closure(error: Exception) -> bool:
    """Whether a step that failed without a closure may work with one; what torch itself refuses will not."""
    return not isinstance(error, RuntimeError) or "closure" in str(error).lower()


@dataclass(frozen=True)
class _Builder:
    """Makes stand-ins in one way, and lets them step."""

    chain: Sequence[Optimizer]
    chosen: Any
    rate: str
    construct: bool
    with_closure: bool
    idle_steps: int

    def bare(self) -> _Trial:
        """The steps without a regularizer."""
        stand = self._fresh()
        for group in stand.chain[0].param_groups:
            for key in ("weight_decay", "lambd"):
                if group.get(key):
                    group[key] = 0.0
        trial = self._walk(stand, None)
        has_copies = _keeps_start(stand.chain, stand.weights, trial.path[0])
        return replace(trial, keys=doubled_keys(stand.chain, stand.weights), has_copies=has_copies)

    def with_probe(self, moment: Channel, bare: _Trial, doubles: tuple[str, ...] = ()) -> _Trial:
        """The same steps with a regularizer that acts in this moment, on the weights and on these copies of them."""
        stand = self._fresh()
        names = [f"w{number}" for number in range(len(stand.weights))]
        rows = tuple(
            ParameterRow(name, tuple(weight.shape), "StandIn", "body", "", trainable=True)
            for name, weight in zip(names, stand.weights, strict=True)
        )
        partition = Partition(rows, dict(zip(names, stand.weights, strict=True)))
        adaptation = Adaptation(doubles, self.rate)
        handle = Handle(
            stand.chain[0],
            partition,
            Probe(moment),
            {"body": 1.0},
            take_over=True,
            proof=Proof("off", "A stand-in.", adaptation),
            chain=stand.chain,
        )
        handle.set_strength(LAMBDA)
        try:
            return self._walk(stand, adaptation, bare if moment != "gradient" else None)
        finally:
            handle.detach()

    def _fresh(self) -> StandIns:
        stand = StandIns(self.chain, self.chosen, RATE)
        if self.construct:
            stand.rebuild_()
        return stand

    def _walk(self, stand: StandIns, adaptation: Adaptation | None, bare: _Trial | None = None) -> _Trial:
        """Let the stand-ins step; not on, where they are far from their law already."""
        stand.begin_()
        path = [[weight.detach().clone() for weight in stand.weights]]
        factors = []
        small = [
            1e-2 * (torch.arange(w.numel(), dtype=torch.float64).cos() + 0.5).reshape(w.shape).to(w.dtype)
            for w in stand.weights
        ]
        for step in range(self.idle_steps + MOVING_STEPS):
            group = stand.chain[0].param_groups[0]
            factors.append(1.0 - LAMBDA * float((adaptation or Adaptation((), self.rate)).rate(group)))
            gradients = [torch.zeros_like(g) for g in small] if step < self.idle_steps else small
            stand.step_(gradients, with_closure=self.with_closure)
            path.append([weight.detach().clone() for weight in stand.weights])
            if step == self.idle_steps - 1 and not all(torch.isfinite(w).all() for w in path[-1]):
                raise ValueError("it makes weights that are not finite")
            is_idle = IDLE_STEPS <= step + 1 < self.idle_steps
            if bare is not None and is_idle and _distance(bare, path, factors, step + 1) > EXACT:
                return _Trial(path, factors, step + 1, [weight.detach().clone() for weight in stand.weights])
        return _Trial(path, factors, self.idle_steps, stand.deployed())


def doubled_keys(chain: Sequence[Optimizer], weights: Sequence[Tensor]) -> tuple[str, ...]:
    """The keys under which optimizers keep copies of the weights beside them: z of schedule-free, slow weights.

    Only those that a step averages with the weights; a reference that weights are measured from is none.
    """
    found: dict[str, None] = {}
    for one in chain:
        for weight in weights:
            for key, value in one.state.get(weight, {}).items():
                named = key == "z" or (("slow" in key or "lookahead" in key) and "momentum" not in key)
                if named and isinstance(value, Tensor) and value.shape == weight.shape:
                    found[key] = None
    return tuple(found)


def _keeps_start(chain: Sequence[Optimizer], weights: Sequence[Tensor], start: Sequence[Tensor]) -> bool:
    """Whether the state still has the weights of the start, after they have moved."""
    return any(
        isinstance(value, Tensor) and value.shape == first.shape and value.dtype == first.dtype and value.equal(first)
        for one in chain
        for weight, first in zip(weights, start, strict=True)
        for value in one.state.get(weight, {}).values()
    )


def _hold(bare: _Trial, trial: _Trial, moment: Channel, chain: Sequence[Optimizer]) -> _Found:
    """The steps with the regularizer against its law and the steps without."""
    count = trial.idle
    left = _share(trial.path[count], trial.path[0])
    pulls = all(
        _inner(b - w, s) > 0 and float(w.norm()) < float(b.norm()) * (1 - PULL)
        for b, w, s in zip(bare.path[count], trial.path[count], trial.path[0], strict=True)
    )
    if moment == "gradient":
        axis_traits = traits_of(chain[0])
        if not axis_traits.is_sgd:
            return _Found(pulls, left, math.nan, pulls)
        asked = idle_weight(sgd_axis(axis_traits.coupling), LAMBDA, [RATE] * count)
        return _Found(pulls and abs(left - asked) <= EXACT * 10, left, asked, pulls)
    asked = math.prod(trial.factors[:count])
    exact = _distance(bare, trial.path, trial.factors, count) <= EXACT
    moving = _distance(bare, trial.path, trial.factors, len(trial.factors)) <= CLOSE
    used, plain = (
        _share(one.deployed, one.path[0]) / (_share(one.path[-1], one.path[0]) or 1.0) for one in (trial, bare)
    )
    lag = abs(used - plain) / max(abs(plain), 1e-300)
    return _Found(exact and moving and lag <= CLOSE, left, asked, pulls, averages=lag > EXACT)


def _distance(bare: _Trial, path: Sequence[Sequence[Tensor]], factors: Sequence[float], last: int) -> float:
    """The largest distance from the law after some steps, as a share of what the law takes off."""
    worst = 0.0
    for index in range(len(path[0])):
        told = path[0][index]
        for step in range(last):
            told = factors[step] * told + (bare.path[step + 1][index] - bare.path[step][index])
        taken = float((bare.path[last][index] - told).abs().max())
        off = float((path[last][index] - told).abs().max())
        worst = max(worst, off / max(taken, 1e-300) if off else 0.0)
    return worst


def _share(now: Sequence[Tensor], start: Sequence[Tensor]) -> float:
    """Mean share of the start that is left; negative where it overshot."""
    shares = [float(torch.real((a / b).mean())) for a, b in zip(now, start, strict=True)]
    return sum(shares) / max(len(shares), 1)


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a * b.conj()).sum().real)


def _refusal(name: str, rule: Regularizer, found: _Found, moment: Channel, *, doubled: bool) -> str:
    where = {"before": "1 − η·λ a step", "after": "1 − η·λ a step", "gradient": "λ·w in the gradient"}[moment]
    if moment == "gradient" and not found.pulls:
        law = f"a weight without gradient is not pulled towards zero ({found.left:.4g} of it is left)"
    else:
        law = f"{found.left:.4g} of a weight without gradient was left, {found.asked:.4g} was asked"
        if 0 < found.left < 1 and 0 < found.asked < 1:
            law += f", so that D would be {math.log(found.left) / math.log(found.asked):.3g} times what was asked"
    if not found.pulls or found.left > 1 - 1e-9:
        why = "Its step puts the weights back, or another step than the hooked one is called."
    elif doubled:
        why = (
            "It keeps copies of the weights, which only a regularizer that multiplies weights can reach ('decoupled')."
        )
    else:
        why = "It keeps a second copy of the weights, or its update follows them."
    return (
        f"{name} does not keep the law of '{rule.name}', {where}: tried on stand-in weights, {law}. {why} Use the "
        f"optimizer's own weight_decay, the optimizer without the wrapper, or pass proof=False to attach unproven."
    )
