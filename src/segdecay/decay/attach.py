"""Attach a regularizer to an optimizer, and refuse what would go wrong in silence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from segdecay.decay.adaptation import Adaptation, Proof, adaptive_rate, base_rate
from segdecay.decay.attach_check import prove
from segdecay.decay.groups import FROZEN, Partition, group_parameters, partition_by_optimizer
from segdecay.decay.handle import Handle, refuse_pair
from segdecay.decay.regularizers.base import Regularizer, optimizer_chain, traits_of
from segdecay.decay.regularizers.registry import axis_of, build_regularizer
from segdecay.decay.strength_argument import Given, GivenStrength
from segdecay.errors import DecayError, gather, unknown


def attach(
    optimizer: Optimizer,
    model: nn.Module,
    regularizer: str,
    *,
    strength: GivenStrength,
    options: Mapping[str, Any] | None = None,
    partition: Partition | None = None,
    multipliers: Mapping[str, float] | None = None,
    groups: Literal["model", "optimizer"] = "model",
    take_over: bool = False,
    proof: bool = True,
) -> Handle:
    """Let a regularizer act in every step of an optimizer. Learning rates are read at each step and never scale λ.

    Args:
        optimizer: any torch optimizer but LBFGS, bare or wrapped by Fabric, Lightning or Accelerate.
        model: the module whose parameters it holds, bare, compiled or wrapped.
        regularizer: a name in REGULARIZERS. `decoupled` and `max_norm` may both be attached; no other pair.
        strength: what the regularizer's formula calls λ (c for max_norm): a number, a function of the step counted from
            0, or one number for each group, where groups that are not named are left alone; or a `Strength`, such as
            `Strength.from_total_decay(2.0, learning_rates=[...])`.
        options: of the regularizer, by keyword; see `describe_regularizer`.
        partition: of this model; default `group_parameters(model)`.
        multipliers: of the strength by group; default 1 for encoder, body and head, 0 for norm and bias.
        groups: "optimizer": what decays is taken from the optimizer's own groups, in proportion of their weight_decay,
            instead of from the model; implies take_over.
        take_over: set the optimizer's own weight_decay to 0 until `detach`.
        proof: try the regularizer on a copy of the optimizer over a few stand-in weights, and refuse where it does not
            act as promised. What was found stands in `handle.proof`.

    Raises:
        DecayError: unknown names, an optimizer that decays already, is refused, or holds other parameters, a partition
            of another model, sharded weights where the regularizer needs whole ones, a strength that is no number, out
            of range (says the largest allowed) or given twice, or a regularizer attached before. The optimizer is then
            as it was.

    Warns:
        UserWarning: the optimizer could not be tried on stand-in weights; what it spared decays from now on; D or τ was
            asked for and its groups have different learning rates.

    Example:
        >>> import torch
        >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.constant_(net.weight, 2.0)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        >>> handle = attach(sgd, net, "decoupled", strength=0.1)
        >>> net.weight.grad = torch.zeros(1, 1); sgd.step(); round(net.weight.item(), 6)
        1.9
    """
    chain = optimizer_chain(optimizer)
    optimizer = chain[0]
    given = Given.of(strength)
    axis = axis_of(regularizer, optimizer, options=options)  # refuses what is unknown or has no meaning
    refuse_pair(optimizer, regularizer)
    if groups == "optimizer":
        if partition is not None or multipliers is not None:
            raise DecayError("groups='optimizer' beside partition or multipliers says the same thing twice.")
        partition, multipliers = partition_by_optimizer(group_parameters(model), optimizer)
        multipliers, take_over = None if given.by_group else multipliers, True
    elif groups != "model":
        raise DecayError(unknown("value of groups", str(groups), ("model", "optimizer")))
    partition = partition or group_parameters(model)
    _validate_parameters(optimizer, model, partition)
    rule = build_regularizer(regularizer, options)
    if rule.whole_tensors:
        _refuse_shards(regularizer, partition)
    shared, by_group = given.multipliers(rule, partition, multipliers)
    rates = given.learning_rates
    _validate_rates(optimizer)
    _validate_weights(rule, optimizer, partition, by_group)
    _refuse_sparse(rule, optimizer, model, partition, by_group)
    found = Proof("off", "Not tried: proof=False.", Adaptation(rate_key=adaptive_rate(optimizer)))
    if given.asks_for_law and found.adaptation.rate_key:
        raise DecayError(f"{type(optimizer).__name__} finds its own rate, so D and τ are not known beforehand. Give λ.")
    if proof:
        found = prove(chain, partition, rule, by_group, needs_law=given.asks_for_law)
    if found.status == "not proven":
        warnings.warn(
            f"Not proven that '{regularizer}' acts: {found.text} Compare a weight before and after a step, or pass "
            f"proof=False.",
            UserWarning,
            stacklevel=2,
        )
    spared = _spared(optimizer) if take_over and groups == "model" else set()
    handle = Handle(
        optimizer,
        partition,
        rule,
        by_group,
        take_over=take_over,
        learning_rates=rates,
        proof=found,
        chain=chain,
        multipliers_of=lambda now: _multipliers(
            given, rule, now, multipliers, optimizer if groups == "optimizer" else None
        ),
        expects_rates=given.asks_for_rates,
    )
    try:
        lambda_ = given.resolve(axis.with_size(handle.size()), regularizer, optimizer) if shared is None else shared
        handle.set_strength(lambda_)
        handle.validate_half_weights(rates)
    except BaseException:
        handle.detach()
        raise
    _warn_of_change(handle, spared)
    if given.asks_for_law:
        _warn_of_rates(handle)
    return handle


def _multipliers(
    given: Given,
    rule: Regularizer,
    partition: Partition,
    multipliers: Mapping[str, float] | None,
    optimizer: Optimizer | None,
) -> dict[str, float]:
    """The multiplier of every group of a partition made anew; from the optimizer's groups, where one is given."""
    if optimizer is not None and not given.by_group:
        multipliers = partition_by_optimizer(partition, optimizer)[1]
    return given.multipliers(rule, partition, multipliers)[1]


def _spared(optimizer: Optimizer) -> set[int]:
    """Ids of the parameters that the optimizer's groups leave undecayed beside others that they decay."""
    decaying = [bool(group.get("weight_decay")) for group in optimizer.param_groups]
    if not any(decaying):
        return set()
    return {id(p) for group in optimizer.param_groups if not group.get("weight_decay") for p in group["params"]}


def _warn_of_change(handle: Handle, spared: set[int]) -> None:
    """Say which weights decay from now on that the optimizer's own groups spared."""
    strengths = handle.strengths()
    changed = [
        row.name
        for row, parameter in handle.partition.named_parameters()
        if id(parameter) in spared and strengths[row.name] is not None
    ]
    if changed:
        warnings.warn(
            f"take_over changes what decays: {len(changed)} parameters that the optimizer's groups spared decay from "
            f"now on ({', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}). Pass groups='optimizer' to keep "
            f"them, or a partition with rules.",
            UserWarning,
            stacklevel=3,
        )


def _warn_of_rates(handle: Handle) -> None:
    """Say that a D or τ is met in some groups only, where those that decay have different learning rates."""
    strengths = handle.strengths()
    acting = {id(parameter) for row, parameter in handle.partition.named_parameters() if strengths[row.name]}
    groups = [group for group in handle.optimizer.param_groups if any(id(p) in acting for p in group["params"])]
    rates = sorted({base_rate(group) for group in groups})
    if len(rates) > 1:
        warnings.warn(
            f"The optimizer's groups that decay have {len(rates)} different learning rates, from {rates[0]:g} to "
            f"{rates[-1]:g}, and D goes with them: what was asked for is met in those whose rates are the ones given, "
            f"and in proportion elsewhere. Give a λ for each group, strength={{'encoder': …}}, for one D; "
            f"handle.total_decay_so_far tells the largest.",
            UserWarning,
            stacklevel=3,
        )


def _validate_rates(optimizer: Optimizer) -> None:
    """Raises DecayError where a group has no learning rate to read η from."""
    without = [index for index, group in enumerate(optimizer.param_groups) if not _is_rate(group.get("lr"))]
    if without:
        seen = optimizer.param_groups[without[0]].get("lr", "no 'lr'")
        raise DecayError(
            f"{type(optimizer).__name__} has no learning rate in group {without[0]} ({len(without)} of "
            f"{len(optimizer.param_groups)} groups; saw {seen}): a regularizer reads η from group['lr'] at every step. "
            f"Set it, or use an optimizer that has one."
        )


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float | Tensor) and not isinstance(value, bool)


def _validate_weights(
    rule: Regularizer, optimizer: Optimizer, partition: Partition, by_group: Mapping[str, float]
) -> None:
    """Raises DecayError for weights that decay but are complex, where the regularizer compares signs or sizes."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    named = [(row.name, p) for row, p in partition.named_parameters() if by_group.get(row.group) and id(p) in held]
    wrong = [name for name, parameter in named if parameter.is_complex()]
    if wrong and not rule.takes_complex:
        raise DecayError(
            f"Regularizer '{rule.name}' is not defined for complex weights: {', '.join(wrong[:5])}"
            f"{', …' if len(wrong) > 5 else ''}. Use 'decoupled' or 'l2', or leave them out by a rule of "
            f"group_parameters."
        )


def _refuse_sparse(
    rule: Regularizer, optimizer: Optimizer, model: nn.Module, partition: Partition, by_group: Mapping[str, float]
) -> None:
    """Raises DecayError where an embedding gives sparse gradients, which cannot carry a dense penalty."""
    if rule.channel(traits_of(optimizer)) != "gradient":
        return
    acting = {id(p): row.name for row, p in partition.named_parameters() if by_group.get(row.group)}
    sparse = [
        acting[id(module.weight)]
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse and id(module.weight) in acting
    ]
    if sparse:
        raise DecayError(
            f"Sparse gradients cannot carry the penalty of '{rule.name}', which is dense: {', '.join(sparse[:5])}. Use "
            f"sparse=False in the embedding, or the regularizer 'decoupled'."
        )


def _refuse_shards(regularizer: str, partition: Partition) -> None:
    """What fully_shard (FSDP2) or tensor parallelism spread over processes: a regularizer here sees one piece of it."""
    placed = ((row.name, getattr(parameter, "placements", ())) for row, parameter in partition.named_parameters())
    sharded = [name for name, placements in placed if any(placement.is_shard() for placement in placements)]
    if sharded:
        raise DecayError(
            f"Regularizer '{regularizer}' needs whole weights, and {len(sharded)} are sharded over processes (FSDP): "
            f"{', '.join(sharded[:3])}{', …' if len(sharded) > 3 else ''}. Use DistributedDataParallel, or a "
            f"regularizer that acts on every number alone, such as 'decoupled'."
        )


def _validate_parameters(optimizer: Optimizer, model: nn.Module, partition: Partition) -> None:
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise DecayError(
            "A differentiable optimizer is refused: regularizers act outside autograd. Set differentiable=False."
        )
    faults = partition.check_fits(model)
    gather(DecayError, faults[:10], "The partition is not of this model as it is now:" if faults else "")
    known = {id(parameter): row for row, parameter in partition.named_parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = [parameter for parameter in held if id(parameter) not in known]
    if strangers:
        shapes = ", ".join(str(tuple(parameter.shape)) for parameter in strangers[:5])
        raise DecayError(
            f"The optimizer holds {len(strangers)} of {len(held)} parameters that are not in this model (shapes "
            f"{shapes}{', …' if len(strangers) > 5 else ''}). Was it built before the head was replaced, or for "
            f"another model? Build it from this model's parameters, or pass the module that holds them all."
        )
    if not any(known[id(parameter)].group != FROZEN for parameter in held):
        raise DecayError(
            f"None of the optimizer's {len(held)} parameters is trainable. Set requires_grad before attaching."
        )
